//! A replica's log and the disk below it. Nothing is ever deleted from its beginning here.

use thalweg_log_core::EpochIndex;
use thalweg_replication_core::{LogEnds, LogView};
use thalweg_types::{LeaderEpoch, Offset};

/// A record: the epoch it was written in, and a number that no other has.
pub(crate) type Entry = (LeaderEpoch, u8);

#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    pub(crate) epochs: EpochIndex,
    pub(crate) flushed: usize,
    pub(crate) high_watermark: usize,
}

pub(crate) fn offset(at: usize) -> Offset {
    Offset(i64::try_from(at).unwrap_or(i64::MAX))
}

/// The place of an offset that the cores gave; a negative one is before everything.
pub(crate) fn index(at: Offset) -> usize {
    usize::try_from(at.0).unwrap_or(0)
}

impl Log {
    pub(crate) fn end(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn view(&self) -> LogView<'_> {
        let ends = LogEnds {
            log_start: Offset::ZERO,
            high_watermark: offset(self.high_watermark),
            flushed_end: offset(self.flushed),
            log_end: offset(self.end()),
        };
        LogView { ends, epochs: &self.epochs }
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.epochs.assign(entry.0, offset(self.end()));
        self.entries.push(entry);
    }

    pub(crate) fn cut(&mut self, to: usize) {
        self.entries.truncate(to);
        self.epochs.truncate_from_end(offset(to));
        self.flushed = self.flushed.min(to);
        self.high_watermark = self.high_watermark.min(to);
    }

    /// What a restart finds: everything up to `end`, written and flushed anew, and an older high watermark.
    pub(crate) fn recover(&mut self, end: usize, high_watermark: usize) {
        self.cut(end);
        self.flushed = end;
        self.high_watermark = self.high_watermark.min(high_watermark);
    }
}
