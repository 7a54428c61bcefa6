//! One partition hosted here: its log, this broker's role in it, and everyone who waits for it.
//!
//! A partition is a short critical section, not a thread. Whoever brings bytes or news takes its lock, lets the log change, works
//! out who may now be told, and wakes them after the lock is released:
//!
//! ```text
//!  append ──► log: stamp, journal, tail ──► waiter registered ┐
//!  flusher ─► durable end moved ──► high watermark moved ─────┴─► due acks and readers ──► woken, unlocked
//! ```
//!
//! Who leads, who is in sync and how far is committed is decided by [`thalweg_replication_core::Replica`], which lives under the same lock,
//! with one replica as with several; [`settle`] does what it says.

mod condition;
mod following;
mod leading;
mod reading;
mod settle;
mod waiters;

use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use parking_lot::Mutex;
use thalweg_log_core::{Chain, LogConfig};
use thalweg_record::BatchHeader;
use thalweg_replication_core::{self as replication, Fitness, Replica, Role};
use thalweg_storage::{Appended, Log, StorageError};
use thalweg_types::{
    Acks, CompressionType, Durability, LeaderEpoch, LogIndex, Moment, NodeId, Offset,
    PartitionEpoch, Timestamp, TopicIdPartition, TopicPartition,
};
use tokio::sync::{Notify, oneshot};

use crate::error::{AppendError, DeleteRecordsError, NotCurrent, NotLeading};
use crate::replication::Hub;
pub(crate) use condition::LogStanding;
pub use condition::{Condition, ConditionError, CoordinatorCondition};
use following::{Cut, ToLeader};
pub(crate) use following::{PushError, ReceivedPush};
use leading::Link;
pub(crate) use leading::{NextPush, OwnedPush};
pub(crate) use reading::View;
use settle::view_of;
pub use waiters::AckError;
use waiters::{AckPosition, AckVerdict, AckWaiters};

/// A partition replica on this broker.
#[derive(Debug)]
pub struct Partition {
    name: TopicPartition,
    id: TopicIdPartition,
    log: Arc<Log>,
    rules: ArcSwap<AppendRules>,
    hub: Arc<Hub>,
    this: Weak<Self>,
    inner: Mutex<Inner>,
}

/// What the topic's configuration asks of every batch, besides what the log itself checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppendRules {
    /// `max.message.bytes`.
    pub(crate) batch_bytes_max: usize,
    /// `cleanup.policy` contains `compact`.
    pub(crate) keys_required: bool,
    /// `compression.type`; `None` keeps what the producer chose.
    pub(crate) compression: Option<Compression>,
}

/// How a topic wants its batches compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compression {
    pub(crate) codec: CompressionType,
    /// `None`: the codec's default.
    pub(crate) level: Option<i32>,
}

#[derive(Debug)]
struct Inner {
    replica: Replica,
    /// The epoch in which this broker leads, when its start could not be made part of the log yet: until then nothing is appended.
    unbegun: Option<LeaderEpoch>,
    acks: AckWaiters,
    readers: Vec<Arc<Notify>>,
    /// When the timer will look at this partition next.
    wake_at: Option<Moment>,
    /// As the leader of a partition that coordinators write to.
    chain: Chain,
    /// As the leader: the followers that are pushed to.
    links: Vec<Link>,
    /// As a follower.
    to_leader: ToLeader,
    /// As a follower: what is to be cut off the log, and the epoch in which that was found.
    cut: Option<(LeaderEpoch, Cut)>,
}

/// An append that took place; its acknowledgement may still be on its way.
#[derive(Debug)]
pub struct Pending {
    pub appended: Appended,
    /// When the append took place.
    pub(crate) since: Instant,
    verdict: Option<oneshot::Receiver<AckVerdict>>,
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Partition
// ---------------------------------------------------------------------------------------------------------------------------------

impl Partition {
    /// A partition without a role yet: it serves nobody until [`Self::handle_metadata`].
    pub(crate) fn new(
        name: TopicPartition,
        id: TopicIdPartition,
        log: Arc<Log>,
        rules: AppendRules,
        hub: Arc<Hub>,
    ) -> Arc<Self> {
        let inner = Inner {
            replica: hub.replica(Fitness::Fit),
            unbegun: None,
            acks: AckWaiters::default(),
            readers: Vec::new(),
            wake_at: None,
            chain: Chain::default(),
            links: Vec::new(),
            to_leader: ToLeader::default(),
            cut: None,
        };
        let (rules, inner) = (ArcSwap::from_pointee(rules), Mutex::new(inner));
        Arc::new_cyclic(|this| Self { name, id, log, rules, hub, this: this.clone(), inner })
    }

    pub fn name(&self) -> &TopicPartition {
        &self.name
    }

    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn rules(&self) -> AppendRules {
        **self.rules.load()
    }

    // Inputs ----------------------------------------------------------------------------------------------------------------------

    /// Takes over the registration, and the topic's configuration as it is now. A damaged replica on which nobody counts (`is_dispensable`)
    /// begins anew; that waits for the disk.
    ///
    /// # Errors
    ///
    /// This broker leads in a new epoch, which could not be begun: there is no room for it in the journal. Call again.
    pub(crate) fn handle_metadata(
        &self,
        metadata: &replication::Metadata<'_>,
        is_dispensable: bool,
        config: LogConfig,
        rules: AppendRules,
    ) -> Result<(), thalweg_storage::AppendError> {
        self.rules.store(Arc::new(rules));
        self.enter(|entered| {
            if is_dispensable {
                self.rebuild_if_damaged(&mut entered.inner);
            }
            let (inner, now) = (&mut *entered.inner, entered.now);
            self.log.inspect(|core| inner.replica.handle_metadata(metadata, view_of(core), now));
            // What is older than what the replica goes by must not loosen what it counts as durable.
            let durability = inner.durability().unwrap_or(config.durability);
            self.log.configure(LogConfig { durability, ..config });
            entered.settle();
            entered.inner.begin_epoch(&self.log)
        })
    }

    /// Whether damage was found while it was served.
    pub(crate) fn is_damaged(&self) -> bool {
        self.inner.lock().replica.fitness() == Fitness::Suspect
    }

    /// What was found damaged while it was served, and cannot be set aside, is dropped whole; the leader has it all.
    fn rebuild_if_damaged(&self, inner: &mut Inner) {
        let is_leader = inner.replica.as_leader().is_some();
        if inner.replica.fitness() != Fitness::Suspect || is_leader {
            return;
        }
        match self.log.restart(Offset::ZERO) {
            Ok(()) => {
                tracing::warn!(partition = %self.name, "the damaged replica begins anew");
                inner.replica = self.hub.replica(Fitness::Fit);
                inner.links.clear();
                inner.to_leader = ToLeader::default();
                (inner.cut, inner.wake_at) = (None, None);
            }
            Err(error) => {
                tracing::error!(partition = %self.name, %error, "the damaged replica cannot begin anew");
            }
        }
    }

    /// Appends one checked batch as the leader, if the condition holds. The journal holds it when this returns; when it may be acknowledged
    /// the returned [`Pending`] tells.
    pub(crate) fn append(
        &self,
        batch: BytesMut,
        header: &BatchHeader,
        acks: Acks,
        condition: Option<&Condition>,
    ) -> Result<Pending, AppendError> {
        self.enter(|entered| {
            let epoch = entered.inner.replica.admit_append(acks)?;
            entered.inner.begin_epoch(&self.log)?;
            if let Some(condition) = condition {
                self.admit(&entered.inner, condition, epoch, header)?;
            }
            let appended = self.log.append_as_leader(batch, header, epoch)?;
            if !appended.duplicate {
                entered.inner.continue_chain(condition, epoch);
            }
            entered.handle_local();
            entered.settle();
            Ok(self.pending(&mut entered.inner, appended, acks))
        })
    }

    /// Moves the log start up to `to`, which must be committed; [`Offset::NONE`] asks for everything that is. Returns the log start.
    /// May wait for the disk.
    pub(crate) fn delete_records(&self, to: Offset) -> Result<Offset, DeleteRecordsError> {
        let view = self.view(LeaderEpoch::NONE)?;
        if !view.is_current {
            return Err(NotCurrent.into());
        }
        if self.name.topic.is_internal() {
            return Err(DeleteRecordsError::InternalTopic(self.name.topic.to_string()));
        }
        let policy = self.log.config().cleanup_policy;
        if policy.compact && !policy.delete {
            return Err(DeleteRecordsError::CompactedOnly);
        }
        let log_start = self.log.delete_records(to)?;
        // Followers are told.
        self.enter(|entered| entered.handle_local());
        Ok(log_start)
    }

    /// The journal's flush covers this log up to a new durable end.
    pub(crate) fn flushed(&self) {
        self.enter(|entered| {
            entered.handle_local();
            entered.list_for_leader();
        });
    }

    /// The timer has reached `deadline`, which this partition had asked for.
    pub(crate) fn handle_deadline(&self, deadline: Moment) {
        self.enter(|entered| {
            // An earlier one may have taken this one's place.
            if entered.inner.wake_at == Some(deadline) {
                entered.inner.wake_at = None;
                entered.inner.replica.handle_deadline(entered.now);
            }
        });
    }

    /// Gives up what retention takes. May wait for the disk.
    pub(crate) fn apply_retention(&self, now: Timestamp) -> Result<(), StorageError> {
        let before = self.log.offsets().log_start();
        self.log.apply_retention(now)?;
        if self.log.offsets().log_start() > before {
            self.enter(|entered| entered.handle_local());
        }
        Ok(())
    }

    /// Nothing is appended any more; who waits goes on waiting until the leadership is moved away (R12).
    pub(crate) fn stop_appending(&self) {
        self.enter(|entered| entered.inner.replica.handle_shutdown());
    }

    /// Whether a producer waits to be answered.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.inner.lock().acks.is_empty()
    }

    /// Nobody who waits will get their acknowledgement.
    pub(crate) fn fail_waiters(&self, error: AckError) {
        self.enter(|entered| {
            entered.inner.acks.fail_all(error, &mut entered.due);
            entered.due.readers(&entered.inner.readers);
        });
    }

    /// The end of this replica in this process: it serves nobody any more, and nobody who waits will be answered with success.
    pub(crate) fn retire(&self, error: AckError) {
        self.fail_waiters(error);
        let nobody = replication::Partition {
            leader: None,
            // No registration is newer.
            leader_epoch: LeaderEpoch(i32::MAX),
            partition_epoch: PartitionEpoch(i32::MAX),
            replicas: Vec::new(),
            isr: Vec::new(),
            min_isr: 1,
            durability: Durability::Fsync,
            unproven: Vec::new(),
            recovering: false,
            unclean_epoch: None,
        };
        let applied = LogIndex(u64::MAX);
        let metadata = replication::Metadata { applied, partition: &nobody, peers: &[] };
        self.enter(|entered| {
            let (inner, now) = (&mut *entered.inner, entered.now);
            self.log.inspect(|core| inner.replica.handle_metadata(&metadata, view_of(core), now));
            entered.due.readers(&entered.inner.readers);
        });
    }

    /// `reader` is notified at every change that a reader can see, until [`Self::forget_reader`]. To lose no change, register first
    /// and look afterwards.
    pub(crate) fn notify_on_change(&self, reader: Arc<Notify>) {
        self.inner.lock().readers.push(reader);
    }

    /// Takes back what [`Self::notify_on_change`] registered.
    pub(crate) fn forget_reader(&self, reader: &Arc<Notify>) {
        self.inner.lock().readers.retain(|other| !Arc::ptr_eq(other, reader));
    }

    // Outputs ---------------------------------------------------------------------------------------------------------------------

    pub(crate) fn is_leader(&self) -> bool {
        self.inner.lock().replica.as_leader().is_some()
    }

    #[cfg(test)]
    pub(crate) fn reader_count(&self) -> usize {
        self.inner.lock().readers.len()
    }

    // Helpers ---------------------------------------------------------------------------------------------------------------------

    fn pending(&self, inner: &mut Inner, appended: Appended, acks: Acks) -> Pending {
        let verdict = self.await_ack(inner, &appended, acks);
        Pending { appended, since: Instant::now(), verdict }
    }

    fn await_ack(
        &self,
        inner: &mut Inner,
        appended: &Appended,
        acks: Acks,
    ) -> Option<oneshot::Receiver<AckVerdict>> {
        let end = Offset(appended.last_offset.0 + 1);
        let offsets = self.log.offsets();
        let (position, reached) = match acks {
            Acks::None => return None,
            Acks::Leader => (AckPosition::DurableEnd, offsets.durable_end()),
            Acks::All => (AckPosition::HighWatermark, offsets.high_watermark()),
        };
        (reached < end).then(|| inner.acks.add(position, end))
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Inner
// ---------------------------------------------------------------------------------------------------------------------------------

impl Inner {
    /// The epoch in which this broker leads and may speak for the partition.
    fn leading(&self) -> Result<LeaderEpoch, NotLeading> {
        match self.replica.role() {
            Role::Leader(leader) if self.replica.may_serve_readers() => Ok(leader.epoch()),
            Role::Leader(_) => Err(NotLeading::SelfFenced),
            Role::Follower(follower) => {
                let (leader, epoch) = (follower.leader(), follower.epoch());
                Err(NotLeading::NotLeader { leader, epoch })
            }
            Role::Idle { epoch, .. } => {
                Err(NotLeading::NotLeader { leader: NodeId::NONE, epoch: *epoch })
            }
        }
    }

    /// As the leader goes by it; `None` when this broker does not lead.
    fn durability(&self) -> Option<Durability> {
        self.replica.as_leader().map(|leader| leader.partition().durability)
    }

    /// Makes the start of the epoch part of the log, if it is not yet.
    fn begin_epoch(&mut self, log: &Log) -> Result<(), thalweg_storage::AppendError> {
        if let Some(epoch) = self.unbegun {
            log.begin_leader_epoch(epoch)?;
            self.unbegun = None;
        }
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Pending
// ---------------------------------------------------------------------------------------------------------------------------------

impl Pending {
    /// Waits until the records may be acknowledged. The caller bounds the wait by the producer's timeout.
    pub(crate) async fn acknowledged(self) -> Result<Appended, AckError> {
        if let Some(verdict) = self.verdict {
            // The sender lives in the partition until it is told; it is dropped untold only when the whole broker goes away.
            verdict.await.unwrap_or(Err(AckError::ShuttingDown))?;
        }
        Ok(self.appended)
    }
}

#[cfg(test)]
mod tests;
