//! `range`: consecutive partitions of each topic, in the order of the members.
//!
//! Every topic is divided among its subscribers alone, the first ones getting one partition more where it does not come out even. The order
//! is the same for every topic, so topics of one size and one set of subscribers are co-partitioned.

use std::collections::BTreeMap;

use thalweg_types::TopicId;

use super::Subscriber;
use super::spread::{Spread, index};
use crate::consumer::partitions::PartitionSet;

pub(super) fn assign(
    members: &[Subscriber<'_>],
    partition_counts: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let mut spread = Spread::free(members, partition_counts);
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|position| members.get(*position).map(rank));
    let mut subscribers: Vec<Vec<u32>> = vec![Vec::new(); spread.topics.len()];
    for position in order {
        for topic in members.get(position).into_iter().flat_map(|member| member.topics.iter()) {
            let place = spread.topics.binary_search(topic).ok();
            if let Some(list) = place.and_then(|place| subscribers.get_mut(place)) {
                list.push(index(position));
            }
        }
    }
    for (owners, subscribers) in spread.owners.iter_mut().zip(&subscribers) {
        let quota = owners.len() / subscribers.len().max(1);
        let extra = owners.len() % subscribers.len().max(1);
        let mut rest = owners.as_mut_slice();
        for (place, subscriber) in subscribers.iter().enumerate() {
            let count = quota + usize::from(place < extra);
            let (own, others) = rest.split_at_mut(count.min(rest.len()));
            own.fill(*subscriber);
            rest = others;
        }
    }
    spread.into_sets()
}

/// Static members first, by instance id, which stays the same when a member comes back under another member id.
fn rank<'a>(member: &Subscriber<'a>) -> (bool, &'a str) {
    match member.instance_id {
        Some(instance_id) => (false, instance_id),
        None => (true, member.member_id),
    }
}
