//! What the log says, in memory: the vote, how far it was purged, and every entry behind that.
//!
//! Recovery replays the frames of the files into this, live operation goes through the same methods, so both come to the same log.
//! Entries stay in memory because a snapshot every few thousand entries bounds them and every reader wants the latest ones.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use crate::types::{Entry, LogId, Vote};

/// The log without its files.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    vote: Option<Vote>,
    purged: Option<LogId>,
    /// What the first entry follows. The purged position, except while a recovery has not yet read how far the log was purged.
    floor: Option<LogId>,
    /// Consecutive.
    entries: VecDeque<Entry>,
}

/// An entry that does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} does not follow the log, which expects {expected}")]
pub(crate) struct Hole {
    pub(crate) index: u64,
    pub(crate) expected: u64,
}

impl Contents {
    /// The log as the header of its oldest file tells it: the files before it are gone, entries follow `last`.
    pub(crate) fn behind(vote: Option<Vote>, purged: Option<LogId>, last: Option<LogId>) -> Self {
        Self { vote, purged, floor: last.max(purged), entries: VecDeque::new() }
    }

    pub(crate) fn save_vote(&mut self, vote: Vote) {
        self.vote = Some(vote);
    }

    pub(crate) fn append(&mut self, entry: Entry) -> Result<(), Hole> {
        let index = entry.log_id.index;
        match self.last() {
            Some(last) if last.index.checked_add(1) != Some(index) => {
                Err(Hole { index, expected: last.index.saturating_add(1) })
            }
            _ => {
                self.entries.push_back(entry);
                Ok(())
            }
        }
    }

    /// Drops the entries behind `last`, or all of them.
    pub(crate) fn truncate(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |last| self.position(last.index.saturating_add(1)));
        self.entries.truncate(keep);
        if self.entries.is_empty() {
            self.floor = self.floor.min(last).max(self.purged);
        }
    }

    /// Drops the entries up to and including `last`. A position behind the end drops them all: a snapshot replaced the log.
    pub(crate) fn purge(&mut self, last: LogId) {
        self.entries.drain(..self.position(last.index.saturating_add(1)));
        self.purged = self.purged.max(Some(last));
        if self.floor.is_none_or(|floor| floor.index < last.index) {
            self.floor = Some(last);
        }
    }

    /// Whether the entries follow what was purged, with nothing lost between.
    pub(crate) fn is_complete(&self) -> bool {
        self.floor <= self.purged
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        self.vote
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry's position, or that which an entry would have to follow.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.floor)
    }

    /// The entries of the range that the log holds.
    pub(crate) fn read(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        let from = match range.start_bound() {
            Bound::Included(index) => self.position(*index),
            Bound::Excluded(index) => self.position(index.saturating_add(1)),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => self.position(index.saturating_add(1)),
            Bound::Excluded(index) => self.position(*index),
            Bound::Unbounded => self.entries.len(),
        };
        self.entries.range(from.min(to)..to).cloned().collect()
    }

    fn position(&self, index: u64) -> usize {
        self.entries.partition_point(|entry| entry.log_id.index < index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LeaderId, Payload};

    fn id(term: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: 1 }, index }
    }

    fn log(indexes: std::ops::Range<u64>) -> Contents {
        let mut contents = Contents::default();
        for index in indexes {
            contents.append(Entry { log_id: id(1, index), payload: Payload::Blank }).unwrap();
        }
        contents
    }

    fn indexes(contents: &Contents, range: impl RangeBounds<u64>) -> Vec<u64> {
        contents.read(range).iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn a_hole_is_refused() {
        let mut contents = log(0..3);

        let refused = contents.append(Entry { log_id: id(1, 4), payload: Payload::Blank });

        assert_eq!(refused, Err(Hole { index: 4, expected: 3 }));
        contents.truncate(None);
        contents.purge(id(1, 7));
        let refused = contents.append(Entry { log_id: id(1, 7), payload: Payload::Blank });
        assert_eq!(refused, Err(Hole { index: 7, expected: 8 }));
    }

    #[test]
    fn a_range_reads_what_there_is_of_it() {
        let mut contents = log(0..10);
        contents.purge(id(1, 3));

        assert_eq!(indexes(&contents, 0..6), [4, 5]);
        assert_eq!(indexes(&contents, 8..100), [8, 9]);
        assert_eq!(indexes(&contents, 5..=6), [5, 6]);
        assert_eq!(indexes(&contents, ..), [4, 5, 6, 7, 8, 9]);
        #[expect(clippy::reversed_empty_ranges, reason = "a reader may ask for it")]
        let reversed = indexes(&contents, 7..5);
        assert_eq!(reversed, []);
    }

    #[test]
    fn truncating_and_purging_move_the_last_position() {
        let mut contents = log(0..10);

        contents.truncate(Some(id(1, 5)));
        assert_eq!(contents.last(), Some(id(1, 5)));
        contents.purge(id(1, 5));
        assert_eq!((contents.purged(), contents.last()), (Some(id(1, 5)), Some(id(1, 5))));
        contents.purge(id(1, 2));
        assert_eq!(contents.purged(), Some(id(1, 5)));
    }
}
