//! The positions of one log, in one struct that owns their order.
//!
//! ```text
//!   0 ...... log_start ...... last_stable ...... high_watermark ...... log_end
//!                                                 recovery_point ..... log_end
//! ```
//!
//! All are exclusive ends. Each moves forward only; truncation alone, which is a method of its own, moves ends back. The order is
//! checked after every change, as invariant I6, I8, I12 or I17: callers refuse bad input before they come here.

use thalweg_invariants::{HIGH_WATERMARK, OFFSETS, RETENTION, TRUNCATION, check};
use thalweg_types::{Durability, Offset};

/// A consistent set of one log's positions; cheap to copy and safe to keep, since it never changes behind its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    log_start: Offset,
    last_stable: Offset,
    high_watermark: Offset,
    recovery_point: Offset,
    log_end: Offset,
    durability: Durability,
}

impl LogOffsets {
    /// The positions of a log without records, whose first record will get `start`.
    pub fn empty_at(start: Offset, durability: Durability) -> Self {
        Self {
            log_start: start,
            last_stable: start,
            high_watermark: start,
            recovery_point: start,
            log_end: start,
            durability,
        }
    }

    /// The positions of a log found on disk, whose whole content was read from there and is therefore durable. A remembered high
    /// watermark is a cache: it is brought into the range the log itself shows.
    pub fn recovered(
        log_start: Offset,
        high_watermark: Offset,
        log_end: Offset,
        durability: Durability,
    ) -> Self {
        check!(OFFSETS, log_start <= log_end, "log start {log_start} above log end {log_end}");
        let high_watermark = high_watermark.clamp(log_start, log_end);
        let last_stable = high_watermark;
        Self {
            log_start,
            last_stable,
            high_watermark,
            recovery_point: log_end,
            log_end,
            durability,
        }
    }

    // Movements, in the order in which a record meets them.

    /// Records were appended up to `log_end`.
    pub fn appended(&mut self, log_end: Offset) {
        check!(
            OFFSETS,
            log_end > self.log_end,
            "append moves log end {} to {log_end}",
            self.log_end
        );
        self.log_end = log_end;
    }

    /// A successful flush covers everything below `recovery_point`. An older flush that reports late changes nothing; one that
    /// began before a truncation may report an end that is gone, which counts only up to what is left.
    pub fn flushed(&mut self, recovery_point: Offset) {
        self.recovery_point = self.recovery_point.max(recovery_point.min(self.log_end));
    }

    /// Everything below `to` is known to be on every in-sync replica: the leader's way to commit. Moving to a lower place changes
    /// nothing. `first_unstable` is the start of the oldest open transaction, if any.
    pub fn commit(&mut self, to: Offset, first_unstable: Option<Offset>) {
        check!(
            HIGH_WATERMARK,
            to <= self.high_watermark || to <= self.durable_end(),
            "high watermark to {to}, durable end is {}",
            self.durable_end()
        );
        self.raise_high_watermark(to, first_unstable);
    }

    /// The leader says that everything below `to` is committed. A follower believes it for the records it has.
    pub fn follow(&mut self, to: Offset, first_unstable: Option<Offset>) {
        self.raise_high_watermark(to.min(self.log_end), first_unstable);
    }

    fn raise_high_watermark(&mut self, to: Offset, first_unstable: Option<Offset>) {
        self.high_watermark = self.high_watermark.max(to);
        let stable = first_unstable.map_or(self.high_watermark, |at| at.min(self.high_watermark));
        self.last_stable = self.last_stable.max(stable);
        self.check_order();
    }

    /// Records below `to` are no longer readable. Lower than now changes nothing; never above what is stable.
    pub fn move_log_start(&mut self, to: Offset) {
        check!(
            RETENTION,
            to <= self.last_stable || to <= self.log_start,
            "log start to {to}, stable only up to {}",
            self.last_stable
        );
        self.log_start = self.log_start.max(to);
        self.check_order();
    }

    /// The log now ends at `to`. Below the high watermark only after an unclean election (`unclean`), which alone may take back
    /// what was committed.
    pub fn truncated(&mut self, to: Offset, unclean: bool) {
        check!(TRUNCATION, to <= self.log_end, "cut at {to}, log end is {}", self.log_end);
        check!(TRUNCATION, to >= self.log_start, "cut at {to}, log start is {}", self.log_start);
        check!(
            TRUNCATION,
            unclean || to >= self.high_watermark,
            "cut at {to}, committed up to {}",
            self.high_watermark
        );
        self.log_end = to;
        self.recovery_point = self.recovery_point.min(to);
        self.high_watermark = self.high_watermark.min(to);
        self.last_stable = self.last_stable.min(to);
        self.check_order();
    }

    /// The topic's durability changed; what counts as durable follows (R19).
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    // Positions.

    /// First offset that clients may read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// First offset that may belong to an undecided transaction.
    pub fn last_stable(&self) -> Offset {
        self.last_stable
    }

    /// First offset not yet known to be on every in-sync replica.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Everything below is covered by a successful flush on this disk.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Everything below counts as durable here: flushed, or on a `replicated` topic appended.
    pub fn durable_end(&self) -> Offset {
        match self.durability {
            Durability::Fsync => self.recovery_point,
            Durability::Replicated => self.log_end,
        }
    }

    /// Offset the next appended record will get.
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    fn check_order(&self) {
        check!(
            OFFSETS,
            self.log_start <= self.last_stable
                && self.last_stable <= self.high_watermark
                && self.high_watermark <= self.log_end
                && self.recovery_point <= self.log_end,
            "positions out of order: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests;
