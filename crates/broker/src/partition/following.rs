//! What a leader says to this partition as its follower, and what there is to say to it.
//!
//! The partition puts itself on the list of its leader's stream when it has something to say; the stream's sender takes the newest
//! handshake and the newest progress from here when it can send them.

use bytes::Bytes;
use thalweg_record::{BatchError, Batches};
use thalweg_replication_core::{
    Answer, BatchSpan, Handshake, Push, PushRefusal, Replica, Report, Role,
};
use thalweg_storage::AppendError;
use thalweg_types::{Durability, LeaderEpoch, NodeId, Offset};

use super::settle::{Entered, view_of};
use super::{Inner, Partition};

/// Largest batch a follower takes: what a leader's listeners let in at most. The topic's own bound may have been another one when the
/// batch was appended.
const BATCH_BYTES_MAX: usize = thalweg_rpc::REQUEST_BYTES_MAX;

/// What there is to say to the leader.
#[derive(Debug, Default)]
pub(super) struct ToLeader {
    /// The newest, if it was not sent yet.
    pub(super) handshake: Option<(NodeId, Handshake)>,
    /// The leader on whose list the partition is.
    pub(super) listed_at: Option<NodeId>,
}

/// A cut that the replica wants; it waits for the disk, so it is done by a task of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Truncate { to: Offset, unclean: bool },
    Restart { at: Offset },
}

/// A push as it came, and where its batches belong.
#[derive(Debug)]
pub(crate) struct ReceivedPush {
    pub(crate) session: u32,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    spans: Vec<BatchSpan>,
    slices: Vec<Bytes>,
}

/// Why a push was not taken, or not in whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// The leader says what no leader may: its stream is of no use.
    #[error(transparent)]
    Refused(PushRefusal),
    /// A batch is not what the leader has, whose stream is of no use either.
    #[error(transparent)]
    Damaged(BatchError),
    /// The log cannot take it now. The replica asks anew after a while.
    #[error(transparent)]
    Log(thalweg_storage::AppendError),
}

impl ReceivedPush {
    /// Takes the headers of the batches; their checksums are verified as they are appended.
    pub(crate) fn new(
        session: u32,
        leader_epoch: LeaderEpoch,
        [high_watermark, log_start, log_end]: [Offset; 3],
        slices: Vec<Bytes>,
    ) -> Result<Self, BatchError> {
        let mut spans = Vec::new();
        for batch in slices.iter().flat_map(|slice| Batches::new(slice)) {
            let (header, bytes) = batch?;
            spans.push(BatchSpan {
                base_offset: header.base_offset,
                end_offset: header.next_offset(),
                leader_epoch: header.leader_epoch,
                size_bytes: bytes.len(),
            });
        }
        Ok(Self { session, leader_epoch, high_watermark, log_start, log_end, spans, slices })
    }

    pub(crate) fn has_batches(&self) -> bool {
        !self.spans.is_empty()
    }
}

impl Partition {
    // ---- Inputs ----

    pub(crate) fn handle_answer(&self, answer: &Answer) {
        self.enter(|entered| {
            let (replica, now) = (&mut entered.inner.replica, entered.now);
            self.log.inspect(|core| replica.handle_answer(answer, view_of(core), now));
            // What was flushed since the handshake.
            entered.list_for_leader();
        });
    }

    /// Appends what the leader pushed. One that is only late changes nothing and is no error.
    pub(crate) fn handle_push(&self, push: &ReceivedPush) -> Result<(), PushError> {
        self.enter(|entered| {
            let now = entered.now;
            self.begin_at_batch(entered, push);
            let said = Push {
                session: push.session,
                leader_epoch: push.leader_epoch,
                batches: &push.spans,
                high_watermark: push.high_watermark,
                log_start: push.log_start,
                log_end: push.log_end,
            };
            match entered.inner.replica.handle_push(&said, BATCH_BYTES_MAX, now) {
                Ok(()) => {}
                Err(
                    PushRefusal::NotFollowing
                    | PushRefusal::OtherEpoch { .. }
                    | PushRefusal::UnknownSession(_),
                ) => return Ok(()),
                Err(refusal) => return Err(PushError::Refused(refusal)),
            }
            // Each batch is copied out of the frame it came in, which would otherwise stay in memory as long as any of them.
            let mut slices = push.slices.iter();
            let appended =
                slices.try_for_each(|slice| self.log.append_as_follower(slice).map(|_end| ()));
            if push.has_batches() {
                entered.handle_local();
            }
            if let Err(error) = appended {
                // Whatever follows on this session would leave a gap.
                entered.inner.replica.handle_leader_gone(now);
                return Err(match error {
                    AppendError::Batch(error) => PushError::Damaged(error),
                    error => PushError::Log(error),
                });
            }
            if self.log.config().durability == Durability::Replicated {
                entered.list_for_leader();
            }
            Ok(())
        })
    }

    /// The leader's log start may lie in a batch, of which it has no part without the rest. A log that begins anew there begins with the
    /// whole batch; what is below the log start is given up as there.
    fn begin_at_batch(&self, entered: &mut Entered<'_>, push: &ReceivedPush) {
        let Some(first) = push.spans.first() else { return };
        let offsets = self.log.offsets();
        let is_empty = offsets.log_start() == offsets.log_end();
        let begins = first.base_offset < offsets.log_end() && offsets.log_end() < first.end_offset;
        let is_log_start = push.log_start == offsets.log_end();
        if !(is_empty && begins && is_log_start && entered.inner.is_pushed(push)) {
            return;
        }
        let to = first.base_offset.max(Offset::ZERO);
        if let Err(error) = self.log.restart(to) {
            tracing::warn!(partition = %self.name, %error, "cannot begin where the leader does");
            entered.inner.replica.handle_leader_gone(entered.now);
            return;
        }
        entered.handle_local();
    }

    /// The stream to `leader` is gone, or it pushes this partition no more.
    pub(crate) fn handle_leader_gone(&self, leader: NodeId) {
        self.enter(|entered| {
            let now = entered.now;
            if followed(&entered.inner.replica) == Some(leader) {
                entered.inner.replica.handle_leader_gone(now);
            }
        });
    }

    /// Makes the cut that the replica waits for, if it still does. Waits for the disk.
    ///
    /// # Errors
    ///
    /// It could not be made now. Call again.
    pub(crate) fn make_cut(&self) -> Result<(), thalweg_storage::StorageError> {
        self.enter(|entered| {
            let Some((epoch, cut)) = entered.inner.cut else { return Ok(()) };
            let replica = &entered.inner.replica;
            if replica.epoch() != epoch || !matches!(replica.role(), Role::Follower(_)) {
                // Another leader is followed, whose handshake went out with the log as it is.
                entered.inner.cut = None;
                return Ok(());
            }
            tracing::info!(partition = %self.name, %epoch, ?cut, "the log is cut to its leader's");
            match cut {
                Cut::Truncate { to, unclean } => self.log.truncate(to, unclean).map(|_| ())?,
                Cut::Restart { at } => self.log.restart(at)?,
            }
            entered.inner.cut = None;
            let (replica, now) = (&mut entered.inner.replica, entered.now);
            self.log.inspect(|core| replica.handle_cut(view_of(core), now));
            Ok(())
        })
    }

    // ---- Outputs ----

    /// What there is to say to `leader`; the partition is off its list with this.
    pub(crate) fn take_for_leader(&self, leader: NodeId) -> (Option<Handshake>, Option<Report>) {
        let mut inner = self.inner.lock();
        let Inner { replica, to_leader, .. } = &mut *inner;
        if to_leader.listed_at == Some(leader) {
            to_leader.listed_at = None;
        }
        if followed(replica) != Some(leader) {
            return (None, None);
        }
        let handshake = to_leader.handshake.take_if(|(to, _)| *to == leader);
        (handshake.map(|(_, handshake)| handshake), replica.take_report())
    }
}

/// The node that a replica follows.
fn followed(replica: &Replica) -> Option<NodeId> {
    match replica.role() {
        Role::Follower(follower) => Some(follower.leader()),
        Role::Leader(_) | Role::Idle { .. } => None,
    }
}

impl Inner {
    /// Whether a leader of the present epoch is followed, and the log known to be a prefix of its log.
    fn is_pushed(&self, push: &ReceivedPush) -> bool {
        match self.replica.role() {
            Role::Follower(follower) => {
                follower.is_following() && follower.epoch() == push.leader_epoch
            }
            Role::Leader(_) | Role::Idle { .. } => false,
        }
    }
}

impl Entered<'_> {
    /// Puts the partition on the list of the leader it follows, if it is not there yet.
    pub(super) fn list_for_leader(&mut self) {
        let Some(leader) = followed(&self.inner.replica) else { return };
        if self.inner.to_leader.listed_at != Some(leader) {
            self.inner.to_leader.listed_at = Some(leader);
            self.due.leader(leader);
        }
    }
}
