//! One timer for all partitions.
//!
//! A partition puts the moment at which it wants to be looked at, and puts another one only when that is earlier; so most partitions have
//! one entry here at a time, and one that is idle has none. Entries are not taken back: who is woken for nothing looks and sleeps on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;
use thalweg_types::{Moment, TopicIdPartition};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    waiting: Mutex<BinaryHeap<Reverse<(Moment, TopicIdPartition)>>>,
    /// The earliest deadline is another one now.
    changed: Notify,
}

impl Deadlines {
    pub(crate) fn put(&self, at: Moment, partition: TopicIdPartition) {
        let mut waiting = self.waiting.lock();
        let is_first = waiting.peek().is_none_or(|Reverse((first, _))| at < *first);
        waiting.push(Reverse((at, partition)));
        drop(waiting);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Those that have passed, earliest first.
    pub(crate) fn passed(&self, now: Moment) -> Vec<(Moment, TopicIdPartition)> {
        let mut waiting = self.waiting.lock();
        let mut passed = Vec::new();
        while let Some(Reverse((at, _))) = waiting.peek()
            && *at <= now
        {
            passed.extend(waiting.pop().map(|Reverse(entry)| entry));
        }
        passed
    }

    pub(crate) fn first(&self) -> Option<Moment> {
        self.waiting.lock().peek().map(|Reverse((at, _))| *at)
    }

    /// Returns when [`Self::first`] may have become earlier. For one task.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use thalweg_types::{PartitionIndex, TopicId, Uuid};

    use super::*;

    fn id(partition: i32) -> TopicIdPartition {
        let topic_id = TopicId(Uuid::from_bytes([1; 16]));
        TopicIdPartition { topic_id, partition: PartitionIndex(partition) }
    }

    #[tokio::test]
    async fn deadlines_pass_in_their_order_and_only_an_earlier_one_is_a_change() {
        let deadlines = Deadlines::default();
        deadlines.put(Moment(20), id(2));
        deadlines.changed().await;
        deadlines.put(Moment(30), id(3));
        let woken = tokio::time::timeout(std::time::Duration::ZERO, deadlines.changed()).await;
        assert!(woken.is_err(), "20 is still the first");
        deadlines.put(Moment(10), id(1));
        deadlines.changed().await;
        assert_eq!(deadlines.first(), Some(Moment(10)));
        assert_eq!(deadlines.passed(Moment(20)), [(Moment(10), id(1)), (Moment(20), id(2))]);
        assert_eq!(deadlines.first(), Some(Moment(30)));
    }
}
