//! R15: moving a partition to other replicas.
//!
//! ```text
//!  start: replicas := target + what is removed ──► leader adds to the in-sync replicas (R5, R7) ──► complete: replicas := target
//!                                              └─► cancel: replicas := those of before
//! ```
//!
//! The controller never adds to the in-sync replicas. Whenever a replica leaves the assignment a new leader epoch begins: a replica deletes
//! its data only once it knows of that epoch.

use std::collections::BTreeMap;

use thalweg_types::{NodeId, PartitionIndex, TopicName};

use super::election::effective_min_isr;
use super::topics::check_replicas;
use super::{Decision, ItemResult, Policy};
use crate::config::TopicConfig;
use crate::error::Error;
use crate::image::{Image, Partition, Topic};
use crate::record::Record;

/// One partition to move, or to leave where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassign {
    pub topic: String,
    pub partition: PartitionIndex,
    /// The first is the preferred leader; `None` cancels.
    pub target: Option<Vec<NodeId>>,
}

/// A reassignment under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OngoingReassignment {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    pub replicas: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
}

impl Image {
    /// Starts, replaces or cancels reassignments. The answers are in the order of the request.
    pub fn decide_reassign(
        &self,
        requests: &[Reassign],
        policy: &Policy,
    ) -> Decision<Vec<ItemResult<()>>> {
        let mut counts = BTreeMap::new();
        for request in requests {
            *counts.entry((&request.topic, request.partition)).or_insert(0) += 1;
        }
        let mut records = Vec::new();
        let response = requests
            .iter()
            .map(|request| {
                if counts.get(&(&request.topic, request.partition)) != Some(&1) {
                    return Err(Error::DuplicateTopic(request.topic.clone()));
                }
                records.extend(self.reassign(request, policy)?);
                Ok(())
            })
            .collect();
        Decision { records, response }
    }

    fn reassign(&self, request: &Reassign, policy: &Policy) -> ItemResult<Option<Record>> {
        let Reassign { topic, partition, target } = request;
        let (topic, old) = self.topic_partition(topic, *partition)?;
        let config = TopicConfig::resolve(self, topic.id, None, &policy.settings);
        let minimum = config.min_in_sync_replicas;
        let is_live = |id| self.is_live(id);
        let next = match target {
            Some(target) => {
                check_replicas(self, *partition, target, None)?;
                old.reassigned_to(target, minimum, is_live)
            }
            None if !old.is_reassigning() => return Err(Error::NoReassignmentInProgress),
            None => old.with_replicas(old.originals(), minimum, is_live),
        };
        let next = next.ok_or_else(|| Error::InvalidAssignment {
            partition: *partition,
            reason: "none of its replicas would be complete".to_owned(),
        })?;
        let (topic_id, partition) = (topic.id, *partition);
        let state = next.succeeding(old);
        Ok(state.map(|state| Record::PartitionChanged { topic_id, partition, state }))
    }

    /// A topic's partition by name.
    pub(super) fn topic_partition(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> ItemResult<(&Topic, &Partition)> {
        let found = self.topic(topic).ok_or_else(|| Error::UnknownTopicName(topic.to_owned()))?;
        let state = found.partitions.get(&partition);
        let unknown = || Error::UnknownPartition { topic: found.name.clone(), partition };
        Ok((found, state.ok_or_else(unknown)?))
    }

    /// Reassignments under way, in order of topic name and partition.
    pub fn reassignments(&self) -> impl Iterator<Item = OngoingReassignment> {
        self.topics().flat_map(|topic| {
            let moving = topic.partitions.iter().filter(|(_, state)| state.is_reassigning());
            moving.map(|(partition, state)| OngoingReassignment {
                topic: topic.name.clone(),
                partition: *partition,
                replicas: state.replicas.clone(),
                adding: state.adding.clone(),
                removing: state.removing.clone(),
            })
        })
    }
}

impl Partition {
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Replicas that no reassignment is adding.
    fn originals(&self) -> Vec<NodeId> {
        self.replicas.iter().copied().filter(|id| !self.adding.contains(id)).collect()
    }

    /// On the way to `target`, instead of any other. `None`: nobody who would be left is in sync.
    fn reassigned_to(
        &self,
        target: &[NodeId],
        minimum: u32,
        is_live: impl Fn(NodeId) -> bool,
    ) -> Option<Self> {
        let originals = self.originals();
        let adding: Vec<_> = target.iter().copied().filter(|id| !originals.contains(id)).collect();
        let removing: Vec<_> =
            originals.iter().copied().filter(|id| !target.contains(id)).collect();
        let replicas = target.iter().chain(&removing).copied().collect();
        let mut next = self.with_replicas(replicas, minimum, &is_live)?;
        (next.adding, next.removing) = (adding, removing);
        next.set_min_isr(next.effective_min_isr(minimum));
        next.complete_reassignment(minimum, is_live);
        Some(next)
    }

    /// R15: the target alone, once everyone who is added is in sync and enough of the target are.
    pub(super) fn complete_reassignment(&mut self, minimum: u32, is_live: impl Fn(NodeId) -> bool) {
        let is_target = |id: &NodeId| !self.removing.contains(id);
        let target: Vec<_> = self.replicas.iter().copied().filter(is_target).collect();
        let in_sync = self.isr.iter().filter(|id| is_target(id)).count();
        let all_added = self.adding.iter().all(|id| self.isr.contains(id));
        let enough = in_sync >= effective_min_isr(minimum, target.len()) as usize;
        if !self.is_reassigning() || !all_added || !enough {
            return;
        }
        let before = self.leader_epoch;
        if let Some(completed) = self.with_replicas(target, minimum, is_live) {
            *self = completed;
            if self.leader_epoch == before {
                self.begin_epoch();
            }
        }
    }

    /// With these replicas and no reassignment. `None`: nobody of them is in sync, though somebody was, or nobody can ever lead without loss
    /// any more.
    fn with_replicas(
        &self,
        replicas: Vec<NodeId>,
        minimum: u32,
        is_live: impl Fn(NodeId) -> bool,
    ) -> Option<Self> {
        let leaves = self.replicas.iter().any(|id| !replicas.contains(id));
        let mut next = self.clone();
        let isr: Vec<_> = self.isr.iter().copied().filter(|id| replicas.contains(id)).collect();
        let nobody_leads = isr.is_empty() && !self.isr.is_empty();
        let mut eligible = self.elr.iter().filter(|id| replicas.contains(id));
        let nobody_is_complete = isr.is_empty() && eligible.next().is_none();
        if nobody_leads || (nobody_is_complete && !self.elr.is_empty()) {
            return None;
        }
        next.replicas = replicas;
        (next.adding, next.removing) = (Vec::new(), Vec::new());
        let assigned = next.replicas.clone();
        next.unproven.retain(|id| assigned.contains(id));
        next.change_isr(&isr, |_| true);
        next.set_min_isr(next.effective_min_isr(minimum));
        next.elect(is_live);
        if leaves {
            next.begin_epoch();
        }
        Some(next)
    }
}
