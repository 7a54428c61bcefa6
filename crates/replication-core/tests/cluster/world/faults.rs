//! What goes wrong.

use thalweg_replication_core::Fitness;
use thalweg_types::Durability;

use super::World;
use crate::cluster::oracle::find;
use thalweg_types::NodeId;

impl World {
    pub(super) fn crash(&mut self, at: usize) {
        if self.brokers[at].process.is_none() {
            return;
        }
        self.crashes += 1;
        let (may_lose, may_damage) = (self.may_lose(at), self.has_damage && self.may_lose(at));
        let is_fsync = self.controller.partition().durability == Durability::Fsync
            && self.controller.partition().unproven.is_empty();
        let broker = &mut self.brokers[at];
        let (flushed, log_end) = (broker.log.flushed, broker.log.end());
        let mut end = log_end;
        if self.dice.percent(50) && (is_fsync || may_lose) {
            // Power loss: what was not flushed may be gone.
            end = flushed + self.dice.below(log_end - flushed + 1);
        }
        if may_damage && self.dice.percent(30) {
            end = broker.log.start + self.dice.below(end - broker.log.start + 1);
            broker.is_damaged = true;
        }
        broker.process = None;
        broker.log.recover(end, &mut self.dice);
    }

    /// Damage is found in the log of a running process.
    pub(super) fn find_damage(&mut self, at: usize) {
        if self.has_damage && self.may_lose(at) && self.brokers[at].process.is_some() {
            self.brokers[at].is_damaged = true;
            if let Some(replica) = self.brokers[at].replica() {
                replica.handle_fitness(Fitness::Suspect);
            }
            self.execute(at);
        }
    }

    /// Whether somebody else has everything: as much loss as the rules promise to survive.
    pub(super) fn may_lose(&self, at: usize) -> bool {
        let state = self.controller.partition();
        let has_all = |id: &NodeId| {
            let broker = find(&self.brokers, *id);
            let end = self.oracle.committed.len();
            let has = match state.durability {
                Durability::Fsync => broker.log.flushed,
                Durability::Replicated => broker.log.end(),
            };
            broker.process.is_some() && !broker.is_damaged && has >= end
        };
        let node = self.brokers[at].node;
        let others = state.isr.iter().filter(|id| **id != node && has_all(id));
        let nobody_lost = self.brokers.iter().all(|broker| !broker.is_damaged);
        others.count() >= 1 && nobody_lost && state.min_isr >= 2
    }

    pub(super) fn restart(&mut self, at: usize) {
        if self.brokers[at].process.is_none() {
            self.brokers[at].start(&mut self.controller);
        }
    }

    /// Gone and back before anybody has noticed (KIP-380): preferably somebody who is about to join (KIP-903).
    pub(super) fn bounce(&mut self, at: usize) {
        let at = self.joining().filter(|_| self.dice.percent(70)).unwrap_or(at);
        self.crash(at);
        self.restart(at);
        self.follow_metadata(at, usize::MAX);
        self.heartbeat(at);
    }

    fn joining(&mut self) -> Option<usize> {
        let in_sync = &self.controller.partition().isr;
        let members = self.proposals.iter().flat_map(|sent| &sent.what.isr);
        let joining = members.map(|(node, _)| *node).find(|node| !in_sync.contains(node))?;
        Some(self.position(joining))
    }

    pub(super) fn fence(&mut self, at: usize) {
        let is_down = self.brokers[at].process.is_none();
        if is_down || self.dice.percent(30) {
            self.controller.fence(self.brokers[at].node);
        }
    }

    pub(super) fn break_streams(&mut self, at: usize) {
        let node = self.brokers[at].node;
        let Some(replica) = self.brokers[at].replica() else { return };
        let followers: Vec<_> = replica.followers().collect();
        for follower in followers {
            let replica = self.brokers[at].replica().expect("it was there");
            if let Some(cursor) = replica.next_push(follower) {
                replica.handle_follower_gone(follower, cursor.session);
            }
            self.leader_gone(follower, node);
        }
    }
}
