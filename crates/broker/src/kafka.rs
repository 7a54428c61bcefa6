//! The broker behind the Kafka listener: translate, call, translate.

mod alter_configs;
mod configs;
mod delete_records;
mod elections;
mod fetch;
mod hints;
mod leader_epochs;
mod list_offsets;
mod log_dirs;
mod metadata;
mod produce;
mod producers;
mod quorum;
mod reassignments;
mod topic_partitions;
mod topics;

use std::sync::Arc;

use thalweg_env::Random;
use thalweg_kafka::{ApiKey, ApiTable, Backend, Reply, Request, RequestContext};
use thalweg_types::{TopicId, Uuid};

use crate::broker::{Broker, TopicRef};
use crate::fetch::FetchMemory;
use fetch::Sessions;

/// The calls this listener serves, each in every version the protocol crate knows.
const APIS: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeQuorum,
    ApiKey::DescribeCluster,
    ApiKey::UnregisterBroker,
    ApiKey::DescribeTopicPartitions,
];

/// A [`Broker`] as the Kafka listener sees it.
#[derive(Debug)]
pub struct KafkaBackend {
    broker: Arc<Broker>,
    apis: ApiTable,
    readers: Readers,
}

/// What fetches share.
#[derive(Debug)]
struct Readers {
    sessions: Sessions,
    memory: FetchMemory,
}

impl KafkaBackend {
    pub fn new(broker: Arc<Broker>, random: Arc<dyn Random>) -> Self {
        let options = broker.options();
        let readers = Readers {
            sessions: fetch::new_sessions(options.fetch_sessions_max, random),
            memory: FetchMemory::new(options.fetch_memory_bytes_max),
        };
        Self { broker, apis: ApiTable::of(APIS), readers }
    }
}

impl Backend for KafkaBackend {
    fn apis(&self) -> &ApiTable {
        &self.apis
    }

    fn is_short_of_memory(&self) -> bool {
        self.readers.memory.is_short()
    }

    async fn handle(self: &Arc<Self>, context: RequestContext, request: Request) -> Reply {
        let (broker, version) = (&*self.broker, context.api_version);
        match request {
            Request::Produce(request) => produce::produce(broker, version, request).await,
            Request::Fetch(request) => {
                fetch::fetch(broker, &self.readers, version, request).await.into()
            }
            Request::ListOffsets(request) => {
                list_offsets::list_offsets(broker, version, request).await.into()
            }
            Request::Metadata(request) => metadata::metadata(broker, version, request).await.into(),
            Request::FindCoordinator(request) => {
                producers::find_coordinator(version, request).into()
            }
            Request::CreateTopics(request) => topics::create_topics(broker, request).await.into(),
            Request::DeleteTopics(request) => {
                topics::delete_topics(broker, version, request).await.into()
            }
            Request::DeleteRecords(request) => {
                delete_records::delete_records(broker, request).await.into()
            }
            Request::CreatePartitions(request) => {
                topics::create_partitions(broker, request).await.into()
            }
            Request::InitProducerId(request) => {
                producers::init_producer_id(broker, &request).await.into()
            }
            Request::OffsetForLeaderEpoch(request) => {
                leader_epochs::offset_for_leader_epoch(broker, request).into()
            }
            Request::DescribeConfigs(request) => configs::describe_configs(broker, &request).into(),
            Request::AlterConfigs(request) => {
                alter_configs::alter_configs(broker, request).await.into()
            }
            Request::IncrementalAlterConfigs(request) => {
                alter_configs::incremental_alter_configs(broker, request).await.into()
            }
            Request::DescribeCluster(request) => {
                metadata::describe_cluster(broker, &request).into()
            }
            Request::DescribeLogDirs(request) => {
                log_dirs::describe_log_dirs(broker, request).await.into()
            }
            Request::DescribeTopicPartitions(request) => {
                topic_partitions::describe_topic_partitions(&broker.image(), request).into()
            }
            Request::ElectLeaders(request) => {
                elections::elect_leaders(broker, request).await.into()
            }
            Request::AlterPartitionReassignments(request) => {
                reassignments::alter(broker, request).await.into()
            }
            Request::ListPartitionReassignments(request) => {
                reassignments::list(&broker.image(), &request).into()
            }
            Request::DescribeQuorum(request) => {
                quorum::describe_quorum(broker, request).await.into()
            }
            Request::UnregisterBroker(request) => {
                quorum::unregister_broker(broker, &request).await.into()
            }
            // The listener answers ApiVersions itself and passes on nothing that is not in the table.
            _ => Reply::Close,
        }
    }
}

/// A topic as the version of the request names it.
fn topic_ref(by_id: bool, name: &str, id: Uuid) -> TopicRef<'_> {
    if by_id { TopicRef::Id(TopicId(id)) } else { TopicRef::Name(name) }
}
