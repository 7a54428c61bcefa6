//! From what a member owns to what it shall own, a step at each of its heartbeats.
//!
//! ```text
//!               something to give up                      the member no longer reports it
//!   Stable ─────────────────────────► UnrevokedPartitions ───────────────────────────────┐
//!     │ ▲                                                                                │
//!     │ │ all free partitions of the target are its own                                  │
//!     │ └──────────────────── UnreleasedPartitions ◄──────── some are still another's ───┤
//!     │                                │     ▲                                           │
//!     └────────────────────────────────┼─────┴───────────────────────────────────────────┘
//!                                      └─► something to give up: UnrevokedPartitions
//! ```
//!
//! A member first gives up and says so, by leaving what it gave up out of its owned partitions; only then it gets the target's epoch, and
//! what is free of the target. A partition is free when nobody else owns it or still has to give it up. That is the whole of G3: nobody is given a
//! partition before everyone who was told to own it has said that he does not, or is no longer in the group.
//!
//! A member that does not report a partition has given it up, or has been told of it and not taken it up yet. Nothing in the protocol tells these apart, so
//! what is asked back is believed to be gone only when the member reports without it after it was asked (Kafka believes it at once), or if it was
//! never told of it. Two things are relied on: a member's requests arrive in the order it sent them, and a member whose answer was lost takes up
//! nothing more before it is answered again.

use thalweg_types::{AssignmentEpoch, MemberEpoch, PartitionIndex, TopicId};

use super::partitions::PartitionSet;

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It owns its target, of its epoch.
    Stable,
    /// It has to give something up first.
    UnrevokedPartitions,
    /// It waits for partitions that others have to give up.
    UnreleasedPartitions,
    /// Written by a later version; the member must join anew.
    Unknown,
}

/// What a member owns and what it is told, as its record says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) state: MemberState,
    pub(crate) epoch: MemberEpoch,
    /// The epoch before: of the last answer that surely arrived.
    pub(crate) previous_epoch: MemberEpoch,
    pub(crate) assigned: PartitionSet,
    /// To be given up.
    pub(crate) revoking: PartitionSet,
}

/// Where a member is to get to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) epoch: AssignmentEpoch,
    pub(crate) partitions: &'a PartitionSet,
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report<'a> {
    /// `None` if it says nothing, which is as if it owned everything it was told.
    pub(crate) owned: Option<&'a PartitionSet>,
    /// It has heard what it is to own, and may be about to take up what it does not report yet.
    pub(crate) may_take_up: bool,
}

/// A member of an unknown state came back with partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MustRejoin;

impl Current {
    /// A member that has only just come.
    pub(crate) const NEW: Self = Self {
        state: MemberState::Stable,
        epoch: MemberEpoch(0),
        previous_epoch: MemberEpoch(0),
        assigned: PartitionSet::EMPTY,
        revoking: PartitionSet::EMPTY,
    };

    /// Whether there is nothing to do until there is another target.
    pub(crate) fn is_reconciled_to(&self, epoch: AssignmentEpoch) -> bool {
        self.state == MemberState::Stable && self.epoch.0 == epoch.0
    }

    /// The next step towards `target`, if there is one. `is_taken` says whether *another* member owns a partition or has to give it up.
    pub(crate) fn reconcile(
        &self,
        target: Target<'_>,
        report: Report<'_>,
        is_taken: impl Fn(TopicId, PartitionIndex) -> bool,
    ) -> Result<Option<Self>, MustRejoin> {
        if self.is_reconciled_to(target.epoch) {
            return Ok(None);
        }
        let epoch = match self.state {
            MemberState::Stable | MemberState::UnreleasedPartitions => self.epoch,
            MemberState::UnrevokedPartitions if report.may_own(&self.revoking) => return Ok(None),
            // A step of its own, so that the time to give up what is asked next starts anew.
            MemberState::UnrevokedPartitions => MemberEpoch(self.epoch.0.saturating_add(1)),
            MemberState::Unknown if report.owned.is_none_or(|owned| !owned.is_empty()) => {
                return Err(MustRejoin);
            }
            MemberState::Unknown => MemberEpoch(target.epoch.0),
        };
        let next = self.next(epoch, target, report, is_taken);
        Ok((next != *self).then_some(next))
    }

    fn next(
        &self,
        epoch: MemberEpoch,
        target: Target<'_>,
        report: Report<'_>,
        is_taken: impl Fn(TopicId, PartitionIndex) -> bool,
    ) -> Self {
        let kept = self.assigned.intersection(target.partitions);
        let revoking = self.assigned.difference(&kept);
        if !revoking.is_empty() && (report.may_take_up || report.may_own(&revoking)) {
            let state = MemberState::UnrevokedPartitions;
            return self.moved(state, epoch, kept, revoking);
        }
        let missing = target.partitions.difference(&kept);
        let free = missing.filtered(|topic, partition| !is_taken(topic, partition));
        let state = if free.len() < missing.len() {
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        };
        self.moved(state, MemberEpoch(target.epoch.0), kept.union(&free), PartitionSet::EMPTY)
    }

    fn moved(
        &self,
        state: MemberState,
        epoch: MemberEpoch,
        assigned: PartitionSet,
        revoking: PartitionSet,
    ) -> Self {
        let previous_epoch = if epoch == self.epoch { self.previous_epoch } else { self.epoch };
        Self { state, epoch, previous_epoch, assigned, revoking }
    }
}

impl Report<'_> {
    /// Whether the member may own something of `partitions`.
    fn may_own(&self, partitions: &PartitionSet) -> bool {
        self.owned.is_none_or(|owned| !owned.is_disjoint(partitions))
    }
}

#[cfg(test)]
mod tests;
