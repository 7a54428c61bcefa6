//! Elections by command: the preferred leader (KIP-460), and the unclean one (R14).

use std::collections::BTreeSet;

use thalweg_types::{
    BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex, TopicName,
};

use super::{Decision, ItemResult};
use crate::error::Error;
use crate::image::{Image, Partition};
use crate::record::{LeaderRecovery, Record};

/// A partition as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionReference {
    pub topic: String,
    pub partition: PartitionIndex,
}

/// One partition's leader to be chosen among replicas of which none is known to be complete. Records may be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectUnclean {
    pub partition: PartitionReference,
    /// The version of the partition's registration that the replicas went by when they were asked: nobody has led since.
    pub partition_epoch: PartitionEpoch,
    /// What every replica that can be reached says of its log.
    pub candidates: Vec<Candidate>,
}

/// A replica's log as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub node: NodeId,
    pub broker_epoch: BrokerEpoch,
    /// Epoch of the last batch.
    pub last_epoch: LeaderEpoch,
    pub durable_end: Offset,
}

/// An unclean election that took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectedUnclean {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    /// Everything from here on is lost, wherever it was.
    pub log_end: Offset,
    /// Replicas that were known to be complete and were not waited for.
    pub abandoned: Vec<NodeId>,
}

impl Image {
    /// Gives leadership to the preferred leaders of these partitions. The answers are in the order of the request.
    pub fn decide_elect_preferred(
        &self,
        partitions: &[PartitionReference],
    ) -> Decision<Vec<ItemResult<()>>> {
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        let response = partitions
            .iter()
            .map(|reference| {
                if !seen.insert(reference) {
                    return Err(Error::ElectionNotNeeded);
                }
                let (topic, old) = self.topic_partition(&reference.topic, reference.partition)?;
                let state = self.led_by_preferred(old)?.always_succeeding(old);
                let (topic_id, partition) = (topic.id, reference.partition);
                records.push(Record::PartitionChanged { topic_id, partition, state });
                Ok(())
            })
            .collect();
        Decision { records, response }
    }

    /// Gives leadership to every preferred leader that can have it; says to how many.
    pub fn decide_elect_all_preferred(&self) -> Decision<usize> {
        let records: Vec<_> = self
            .topics()
            .flat_map(|topic| topic.changes(|_, old| self.led_by_preferred(old).ok()))
            .collect();
        let response = records.len();
        Decision { records, response }
    }

    fn led_by_preferred(&self, old: &Partition) -> ItemResult<Partition> {
        let preferred = old.replicas.first().copied();
        if old.leader.is_some() && old.leader == preferred {
            return Err(Error::ElectionNotNeeded);
        }
        let preferred = preferred
            .filter(|id| old.isr.contains(id) && self.is_live(*id))
            .ok_or(Error::PreferredLeaderNotAvailable)?;
        Ok(Partition { leader: Some(preferred), ..old.clone() })
    }

    /// R14: makes the replica lead whose log is the longest of those that answered, by the epoch of its last record and then by its
    /// durable end. Everything that only others have is given up, and the partition is marked, so that they may cut.
    pub fn decide_elect_unclean(
        &self,
        request: &ElectUnclean,
    ) -> Result<Decision<ElectedUnclean>, Error> {
        let PartitionReference { topic, partition } = &request.partition;
        let (topic, old) = self.topic_partition(topic, *partition)?;
        if old.leader.is_some() {
            return Err(Error::ElectionNotNeeded);
        }
        if request.partition_epoch != old.partition_epoch {
            let (given, current) = (request.partition_epoch, old.partition_epoch);
            return Err(Error::StalePartitionEpoch { given, current });
        }
        let chosen = request
            .candidates
            .iter()
            .filter(|candidate| old.replicas.contains(&candidate.node))
            .filter(|candidate| self.is_live(candidate.node))
            .filter(|candidate| self.registered(candidate.node, candidate.broker_epoch).is_ok())
            .max_by_key(|c| (c.last_epoch, c.durable_end, std::cmp::Reverse(c.node)))
            .ok_or(Error::EligibleLeadersNotAvailable)?;

        let mut next = old.clone();
        let complete = old.isr.iter().chain(&old.elr).copied();
        let abandoned = complete.filter(|id| *id != chosen.node).collect();
        next.elr.clear();
        next.isr = vec![chosen.node];
        next.leader = Some(chosen.node);
        next.recovery = LeaderRecovery::Recovering;
        next.begin_epoch();
        next.unclean_epoch = Some(next.leader_epoch);
        let state = next.always_succeeding(old);
        let response = ElectedUnclean {
            topic: topic.name.clone(),
            partition: *partition,
            leader: chosen.node,
            leader_epoch: state.leader_epoch,
            log_end: chosen.durable_end,
            abandoned,
        };
        let (topic_id, partition) = (topic.id, *partition);
        let records = vec![Record::PartitionChanged { topic_id, partition, state }];
        Ok(Decision { records, response })
    }
}
