//! What all services of a gateway work with.

use std::sync::Arc;
use std::time::Duration;

use thalweg_env::Clock;
use thalweg_metadata_feed::Feed;
use thalweg_proto::internal::controller::v1 as controller;
use thalweg_rpc::{Deadline, Error, LeaderChannel, MESSAGE_BYTES_MAX};
use thalweg_types::{ErrorCode, LogIndex, TopicName};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::partitioner::Rotation;
use crate::port::{BrokerPort, CoordinatorPort};
use controller::controller_client::ControllerClient;

/// Longest wait for this node to see a change it has made itself. The change stands in any case.
const OWN_CHANGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// The parts a gateway is made of.
pub struct Parts<B> {
    pub broker: Arc<B>,
    pub coordinators: Arc<dyn CoordinatorPort>,
    /// The metadata this node follows.
    pub feed: Feed,
    /// To the internal service of the active controller.
    pub controller: LeaderChannel,
    /// Gives a time to records that come without one.
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

pub(crate) struct Shared<B> {
    pub(crate) broker: Arc<B>,
    pub(crate) coordinators: Arc<dyn CoordinatorPort>,
    pub(crate) feed: Feed,
    pub(crate) controller: ControllerClient<LeaderChannel>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// How long a stream of records waits for a partition's next leader.
    pub(crate) leader_wait_max: Duration,
    /// Partitions for records without a key.
    pub(crate) rotation: Rotation,
    /// True once streams shall come to an end.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl<B: BrokerPort> Shared<B> {
    pub(crate) fn new(
        parts: Parts<B>,
        leader_wait_max: Duration,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let controller = ControllerClient::new(parts.controller)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self {
            broker: parts.broker,
            coordinators: parts.coordinators,
            feed: parts.feed,
            controller,
            clock: parts.clock,
            metrics: parts.metrics,
            leader_wait_max,
            rotation: Rotation::default(),
            stopping,
        }
    }

    /// How many partitions a topic has, at least 1.
    pub(crate) fn partition_count(&self, topic: &TopicName) -> Result<u32, Error> {
        let image = self.feed.image();
        let count = image.topic(topic.as_str()).map_or(0, |topic| topic.partitions.len());
        match u32::try_from(count) {
            Ok(0) | Err(_) => Err(unknown_topic(topic)),
            Ok(count) => Ok(count),
        }
    }

    /// Waits until this node has seen a change made through it, so that the next call finds it.
    pub(crate) async fn see(&self, index: u64, deadline: Deadline) {
        let wait = OWN_CHANGE_WAIT_MAX.min(deadline.remaining());
        match tokio::time::timeout(wait, self.feed.wait_for(LogIndex(index))).await {
            Ok(Ok(_image)) => {}
            Ok(Err(_)) | Err(_) => tracing::warn!(index, "own change is not in the metadata yet"),
        }
    }

    /// Resolves when streams shall end.
    pub(crate) async fn stopped(&self) {
        // A gateway that is gone stops its streams, too.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }
}

pub(crate) fn unknown_topic(topic: &TopicName) -> Error {
    Error::new(ErrorCode::UnknownTopicOrPartition, format!("there is no topic {topic}"))
        .not_applied()
}

/// What a stream ends with when its gateway stops.
pub(crate) fn stopping_error() -> Error {
    Error::new(ErrorCode::BrokerNotAvailable, "this gateway is shutting down")
}

/// A call to the controller on behalf of a caller that waits until `deadline`.
pub(crate) fn on_behalf<T>(
    message: T,
    deadline: Deadline,
    time_max: Duration,
) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(time_max.min(deadline.remaining()));
    request
}
