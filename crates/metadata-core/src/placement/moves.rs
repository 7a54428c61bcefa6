//! Moves: which replicas to take from which broker to which other, when brokers come or go.
//!
//! A plan is only a list of [`Reassign`]s to be decided like any other. It moves as little as it can: a replica's successor takes its
//! place in the order of preference, so that leadership moves with the replica and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_types::{NodeId, PartitionIndex, TopicName};

use super::mix;
use crate::decide::Reassign;
use crate::image::{Image, Partition, Topic};

/// Replicas per live broker, as far as the plan goes.
struct Loads {
    /// Leaders, then replicas.
    by_broker: BTreeMap<NodeId, (u64, u64)>,
    racks: BTreeMap<NodeId, Option<String>>,
    seed: u64,
}

/// A partition that a plan leaves on a broker that is to hold nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staying {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    pub reason: StayReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StayReason {
    #[error("it is being moved already; plan again when that has ended")]
    BeingMoved,
    #[error(
        "every other live broker has a replica of it already; add a broker, or lower its replication factor"
    )]
    NoOtherBroker,
}

impl Image {
    /// What an evacuation by `plan` leaves on the brokers of `leaving`, and why.
    pub fn staying_after(&self, leaving: &BTreeSet<NodeId>, plan: &[Reassign]) -> Vec<Staying> {
        let targets: BTreeMap<_, _> = plan
            .iter()
            .map(|step| ((step.topic.as_str(), step.partition), step.target.as_deref()))
            .collect();
        let mut staying = Vec::new();
        for topic in self.topics() {
            for (partition, state) in &topic.partitions {
                let target = targets.get(&(topic.name.as_str(), *partition)).copied().flatten();
                let stays = |id: &&NodeId| leaving.contains(id) && !state.removing.contains(id);
                if !target.unwrap_or(&state.replicas).iter().any(|id| stays(&id)) {
                    continue;
                }
                let reason = match state.is_reassigning() {
                    true => StayReason::BeingMoved,
                    false => StayReason::NoOtherBroker,
                };
                let topic = topic.name.clone();
                staying.push(Staying { topic, partition: *partition, reason });
            }
        }
        staying
    }

    /// Moves that leave no replica on the brokers of `leaving`. Partitions that are being reassigned, or for whose replica there is no other
    /// broker, are left out: plan again later.
    pub fn plan_evacuation(&self, leaving: &BTreeSet<NodeId>, seed: u64) -> Vec<Reassign> {
        let mut loads = Loads::new(self, leaving, seed);
        let mut plan = Vec::new();
        for (topic, index, partition) in self.settled_partitions() {
            let mut target = partition.replicas.clone();
            for leaves in partition.replicas.iter().filter(|id| leaving.contains(id)) {
                if let Some(successor) = loads.successor(*leaves, &target, index) {
                    loads.replace(&mut target, *leaves, successor);
                }
            }
            plan.extend(reassign(topic, index, partition, target));
        }
        plan
    }

    /// At most `moves_max` moves from the brokers that have most replicas to those that have least, such as new ones, as long as they
    /// differ by more than one. No move puts two replicas of a partition into one rack that were in two.
    pub fn plan_balance(&self, moves_max: usize, seed: u64) -> Vec<Reassign> {
        let mut loads = Loads::new(self, &BTreeSet::new(), seed);
        let mut plan = Vec::new();
        for (topic, index, partition) in self.settled_partitions() {
            if plan.len() == moves_max {
                break;
            }
            let mut target = partition.replicas.clone();
            // The fullest broker's replica goes first.
            let mut replicas = partition.replicas.clone();
            replicas.sort_by_key(|id| std::cmp::Reverse(loads.count(*id)));
            for leaves in replicas {
                let Some(successor) = loads.successor(leaves, &target, index) else { continue };
                if loads.count(leaves) > loads.count(successor) + 1
                    && loads.keeps_racks_apart(&target, leaves, successor)
                {
                    loads.replace(&mut target, leaves, successor);
                    break;
                }
            }
            plan.extend(reassign(topic, index, partition, target));
        }
        plan
    }

    fn settled_partitions(&self) -> impl Iterator<Item = (&Topic, PartitionIndex, &Partition)> {
        let all = self.topics().flat_map(|topic| {
            topic.partitions.iter().map(|(index, partition)| (&**topic, *index, partition))
        });
        all.filter(|(_, _, partition)| !partition.is_reassigning())
    }
}

impl Loads {
    fn new(image: &Image, leaving: &BTreeSet<NodeId>, seed: u64) -> Self {
        let live = || image.placeable_brokers().filter(|node| !leaving.contains(&node.id));
        let mut loads = Self {
            by_broker: live().map(|node| (node.id, (0, 0))).collect(),
            racks: image.nodes().map(|node| (node.id, node.rack.clone())).collect(),
            seed,
        };
        for partition in image.topics().flat_map(|topic| topic.partitions.values()) {
            for (at, id) in partition.replicas.iter().enumerate() {
                loads.add(*id, at == 0);
            }
        }
        loads
    }

    fn add(&mut self, id: NodeId, leads: bool) {
        if let Some((leaders, replicas)) = self.by_broker.get_mut(&id) {
            *leaders += u64::from(leads);
            *replicas += 1;
        }
    }

    fn count(&self, id: NodeId) -> u64 {
        self.by_broker.get(&id).map_or(0, |(_, replicas)| *replicas)
    }

    fn rack(&self, id: NodeId) -> Option<&str> {
        self.racks.get(&id)?.as_deref()
    }

    /// Who takes the place of `leaves`: a broker out of a rack that the others are not in, if there is one, and then the least loaded.
    fn successor(
        &self,
        leaves: NodeId,
        replicas: &[NodeId],
        index: PartitionIndex,
    ) -> Option<NodeId> {
        let leads = replicas.first() == Some(&leaves);
        let candidates = self.by_broker.iter().filter(|(id, _)| !replicas.contains(id));
        let best = candidates.min_by_key(|(id, (leaders, count))| {
            let shares_rack = self.shares_rack(**id, replicas, leaves);
            let load = if leads { (*leaders, *count) } else { (*count, *leaders) };
            let partition = u64::from(index.0.unsigned_abs());
            (shares_rack, load, mix(self.seed, partition, **id))
        });
        best.map(|(id, _)| *id)
    }

    /// Whether `id` is in the rack of a replica other than `leaves`.
    fn shares_rack(&self, id: NodeId, replicas: &[NodeId], leaves: NodeId) -> bool {
        let rack = self.rack(id);
        let mut others = replicas.iter().filter(|other| **other != leaves);
        rack.is_some() && others.any(|other| self.rack(*other) == rack)
    }

    fn keeps_racks_apart(&self, replicas: &[NodeId], leaves: NodeId, successor: NodeId) -> bool {
        self.shares_rack(leaves, replicas, leaves) || !self.shares_rack(successor, replicas, leaves)
    }

    fn replace(&mut self, target: &mut [NodeId], leaves: NodeId, successor: NodeId) {
        let Some(at) = target.iter().position(|id| *id == leaves) else { return };
        target[at] = successor;
        if let Some((leaders, replicas)) = self.by_broker.get_mut(&leaves) {
            *leaders = leaders.saturating_sub(u64::from(at == 0));
            *replicas = replicas.saturating_sub(1);
        }
        self.add(successor, at == 0);
    }
}

fn reassign(
    topic: &Topic,
    partition: PartitionIndex,
    old: &Partition,
    target: Vec<NodeId>,
) -> Option<Reassign> {
    let topic = topic.name.to_string();
    (target != old.replicas).then_some(Reassign { topic, partition, target: Some(target) })
}
