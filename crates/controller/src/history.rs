//! The latest committed entries, for watchers that resume.
//!
//! The metadata log has more indexes than entries with facts (a new leader's first entry has none), so every entry names the one before
//! it: whoever has applied that one has missed nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_metadata_core::{Position, Record};
use thalweg_types::LogIndex;

/// Entries kept. A watcher further behind gets a snapshot, which is cheaper than very many entries.
const ENTRIES_MAX: usize = 4096;

/// Facts kept in all entries together: entries differ in size by four orders of magnitude.
const RECORDS_MAX: usize = 100_000;

/// A run of committed entries without gaps, the latest last.
#[derive(Debug, Default)]
pub(crate) struct History {
    entries: VecDeque<Arc<Committed>>,
    record_count: usize,
    /// Index of the last entry, also while none is kept.
    last: LogIndex,
}

/// One committed entry.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) position: Position,
    /// The entry before it that held facts.
    pub(crate) previous: LogIndex,
    pub(crate) records: Vec<Record>,
}

/// What a watcher has to be sent.
#[derive(Debug)]
pub(crate) enum Behind {
    /// These entries; none if it has everything.
    By(Vec<Arc<Committed>>),
    /// More than is kept: the whole image.
    TooFar,
    /// It has applied what this node has not.
    Ahead,
}

impl History {
    /// Forgets everything: the state was replaced by one that stands at `last`.
    pub(crate) fn restart(&mut self, last: LogIndex) {
        *self = Self { last, ..Self::default() };
    }

    pub(crate) fn push(&mut self, position: Position, records: Vec<Record>) {
        self.record_count += records.len();
        self.entries.push_back(Arc::new(Committed { position, previous: self.last, records }));
        self.last = position.index;
        while self.entries.len() > ENTRIES_MAX || self.record_count > RECORDS_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.record_count -= oldest.records.len();
        }
    }

    /// Whether a watcher that has applied `applied` has more than this node.
    pub(crate) fn is_behind(&self, applied: LogIndex) -> bool {
        applied > self.last
    }

    /// What follows the entry at `applied`.
    pub(crate) fn since(&self, applied: LogIndex) -> Behind {
        if applied == self.last {
            return Behind::By(Vec::new());
        }
        if applied > self.last {
            return Behind::Ahead;
        }
        let next = self.entries.partition_point(|entry| entry.previous < applied);
        match self.entries.get(next) {
            Some(entry) if entry.previous == applied => {
                Behind::By(self.entries.range(next..).cloned().collect())
            }
            _ => Behind::TooFar,
        }
    }
}

#[cfg(test)]
mod tests {
    use thalweg_types::{ControllerEpoch, ProducerId};

    use super::*;

    fn push(history: &mut History, index: u64, record_count: usize) {
        let position = Position { index: LogIndex(index), controller_epoch: ControllerEpoch(1) };
        let record = Record::ProducerIdsAllocated { next_producer_id: ProducerId(1) };
        history.push(position, vec![record; record_count]);
    }

    fn indexes(behind: Behind) -> Vec<u64> {
        match behind {
            Behind::By(entries) => entries.iter().map(|entry| entry.position.index.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_watcher_gets_what_follows_its_last_entry_although_indexes_have_gaps() {
        let mut history = History::default();
        history.restart(LogIndex(3));
        push(&mut history, 5, 1);
        push(&mut history, 9, 1);
        assert_eq!(indexes(history.since(LogIndex(3))), [5, 9]);
        assert_eq!(indexes(history.since(LogIndex(5))), [9]);
        assert_eq!(indexes(history.since(LogIndex(9))), [0; 0]);
        assert!(matches!(history.since(LogIndex(2)), Behind::TooFar));
        assert!(matches!(history.since(LogIndex(7)), Behind::TooFar));
        assert!(matches!(history.since(LogIndex(10)), Behind::Ahead));
    }

    #[test]
    fn what_is_kept_is_bounded_by_facts_too() {
        let mut history = History::default();
        for index in 1..=3 {
            push(&mut history, index, RECORDS_MAX / 2);
        }
        assert!(matches!(history.since(LogIndex(0)), Behind::TooFar));
        assert_eq!(indexes(history.since(LogIndex(1))), [2, 3]);
    }
}
