//! What counts as durable on a replica (R3, R19).
//!
//! Replicas always report both of their ends, appended and flushed; which of them counts follows from the topic's durability as the
//! leader knows it, so no report has to say under which mode it was made.
//!
//! - To `fsync`: the flushed end counts from now on. The high watermark may be ahead of it and waits.
//! - To `replicated`: records appended before the change keep what was promised, so the appended end counts only once everything up to
//!   the change is flushed.

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{Durability, Offset};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DurableRule {
    durability: Durability,
    /// Records below were appended under `fsync`.
    relaxed_from: Offset,
}

impl DurableRule {
    /// Of a new leader: who waited for an older one's flushes was told that the outcome is unknown.
    pub(super) fn new(durability: Durability) -> Self {
        Self { durability, relaxed_from: Offset::ZERO }
    }

    /// The registration says `durability` now, and the leader's log ends at `log_end`.
    pub(super) fn change(&mut self, durability: Durability, log_end: Offset) {
        if self.durability == Durability::Fsync && durability == Durability::Replicated {
            self.relaxed_from = log_end;
        }
        self.durability = durability;
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// Everything below is durable on a replica with these ends.
    pub(super) fn end(&self, flushed_end: Offset, log_end: Offset) -> Offset {
        let appended_counts = match self.durability {
            Durability::Fsync => mutant!(Mutant::M8),
            Durability::Replicated => flushed_end >= self.relaxed_from,
        };
        if appended_counts { log_end } else { flushed_end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_under_fsync_keeps_its_promise_after_the_change() {
        let mut rule = DurableRule::new(Durability::Fsync);
        assert_eq!(rule.end(Offset(3), Offset(9)), Offset(3));
        rule.change(Durability::Replicated, Offset(9));
        assert_eq!(rule.end(Offset(3), Offset(12)), Offset(3), "below 9 only flushes count");
        assert_eq!(rule.end(Offset(9), Offset(12)), Offset(12));
    }

    #[test]
    fn flushes_count_from_the_moment_of_the_change_to_fsync() {
        let mut rule = DurableRule::new(Durability::Replicated);
        assert_eq!(rule.end(Offset(3), Offset(9)), Offset(9));
        rule.change(Durability::Fsync, Offset(9));
        assert_eq!(rule.end(Offset(3), Offset(9)), Offset(3));
    }
}
