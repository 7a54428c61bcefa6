//! R3: when the high watermark moves, and when it is the true one.

use std::collections::VecDeque;

use thalweg_invariants::{HIGH_WATERMARK, Mutant, check, mutant};
use thalweg_types::{Moment, Offset};

use super::Leader;
use super::progress::Follower;
use crate::action::Action;

impl Leader {
    /// Moves the high watermark as far as it may. It never moves back.
    pub(super) fn advance(&mut self, now: Moment, actions: &mut VecDeque<Action>) {
        if !self.partition.has_enough_in_sync() && !mutant!(Mutant::M10) {
            return;
        }
        let Some(candidate) = self.candidate(now) else { return };
        if candidate <= self.ends.high_watermark {
            return;
        }
        check!(
            HIGH_WATERMARK,
            candidate <= self.own_durable_end() && candidate <= self.ends.log_end,
            "high watermark to {candidate} with {:?}",
            self.ends
        );
        self.ends.high_watermark = candidate;
        actions.push_back(Action::Commit(candidate));
    }

    /// The least durable end over the maximal in-sync replicas and those about to join. `None` while one of them was not heard of.
    fn candidate(&self, now: Moment) -> Option<Offset> {
        let mut least = self.own_durable_end();
        for follower in &self.followers {
            if self.isr.is_in_maximal(follower.node) || self.is_about_to_join(follower, now) {
                least = least.min(self.durable_end_of(follower)?);
            }
        }
        Some(least)
    }

    pub(super) fn own_durable_end(&self) -> Offset {
        self.durable.end(self.ends.flushed_end, self.ends.log_end)
    }

    /// From what was accepted in this epoch and in the follower's present session only.
    pub(super) fn durable_end_of(&self, follower: &Follower) -> Option<Offset> {
        follower.heard().map(|heard| self.durable.end(heard.flushed_end, heard.log_end))
    }

    /// Without waiting for it, a follower that keeps up would chase the high watermark for ever.
    fn is_about_to_join(&self, follower: &Follower, now: Moment) -> bool {
        self.is_eligible_to_join(follower) && !self.is_lagging(follower, now)
    }

    /// The high watermark, if it is at least what any earlier leader told anybody: every record acknowledged before this epoch is below
    /// its start, so once the high watermark has reached it, it lacks nothing. `None`: OFFSET_NOT_AVAILABLE.
    pub(crate) fn true_high_watermark(&self) -> Option<Offset> {
        let is_true = self.ends.high_watermark >= self.epoch_start_offset || mutant!(Mutant::M28);
        (is_true && self.lease_is_valid).then_some(self.ends.high_watermark)
    }
}
