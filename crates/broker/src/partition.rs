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
//! The high watermark follows rule R3: the least durable end over the in-sync replicas, and only while there are at least
//! `min.insync.replicas` of them. It never passes this leader's own durable end (I6, I13).

mod waiters;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use parking_lot::Mutex;
use thalweg_invariants::{ACK_DURABILITY, check};
use thalweg_log_core::{EpochEnd, LogConfig, LogOffsets};
use thalweg_record::BatchHeader;
use thalweg_storage::{Appended, Log};
use thalweg_types::{
    Acks, CompressionType, LeaderEpoch, NodeId, Offset, TopicIdPartition, TopicPartition,
};
use tokio::sync::{Notify, oneshot};

use crate::error::{AppendError, DeleteRecordsError, NotLeading};
pub use waiters::AckError;
use waiters::{AckPosition, AckVerdict, AckWaiters, Due};

/// A partition replica on this broker.
#[derive(Debug)]
pub struct Partition {
    name: TopicPartition,
    id: TopicIdPartition,
    log: Arc<Log>,
    rules: ArcSwap<AppendRules>,
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
    role: Role,
    acks: AckWaiters,
    readers: Vec<Arc<Notify>>,
}

/// What this broker is to the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Leader(Leadership),
    /// Not the leader: the last known one and its epoch, for clients to go to.
    Other {
        leader: NodeId,
        epoch: LeaderEpoch,
    },
}

/// The registration under which this broker leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) in_sync_replica_count: usize,
    /// Effective value: at most the number of assigned replicas. Computed by the controller, never here.
    pub(crate) min_in_sync_replicas: usize,
}

/// An append that took place; its acknowledgement may still be on its way.
#[derive(Debug)]
pub struct Pending {
    pub appended: Appended,
    /// When the append took place.
    pub(crate) since: Instant,
    verdict: Option<oneshot::Receiver<AckVerdict>>,
}

/// A consistent look at a partition for a reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) offsets: LogOffsets,
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Partition
// ---------------------------------------------------------------------------------------------------------------------------------

impl Partition {
    /// A partition without a role yet: it serves nobody until [`Self::lead`].
    pub(crate) fn new(
        name: TopicPartition,
        id: TopicIdPartition,
        log: Arc<Log>,
        rules: AppendRules,
    ) -> Self {
        let role = Role::Other { leader: NodeId::NONE, epoch: LeaderEpoch::NONE };
        let inner = Inner { role, acks: AckWaiters::default(), readers: Vec::new() };
        Self { name, id, log, rules: ArcSwap::from_pointee(rules), inner: Mutex::new(inner) }
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

    /// Takes over the topic's configuration as it is now.
    pub(crate) fn configure(&self, config: LogConfig, rules: AppendRules) {
        self.log.configure(config);
        self.rules.store(Arc::new(rules));
    }

    pub(crate) fn rules(&self) -> AppendRules {
        **self.rules.load()
    }

    // Inputs ----------------------------------------------------------------------------------------------------------------------

    /// Takes over, or goes on with, the leadership of `leadership.epoch`. The epoch's start is made part of the log before anything
    /// is appended under it.
    pub(crate) fn lead(&self, leadership: Leadership) -> Result<(), thalweg_storage::AppendError> {
        let mut due = Due::default();
        {
            let mut inner = self.inner.lock();
            let known = inner.role.epoch();
            if leadership.epoch < known {
                return Ok(());
            }
            if leadership.epoch > known || !matches!(inner.role, Role::Leader(_)) {
                self.log.begin_leader_epoch(leadership.epoch)?;
                inner.acks.fail_all(AckError::LeadershipLost, &mut due);
            }
            inner.role = Role::Leader(leadership);
            self.advance(&mut inner, &mut due);
        }
        due.wake();
        Ok(())
    }

    /// Stops leading: `leader` does, in `epoch`. Producers that wait are told that the outcome is unknown.
    pub(crate) fn follow(&self, leader: NodeId, epoch: LeaderEpoch) {
        let mut due = Due::default();
        {
            let mut inner = self.inner.lock();
            if epoch < inner.role.epoch() {
                return;
            }
            inner.role = Role::Other { leader, epoch };
            inner.acks.fail_all(AckError::LeadershipLost, &mut due);
            due.readers(&inner.readers);
        }
        due.wake();
    }

    /// Appends one checked batch as the leader. The journal holds it when this returns; when it may be acknowledged the returned
    /// [`Pending`] tells.
    pub(crate) fn append(
        &self,
        batch: BytesMut,
        header: &BatchHeader,
        acks: Acks,
    ) -> Result<Pending, AppendError> {
        let mut due = Due::default();
        let pending = {
            let mut inner = self.inner.lock();
            let leadership = inner.role.leadership()?;
            if acks == Acks::All && !leadership.has_enough_replicas() {
                return Err(AppendError::NotEnoughReplicas {
                    in_sync: leadership.in_sync_replica_count,
                    required: leadership.min_in_sync_replicas,
                });
            }
            let appended = self.log.append_as_leader(batch, header, leadership.epoch)?;
            self.advance(&mut inner, &mut due);
            let verdict = self.await_ack(&mut inner, &appended, acks);
            Pending { appended, since: Instant::now(), verdict }
        };
        due.wake();
        Ok(pending)
    }

    /// Moves the log start up to `to`, which must be committed; [`Offset::NONE`] asks for everything that is. Returns the log start.
    /// May wait for the disk.
    pub(crate) fn delete_records(&self, to: Offset) -> Result<Offset, DeleteRecordsError> {
        self.view(LeaderEpoch::NONE)?;
        if self.name.topic.is_internal() {
            return Err(DeleteRecordsError::InternalTopic(self.name.topic.to_string()));
        }
        let policy = self.log.config().cleanup_policy;
        if policy.compact && !policy.delete {
            return Err(DeleteRecordsError::CompactedOnly);
        }
        Ok(self.log.delete_records(to)?)
    }

    /// The journal's flush covers this log up to a new durable end.
    pub(crate) fn flushed(&self) {
        let mut due = Due::default();
        self.advance(&mut self.inner.lock(), &mut due);
        due.wake();
    }

    /// Nobody who waits will get their acknowledgement.
    pub(crate) fn fail_waiters(&self, error: AckError) {
        let mut due = Due::default();
        {
            let mut inner = self.inner.lock();
            inner.acks.fail_all(error, &mut due);
            due.readers(&inner.readers);
        }
        due.wake();
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

    /// What a reader sees, provided this broker leads and the reader's epoch, if it gave one, is the leader's (KIP-320).
    pub(crate) fn view(&self, reader_epoch: LeaderEpoch) -> Result<View, NotLeading> {
        let inner = self.inner.lock();
        let epoch = inner.role.leadership()?.epoch;
        if reader_epoch != LeaderEpoch::NONE {
            if reader_epoch < epoch {
                return Err(NotLeading::FencedEpoch { given: reader_epoch, current: epoch });
            }
            if reader_epoch > epoch {
                return Err(NotLeading::UnknownEpoch { given: reader_epoch, current: epoch });
            }
        }
        Ok(View { epoch, offsets: self.log.offsets() })
    }

    /// Where `epoch` ends in this leader's log (R1), provided that [`Self::view`] is granted; `None` when the log knows nothing of it.
    pub(crate) fn epoch_end(
        &self,
        epoch: LeaderEpoch,
        reader_epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, NotLeading> {
        self.view(reader_epoch)?;
        Ok(self.log.end_offset_for_epoch(epoch))
    }

    pub(crate) fn is_leader(&self) -> bool {
        matches!(self.inner.lock().role, Role::Leader(_))
    }

    #[cfg(test)]
    pub(crate) fn reader_count(&self) -> usize {
        self.inner.lock().readers.len()
    }

    // Helpers ---------------------------------------------------------------------------------------------------------------------

    /// Moves the high watermark as far as R3 allows and collects who may be told.
    fn advance(&self, inner: &mut Inner, due: &mut Due) {
        let Role::Leader(leadership) = &inner.role else { return };
        let before = self.log.offsets();
        // This broker is the whole maximal in-sync set: its own durable end is the least one.
        if leadership.in_sync_replica_count == 1
            && leadership.has_enough_replicas()
            && before.durable_end() > before.high_watermark()
        {
            self.log.advance_high_watermark(before.durable_end());
        }
        let after = self.log.offsets();
        check_ack_durability(&after);
        if after.high_watermark() > before.high_watermark() {
            due.readers(&inner.readers);
        }
        inner.acks.reached(after.durable_end(), after.high_watermark(), due);
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
// Role
// ---------------------------------------------------------------------------------------------------------------------------------

impl Role {
    fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Leader(leadership) => leadership.epoch,
            Self::Other { epoch, .. } => *epoch,
        }
    }

    fn leadership(&self) -> Result<&Leadership, NotLeading> {
        match self {
            Self::Leader(leadership) => Ok(leadership),
            Self::Other { leader, epoch } => {
                Err(NotLeading::NotLeader { leader: *leader, epoch: *epoch })
            }
        }
    }
}

impl Leadership {
    fn has_enough_replicas(&self) -> bool {
        self.in_sync_replica_count >= self.min_in_sync_replicas
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

/// Checked at every movement, in every build: what is acknowledged and readable is durable.
fn check_ack_durability(offsets: &LogOffsets) {
    check!(
        ACK_DURABILITY,
        offsets.high_watermark() <= offsets.durable_end(),
        "high watermark {} above durable end {}",
        offsets.high_watermark(),
        offsets.durable_end()
    );
}

#[cfg(test)]
mod tests;
