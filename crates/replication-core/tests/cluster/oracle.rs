//! What was ever committed, and what must hold because of it.

use std::collections::BTreeMap;

use thalweg_types::{Durability, LeaderEpoch, NodeId};

use super::broker::Broker;
use super::controller::Controller;
use super::log::{Entry, Log};

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// From offset 0: below some leader's high watermark at some time.
    pub(crate) committed: Vec<Entry>,
    leaders: BTreeMap<LeaderEpoch, NodeId>,
}

impl Oracle {
    /// I7.
    pub(crate) fn begins(&mut self, node: NodeId, epoch: LeaderEpoch) {
        let leader = *self.leaders.entry(epoch).or_insert(node);
        assert_eq!(leader, node, "I7: epoch {epoch} has two leaders");
    }

    /// I1, I2: a leader has committed everything below `to`.
    pub(crate) fn commits(&mut self, node: NodeId, log: &Log, to: usize) {
        assert!(to <= log.flushed.max(log.end()), "I6: {node} commits {to} of {log:?}");
        self.agrees("I1", node, log, to);
        for at in self.committed.len()..to {
            self.committed.push(*log.get(at).expect("it has what it commits"));
        }
    }

    /// I2, I6: a follower believes that everything below `to` is committed.
    pub(crate) fn follows(&self, node: NodeId, log: &Log, to: usize) {
        assert!(to <= log.end(), "I6: {node} follows to {to} beyond its log");
        assert!(to <= self.committed.len(), "I6: {node} follows to {to}, which nobody committed");
        self.agrees("I2", node, log, to);
    }

    /// R14: a replica was made to lead that need not be complete. What it has not, or has only in memory, is given up.
    pub(crate) fn gives_up(&mut self, log: &Log) {
        let is_kept = |(at, entry): (usize, &Entry)| {
            at < log.start || (at < log.flushed && log.get(at) == Some(entry))
        };
        let kept = (0..).zip(&self.committed).take_while(|pair| is_kept(*pair)).count();
        self.committed.truncate(kept);
    }

    /// The log agrees with what is committed below `to`.
    fn agrees(&self, invariant: &str, node: NodeId, log: &Log, to: usize) {
        for at in log.start..to.min(self.committed.len()) {
            let (has, committed) = (log.get(at), self.committed[at]);
            assert_eq!(has, Some(&committed), "{invariant}: {node} at {at}");
        }
    }

    /// I13, I6: everyone whom the present leader waited for has flushed everything below `to`.
    pub(crate) fn is_flushed_everywhere(&self, brokers: &[Broker], leader: NodeId, to: usize) {
        let broker = find(brokers, leader);
        let Some(role) = broker.as_leader() else { return };
        if role.partition().durability != Durability::Fsync {
            return;
        }
        for member in role.maximal_isr().map(|id| find(brokers, id)) {
            let flushed = member.log.flushed >= to || member.is_damaged;
            assert!(flushed, "I13: {to} is committed, {} has {:?}", member.node, member.log);
        }
    }

    /// I3, I4, I5 and the exposed ends, whatever has just happened.
    pub(crate) fn check(&self, controller: &Controller, brokers: &[Broker]) {
        let state = controller.partition();
        let end = self.committed.len();
        for member in state.isr.iter().chain(&state.elr).map(|id| find(brokers, *id)) {
            let must_be_flushed = state.durability == Durability::Fsync
                && !state.unproven.contains(&member.node)
                && !member.is_damaged;
            if must_be_flushed {
                let flushed = member.log.flushed;
                assert!(flushed >= end, "I4: {} flushed {flushed} of {end}", member.node);
            }
            if must_be_flushed || member.process.is_some() {
                self.agrees("I4", member.node, &member.log, end);
            }
        }
        let Some(leader) = state.leader.map(|id| find(brokers, id)) else { return };
        let Some(role) = leader.as_leader().filter(|role| role.epoch() == state.leader_epoch)
        else {
            return;
        };
        self.agrees("I3", leader.node, &leader.log, end);
        let maximal: Vec<_> = role.maximal_isr().collect();
        if role.partition().isr.len() >= role.partition().min_isr as usize {
            let covered = state.isr.iter().chain(&state.elr).all(|id| maximal.contains(id));
            assert!(covered, "I5: {maximal:?} is waited for, {state:?}");
        }
        if !role.has_pending_proposal() {
            assert_eq!(maximal, role.partition().isr, "I5: nothing is pending");
        }
        let replica = leader.process.as_ref().and_then(|process| process.replica.as_ref());
        if let Some(told) = replica.and_then(|replica| replica.true_high_watermark()) {
            let told = super::log::index(told);
            assert!(told >= end, "I6: {told} is told as the end, {end} is committed");
        }
    }
}

pub(crate) fn find(brokers: &[Broker], node: NodeId) -> &Broker {
    brokers.iter().find(|broker| broker.node == node).expect("a broker of the cluster")
}
