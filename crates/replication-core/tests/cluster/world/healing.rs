//! The end of all faults, and what must become of the partition then.

use thalweg_replication_core::{Fitness, Role};
use thalweg_types::{Durability, NodeId};

use super::{World, with};
use crate::cluster::oracle::find;

impl World {
    /// All faults end. Whether the partition could be made whole. Without `fsync`, or after damage, nobody may be left who is known to be
    /// complete, and an operator must choose; otherwise it heals by itself (V9).
    pub(super) fn heal(&mut self, seed: u64) -> bool {
        for at in 0..self.brokers.len() {
            if let Some(process) = &self.brokers[at].process
                && process.wants_shutdown
            {
                let end = self.brokers[at].log.end();
                self.brokers[at].process = None;
                self.brokers[at].log.recover(end, &mut self.dice);
            }
            self.restart(at);
            self.controller.elect_preferred();
        }
        for round in 0..300 {
            self.heal_once(round);
            let state = self.controller.partition();
            if round == 100 && state.leader.is_none() {
                let loses = state.durability == Durability::Replicated
                    || self.changes_durability
                    || self.has_damage;
                assert!(loses, "V9: seed {seed} needs an operator: {state:?}");
                self.elect_unclean();
            }
            self.oracle.check(&self.controller, &self.brokers);
            if self.is_whole() {
                return true;
            }
        }
        let state = self.controller.partition();
        let all_damaged = |id: &NodeId| find(&self.brokers, *id).is_damaged;
        let may_be_lost = state.leader.is_none() && state.replicas.iter().all(all_damaged);
        assert!(may_be_lost, "V1, V2: seed {seed} does not heal: {state:?}\n{:#?}", self.brokers);
        false
    }

    pub(super) fn heal_once(&mut self, round: usize) {
        self.now = self.now.saturating_add_ms(60);
        for at in 0..self.brokers.len() {
            self.follow_metadata(at, usize::MAX);
            self.heartbeat(at);
            if round.is_multiple_of(20) {
                self.break_streams(at);
            }
            self.repair(at);
            self.deadline(at);
            self.flush(at);
            for message in self.brokers[at].pump(100) {
                self.network.send(message);
            }
            self.break_overtaken_streams(at);
        }
        for _ in 0..40 {
            self.deliver(false);
        }
        while !self.proposals.is_empty() {
            let sent = self.proposals.remove(0);
            let outcome = self.controller.alter(&sent.what);
            self.outcomes.push(with(&sent, outcome));
        }
        while !self.outcomes.is_empty() {
            self.deliver_outcome();
        }
    }

    /// A damaged replica that follows has the leader's log again up to its own end.
    pub(super) fn repair(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        if !broker.is_damaged {
            return;
        }
        if let Some(replica) = broker.replica()
            && matches!(replica.role(), Role::Follower(role) if role.is_following())
        {
            replica.handle_fitness(Fitness::Fit);
            broker.is_damaged = false;
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        let state = self.controller.partition();
        let Some(leader) = state.leader.map(|id| find(&self.brokers, id)) else { return false };
        // A log may start later than the leader's, if an earlier leader had deleted what is below.
        let same = |id: &NodeId| {
            let log = &find(&self.brokers, *id).log;
            let from = log.start.max(leader.log.start);
            log.end() == leader.log.end()
                && log.high_watermark == log.end()
                && (from..log.end()).all(|at| log.get(at) == leader.log.get(at))
        };
        state.isr.len() == state.replicas.len()
            && !state.is_reassigning()
            && state.replicas.iter().all(same)
            && leader.as_leader().is_some_and(|role| role.epoch() == state.leader_epoch)
    }
}
