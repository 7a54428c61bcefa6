//! Placement: which brokers get the replicas of new partitions.
//!
//! Each partition takes the broker that leads least, first within this topic and then in the whole cluster, as its leader, and then
//! the least loaded brokers as followers, out of racks not used yet for as long as there are any. Ties are broken by a pseudo-random
//! order made from the seed, so that the same image, request and seed always give the same placement.

mod moves;

use std::collections::{BTreeMap, BTreeSet};

use thalweg_types::NodeId;

use crate::image::Image;
pub use moves::{StayReason, Staying};

/// Brokers to choose from, and what they carry already. Choices made are counted, so that later ones of a request see them.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    brokers: Vec<Load>,
    seed: u64,
}

#[derive(Debug, Clone)]
struct Load {
    id: NodeId,
    rack: Option<String>,
    leader_count: u64,
    replica_count: u64,
}

/// How often each broker was chosen for the topic at hand: as a leader, as a replica.
type Chosen = BTreeMap<NodeId, (u64, u64)>;

impl Placement {
    /// Over the live brokers of `image` that are not cordoned.
    pub(crate) fn new(image: &Image, seed: u64) -> Self {
        let mut loads: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for partition in image.topics().flat_map(|topic| topic.partitions.values()) {
            if let Some(preferred) = partition.replicas.first() {
                loads.entry(*preferred).or_default().0 += 1;
            }
            for replica in &partition.replicas {
                loads.entry(*replica).or_default().1 += 1;
            }
        }
        let load = |id| loads.get(&id).copied().unwrap_or_default();
        let brokers = image
            .placeable_brokers()
            .map(|node| Load {
                id: node.id,
                rack: node.rack.clone(),
                leader_count: load(node.id).0,
                replica_count: load(node.id).1,
            })
            .collect();
        Self { brokers, seed }
    }

    pub(crate) fn broker_count(&self) -> usize {
        self.brokers.len()
    }

    /// Replicas for each of `partition_count` new partitions of one topic. `replication_factor` is at most [`Self::broker_count`].
    pub(crate) fn place(
        &mut self,
        partition_count: usize,
        replication_factor: usize,
    ) -> Vec<Vec<NodeId>> {
        let mut chosen = Chosen::new();
        (0..partition_count)
            .map(|partition| {
                self.place_partition(partition as u64, replication_factor, &mut chosen)
            })
            .collect()
    }

    /// Counts a manual assignment, so that what is placed after it sees it.
    pub(crate) fn count(&mut self, replicas: &[NodeId]) {
        for load in &mut self.brokers {
            load.leader_count += u64::from(replicas.first() == Some(&load.id));
            load.replica_count += u64::from(replicas.contains(&load.id));
        }
    }

    fn place_partition(
        &mut self,
        partition: u64,
        factor: usize,
        chosen: &mut Chosen,
    ) -> Vec<NodeId> {
        let mut replicas = Vec::with_capacity(factor);
        let mut racks = BTreeSet::new();
        while replicas.len() < factor {
            let leads = replicas.is_empty();
            let best = self.brokers.iter().filter(|load| !replicas.contains(&load.id)).min_by_key(
                |load| {
                    let rack_is_used = load.rack.as_ref().is_some_and(|rack| racks.contains(rack));
                    let (led, held) = chosen.get(&load.id).copied().unwrap_or_default();
                    let tie = mix(self.seed, partition, load.id);
                    if leads {
                        (rack_is_used, led, load.leader_count, load.replica_count, tie)
                    } else {
                        (rack_is_used, held, load.replica_count, load.leader_count, tie)
                    }
                },
            );
            let Some(best) = best else { break };
            let counts = chosen.entry(best.id).or_default();
            counts.0 += u64::from(leads);
            counts.1 += 1;
            racks.extend(best.rack.clone());
            replicas.push(best.id);
        }
        self.count(&replicas);
        replicas
    }
}

/// A fixed scrambling of its arguments (the finaliser of SplitMix64): a different order of brokers for every partition and seed.
fn mix(seed: u64, partition: u64, id: NodeId) -> u64 {
    let mut bits = seed
        .wrapping_add(partition.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(u64::from(id.0.unsigned_abs()).wrapping_mul(0xd1b5_4a32_d192_ed03));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
