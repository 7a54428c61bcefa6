//! `uniform` where all members subscribe to the same topics: equal shares, with as few moves as equal shares need.
//!
//! With P partitions and N members, P mod N members own one more than P / N, the others P / N. Those who already have more keep more. What
//! a member gives up comes from all of its topics alike, and what is free is dealt out in turn, so that a topic with more
//! traffic than the others is spread as well.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use thalweg_types::TopicId;

use super::Subscriber;
use super::spread::{FREE, Spread, index};
use crate::consumer::partitions::PartitionSet;

pub(super) fn assign(
    members: &[Subscriber<'_>],
    partition_counts: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut spread = Spread::of_targets(members, partition_counts);
    let quotas = quotas(&spread);
    release_above(&mut spread, &quotas);
    deal_free(&mut spread, &quotas);
    spread.into_sets()
}

/// How many partitions each member shall own: the larger shares go to whoever owns most.
fn quotas(spread: &Spread) -> Vec<usize> {
    let count: usize = spread.owners.iter().map(Vec::len).sum();
    let (share, extra) = (count / spread.loads.len(), count % spread.loads.len());
    let mut by_load: Vec<usize> = (0..spread.loads.len()).collect();
    by_load.sort_by_key(|member| Reverse(spread.loads.get(*member)));
    let mut quotas = vec![share; spread.loads.len()];
    for member in by_load.into_iter().take(extra) {
        if let Some(quota) = quotas.get_mut(member) {
            *quota += 1;
        }
    }
    quotas
}

/// Frees what members own beyond their quota, from all their topics alike.
fn release_above(spread: &mut Spread, quotas: &[usize]) {
    let is_above = |member: usize| spread.loads.get(member) > quotas.get(member);
    let above: Vec<bool> = (0..quotas.len()).map(is_above).collect();
    if !above.contains(&true) {
        return;
    }
    // What each of them owns, with how many of the same topic it owns before it: the higher, the sooner it is given up.
    let mut owned: Vec<Vec<(usize, usize, usize)>> = vec![Vec::new(); quotas.len()];
    let mut ranks = vec![0_usize; quotas.len()];
    for (topic, owners) in spread.owners.iter().enumerate() {
        ranks.fill(0);
        for (partition, owner) in owners.iter().enumerate() {
            let member = *owner as usize;
            if above.get(member) == Some(&true)
                && let (Some(owned), Some(rank)) = (owned.get_mut(member), ranks.get_mut(member))
            {
                owned.push((*rank, topic, partition));
                *rank += 1;
            }
        }
    }
    for (member, mut owned) in owned.into_iter().enumerate() {
        let quota = quotas.get(member).copied().unwrap_or(0);
        owned.sort_unstable();
        for (_, topic, partition) in owned.into_iter().skip(quota) {
            let owner = spread.owners.get_mut(topic).and_then(|owners| owners.get_mut(partition));
            if let (Some(owner), Some(load)) = (owner, spread.loads.get_mut(member)) {
                *owner = FREE;
                *load -= 1;
            }
        }
    }
}

/// Deals what is free to the members below their quota, one partition each in turn.
fn deal_free(spread: &mut Spread, quotas: &[usize]) {
    let Spread { owners, loads, .. } = spread;
    let mut next = 0;
    for owner in owners.iter_mut().flatten().filter(|owner| **owner == FREE) {
        // The quotas add up to all partitions, so somebody is below as long as something is free.
        for _ in 0..loads.len() {
            let member = next;
            next = (next + 1) % loads.len();
            if let (Some(load), Some(quota)) = (loads.get_mut(member), quotas.get(member))
                && *load < *quota
            {
                *load += 1;
                *owner = index(member);
                break;
            }
        }
    }
}
