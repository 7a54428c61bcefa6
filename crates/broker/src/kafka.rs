//! The broker behind the Kafka listener: translate, call, translate.

mod delete_records;
mod fetch;
mod hints;
mod leader_epochs;
mod list_offsets;
mod log_dirs;
mod member;
mod produce;

use std::sync::Arc;

use thalweg_env::Random;
use thalweg_kafka::{ApiKey, ApiTable, Backend, Features, Reply, Request, RequestContext};
use thalweg_kafka_cluster as kafka_cluster;
use thalweg_types::{TopicId, Uuid};

use crate::broker::{Broker, TopicRef};
use crate::fetch::FetchMemory;
use fetch::Sessions;

/// The calls about this broker's own partitions, each in every version the protocol crate knows; the others are every node's.
const APIS: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::ApiVersions,
    ApiKey::DeleteRecords,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeLogDirs,
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
        Self { broker, apis: ApiTable::of(&[APIS, kafka_cluster::APIS].concat()), readers }
    }
}

impl Backend for KafkaBackend {
    fn apis(&self) -> &ApiTable {
        &self.apis
    }

    fn features(&self) -> Features {
        kafka_cluster::features(&self.broker.image())
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
            Request::DeleteRecords(request) => {
                delete_records::delete_records(broker, request).await.into()
            }
            Request::OffsetForLeaderEpoch(request) => {
                leader_epochs::offset_for_leader_epoch(broker, request).into()
            }
            Request::DescribeLogDirs(request) => {
                log_dirs::describe_log_dirs(broker, request).await.into()
            }
            // The listener answers ApiVersions itself and passes on nothing that is not in the table.
            request => kafka_cluster::answer(broker, version, request).await,
        }
    }
}

/// A topic as the version of the request names it.
fn topic_ref(by_id: bool, name: &str, id: Uuid) -> TopicRef<'_> {
    if by_id { TopicRef::Id(TopicId(id)) } else { TopicRef::Name(name) }
}
