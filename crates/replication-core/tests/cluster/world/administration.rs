//! What an operator asks for.

use thalweg_metadata_core::Candidate;
use thalweg_types::{BrokerEpoch, LeaderEpoch, NodeId};

use super::{BROKERS, World};
use crate::cluster::broker::Broker;
use crate::cluster::log::offset;
use crate::cluster::oracle::find;

impl World {
    pub(super) fn set_minimum(&mut self) {
        let minimum = 1 + self.dice.below(2);
        self.controller.set_config("min.insync.replicas", &minimum.to_string());
    }

    pub(super) fn set_durability(&mut self) {
        if self.changes_durability {
            let value = if self.dice.percent(50) { "fsync" } else { "replicated" };
            self.controller.set_config("thalweg.durability", value);
        }
    }

    pub(super) fn reassign(&mut self) {
        let mut target: Vec<_> = (1..=BROKERS).map(NodeId).collect();
        while target.len() > 3 || (target.len() > 1 && self.dice.percent(10)) {
            let at = self.dice.below(target.len());
            target.remove(at);
        }
        let target = (!self.dice.percent(20)).then_some(target);
        // A refusal is a decision like any other.
        let _ = self.controller.reassign(target);
    }

    /// R14, by an operator who has looked at every log that can be reached.
    pub(super) fn elect_unclean(&mut self) {
        let can_lead = |broker: &&Broker| broker.process.is_some() && !broker.is_damaged;
        let reached = self.brokers.iter().filter(can_lead);
        let candidates = reached.map(|broker| Candidate {
            node: broker.node,
            broker_epoch: broker.process.as_ref().map_or(BrokerEpoch::NONE, |p| p.broker_epoch),
            last_epoch: broker.log.entries.last().map_or(LeaderEpoch::NONE, |entry| entry.0),
            durable_end: offset(broker.log.flushed),
        });
        if let Some(leader) = self.controller.elect_unclean(candidates.collect()) {
            self.oracle.gives_up(&find(&self.brokers, leader).log);
            self.unclean_elections += 1;
        }
    }

    pub(super) fn delete_records(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        if broker.as_leader().is_none() {
            return;
        }
        let committed = broker.log.high_watermark;
        let to = broker.log.start + self.dice.below(committed - broker.log.start + 1);
        broker.log.move_start(to);
        broker.local(self.now);
        self.execute(at);
    }
}
