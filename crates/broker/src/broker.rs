//! The broker itself: what the protocols call, and the tasks that keep it in step with the cluster.
//!
//! ```text
//!  Kafka listener ─┐                        ┌─► admission ─► partition ─► log (journal, tail, segments)
//!                  ├─► Broker ── image ─────┤
//!  gateway port  ──┘      ▲                 └─► fetch ◄── woken by the partition when its positions move
//!                         └── feed of committed facts ── reconciler ─► partitions hosted
//! ```

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use thalweg_env::Clock;
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::Feed;
use thalweg_rpc::Error;
use thalweg_storage::{Appended, LogDir};
use thalweg_types::{
    Acks, BrokerEpoch, CoordinatorEpoch, LogIndex, NodeId, PartitionIndex, ProducerId, TopicId,
    TopicIdPartition,
};

use crate::admission::Admission;
use crate::append;
use crate::error::{AppendError, FetchError, ProduceError, Unknown};
use crate::fetch::{FetchCall, FetchMemory, Fetched, fetch};
use crate::hosting::Hosted;
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::options::BrokerOptions;
use crate::partition::{Condition, ConditionError, CoordinatorCondition, Partition, Pending};
use crate::producer_ids::ProducerIds;
use crate::replication::ReplicationService;
use crate::tasks::{Session, Tasks};
use thalweg_controller_client::ControllerClient;

/// A registered broker. Cheap to share behind an [`Arc`]; all methods take `&self`.
#[derive(Debug)]
pub struct Broker {
    pub(crate) node_id: NodeId,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) options: BrokerOptions,
    pub(crate) feed: Feed,
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) events: Arc<LogEvents>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) replication: ReplicationService,
    pub(crate) session: Session,
    pub(crate) controller: ControllerClient,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) metrics: Metrics,
    pub(crate) log_dir: Arc<LogDir>,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A topic as a request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicRef<'a> {
    Name(&'a str),
    Id(TopicId),
}

/// How long a topic that was just created may take to be served here before the request that created it is answered anyway.
const HOSTED_WAIT: Duration = Duration::from_secs(5);

impl Broker {
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    pub fn options(&self) -> &BrokerOptions {
        &self.options
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The cluster as this broker knows it.
    pub fn image(&self) -> Arc<Image> {
        self.feed.image()
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now().0
    }

    pub(crate) fn controller(&self) -> &ControllerClient {
        &self.controller
    }

    /// What other brokers call to follow the partitions led here: to be served on the internal listener.
    pub fn replication_service(&self) -> ReplicationService {
        self.replication.clone()
    }

    /// Whether everything committed is on disk and new records can be.
    pub fn log_dir_failed(&self) -> bool {
        self.events.log_dir_failed()
    }

    /// Finds the hosted partition that a request names.
    ///
    /// # Errors
    ///
    /// Whether the topic is unknown altogether, or its partition is led by another node.
    pub fn partition(
        &self,
        topic: &TopicRef<'_>,
        partition: PartitionIndex,
    ) -> Result<Arc<Partition>, Unknown> {
        let image = self.feed.image();
        let (found, unknown) = match topic {
            TopicRef::Name(name) => (image.topic(name), Unknown::TopicOrPartition),
            TopicRef::Id(id) => (image.topic_by_id(*id), Unknown::TopicId),
        };
        let found = found.ok_or(unknown)?;
        let state = found.partitions.get(&partition).ok_or(Unknown::TopicOrPartition)?;
        self.hosted.get(TopicIdPartition { topic_id: found.id, partition }).ok_or_else(|| {
            Unknown::Elsewhere {
                leader: state.leader.unwrap_or(NodeId::NONE),
                epoch: state.leader_epoch,
            }
        })
    }

    /// Live brokers in a reader's rack, when this one stands elsewhere and readers are to go by racks.
    pub(crate) fn nearer_than_here(&self, rack: &str) -> Vec<NodeId> {
        let here = self.options.rack.as_deref();
        if rack.is_empty() || here == Some(rack) || !self.session.hub.configs().reads_by_rack {
            return Vec::new();
        }
        let image = self.feed.image();
        let there = image.live_brokers().filter(|node| node.rack.as_deref() == Some(rack));
        there.map(|node| node.id).collect()
    }

    /// Appends one batch, exactly as the producer built it but for the fields the log assigns. Appended before the first `await`
    /// that waits, so that calls made in order append in order.
    ///
    /// # Errors
    ///
    /// Nothing was appended.
    pub async fn append(
        &self,
        partition: &Partition,
        batch: BytesMut,
        acks: Acks,
    ) -> Result<Pending, AppendError> {
        self.append_if(partition, batch, acks, None).await
    }

    /// The same, if the condition holds where the log ends then.
    ///
    /// # Errors
    ///
    /// Nothing was appended.
    pub async fn append_if(
        &self,
        partition: &Partition,
        batch: BytesMut,
        acks: Acks,
        condition: Option<&Condition>,
    ) -> Result<Pending, AppendError> {
        self.check_author(partition, acks, condition)?;
        let bytes = batch.len() as u64;
        let appended = match append::check(partition.rules(), batch) {
            Ok(checked) => {
                if let Some(bytes) = checked.recompressed_bytes {
                    self.metrics.recompressed(bytes);
                }
                append::append(&self.admission, partition, checked, acks, condition).await
            }
            Err(error) => Err(error),
        };
        match &appended {
            Ok(pending) if !pending.appended.duplicate => {
                self.metrics.batches_in.inc();
                self.metrics.bytes_in.inc_by(bytes);
                let records =
                    pending.appended.last_offset.records_since(pending.appended.base_offset) + 1;
                self.metrics.records_in.inc_by(u64::try_from(records).unwrap_or(0));
            }
            Ok(_) => {}
            Err(error) => self.metrics.refused(error.code()),
        }
        appended
    }

    /// Waits for what is below the condition's end to be committed, if the condition holds now. Appends nothing.
    pub(crate) fn check_condition(
        &self,
        partition: &Partition,
        condition: CoordinatorCondition,
    ) -> Result<Pending, AppendError> {
        let of_coordinator = Condition::Coordinator(condition);
        self.check_author(partition, Acks::All, Some(&of_coordinator))?;
        partition.check(&condition)
    }

    /// Coordinators write to internal topics and nobody else does. That the assignment is in force is only the second line of defence: the
    /// first is the condition itself, under the partition's lock.
    fn check_author(
        &self,
        partition: &Partition,
        acks: Acks,
        condition: Option<&Condition>,
    ) -> Result<(), AppendError> {
        let is_internal = partition.name().topic.is_internal();
        let condition = match condition {
            Some(Condition::Coordinator(condition)) if is_internal => condition,
            Some(Condition::Coordinator(_)) => return Err(ConditionError::NotCoordinated.into()),
            _ if is_internal => {
                return Err(AppendError::InternalTopic(partition.name().topic.to_string()));
            }
            _ => return Ok(()),
        };
        if acks != Acks::All {
            return Err(ConditionError::WeakAcks.into());
        }
        let assigned = self.image().coordinator_of(partition.id());
        let current = assigned.map_or(CoordinatorEpoch(0), |assigned| assigned.epoch);
        let given = condition.coordinator_epoch;
        match given.cmp(&current) {
            Ordering::Less => Err(ConditionError::Deposed { given, current }.into()),
            Ordering::Greater => Err(ConditionError::UnknownCoordinator { given, current }.into()),
            Ordering::Equal => Ok(()),
        }
    }

    /// Waits until an appended batch may be acknowledged.
    ///
    /// # Errors
    ///
    /// The outcome is unknown.
    pub async fn acknowledged(
        &self,
        pending: Pending,
        wait: Duration,
    ) -> Result<Appended, ProduceError> {
        let since = pending.since;
        let acknowledged = append::acknowledged(pending, wait).await;
        match &acknowledged {
            Ok(_) => self.metrics.produce_seconds.observe(since.elapsed().as_secs_f64()),
            Err(_) => self.metrics.unacknowledged(),
        }
        acknowledged
    }

    /// Reads, for who answers with at most a few megabytes and in a bounded number of calls; see [`crate::fetch`].
    pub async fn fetch(&self, call: &FetchCall) -> Vec<Result<Fetched, FetchError>> {
        self.fetch_within(call, None).await
    }

    /// Reads, counting what is not sent yet in `memory`.
    pub(crate) async fn fetch_within(
        &self,
        call: &FetchCall,
        memory: Option<&FetchMemory>,
    ) -> Vec<Result<Fetched, FetchError>> {
        let fetched = fetch(call, memory).await;
        self.metrics.fetches.inc();
        let bytes: usize =
            fetched.iter().flatten().flat_map(|one| &one.batches).map(|slice| slice.len()).sum();
        self.metrics.bytes_out.inc_by(bytes as u64);
        fetched
    }

    /// A producer id nobody else has or had.
    pub async fn new_producer_id(&self) -> Result<ProducerId, Error> {
        self.producer_ids.next(&self.controller, self.node_id, self.broker_epoch).await
    }

    /// Waits, within bounds, until the facts up to `index` have been taken over by this broker's partitions.
    pub async fn served(&self, index: LogIndex) {
        let mut reconciled = self.tasks.reconciled();
        let served = reconciled.wait_for(|reached| *reached >= index);
        if tokio::time::timeout(HOSTED_WAIT, served).await.is_err() {
            tracing::warn!(%index, "metadata is taking long to be taken over");
        }
    }

    /// How far this broker's partitions go by the metadata.
    pub(crate) fn served_index(&self) -> LogIndex {
        *self.tasks.reconciled().borrow()
    }
}
