//! The brokers of a cluster, as one: every call goes to the leader that the metadata names.
//!
//! ```text
//!  produce ──► lane (a partition's batches, in order) ──► link (one stream of appends to a broker) ──► broker
//!                 ▲                                          │
//!                 └── refused, not applied: waits for newer metadata, then all of them go again, in order
//!  fetch ────► split by leader ──► one call to each ──► merged in the order of the call
//! ```
//!
//! What may be sent again: what was surely not applied, and batches of idempotent producers, which brokers recognise. Everything else that
//! is left without an answer ends as unknown. A broker that is slow, frozen or gone holds up its own partitions only.

mod appends;
mod coordinators;
mod fetch;
mod nodes;
mod reads;
mod words;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use thalweg_kafka::fetch::FetchMemory;
use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::{Entry, describe_all_brokers};
use thalweg_metadata_feed::Feed;
use thalweg_rpc::Error;
use thalweg_types::{
    IsolationLevel, LeaderEpoch, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    TopicName, TopicPartition,
};

use crate::port::{
    BrokerPort, FetchCall, FetchedPartition, ListedOffset, OffsetQuery, ProduceCall, Produced,
};
use appends::Appends;
pub use coordinators::RoutedCoordinators;
use nodes::Nodes;
use reads::Reads;

/// Longest wait for brokers to go by new metadata. Those that take longer are behind for everybody.
const SERVED_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a gateway allows itself towards brokers.
#[derive(Debug, Clone)]
pub struct RoutedOptions {
    /// Batches without an answer, of all producers together. Those for one broker may take half of what the others leave.
    pub append_bytes_max: usize,
    /// How long a broker that does not lead a partition any more may take to say what became of the batches it was sent. Then they end
    /// as unknown, or go to the new leader if they are idempotent.
    pub drain_time_max: Duration,
    /// How long a call that only reads looks for a leader.
    pub leader_wait_max: Duration,
}

impl Default for RoutedOptions {
    fn default() -> Self {
        Self {
            append_bytes_max: 256 * 1024 * 1024,
            drain_time_max: Duration::from_secs(1),
            leader_wait_max: Duration::from_secs(10),
        }
    }
}

/// Where a leader epoch ends in a log: offset of the record behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochEnd {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) end_offset: Offset,
}

/// All brokers of a cluster. Dropping it ends its connections; what is under way then ends as unknown.
#[derive(Debug)]
pub struct RoutedBrokers {
    feed: Feed,
    appends: Appends,
    reads: Reads,
}

impl RoutedBrokers {
    /// Goes by the metadata of `feed`. Must be called within a tokio runtime.
    pub fn new(feed: Feed, options: RoutedOptions) -> Self {
        let nodes = Arc::new(Nodes::new());
        let appends = Appends::start(feed.clone(), Arc::clone(&nodes), &options);
        let reads = Reads::new(feed.clone(), nodes, options.leader_wait_max);
        Self { feed, appends, reads }
    }

    /// Reads as [`BrokerPort::fetch`] does, counting in `memory` what is not sent yet.
    pub(crate) async fn fetch_within(
        &self,
        call: FetchCall,
        memory: &FetchMemory,
    ) -> Vec<FetchedPartition> {
        fetch::fetch(&self.reads, call, Some(memory)).await
    }

    /// Finds an offset for a reader that believes in `reader_epoch`.
    pub(crate) async fn find_offset(
        &self,
        at: TopicPartition,
        query: OffsetQuery,
        isolation: IsolationLevel,
        reader_epoch: LeaderEpoch,
    ) -> Result<Option<ListedOffset>, Error> {
        self.reads.find_offset(at, query, isolation, reader_epoch).await
    }

    /// Where a leader epoch ends; `None` if the leader's log knows nothing of it.
    pub(crate) async fn find_epoch_end(
        &self,
        at: TopicPartition,
        epoch: LeaderEpoch,
        reader_epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, Error> {
        self.reads.find_epoch_end(at, epoch, reader_epoch).await
    }

    /// Moves the log start up to `before`; [`Offset::NONE`] asks for everything that is committed. Returns the log start.
    pub(crate) async fn delete_records(
        &self,
        at: TopicPartition,
        before: Offset,
    ) -> Result<Offset, Error> {
        self.reads.delete_records(at, before).await
    }
}

impl BrokerPort for RoutedBrokers {
    async fn produce(&self, call: ProduceCall) -> Result<Produced, Error> {
        self.appends.produce(call).await.map_err(words::for_clients)
    }

    async fn fetch(&self, call: FetchCall) -> Result<Vec<FetchedPartition>, Error> {
        Ok(fetch::fetch(&self.reads, call, None).await)
    }

    async fn list_offset(
        &self,
        topic: TopicName,
        partition: PartitionIndex,
        at: OffsetQuery,
        isolation: IsolationLevel,
    ) -> Result<Option<ListedOffset>, Error> {
        let name = TopicPartition { topic, partition };
        self.reads
            .find_offset(name, at, isolation, LeaderEpoch::NONE)
            .await
            .map_err(words::for_clients)
    }

    async fn describe_configs(&self, target: ConfigTarget) -> Result<Vec<Entry>, Error> {
        match target {
            ConfigTarget::Cluster => Ok(describe_all_brokers(&self.feed.image())),
            target => self.reads.describe_configs(target).await,
        }
    }

    async fn served(&self, index: LogIndex) {
        let waiting = async {
            // The feed has ended: nothing will change any more.
            let Ok(image) = self.feed.wait_for(index).await else { return };
            let brokers = image.live_brokers().map(|node| node.id);
            join_all(brokers.map(|id| self.reads.await_metadata(id, index))).await;
        };
        if tokio::time::timeout(SERVED_WAIT_MAX, waiting).await.is_err() {
            tracing::warn!(%index, "brokers are taking long to go by the metadata");
        }
    }

    async fn init_producer(&self) -> Result<(ProducerId, ProducerEpoch), Error> {
        self.reads.init_producer().await
    }
}
