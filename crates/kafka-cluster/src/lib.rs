//! The Kafka calls that every node answers alike: questions about the cluster from the metadata image, changes of it by the controller.
//!
//! Clients send these to whichever node they know, so brokers, coordinators and gateways all take them. What differs from node to node is
//! behind [`Member`]; which nodes and leaders a client is shown is a [`View`].
//!
//! An answer that reports a change is sent when the node that sends it goes by the change, so that the client's next request finds it.

mod alter_configs;
mod broker_configs;
mod configs;
mod coordinators;
mod elections;
mod features;
mod metadata;
mod producers;
mod quorum;
mod reassignments;
#[cfg(test)]
mod sample;
mod topic_partitions;
mod topics;
mod view;

use std::sync::Arc;

use thalweg_controller_client::ControllerClient;
use thalweg_kafka::{ApiKey, Reply, Request};
use thalweg_metadata_core::config::Entry;
use thalweg_metadata_core::{ConfigTarget, Image};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LogIndex, ProducerId, TopicId};

pub use broker_configs::entries_told;
pub use features::features;
pub use view::{Listed, View};

/// The calls that [`answer`] answers.
pub const APIS: &[ApiKey] = &[
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::InitProducerId,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::UnregisterBroker,
    ApiKey::DescribeTopicPartitions,
];

/// A request that cannot be answered, and what the client is told.
pub type Refusal = (ErrorCode, String);

/// The node that answers.
pub trait Member: Send + Sync {
    /// The cluster as this node knows it.
    fn image(&self) -> Arc<Image>;

    /// Which of its nodes this node's clients are shown.
    fn view<'a>(&'a self, image: &'a Image) -> View<'a>;

    fn controller(&self) -> &ControllerClient;

    /// Waits, within bounds, until this node goes by the metadata up to `index`.
    fn served(&self, index: LogIndex) -> impl Future<Output = ()> + Send;

    /// Whether asking for the metadata of a topic may create it (`auto.create.topics.enable`).
    fn auto_create_topics(&self) -> bool;

    /// Every config of a topic that was just created; none if it is gone again.
    fn topic_configs(&self, topic: TopicId) -> Vec<Entry>;

    /// Every config of a resource, set or not.
    fn describe_configs(
        &self,
        target: &ConfigTarget,
    ) -> impl Future<Output = Result<Vec<Entry>, Refusal>> + Send;

    /// A producer id that nobody else has or had.
    fn new_producer_id(&self) -> impl Future<Output = Result<ProducerId, Error>> + Send;

    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;
}

/// Answers one of [`APIS`]; every other request closes the connection.
pub async fn answer<M: Member>(member: &M, version: i16, request: Request) -> Reply {
    match request {
        Request::Metadata(request) => metadata::metadata(member, version, request).await.into(),
        Request::DescribeCluster(request) => metadata::describe_cluster(member, &request).into(),
        Request::DescribeTopicPartitions(request) => {
            let image = member.image();
            topic_partitions::describe_topic_partitions(&member.view(&image), request).into()
        }
        Request::FindCoordinator(request) => {
            coordinators::find_coordinator(member, version, request).await.into()
        }
        Request::InitProducerId(request) => {
            producers::init_producer_id(member, &request).await.into()
        }
        Request::CreateTopics(request) => topics::create_topics(member, request).await.into(),
        Request::DeleteTopics(request) => {
            topics::delete_topics(member, version, request).await.into()
        }
        Request::CreatePartitions(request) => {
            topics::create_partitions(member, request).await.into()
        }
        Request::DescribeConfigs(request) => {
            configs::describe_configs(member, &request).await.into()
        }
        Request::AlterConfigs(request) => {
            alter_configs::alter_configs(member, request).await.into()
        }
        Request::IncrementalAlterConfigs(request) => {
            alter_configs::incremental_alter_configs(member, request).await.into()
        }
        Request::ElectLeaders(request) => elections::elect_leaders(member, request).await.into(),
        Request::AlterPartitionReassignments(request) => {
            reassignments::alter(member, request).await.into()
        }
        Request::ListPartitionReassignments(request) => {
            reassignments::list(&member.image(), &request).into()
        }
        Request::DescribeQuorum(request) => quorum::describe_quorum(member, request).await.into(),
        Request::UpdateFeatures(request) => {
            features::update_features(member, version, request).await.into()
        }
        Request::UnregisterBroker(request) => {
            quorum::unregister_broker(member, &request).await.into()
        }
        _ => Reply::Close,
    }
}
