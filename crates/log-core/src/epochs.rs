//! The leader-epoch index: which leader wrote which part of the log.
//!
//! One entry per leader epoch that has written or may write: the epoch and the log end offset when that leader began. Two logs that
//! both hold epoch e agree on everything up to the smaller of their ends of e, so the place where a follower left its leader's
//! history is found by comparing epoch ends instead of by guessing from a high watermark (KIP-101, KIP-279, KIP-320; R1 and R2).
//!
//! Epochs and start offsets both strictly increase along the entries (I7). An epoch that wrote nothing leaves no entry behind: the next
//! one begins at the same offset and takes its place.

use thalweg_invariants::{EPOCHS, Mutant, check, mutant};
use thalweg_types::{LeaderEpoch, Offset};

/// The index of one log, oldest entry first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EpochIndex {
    entries: Vec<EpochEntry>,
}

/// One leader's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochEntry {
    pub epoch: LeaderEpoch,
    /// Log end offset when the leader of this epoch began.
    pub start_offset: Offset,
}

/// An epoch and where its records end: the answer to "how far did epoch e get?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    /// First offset after the epoch's last record.
    pub end_offset: Offset,
}

/// Entries from a checkpoint that no log can have: epochs or start offsets that do not increase, or negative ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("leader epochs out of order at entry {position}: {entry:?}")]
pub struct InvalidEpochs {
    pub position: usize,
    pub entry: EpochEntry,
}

impl EpochIndex {
    /// An index from a checkpoint's entries.
    pub fn restore(entries: Vec<EpochEntry>) -> Result<Self, InvalidEpochs> {
        let mut previous = EpochEntry { epoch: LeaderEpoch::NONE, start_offset: Offset::NONE };
        for (position, entry) in entries.iter().enumerate() {
            let increases =
                entry.epoch > previous.epoch && entry.start_offset > previous.start_offset;
            if !increases {
                return Err(InvalidEpochs { position, entry: *entry });
            }
            previous = *entry;
        }
        Ok(Self { entries })
    }

    /// The entries as a checkpoint keeps them.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The newest epoch, if any leader began.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Notes that `epoch` begins at `start_offset`, unless it is the newest epoch already. An epoch that was to begin there too has written
    /// nothing, and is forgotten even if it is newer: this log led in it, and follows a log now that did not. Returns whether the index
    /// changed, that is, whether its checkpoint is stale.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if self.latest().is_some_and(|newest| newest.epoch == epoch) {
            return false;
        }
        self.entries.pop_if(|newest| newest.start_offset == start_offset);
        let newest = self.latest();
        if newest.is_some_and(|newest| newest.epoch == epoch) {
            return true;
        }
        check!(
            EPOCHS,
            epoch >= LeaderEpoch(0)
                && newest.is_none_or(|n| epoch > n.epoch && start_offset > n.start_offset),
            "epoch {epoch} begins at {start_offset} after {newest:?}"
        );
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// The answer to Kafka's OffsetForLeaderEpoch: the largest epoch at or below `epoch` and where it ends. An epoch older than all
    /// entries ends where the oldest begins and is returned as itself. `None` for one newer than all, of which this log knows
    /// nothing, and for a log without epochs.
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        let oldest = self.entries.first()?;
        if epoch < LeaderEpoch(0) || epoch > self.latest()?.epoch {
            return None;
        }
        let before_all = EpochEnd { epoch, end_offset: oldest.start_offset };
        Some(self.floor_end(epoch, log_end).unwrap_or(before_all))
    }

    /// The largest epoch at or below `epoch` and where it ends; `None` when this log has no such epoch.
    pub fn floor_end(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        let after = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let floor = self.entries.get(after.checked_sub(1)?)?;
        let end_offset = self.entries.get(after).map_or(log_end, |next| next.start_offset);
        Some(EpochEnd { epoch: floor.epoch, end_offset })
    }

    /// The epoch that wrote the record at `offset`, which lies in the log.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        self.entries.get(after.checked_sub(1)?).map(|entry| entry.epoch)
    }

    /// The leader's check of a follower's position (R1): where the two histories part, or `None` when the follower's log up to
    /// `fetch_offset`, whose last batch is of `last_fetched_epoch`, is a prefix of this one.
    pub fn divergence(
        &self,
        last_fetched_epoch: LeaderEpoch,
        fetch_offset: Offset,
        log_end: Offset,
    ) -> Option<EpochEnd> {
        let nothing = EpochEnd { epoch: LeaderEpoch::NONE, end_offset: Offset::ZERO };
        let shared = self.floor_end(last_fetched_epoch, log_end).unwrap_or(nothing);
        let diverges = shared.epoch < last_fetched_epoch || shared.end_offset < fetch_offset;
        diverges.then_some(shared)
    }

    /// The follower's answer to a divergence (R2): where to cut a log that lies between `log_start` and `log_end`.
    pub fn truncation_point(
        &self,
        diverging: EpochEnd,
        log_start: Offset,
        log_end: Offset,
    ) -> Offset {
        let own_end =
            self.floor_end(diverging.epoch, log_end).map_or(log_start, |own| own.end_offset);
        let end = match mutant!(Mutant::M7) {
            true => diverging.end_offset,
            false => diverging.end_offset.min(own_end),
        };
        end.clamp(log_start, log_end)
    }

    /// The log was cut at `end`: epochs that began there or later are gone.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let kept = self.entries.partition_point(|entry| entry.start_offset < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// The log now starts at `start`: epochs wholly below are gone, and the one that wrote the first record begins there.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let at_or_below = self.entries.partition_point(|entry| entry.start_offset <= start);
        let Some(covering) = at_or_below.checked_sub(1) else { return false };
        let changed = covering > 0 || self.entries[covering].start_offset < start;
        self.entries.drain(..covering);
        if let Some(first) = self.entries.first_mut() {
            first.start_offset = start;
        }
        changed
    }
}

#[cfg(test)]
mod tests;
