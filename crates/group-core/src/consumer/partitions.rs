//! A set of partitions, by topic: what a member owns, gives up, or shall get.
//!
//! Sorted vectors in a map: the sets are read, compared and subtracted far more often than they are changed, and a member of a large
//! group holds few partitions of many topics or many of few.

use std::collections::BTreeMap;

use thalweg_types::{PartitionIndex, TopicId};

/// Partitions of topics. No topic is in it without a partition, and every list is sorted without duplicates, so that equal sets compare equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionSet {
    by_topic: BTreeMap<TopicId, Vec<PartitionIndex>>,
}

impl PartitionSet {
    pub const EMPTY: Self = Self { by_topic: BTreeMap::new() };

    /// The partitions of one more topic; what is there of the same topic already stays. In any order, with or without duplicates.
    pub fn extend_topic(
        &mut self,
        topic: TopicId,
        partitions: impl IntoIterator<Item = PartitionIndex>,
    ) {
        let mut partitions = partitions.into_iter().peekable();
        if partitions.peek().is_none() {
            return;
        }
        let own = self.by_topic.entry(topic).or_default();
        own.extend(partitions);
        own.sort_unstable();
        own.dedup();
    }

    /// The same as lists, as records and answers have them.
    pub fn to_lists(&self) -> Vec<(TopicId, Vec<PartitionIndex>)> {
        self.topics().map(|(topic, partitions)| (topic, partitions.to_vec())).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// How many partitions there are over all topics.
    pub fn len(&self) -> usize {
        self.by_topic.values().map(Vec::len).sum()
    }

    pub fn contains(&self, topic: TopicId, partition: PartitionIndex) -> bool {
        self.of_topic(topic).binary_search(&partition).is_ok()
    }

    /// The partitions of one topic, ascending.
    pub fn of_topic(&self, topic: TopicId) -> &[PartitionIndex] {
        self.by_topic.get(&topic).map_or(&[], Vec::as_slice)
    }

    /// Topics with their partitions, ascending.
    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &[PartitionIndex])> {
        self.by_topic.iter().map(|(topic, partitions)| (*topic, partitions.as_slice()))
    }

    /// Every partition, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
        self.topics()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |index| (topic, *index)))
    }

    /// What of this set satisfies `keep`.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(TopicId, PartitionIndex) -> bool) -> Self {
        self.iter().filter(|(topic, partition)| keep(*topic, *partition)).collect()
    }

    /// What is in this set and in `other`.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.filtered(|topic, partition| other.contains(topic, partition))
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.filtered(|topic, partition| !other.contains(topic, partition))
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (topic, partitions) in other.topics() {
            both.extend_topic(topic, partitions.iter().copied());
        }
        both
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|(topic, partition)| other.contains(topic, partition))
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        !self.iter().any(|(topic, partition)| other.contains(topic, partition))
    }
}

impl From<&[(TopicId, Vec<PartitionIndex>)]> for PartitionSet {
    fn from(lists: &[(TopicId, Vec<PartitionIndex>)]) -> Self {
        let mut set = Self::EMPTY;
        for (topic, partitions) in lists {
            set.extend_topic(*topic, partitions.iter().copied());
        }
        set
    }
}

/// Cheapest when the partitions come in ascending order, as those of another set do.
impl FromIterator<(TopicId, PartitionIndex)> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = (TopicId, PartitionIndex)>>(partitions: I) -> Self {
        let mut set = Self::EMPTY;
        for (topic, partition) in partitions {
            let own = set.by_topic.entry(topic).or_default();
            match own.last() {
                Some(last) if *last >= partition => {
                    if let Err(place) = own.binary_search(&partition) {
                        own.insert(place, partition);
                    }
                }
                _ => own.push(partition),
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use thalweg_types::Uuid;

    use super::*;

    fn topic(number: u8) -> TopicId {
        let mut bytes = [0; 16];
        bytes[15] = number;
        TopicId(Uuid::from_bytes(bytes))
    }

    fn set(pairs: &[(u8, i32)]) -> PartitionSet {
        pairs.iter().map(|(number, index)| (topic(*number), PartitionIndex(*index))).collect()
    }

    #[test]
    fn order_and_duplicates_make_no_other_set() {
        let mut extended = PartitionSet::EMPTY;
        extended.extend_topic(topic(1), [3, 1, 3].map(PartitionIndex));
        extended.extend_topic(topic(2), []);
        assert_eq!(extended, set(&[(1, 1), (1, 3)]));
        assert_eq!(extended, set(&[(1, 3), (1, 1), (1, 3)]));
    }

    proptest! {
        #[test]
        fn operations_agree_with_sets_of_pairs(
            left in prop::collection::btree_set((0_u8..3, 0_i32..6), 0..12),
            right in prop::collection::btree_set((0_u8..3, 0_i32..6), 0..12),
        ) {
            let of = |pairs: &std::collections::BTreeSet<(u8, i32)>| {
                set(&pairs.iter().copied().collect::<Vec<_>>())
            };
            let (a, b) = (of(&left), of(&right));
            prop_assert_eq!(a.intersection(&b), of(&(&left & &right)));
            prop_assert_eq!(a.difference(&b), of(&(&left - &right)));
            prop_assert_eq!(a.union(&b), of(&(&left | &right)));
            prop_assert_eq!(a.is_subset(&b), left.is_subset(&right));
            prop_assert_eq!(a.is_disjoint(&b), left.is_disjoint(&right));
            prop_assert_eq!((a.len(), a.is_empty()), (left.len(), left.is_empty()));
        }
    }
}
