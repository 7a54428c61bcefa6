//! What destroys data, and when it may: only while somebody else who may be elected has everything.

use thalweg_types::{NodeId, Offset, TopicIdPartition};

use crate::message::Host;
use crate::sim::Sim;

impl Sim {
    /// Whether some other replica that may be elected has all of a partition, durably and undamaged.
    pub(super) fn may_destroy(&self, id: TopicIdPartition, hosts: &[Host]) -> bool {
        let Some(state) = self.quorum.image.partition_by_id(id) else { return true };
        let holds = |node: &NodeId| self.host_with_disk(*node).filter(|at| hosts.contains(at));
        if !state.replicas.iter().any(|node| holds(node).is_some()) {
            return true;
        }
        let end = self.env.oracle.true_end(id);
        let is_safe = |node: &NodeId| {
            let Some(at) = self.host_with_disk(*node) else { return false };
            let Some(log) = self.disk_log(at, id) else { return false };
            !hosts.contains(&at)
                && !self.nemesis.is_damaged(at)
                && log.first_damaged().is_none()
                && log.durable_end() >= end
                && self.env.oracle.agreed_end(id, log) >= end
        };
        let others = state.isr.iter().chain(&state.elr).filter(|node| is_safe(node));
        state.min_isr >= 2
            && !state.is_reassigning()
            && self.env.now >= self.nemesis.careful_until
            && others.count() > 0
    }

    /// Damages a replica, or takes a whole disk.
    pub(super) fn destroy(&mut self, host: Host) {
        let ids = self.partitions();
        if !self.nemesis.damaged.is_empty() || !ids.iter().all(|id| self.may_destroy(*id, &[host]))
        {
            return;
        }
        self.nemesis.damage(host);
        if self.nemesis.rng.chance(350) {
            self.env.fault(|| format!("broker {host} gets an empty disk"));
            self.brokers[host].wipe(&mut self.env);
            self.start_later(host);
            return;
        }
        let mut rng = self.nemesis.rng.clone();
        let Some(id) = rng.pick(&ids) else { return };
        if let Some(log) = self.brokers[host].log_mut(id)
            && log.flip(&mut rng)
        {
            self.env.fault(|| format!("a bit flips in {id} of broker {host}"));
        }
        self.nemesis.rng = rng;
        if self.nemesis.rng.chance(500) {
            self.kill(host);
        }
    }

    /// Who has everything again is not damaged any more.
    pub(super) fn forget_restored(&mut self) {
        let ids = self.partitions();
        let is_restored = |host: &Host| {
            let broker = &self.brokers[*host];
            broker.is_up
                && ids.iter().all(|id| {
                    let Some(state) = self.quorum.image.partition_by_id(*id) else { return true };
                    let is_gone = |node: &NodeId| self.host_with_disk(*node).is_none();
                    let Some(log) = self.disk_log(*host, *id) else {
                        return !state.replicas.iter().any(is_gone);
                    };
                    let in_sync = broker.node().is_some_and(|node| state.isr.contains(&node));
                    (in_sync || broker.node().is_none_or(|node| !state.replicas.contains(&node)))
                        && log.first_damaged().is_none()
                        && log.durable_end() >= Offset::ZERO
                })
        };
        let restored: Vec<_> =
            self.nemesis.damaged.iter().copied().filter(|host| is_restored(host)).collect();
        for host in restored {
            self.nemesis.damaged.remove(&host);
        }
    }
}
