//! Offsets of deleted topics go with them.
//!
//! Metadata may be older here than where an offset was committed, so a topic that is not in it proves nothing: only one that was seen and is
//! gone, or is another one under the same name, has been deleted. What is missed so (a topic deleted while nobody coordinates) is found
//! by its identity when it is fetched, and expires.

use thalweg_types::{GroupId, TopicId, TopicName};

use super::Offsets;
use crate::record::OffsetKey;
use crate::step::Step;

/// A topic whose offsets are being removed.
#[derive(Debug)]
pub(super) struct Doomed {
    /// Groups up to this one are done.
    cursor: Option<GroupId>,
    /// The topic that has the name now: its offsets stay.
    current: Option<TopicId>,
}

impl Offsets {
    /// Looks which topics have gone since the last time.
    pub(crate) fn see_topics(&mut self, step: &Step<'_>) {
        for (name, used) in &mut self.topics {
            let current = step.topics.topic(name.as_str()).map(|facts| facts.id);
            if used.seen.is_some() && used.seen != current {
                self.doomed.insert(name.clone(), Doomed { cursor: None, current });
            }
            used.seen = current;
        }
    }

    pub(crate) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Removes offsets of deleted topics, some at a time: `offsets_max` at most, and looks at as many groups.
    pub(crate) fn purge(&mut self, step: &mut Step<'_>, offsets_max: usize) {
        let mut left = offsets_max;
        while let Some((topic, mut doomed)) = self.doomed.pop_first() {
            while let Some(group) = self.group_after(doomed.cursor.as_ref()).cloned() {
                let keys = self.doomed_keys(&group, &topic, doomed.current);
                left = left.saturating_sub(keys.len() + 1);
                for key in keys {
                    let record = self.tombstone(key);
                    step.record(record);
                }
                doomed.cursor = Some(group);
                if left == 0 {
                    self.doomed.insert(topic, doomed);
                    return;
                }
            }
        }
    }

    fn doomed_keys(
        &self,
        group: &GroupId,
        topic: &TopicName,
        current: Option<TopicId>,
    ) -> Vec<OffsetKey> {
        let partitions = self.groups.get(group).and_then(|topics| topics.get(topic));
        partitions
            .into_iter()
            .flatten()
            .filter(|(_, offset)| current.is_none_or(|current| offset.topic_id != current))
            .map(|(partition, _)| OffsetKey {
                group: group.clone(),
                topic: topic.clone(),
                partition: *partition,
            })
            .collect()
    }
}
