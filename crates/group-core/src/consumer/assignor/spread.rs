//! The owners of all partitions while an assignor is at work: dense tables, indexed by position.

use std::collections::BTreeMap;

use thalweg_types::{PartitionIndex, TopicId};

use super::Subscriber;
use crate::consumer::partitions::PartitionSet;

/// Nobody.
pub(super) const FREE: u32 = u32::MAX;

/// Who owns what. Members and topics are positions in the lists it was made of.
pub(super) struct Spread {
    /// Topics that exist and have a subscriber, ascending.
    pub(super) topics: Vec<TopicId>,
    /// By topic and partition.
    pub(super) owners: Vec<Vec<u32>>,
    /// By member.
    pub(super) loads: Vec<usize>,
}

impl Spread {
    /// Everybody keeps what he was to own of topics he still subscribes to; the rest is free.
    pub(super) fn of_targets(
        members: &[Subscriber<'_>],
        partition_counts: &BTreeMap<TopicId, i32>,
    ) -> Self {
        let mut spread = Self::free(members, partition_counts);
        for (position, member) in members.iter().enumerate() {
            let mut kept = 0;
            for (topic, partitions) in member.target.topics() {
                if member.topics.binary_search(&topic).is_err() {
                    continue;
                }
                let Some(owners) = spread.owners_of(topic) else { continue };
                for partition in partitions {
                    let place = usize::try_from(partition.0).ok();
                    let owner = place.and_then(|place| owners.get_mut(place));
                    // A partition that two were to own stays with the first.
                    if let Some(owner) = owner.filter(|owner| **owner == FREE) {
                        *owner = index(position);
                        kept += 1;
                    }
                }
            }
            if let Some(load) = spread.loads.get_mut(position) {
                *load = kept;
            }
        }
        spread
    }

    /// Nobody owns anything.
    pub(super) fn free(
        members: &[Subscriber<'_>],
        partition_counts: &BTreeMap<TopicId, i32>,
    ) -> Self {
        let mut subscribed: Vec<TopicId> = Vec::new();
        let mut last: Option<&[TopicId]> = None;
        for member in members {
            if last != Some(&*member.topics) {
                subscribed.extend_from_slice(&member.topics);
                last = Some(&*member.topics);
            }
        }
        subscribed.sort_unstable();
        subscribed.dedup();
        subscribed.retain(|topic| partition_counts.contains_key(topic));
        let count = |topic: &TopicId| partition_counts.get(topic).copied().unwrap_or(0);
        let partitions = |topic: &TopicId| usize::try_from(count(topic)).unwrap_or(0);
        let owners = subscribed.iter().map(|topic| vec![FREE; partitions(topic)]).collect();
        Self { topics: subscribed, owners, loads: vec![0; members.len()] }
    }

    fn owners_of(&mut self, topic: TopicId) -> Option<&mut Vec<u32>> {
        let place = self.topics.binary_search(&topic).ok()?;
        self.owners.get_mut(place)
    }

    /// Every partition with its owner's set, in the order of members.
    pub(super) fn into_sets(self) -> Vec<PartitionSet> {
        let mut owned: Vec<Vec<(TopicId, PartitionIndex)>> =
            self.loads.iter().map(|load| Vec::with_capacity(*load)).collect();
        for (topic, owners) in self.topics.iter().zip(&self.owners) {
            for (partition, owner) in (0_i32..).zip(owners) {
                if let Some(owned) = owned.get_mut(*owner as usize) {
                    owned.push((*topic, PartitionIndex(partition)));
                }
            }
        }
        owned.into_iter().map(PartitionSet::from_iter).collect()
    }
}

/// A member's position as the tables hold it. Groups have far fewer members than this has numbers.
pub(super) fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(FREE)
}
