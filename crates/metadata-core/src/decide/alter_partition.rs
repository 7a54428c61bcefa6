//! AlterPartition: what a leader wants the in-sync replicas to be (R7).
//!
//! A leader goes on waiting for everyone it has ever proposed until it knows what became of the proposal. So a refusal says precisely
//! what is known: only [`Error::IneligibleReplica`] says that the leader's partition epoch is current and that nothing was applied.

use std::collections::BTreeMap;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicIdPartition};

use super::{Decision, ItemResult, Policy};
use crate::config::TopicConfig;
use crate::error::Error;
use crate::image::{Image, Partition};
use crate::record::{LeaderRecovery, NodeRole, Record};

/// A leader's proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPartition {
    pub id: TopicIdPartition,
    /// The sender.
    pub leader: NodeId,
    /// The sender's session.
    pub broker_epoch: BrokerEpoch,
    pub leader_epoch: LeaderEpoch,
    /// The version that the proposal is about.
    pub partition_epoch: PartitionEpoch,
    /// In-sync replicas from now on, each with the session in which the leader heard of it (KIP-903).
    pub isr: Vec<(NodeId, BrokerEpoch)>,
    /// The leader has not recovered from an unclean election.
    pub recovering: bool,
    /// Replicas that have said that their data may be incomplete: not eligible.
    pub unfit: Vec<NodeId>,
    /// Replicas that have flushed up to the high watermark (R19).
    pub proven: Vec<NodeId>,
}

impl Image {
    /// The answers are in the order of the request: each partition as it is once the facts are committed. A partition named twice is
    /// refused, because both proposals would be about the same version.
    pub fn decide_alter_partitions(
        &self,
        requests: &[AlterPartition],
        policy: &Policy,
    ) -> Decision<Vec<ItemResult<Partition>>> {
        let mut counts = BTreeMap::new();
        for request in requests {
            *counts.entry(request.id).or_insert(0) += 1;
        }
        let mut records = Vec::new();
        let response = requests
            .iter()
            .map(|request| {
                if counts.get(&request.id) != Some(&1) {
                    return Err(Error::InvalidProposal("the partition is named more than once"));
                }
                let state = self.alter_partition(request, policy)?;
                let TopicIdPartition { topic_id, partition } = request.id;
                let record = Record::PartitionChanged { topic_id, partition, state: state.clone() };
                records.push(record);
                Ok(state)
            })
            .collect();
        Decision { records, response }
    }

    fn alter_partition(&self, request: &AlterPartition, policy: &Policy) -> ItemResult<Partition> {
        let old =
            self.partition_by_id(request.id).ok_or(Error::UnknownTopicId(request.id.topic_id))?;
        self.check_sender(request, old)?;
        check_members(request, old)?;
        let ineligible = request.isr.iter().find(|(id, epoch)| !self.is_eligible(*id, *epoch));
        if let Some((node, _)) = ineligible {
            return Err(Error::IneligibleReplica(*node));
        }

        // Nothing is refused from here on.
        let isr: Vec<_> = request.isr.iter().map(|(id, _)| *id).collect();
        let mut next = old.clone();
        next.change_isr(&isr, |id| !request.unfit.contains(&id));
        if !request.recovering {
            next.recovery = LeaderRecovery::Recovered;
        }
        next.unproven.retain(|id| !request.proven.contains(id));
        let config = TopicConfig::resolve(self, request.id.topic_id, None, &policy.settings);
        next.complete_reassignment(config.min_in_sync_replicas, |id| self.is_live(id));
        // Even an unchanged set takes a version, which ends every other proposal on this one.
        Ok(next.always_succeeding(old))
    }

    /// The refusals about versions and sender, in their order.
    fn check_sender(&self, request: &AlterPartition, old: &Partition) -> ItemResult<()> {
        let AlterPartition { leader, broker_epoch, leader_epoch, partition_epoch, .. } = *request;
        if leader_epoch > old.leader_epoch || partition_epoch > old.partition_epoch {
            return Err(Error::ControllerBehind);
        }
        if leader_epoch < old.leader_epoch {
            let current = old.leader_epoch;
            return Err(Error::FencedLeaderEpoch { given: leader_epoch, current });
        }
        if old.leader != Some(leader) {
            return Err(Error::InvalidProposal("the sender does not lead the partition"));
        }
        let registered = self.node(leader).map_or(BrokerEpoch::NONE, |node| node.broker_epoch);
        if broker_epoch != registered {
            return Err(Error::StaleBrokerEpoch {
                node_id: leader,
                given: broker_epoch,
                current: registered,
            });
        }
        if partition_epoch < old.partition_epoch {
            let current = old.partition_epoch;
            return Err(Error::StalePartitionEpoch { given: partition_epoch, current });
        }
        Ok(())
    }

    /// Registered in this session, as a broker, and neither fenced nor shutting down (KIP-841, KIP-903).
    fn is_eligible(&self, id: NodeId, broker_epoch: BrokerEpoch) -> bool {
        self.node(id).is_some_and(|node| {
            let is_session = node.broker_epoch == broker_epoch || mutant!(Mutant::M4);
            node.role == NodeRole::Broker && node.is_live() && is_session
        })
    }
}

fn check_members(request: &AlterPartition, old: &Partition) -> ItemResult<()> {
    let members = &request.isr;
    for (at, (id, _)) in members.iter().enumerate() {
        if !old.replicas.contains(id) {
            return Err(Error::InvalidProposal("a member is no replica of the partition"));
        }
        if members[..at].iter().any(|(other, _)| other == id) {
            return Err(Error::InvalidProposal("a member is named more than once"));
        }
    }
    if !members.iter().any(|(id, _)| *id == request.leader) {
        return Err(Error::InvalidProposal("the leader is not a member"));
    }
    if request.recovering && members.len() > 1 {
        return Err(Error::InvalidProposal("a leader that has not recovered is alone"));
    }
    if request.recovering && old.recovery == LeaderRecovery::Recovered {
        return Err(Error::InvalidProposal("a leader that has recovered stays so"));
    }
    Ok(())
}
