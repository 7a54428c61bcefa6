//! The in-sync replicas as the leader goes by them: what is committed, and what is proposed (KIP-497, R8).
//!
//! ```text
//!  committed ──propose──► pending ──committed, or newer registration──► committed
//!                            │ ▲
//!            definite refusal│ └─ no answer, any other error: ask again, and go on waiting for everyone who was ever proposed
//!                            ▼
//!                        committed
//! ```
//!
//! The *maximal* set is the committed one and everyone whom a proposal that may still be applied would add. The high watermark waits for
//! all of it, so whatever the controller commits, nobody becomes electable for whom it did not wait.

use thalweg_invariants::{Mutant, QUORUM_SUPERSET, check, mutant};
use thalweg_types::{ErrorCode, Moment, NodeId, PartitionEpoch};

use crate::message::Proposal;

#[derive(Debug, Clone, Hash)]
pub(super) struct Isr {
    committed: Vec<NodeId>,
    partition_epoch: PartitionEpoch,
    state: State,
    /// Numbers proposals within the leader's epoch.
    attempts: u32,
}

#[derive(Debug, Clone, Hash)]
enum State {
    Settled {
        /// After a refusal nothing is proposed before this.
        not_before: Moment,
    },
    Pending(Pending),
}

/// Proposals on the present partition epoch, of which at most one can be committed.
#[derive(Debug, Clone, Hash)]
struct Pending {
    latest: Proposal,
    /// Everyone whom any of them would keep or add.
    proposed: Vec<NodeId>,
    /// One of them was lost: it may be applied even after a later one was refused.
    uncertain: bool,
    /// `None` while the latest one is under way.
    retry_at: Option<Moment>,
}

impl Isr {
    pub(super) fn new(
        committed: Vec<NodeId>,
        partition_epoch: PartitionEpoch,
        now: Moment,
    ) -> Self {
        let state = State::Settled { not_before: now };
        Self { committed, partition_epoch, state, attempts: 0 }
    }

    pub(super) fn committed(&self) -> &[NodeId] {
        &self.committed
    }

    pub(super) fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending(_))
    }

    /// Whether nothing is in flight and nothing was refused just now.
    pub(super) fn may_propose(&self, now: Moment) -> bool {
        matches!(self.state, State::Settled { not_before } if now >= not_before)
    }

    /// Whether the high watermark waits for `node`.
    pub(super) fn is_in_maximal(&self, node: NodeId) -> bool {
        self.committed.contains(&node) || (self.is_proposed(node) && !mutant!(Mutant::M2))
    }

    pub(super) fn maximal(&self) -> impl Iterator<Item = NodeId> {
        let proposed = match &self.state {
            State::Settled { .. } => &[][..],
            State::Pending(pending) => &pending.proposed,
        };
        let added = proposed.iter().filter(|node| !self.committed.contains(node));
        self.committed.iter().chain(added).copied()
    }

    fn is_proposed(&self, node: NodeId) -> bool {
        matches!(&self.state, State::Pending(pending) if pending.proposed.contains(&node))
    }

    pub(super) fn next_attempt(&mut self) -> u32 {
        self.attempts += 1;
        self.attempts
    }

    /// The maximal set takes effect here, before the proposal is sent.
    pub(super) fn propose(&mut self, proposal: Proposal) {
        let (mut proposed, uncertain) = match &mut self.state {
            State::Settled { .. } => (Vec::new(), false),
            State::Pending(before) => (std::mem::take(&mut before.proposed), before.uncertain),
        };
        for (node, _) in &proposal.isr {
            if !proposed.contains(node) {
                proposed.push(*node);
            }
        }
        self.state =
            State::Pending(Pending { latest: proposal, proposed, uncertain, retry_at: None });
        let waits_for_all = self.committed.iter().all(|node| self.is_in_maximal(*node));
        check!(QUORUM_SUPERSET, waits_for_all, "maximal set of {self:?}");
    }

    /// A registration with this partition epoch is committed. Proposals on older ones can never be applied any more.
    pub(super) fn commit(&mut self, isr: &[NodeId], partition_epoch: PartitionEpoch, now: Moment) {
        if partition_epoch <= self.partition_epoch {
            return;
        }
        self.partition_epoch = partition_epoch;
        self.committed.clear();
        self.committed.extend_from_slice(isr);
        self.state = State::Settled { not_before: now };
    }

    /// The controller refused the proposal `attempt`. Only codes which state that the partition epoch is current *and* that nothing was
    /// applied take it back, and only when no earlier attempt may still be under way somewhere.
    pub(super) fn refused(&mut self, attempt: u32, code: ErrorCode, retry_at: Moment) {
        let nothing_was_applied =
            matches!(code, ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted);
        let State::Pending(pending) = &mut self.state else { return };
        if pending.latest.attempt != attempt {
            return;
        }
        if (nothing_was_applied && !pending.uncertain) || mutant!(Mutant::M5) {
            self.state = State::Settled { not_before: retry_at };
        } else {
            pending.uncertain |= !nothing_was_applied;
            pending.retry_at = Some(retry_at);
        }
    }

    /// Nobody knows what became of the proposal `attempt`.
    pub(super) fn lost(&mut self, attempt: u32, retry_at: Moment) {
        self.refused(attempt, ErrorCode::RequestTimedOut, retry_at);
    }

    /// Whether a proposal must be asked again now.
    pub(super) fn is_retry_due(&self, now: Moment) -> bool {
        self.retry_at().is_some_and(|at| now >= at)
    }

    fn retry_at(&self) -> Option<Moment> {
        match &self.state {
            State::Pending(pending) => pending.retry_at,
            State::Settled { .. } => None,
        }
    }

    /// When something can be proposed again that cannot be now.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Pending(pending) => pending.retry_at,
            State::Settled { not_before } => Some(*not_before),
        }
    }
}
