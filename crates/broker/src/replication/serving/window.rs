//! How much may be on its way to a follower, in all and of one partition.
//!
//! Every response is counted until the follower says that it has taken it in. So a follower that is slow holds up nobody else's memory, and
//! a partition that is far behind has only its own share on the wire: what others append goes out right behind it.

use std::collections::{HashMap, VecDeque};

use thalweg_types::TopicIdPartition;

/// What one push counts besides its batches.
const PUSH_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Window {
    bytes_max: usize,
    partition_bytes_max: usize,
    bytes: usize,
    partitions: HashMap<TopicIdPartition, usize>,
    /// Responses not taken in yet, oldest first: the bytes of each partition in them.
    on_their_way: VecDeque<Vec<(TopicIdPartition, usize)>>,
    taken_count: u64,
}

/// The follower says it has taken in what was never sent, or less than it had said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{given} responses cannot have been taken in: {taken} were, and {sent} were sent")]
pub(super) struct ImpossibleCount {
    given: u64,
    taken: u64,
    sent: u64,
}

impl Window {
    pub(super) fn new(bytes_max: usize, partition_bytes_max: usize) -> Self {
        Self {
            bytes_max,
            partition_bytes_max,
            bytes: 0,
            partitions: HashMap::new(),
            on_their_way: VecDeque::new(),
            taken_count: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.bytes_max
    }

    pub(super) fn has_room_for(&self, id: TopicIdPartition) -> bool {
        self.partitions.get(&id).is_none_or(|bytes| *bytes < self.partition_bytes_max)
    }

    /// Responses on their way.
    pub(super) fn responses(&self) -> usize {
        self.on_their_way.len()
    }

    /// A response with pushes of so many bytes is sent.
    pub(super) fn sent(&mut self, mut pushes: Vec<(TopicIdPartition, usize)>) {
        for (id, bytes) in &mut pushes {
            *bytes += PUSH_BYTES;
            self.bytes += *bytes;
            *self.partitions.entry(*id).or_default() += *bytes;
        }
        self.on_their_way.push_back(pushes);
    }

    /// The follower has taken in the first `count` responses. Says whether that made room.
    pub(super) fn taken(&mut self, count: u64) -> Result<bool, ImpossibleCount> {
        let sent = self.taken_count + self.on_their_way.len() as u64;
        if count < self.taken_count || count > sent {
            return Err(ImpossibleCount { given: count, taken: self.taken_count, sent });
        }
        let mut has_more_room = false;
        while self.taken_count < count {
            self.taken_count += 1;
            for (id, bytes) in self.on_their_way.pop_front().unwrap_or_default() {
                has_more_room = true;
                self.bytes -= bytes;
                if let Some(left) = self.partitions.get_mut(&id) {
                    *left -= bytes;
                    if *left == 0 {
                        self.partitions.remove(&id);
                    }
                }
            }
        }
        Ok(has_more_room)
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

    #[test]
    fn a_partition_that_is_behind_fills_its_own_share_and_not_the_others() {
        let mut window = Window::new(10_000, 4_000);
        window.sent(vec![(id(1), 4_000)]);
        assert!(!window.has_room_for(id(1)) && window.has_room_for(id(2)) && window.has_room());
        window.sent(vec![(id(2), 1_000), (id(3), 6_000)]);
        assert!(!window.has_room());
        assert_eq!(window.taken(1), Ok(true));
        assert!(window.has_room() && window.has_room_for(id(1)));
        assert_eq!(window.taken(2), Ok(true));
        assert_eq!((window.bytes, window.partitions.len()), (0, 0));
    }

    #[test]
    fn nobody_has_taken_in_what_was_not_sent() {
        let mut window = Window::new(10, 10);
        window.sent(Vec::new());
        assert_eq!(window.taken(1), Ok(false), "an answer takes no room");
        assert!(window.taken(2).is_err() && window.taken(0).is_err());
        assert_eq!(window.taken(1), Ok(false));
    }
}
