//! R2: how a follower makes its log a prefix of the leader's, and when it refuses to.

use std::collections::VecDeque;

use thalweg_invariants::{Mutant, TRUNCATION, check, mutant};
use thalweg_log_core::EpochEnd;
use thalweg_types::Offset;

use super::{Follower, State};
use crate::action::{Action, Halt};
use crate::log_ends::LogView;

impl Follower {
    /// The leader's history parts from ours at `end` at the latest: cut to the smaller of its end of that epoch and ours.
    pub(super) fn diverges(
        &mut self,
        end: EpochEnd,
        leader_log_start: Offset,
        log: LogView<'_>,
        actions: &mut VecDeque<Action>,
    ) {
        let log_start = log.ends.log_start;
        if end.end_offset < log_start {
            // Nothing that is left here is the leader's.
            self.begin_anew(leader_log_start, Some(end), actions);
            return;
        }
        let to = log.epochs.truncation_point(end, log_start, log.ends.log_end);
        if to < self.ends.high_watermark && !self.may_lose_committed() {
            self.halt(Some(end), to, actions);
            return;
        }
        let unclean = to < self.ends.high_watermark;
        check!(TRUNCATION, to >= log_start, "cut at {to}, the log starts at {log_start}");
        self.state = State::Cutting;
        actions.push_back(Action::Truncate { to, unclean });
    }

    /// Nothing in common: begin an empty log at the leader's log start. What is below it there is gone by retention; what is above it here
    /// would be lost.
    pub(super) fn begin_anew(
        &mut self,
        at: Offset,
        diverging: Option<EpochEnd>,
        actions: &mut VecDeque<Action>,
    ) {
        if at < self.ends.high_watermark && !self.may_lose_committed() {
            self.halt(diverging, at, actions);
            return;
        }
        self.state = State::Cutting;
        actions.push_back(Action::Restart { at });
    }

    /// Guard G-HW: what is committed goes only after an unclean election that our last record is older than. A record of the very epoch
    /// that it began came from its leader: what that one committed, the mark does not give up.
    fn may_lose_committed(&self) -> bool {
        let is_marked = self.unclean_epoch.is_some_and(|mark| mark > self.last_epoch);
        is_marked || mutant!(Mutant::M26)
    }

    fn halt(&mut self, diverging: Option<EpochEnd>, cut: Offset, actions: &mut VecDeque<Action>) {
        let halt = Halt {
            leader: self.leader,
            leader_epoch: self.epoch,
            diverging,
            cut,
            high_watermark: self.ends.high_watermark,
        };
        self.state = State::Halted(halt);
        actions.push_back(Action::Halt(halt));
    }
}
