//! Entering a partition, and doing what follows from what happened in it.
//!
//! Whoever enters holds the lock, brings one input to the replica, and settles: every action is done in order before the lock is released.
//! Nothing here waits for anybody. Who is to be told is collected on the way and told after the lock is released.

use parking_lot::MutexGuard;
use thalweg_invariants::{ACK_DURABILITY, check};
use thalweg_log_core::PartitionLog;
use thalweg_replication_core::{Action, Halt, LogEnds, LogView};
use thalweg_types::{Moment, Offset};

use super::following::Cut;
use super::waiters::Due;
use super::{AckError, Inner, Partition};

/// The holder of a partition's lock.
pub(super) struct Entered<'a> {
    pub(super) partition: &'a Partition,
    pub(super) inner: MutexGuard<'a, Inner>,
    pub(super) now: Moment,
    pub(super) due: Due,
}

/// What the rules of replication look at.
pub(super) fn view_of(core: &PartitionLog) -> LogView<'_> {
    LogView { ends: LogEnds::from(core.offsets()), epochs: core.epochs() }
}

impl Partition {
    /// Does something with the replica and then whatever follows from it.
    pub(super) fn enter<T>(&self, input: impl FnOnce(&mut Entered<'_>) -> T) -> T {
        let now = self.hub.now();
        let mut entered =
            Entered { partition: self, inner: self.lock(now), now, due: Due::default() };
        let result = input(&mut entered);
        entered.settle();
        let Entered { inner, due, .. } = entered;
        drop(inner);
        due.wake(self);
        result
    }

    /// The lock, with the lease as it is now.
    pub(super) fn lock(&self, now: Moment) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock();
        inner.replica.handle_lease(self.hub.lease.is_valid(now));
        inner
    }
}

impl Entered<'_> {
    /// The log was appended to or flushed, or its start has moved.
    pub(super) fn handle_local(&mut self) {
        let (replica, now) = (&mut self.inner.replica, self.now);
        self.partition.log.inspect(|core| replica.handle_local(view_of(core), now));
    }

    /// Does what the replica wants, then answers who may be answered and arranges to be woken.
    pub(super) fn settle(&mut self) {
        while let Some(action) = self.inner.replica.poll_action() {
            self.execute(action);
        }
        self.list_pushes();
        self.answer();
        self.arrange_deadline();
    }

    fn execute(&mut self, action: Action) {
        let partition = self.partition;
        match action {
            Action::BeginEpoch(epoch) => {
                self.inner.unbegun = Some(epoch);
                if let Err(error) = self.inner.begin_epoch(&partition.log) {
                    tracing::warn!(partition = %partition.name, %epoch, %error, "leader epoch not begun yet");
                }
            }
            Action::Commit(to) => self.commit(to),
            Action::FailWaiting(failure) => {
                self.inner.acks.fail_all(AckError::from(failure), &mut self.due);
                self.due.readers(&self.inner.readers);
            }
            Action::Propose(proposal) => partition.hub.proposals.put((partition.id, proposal)),
            Action::FollowHighWatermark(to) => {
                partition.log.follow_high_watermark(to);
                self.due.readers(&self.inner.readers);
            }
            Action::MoveLogStart(to) => {
                // What stays is given up with the leader's next move.
                if let Err(error) = partition.log.move_log_start(to) {
                    tracing::warn!(partition = %partition.name, %to, %error, "log start not moved");
                }
            }
            Action::Halt(halt) => self.halt(&halt),
            Action::ReportUnfit(fitness) => partition.hub.unfit.put((partition.id, fitness)),
            Action::Handshake { leader, handshake } => {
                self.inner.to_leader.handshake = Some((leader, handshake));
                self.list_for_leader();
            }
            Action::Truncate { to, unclean } => self.order_cut(Cut::Truncate { to, unclean }),
            Action::Restart { at } => self.order_cut(Cut::Restart { at }),
        }
    }

    fn order_cut(&mut self, cut: Cut) {
        self.inner.cut = Some((self.inner.replica.epoch(), cut));
        self.due.cut();
    }

    /// Checked at every movement, in every build: what is acknowledged and readable is durable.
    fn commit(&mut self, to: Offset) {
        let log = &self.partition.log;
        let durable_end = log.offsets().durable_end();
        check!(
            ACK_DURABILITY,
            to <= durable_end,
            "high watermark {to} above durable end {durable_end}"
        );
        log.advance_high_watermark(to);
        self.due.readers(&self.inner.readers);
    }

    fn halt(&self, halt: &Halt) {
        let Partition { name, id, hub, .. } = self.partition;
        let Halt { leader, leader_epoch, cut, high_watermark, .. } = halt;
        tracing::error!(
            partition = %name, %leader, %leader_epoch, %cut, %high_watermark,
            "the leader's log contradicts what is known here to be committed: this replica stops and keeps its records; \
             compare the replicas before anything is deleted"
        );
        let fitness = thalweg_replication_core::Fitness::HaltedDiverged;
        hub.unfit.put((*id, fitness));
    }

    fn answer(&mut self) {
        if self.inner.acks.is_empty() {
            return;
        }
        let offsets = self.partition.log.offsets();
        // R11: who may have been replaced does not acknowledge on its own.
        let durable_end = match self.inner.replica.may_serve_readers() {
            true => offsets.durable_end(),
            false => Offset::ZERO,
        };
        self.inner.acks.reached(durable_end, offsets.high_watermark(), &mut self.due);
    }

    fn arrange_deadline(&mut self) {
        let Some(deadline) = self.inner.replica.next_deadline(self.now) else { return };
        let deadline = deadline.max(self.now.saturating_add_ms(1));
        if self.inner.wake_at.is_none_or(|at| deadline < at) {
            self.inner.wake_at = Some(deadline);
            self.partition.hub.deadlines.put(deadline, self.partition.id);
        }
    }
}
