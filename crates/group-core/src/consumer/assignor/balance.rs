//! `uniform` where members subscribe to different topics: as even as the subscriptions allow.
//!
//! First everybody keeps what he may, then what is free goes to the least loaded subscriber, topics with few subscribers first. Then, member
//! by member, the shortest *chain* of moves is looked for that ends with a member who owns at least two partitions more: the first
//! member takes a partition from the second, which takes one from the third, and so on. A chain makes its two ends more even
//! and leaves everybody between as loaded as before. When there is no such chain left, no assignment is more even
//! (the balanced semi-matchings of Harvey, Ladner, Lovasz and Tamir). Members with the same subscription are looked at together: from each of
//! them the same partitions can be taken.

use std::collections::BTreeMap;

use thalweg_types::TopicId;

use super::Subscriber;
use super::spread::{FREE, Spread, index};
use crate::consumer::partitions::PartitionSet;

/// Most looks at a topic or an owner while chains are searched, some hundred milliseconds: an assignment that is not quite even is
/// better than a coordinator that answers nobody.
const LOOKS_MAX: usize = 30_000_000;

pub(super) fn assign(
    members: &[Subscriber<'_>],
    partition_counts: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let mut balance = Balance::new(members, partition_counts);
    balance.deal_free();
    balance.even_out();
    balance.spread.into_sets()
}

struct Balance<'a> {
    members: &'a [Subscriber<'a>],
    spread: Spread,
    /// By member: which subscription it has, a position in `subscriptions`.
    classes: Vec<usize>,
    /// Different subscriptions, as positions of topics.
    subscriptions: Vec<Vec<usize>>,
    /// By topic: the members that subscribe to it.
    subscribers: Vec<Vec<u32>>,
    /// By topic: its owners, with what they own of it.
    held: Vec<BTreeMap<u32, Vec<usize>>>,
    looks: usize,
}

/// One move of a chain: `to` takes a partition of `topic`.
#[derive(Clone, Copy)]
struct Step {
    topic: usize,
    to: u32,
}

impl<'a> Balance<'a> {
    fn new(members: &'a [Subscriber<'a>], partition_counts: &BTreeMap<TopicId, i32>) -> Self {
        let spread = Spread::of_targets(members, partition_counts);
        let mut by_topics: BTreeMap<&[TopicId], usize> = BTreeMap::new();
        let mut subscriptions: Vec<Vec<usize>> = Vec::new();
        let mut classes = Vec::with_capacity(members.len());
        let mut subscribers = vec![Vec::new(); spread.topics.len()];
        for (position, member) in members.iter().enumerate() {
            let class = *by_topics.entry(&member.topics).or_insert_with(|| {
                let place = |topic| spread.topics.binary_search(topic).ok();
                subscriptions.push(member.topics.iter().filter_map(place).collect());
                subscriptions.len() - 1
            });
            classes.push(class);
            for topic in &subscriptions[class] {
                subscribers[*topic].push(index(position));
            }
        }
        let mut held = vec![BTreeMap::<u32, Vec<usize>>::new(); spread.topics.len()];
        for (held, owners) in held.iter_mut().zip(&spread.owners) {
            for (partition, owner) in owners.iter().enumerate().filter(|(_, o)| **o != FREE) {
                held.entry(*owner).or_default().push(partition);
            }
        }
        Self { members, spread, classes, subscriptions, subscribers, held, looks: 0 }
    }

    fn load(&self, member: u32) -> usize {
        self.spread.loads[member as usize]
    }

    // ---- What is free ----

    fn deal_free(&mut self) {
        let mut topics: Vec<usize> = (0..self.spread.topics.len()).collect();
        topics.sort_by_key(|topic| self.subscribers[*topic].len());
        for topic in topics {
            let free = |spread: &Spread| spread.owners[topic].contains(&FREE);
            if !free(&self.spread) {
                continue;
            }
            let subscribers = &self.subscribers[topic];
            let mut by_load: std::collections::BTreeSet<(usize, u32)> =
                subscribers.iter().map(|member| (self.load(*member), *member)).collect();
            for (partition, owner) in self.spread.owners[topic].iter_mut().enumerate() {
                if *owner != FREE {
                    continue;
                }
                let Some((load, member)) = by_load.pop_first() else { break };
                *owner = member;
                self.spread.loads[member as usize] = load + 1;
                self.held[topic].entry(member).or_default().push(partition);
                by_load.insert((load + 1, member));
            }
        }
    }

    // ---- Chains ----

    /// Until a whole round finds no chain: who gave may be the one to get next. It comes to an end, because every chain lowers the sum of the
    /// squares of all loads.
    fn even_out(&mut self) {
        loop {
            let mut is_even = true;
            for member in 0..index(self.members.len()) {
                while let Some((giver, steps)) = self.chain_to(member) {
                    self.carry_out(giver, &steps);
                    is_even = false;
                }
            }
            if is_even {
                return;
            }
        }
    }

    /// The shortest chain through which `member` gets a partition from somebody with two more than it has, and of those the most
    /// loaded: who gives, and the moves from there on.
    fn chain_to(&mut self, member: u32) -> Option<(u32, Vec<Step>)> {
        let wanted = self.load(member) + 2;
        if self.looks >= LOOKS_MAX || self.spread.loads.iter().max() < Some(&wanted) {
            return None;
        }
        let mut reached: Vec<Option<Step>> = vec![None; self.members.len()];
        let mut seen_topics = vec![false; self.spread.topics.len()];
        let mut seen_classes = vec![false; self.subscriptions.len()];
        let mut level = vec![member];
        while !level.is_empty() {
            let mut next = Vec::new();
            for to in level {
                let class = self.classes[to as usize];
                if std::mem::replace(&mut seen_classes[class], true) {
                    continue;
                }
                for topic in &self.subscriptions[class] {
                    self.looks += 1;
                    if std::mem::replace(&mut seen_topics[*topic], true) {
                        continue;
                    }
                    for owner in self.held[*topic].keys().filter(|owner| **owner != member) {
                        self.looks += 1;
                        let reached = &mut reached[*owner as usize];
                        if reached.is_none() {
                            *reached = Some(Step { topic: *topic, to });
                            next.push(*owner);
                        }
                    }
                }
            }
            let giver = next.iter().copied().max_by_key(|owner| self.load(*owner));
            if let Some(giver) = giver.filter(|giver| self.load(*giver) >= wanted) {
                return Some((giver, steps_from(giver, member, &reached)));
            }
            level = next;
        }
        None
    }

    fn carry_out(&mut self, giver: u32, steps: &[Step]) {
        let mut from = giver;
        for step in steps {
            self.take(step.topic, from, step.to);
            from = step.to;
        }
        self.spread.loads[giver as usize] -= 1;
        self.spread.loads[from as usize] += 1;
    }

    /// Gives a partition of `topic` to another member: best one that comes home, then one that was not `from`'s before.
    fn take(&mut self, topic: usize, from: u32, to: u32) {
        let id = self.spread.topics[topic];
        let was_of = |member: u32, partition: usize| {
            let target = self.members[member as usize].target.of_topic(id);
            target.binary_search_by_key(&partition, |index| index.0 as usize).is_ok()
        };
        let Some(held) = self.held[topic].get_mut(&from) else { return };
        let best = (0..held.len())
            .min_by_key(|place| (!was_of(to, held[*place]), was_of(from, held[*place])));
        let Some(best) = best else { return };
        let partition = held.swap_remove(best);
        if held.is_empty() {
            self.held[topic].remove(&from);
        }
        self.held[topic].entry(to).or_default().push(partition);
        self.spread.owners[topic][partition] = to;
    }
}

/// The moves from `giver` to `member`, first what the giver gives.
fn steps_from(giver: u32, member: u32, reached: &[Option<Step>]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = giver;
    while at != member {
        let Some(step) = reached[at as usize] else { break };
        steps.push(step);
        at = step.to;
    }
    steps
}
