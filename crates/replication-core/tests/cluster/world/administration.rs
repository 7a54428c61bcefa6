//! What an operator asks for.

use thalweg_types::NodeId;

use super::{BROKERS, World};

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
