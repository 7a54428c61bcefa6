//! Who leads, who is in sync, who is eligible: rules R9, R10 and R13 of replication.
//!
//! A change of a partition is made here as a whole: the new state keeps the relations between its fields, and its epochs say what
//! changed (leader epoch with the leader, partition epoch with anything).

use std::collections::BTreeSet;

use thalweg_invariants::{ISR_SANITY, Mutant, check, mutant};
use thalweg_types::{
    Durability, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicIdPartition,
};

use crate::image::{Image, Partition, Topic};
use crate::record::{LeaderRecovery, Record};

const PLENTY: &str = "2^31 changes of one partition take longer than hardware lasts";

impl Image {
    /// What follows from `node` not being in sync any more. `stays_eligible` says of each partition whether what the node has on
    /// disk is known to be complete.
    pub(super) fn partitions_without(
        &self,
        node: NodeId,
        stays_eligible: impl Fn(TopicId, PartitionIndex, &Partition) -> bool,
    ) -> Vec<Record> {
        self.changes(|topic_id, index, partition| {
            if !partition.replicas.contains(&node) {
                return None;
            }
            let mut next = partition.clone();
            let eligible = stays_eligible(topic_id, index, partition);
            next.remove_from_isr(node, eligible);
            next.elect(|id| id != node && self.is_live(id));
            Some(next)
        })
    }

    /// What follows from some replicas of `node` not being trusted to be complete any more.
    pub(super) fn partitions_abandoned_by(
        &self,
        node: NodeId,
        replicas: &BTreeSet<TopicIdPartition>,
    ) -> Vec<Record> {
        self.changes(|topic_id, partition, state| {
            let is_named = replicas.contains(&TopicIdPartition { topic_id, partition });
            if !is_named || !state.replicas.contains(&node) || mutant!(Mutant::M30) {
                return None;
            }
            let mut next = state.clone();
            next.remove_from_isr(node, false);
            next.elect(|id| self.is_live(id));
            Some(next)
        })
    }

    /// What follows from `node` being live again: it leads where nobody could.
    pub(super) fn partitions_with(&self, node: NodeId) -> Vec<Record> {
        self.changes(|_, _, partition| {
            if partition.leader.is_some() || !partition.replicas.contains(&node) {
                return None;
            }
            let mut next = partition.clone();
            next.elect(|id| id == node || self.is_live(id));
            Some(next)
        })
    }

    /// Applies `change` to every partition; one fact for each that it makes different.
    fn changes(
        &self,
        change: impl Fn(TopicId, PartitionIndex, &Partition) -> Option<Partition>,
    ) -> Vec<Record> {
        self.topics()
            .flat_map(|topic| topic.changes(|index, partition| change(topic.id, index, partition)))
            .collect()
    }
}

impl Topic {
    /// Applies `change` to every partition of the topic; one fact for each that it makes different.
    pub(super) fn changes(
        &self,
        change: impl Fn(PartitionIndex, &Partition) -> Option<Partition>,
    ) -> Vec<Record> {
        let changed = self.partitions.iter().filter_map(|(index, old)| {
            let state = change(*index, old)?.succeeding(old)?;
            Some(Record::PartitionChanged { topic_id: self.id, partition: *index, state })
        });
        changed.collect()
    }
}

pub(super) fn effective_min_isr(configured: u32, replica_count: usize) -> u32 {
    configured.min(u32::try_from(replica_count).unwrap_or(u32::MAX)).max(1)
}

impl Partition {
    /// A new partition: its live replicas are in sync, the first of them leads. At least one must be live.
    pub(super) fn new(
        replicas: Vec<NodeId>,
        is_live: impl Fn(NodeId) -> bool,
        min_in_sync_replicas: u32,
        durability: Durability,
    ) -> Self {
        let isr: Vec<_> = replicas.iter().copied().filter(|id| is_live(*id)).collect();
        Self {
            min_isr: effective_min_isr(min_in_sync_replicas, replicas.len()),
            leader: isr.first().copied(),
            isr,
            replicas,
            adding: Vec::new(),
            removing: Vec::new(),
            elr: Vec::new(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            durability,
            recovery: LeaderRecovery::Recovered,
            unclean_epoch: None,
            unproven: Vec::new(),
        }
    }

    /// R10: who leaves the in-sync replicas stays eligible while too few remain for the high watermark to move without it.
    fn remove_from_isr(&mut self, node: NodeId, stays_eligible: bool) {
        let isr: Vec<_> = self.isr.iter().copied().filter(|id| *id != node).collect();
        self.change_isr(&isr, |id| id != node || stays_eligible);
    }

    /// R10: `isr` are in sync now. Who was in sync or eligible before is still complete, except who is not `eligible`.
    pub(super) fn change_isr(&mut self, isr: &[NodeId], eligible: impl Fn(NodeId) -> bool) {
        let before = std::mem::take(&mut self.isr);
        let known = |id: &NodeId| before.contains(id) || self.elr.contains(id);
        let in_order = |keep: &dyn Fn(&NodeId) -> bool| {
            self.replicas.iter().copied().filter(|id| keep(id)).collect::<Vec<_>>()
        };
        let now = in_order(&|id| isr.contains(id));
        let elr = in_order(&|id| known(id) && !isr.contains(id) && eligible(*id));
        (self.isr, self.elr) = (now, elr);
        self.forget_eligible_when_enough();
    }

    /// R9: an in-sync replica, else (only when none is left) an eligible one, else nobody. Earlier replicas are preferred.
    pub(super) fn elect(&mut self, is_live: impl Fn(NodeId) -> bool) {
        if self.leader.is_some_and(|leader| self.isr.contains(&leader) && is_live(leader)) {
            return;
        }
        let first = |set: &[NodeId]| {
            self.replicas.iter().copied().find(|id| set.contains(id) && is_live(*id))
        };
        self.leader = first(&self.isr);
        if self.isr.is_empty() {
            self.leader = first(&self.elr);
            if let Some(leader) = self.leader {
                self.elr.retain(|id| *id != leader);
                self.isr = vec![leader];
                self.forget_eligible_when_enough();
            }
        }
    }

    fn forget_eligible_when_enough(&mut self) {
        if self.isr.len() >= self.min_isr as usize {
            self.elr.clear();
        }
    }

    /// A new minimum. R10: eligible replicas are forgotten in the same fact, so that no leader can move its high watermark under a lower
    /// minimum while replicas count as complete that did not have to wait for it. Where nobody is in sync no high watermark can move, and
    /// the eligible replicas are the only ones that can ever lead again: there they stay.
    pub(super) fn set_min_isr(&mut self, min_isr: u32) {
        let before = std::mem::replace(&mut self.min_isr, min_isr);
        if mutant!(Mutant::M11) {
            return;
        }
        if min_isr != before && !self.isr.is_empty() {
            self.elr.clear();
        }
        self.forget_eligible_when_enough();
    }

    /// A new leader epoch even if the leader stays: the assignment is another one.
    pub(super) fn begin_epoch(&mut self) {
        self.leader_epoch = self.leader_epoch.next().expect(PLENTY);
    }

    /// This state with the epochs that make it the successor of `old`, or `None` when it is the same.
    pub(super) fn succeeding(self, old: &Self) -> Option<Self> {
        if self == *old { None } else { Some(self.always_succeeding(old)) }
    }

    /// This state with the epochs that make it the successor of `old`, even when nothing else differs.
    pub(super) fn always_succeeding(mut self, old: &Self) -> Self {
        self.partition_epoch = old.partition_epoch.next().expect(PLENTY);
        let has_new_leader = self.leader != old.leader && !mutant!(Mutant::M23);
        if has_new_leader && self.leader_epoch == old.leader_epoch {
            self.begin_epoch();
        }
        self.check();
        self
    }

    fn check(&self) {
        let in_sync = |id: &NodeId| self.isr.contains(id);
        check!(ISR_SANITY, self.leader.iter().all(in_sync), "leader of {self:?}");
        check!(ISR_SANITY, !self.elr.iter().any(in_sync), "eligible replicas of {self:?}");
        let assigned = |id: &NodeId| self.replicas.contains(id);
        check!(ISR_SANITY, self.isr.iter().chain(&self.elr).all(assigned), "replicas of {self:?}");
        let enough = self.isr.len() >= self.min_isr as usize;
        let is_exclusive = !enough || self.elr.is_empty() || mutant!(Mutant::M11);
        check!(ISR_SANITY, is_exclusive, "eligible replicas of {self:?}");
    }
}
