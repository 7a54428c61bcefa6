//! A replica's log and the disk below it.

use thalweg_log_core::EpochIndex;
use thalweg_replication_core::{LogEnds, LogView};
use thalweg_types::{LeaderEpoch, Offset};

use super::random::Dice;

/// A record: the epoch it was written in, and a number that no other has.
pub(crate) type Entry = (LeaderEpoch, u64);

#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// Offset of the first record.
    pub(crate) start: usize,
    pub(crate) entries: Vec<Entry>,
    pub(crate) epochs: EpochIndex,
    pub(crate) flushed: usize,
    pub(crate) high_watermark: usize,
}

pub(crate) fn offset(at: usize) -> Offset {
    Offset(i64::try_from(at).expect("small"))
}

pub(crate) fn index(at: Offset) -> usize {
    usize::try_from(at.0).expect("not negative")
}

impl Log {
    pub(crate) fn end(&self) -> usize {
        self.start + self.entries.len()
    }

    pub(crate) fn view(&self) -> LogView<'_> {
        let ends = LogEnds {
            log_start: offset(self.start),
            high_watermark: offset(self.high_watermark),
            flushed_end: offset(self.flushed),
            log_end: offset(self.end()),
        };
        LogView { ends, epochs: &self.epochs }
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at.checked_sub(self.start)?)
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.epochs.assign(entry.0, offset(self.end()));
        self.entries.push(entry);
    }

    pub(crate) fn cut(&mut self, to: usize) {
        self.entries.truncate(to - self.start);
        self.epochs.truncate_from_end(offset(to));
        self.flushed = self.flushed.min(to);
        self.high_watermark = self.high_watermark.min(to);
    }

    pub(crate) fn move_start(&mut self, to: usize) {
        if to > self.start {
            self.entries.drain(..to - self.start);
            self.start = to;
            self.epochs.truncate_from_start(offset(to));
        }
    }

    pub(crate) fn begin_anew(&mut self, at: usize) {
        *self = Self { start: at, flushed: at, high_watermark: at, ..Self::default() };
    }

    /// What a restart finds: everything up to `end`, and an older high watermark.
    pub(crate) fn recover(&mut self, end: usize, dice: &mut Dice) {
        if end < self.start {
            // Records were deleted that a follower had not even flushed.
            self.begin_anew(end);
        }
        self.cut(end);
        self.flushed = end;
        let committed = self.high_watermark - self.start;
        self.high_watermark = self.start + dice.below(committed + 1);
    }
}
