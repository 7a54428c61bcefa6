//! What groups have committed: the next offset to read of each partition, and what goes with it.
//!
//! Offsets are kept apart from groups, because a group need not exist to have some: consumers that assign themselves only commit. Such a
//! *simple* group is nothing but its offsets. An offset is there until another one is committed, it expires, somebody deletes it, or its topic is
//! deleted. None is ever made up: what is not here is answered with "nothing".

mod commit;
mod delete;
mod expiry;
mod fetch;
mod purge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use thalweg_types::{GroupId, PartitionIndex, TopicId, TopicName};

use crate::record::{CommittedOffset, OffsetKey, Record};
use crate::request::TopicRef;
use crate::topics::Topics;

pub(crate) use expiry::Expiry;

/// All offsets of one partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    groups: BTreeMap<GroupId, GroupOffsets>,
    topics: BTreeMap<TopicName, TopicUse>,
    /// Topics that were deleted and of which there may be offsets left.
    doomed: BTreeMap<TopicName, purge::Doomed>,
}

type GroupOffsets = BTreeMap<TopicName, BTreeMap<PartitionIndex, CommittedOffset>>;

/// A topic that somebody has committed an offset of.
#[derive(Debug, Default)]
struct TopicUse {
    offsets: usize,
    /// Its identity when it was last seen in the metadata.
    seen: Option<TopicId>,
}

impl Offsets {
    /// Makes the entry what the record says.
    pub(crate) fn apply(&mut self, key: OffsetKey, value: Option<CommittedOffset>) {
        match value {
            Some(value) => self.insert(key, value),
            None => self.remove(&key),
        }
    }

    fn insert(&mut self, key: OffsetKey, value: CommittedOffset) {
        if let Some(offsets) = self.groups.get_mut(&key.group)
            && let Some(partitions) = offsets.get_mut(&key.topic)
        {
            if partitions.insert(key.partition, value).is_none()
                && let Some(used) = self.topics.get_mut(&key.topic)
            {
                used.offsets += 1;
            }
            return;
        }
        // All entries of a topic share one copy of its name.
        let topic = match self.topics.get_key_value(&key.topic) {
            Some((known, _)) => known.clone(),
            None => key.topic,
        };
        self.topics.entry(topic.clone()).or_default().offsets += 1;
        let offsets = self.groups.entry(key.group).or_default();
        offsets.entry(topic).or_default().insert(key.partition, value);
    }

    fn remove(&mut self, key: &OffsetKey) {
        let Some(offsets) = self.groups.get_mut(&key.group) else { return };
        let Some(partitions) = offsets.get_mut(&key.topic) else { return };
        if partitions.remove(&key.partition).is_none() {
            return;
        }
        if partitions.is_empty() {
            offsets.remove(&key.topic);
            if offsets.is_empty() {
                self.groups.remove(&key.group);
            }
        }
        if let Some(used) = self.topics.get_mut(&key.topic) {
            used.offsets -= 1;
            if used.offsets == 0 {
                self.topics.remove(&key.topic);
            }
        }
    }

    /// Removes the entry, and says so to the log.
    fn tombstone(&mut self, key: OffsetKey) -> Record {
        self.remove(&key);
        Record::Offset(key, None)
    }

    pub(crate) fn count(&self) -> usize {
        self.topics.values().map(|used| used.offsets).sum()
    }

    pub(crate) fn has(&self, group: &GroupId) -> bool {
        self.groups.contains_key(group)
    }

    pub(crate) fn group_ids(&self) -> impl Iterator<Item = &GroupId> {
        self.groups.keys()
    }

    /// The first group after this one that has offsets.
    pub(crate) fn group_after(&self, cursor: Option<&GroupId>) -> Option<&GroupId> {
        crate::groups::after(&self.groups, cursor)
    }

    fn get(
        &self,
        group: &GroupId,
        topic: &TopicName,
        index: PartitionIndex,
    ) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(topic)?.get(&index)
    }
}

/// The topic's name; `None` when there is no such topic or the text is no name.
fn resolve(topic: &TopicRef, topics: &dyn Topics) -> Option<TopicName> {
    match topic {
        TopicRef::Name(name) => TopicName::new(name).ok(),
        TopicRef::Id(id) => topics.name_of(*id),
    }
}
