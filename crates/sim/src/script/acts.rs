//! What scripts do and what they look at.

use thalweg_metadata_core::{Candidate, Partition, Reassign};
use thalweg_replication_core::{Fitness, Role};
use thalweg_types::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicIdPartition};

use crate::broker::Part;
use crate::disk::DiskLog;
use crate::env::Event;
use crate::message::{Admin, CLIENTS, CONTROLLERS, FIRST_CONTROLLER, Host};
use crate::network::{MS, Time};
use crate::script::Actors;
use crate::sim::Sim;

impl Sim {
    // ---- Looking ----

    pub(super) fn first(&self) -> Option<TopicIdPartition> {
        self.partitions().first().copied()
    }

    pub(super) fn state(&self) -> Option<&Partition> {
        self.quorum.image.partition_by_id(self.first()?)
    }

    pub(super) fn leader_now(&self) -> Option<Host> {
        self.host_with_disk(self.state()?.leader?)
    }

    pub(super) fn in_sync(&self) -> usize {
        self.state().map_or(0, |state| state.isr.len())
    }

    pub(super) fn is_in_sync(&self, host: Host) -> bool {
        let node = self.brokers[host].disk_node();
        self.state().is_some_and(|state| node.is_some_and(|node| state.isr.contains(&node)))
    }

    /// Registered in its present life, and not fenced.
    pub(super) fn is_live(&self, host: Host) -> bool {
        let Some((node, epoch)) = self.brokers[host].session() else { return false };
        let known = self.quorum.image.node(node);
        self.brokers[host].is_up && known.is_some_and(|n| n.broker_epoch == epoch && n.is_live())
    }

    pub(super) fn part(&self, host: Host) -> Option<&Part> {
        self.brokers[host].parts.get(&self.first()?)
    }

    pub(super) fn epoch_at(&self, host: Host) -> Option<LeaderEpoch> {
        Some(self.part(host)?.replica.epoch())
    }

    /// It leads in the newest epoch, and knows it.
    pub(super) fn leads(&self, host: Host) -> bool {
        let newest = self.state().map(|state| state.leader_epoch);
        let leader = self.part(host).and_then(|part| part.replica.as_leader());
        leader.is_some_and(|leader| Some(leader.epoch()) == newest)
    }

    pub(super) fn end_of(&self, host: Host) -> Offset {
        self.part(host).map_or(Offset::ZERO, |part| part.log.end())
    }

    /// The leader waits for the other one, which is not in sync yet.
    pub(super) fn proposes(&self, leader: Host, joiner: Host) -> bool {
        let node = self.brokers[joiner].disk_node();
        let Some(Role::Leader(leader)) = self.part(leader).map(|part| part.replica.role()) else {
            return false;
        };
        leader.has_pending_proposal()
            && !self.is_in_sync(joiner)
            && leader.maximal_isr().any(|member| Some(member) == node)
    }

    pub(super) fn is_following(&self, host: Host) -> bool {
        let role = self.part(host).map(|part| part.replica.role());
        matches!(role, Some(Role::Follower(follower)) if follower.is_following())
    }

    // ---- Network ----

    pub(super) fn cut_off(&mut self, host: Host) {
        self.env.fault(|| format!("broker {host} is cut off"));
        self.env.network.isolate(host);
    }

    pub(super) fn cut_link(&mut self, from: Host, to: Host) {
        self.env.fault(|| format!("nothing gets from {from} to {to}"));
        self.env.network.cut(from, to);
    }

    pub(super) fn cut_from_all(&mut self, host: Host) {
        for other in (0..FIRST_CONTROLLER + CONTROLLERS).filter(|other| *other != host) {
            self.cut_link(host, other);
            self.cut_link(other, host);
        }
    }

    pub(super) fn heal_network(&mut self) {
        self.env.note(|| "the network is healed".to_owned());
        self.env.network.heal();
    }

    pub(super) fn hold_controllers_to(&mut self, host: Host) {
        (0..CONTROLLERS).for_each(|at| self.env.hold(FIRST_CONTROLLER + at, host));
    }

    pub(super) fn release_controllers_to(&mut self, host: Host) {
        (0..CONTROLLERS).for_each(|at| self.env.release(FIRST_CONTROLLER + at, host));
    }

    pub(super) fn cut_clients(&mut self, host: Host) {
        self.cut_link(CLIENTS, host);
        self.cut_link(host, CLIENTS);
    }

    // ---- Processes and machines ----

    pub(super) fn kill_for_long(&mut self, host: Host) {
        self.env.fault(|| format!("kill -9 of broker {host}"));
        self.brokers[host].crash(&mut self.env);
    }

    pub(super) fn kill_all(&mut self) {
        (0..self.brokers.len()).for_each(|host| self.kill_for_long(host));
    }

    pub(super) fn stop(&mut self, host: Host) {
        self.env.fault(|| format!("controlled shutdown of broker {host}"));
        self.brokers[host].shut_down();
    }

    pub(super) fn power_off(&mut self, host: Host) {
        self.env.fault(|| format!("power loss of broker {host}"));
        self.brokers[host].lose_power(&mut self.env);
    }

    pub(super) fn power_off_all(&mut self) {
        (0..self.brokers.len()).for_each(|host| self.power_off(host));
    }

    pub(super) fn power_on(&mut self, broker: Host) {
        self.env.after(0, Event::StartBroker { broker });
    }

    pub(super) fn power_on_all(&mut self) {
        (0..self.brokers.len()).for_each(|host| self.power_on(host));
    }

    pub(super) fn stand_still(&mut self, host: Host, time: Time) {
        self.env.fault(|| format!("host {host} stands still for {} ms", time / MS));
        self.env.paused[host] = self.env.now + time;
    }

    pub(super) fn slow_disk(&mut self, host: Host) {
        self.env.fault(|| format!("broker {host} has a slow disk"));
        self.brokers[host].faults.slow_disk = true;
    }

    pub(super) fn good_disks(&mut self) {
        self.brokers.iter_mut().for_each(|broker| broker.faults.slow_disk = false);
    }

    pub(super) fn fail_flush(&mut self, host: Host) {
        self.env.fault(|| format!("broker {host} fails to flush"));
        self.brokers[host].faults.fail_flush = true;
    }

    pub(super) fn set_clock(&mut self, host: Host, skew_ms: i64) {
        self.env.fault(|| format!("the clock of broker {host} is off by {skew_ms} ms"));
        self.brokers[host].faults.skew_ms = skew_ms;
    }

    pub(super) fn wipe(&mut self, host: Host) {
        self.env.fault(|| format!("broker {host} gets an empty disk"));
        self.nemesis.damage(host);
        self.brokers[host].wipe(&mut self.env);
    }

    pub(super) fn flip_bit(&mut self, host: Host) {
        let Some(id) = self.first() else { return };
        self.nemesis.damage(host);
        let mut rng = self.nemesis.rng.clone();
        if self.brokers[host].log_mut(id).is_some_and(|log| log.flip(&mut rng)) {
            self.env.fault(|| format!("a bit flips in {id} of broker {host}"));
        }
        self.nemesis.rng = rng;
    }

    // ---- Controllers ----

    pub(super) fn kill_active_controller(&mut self) {
        if let Some(at) = self.quorum.newest_active() {
            self.quorum.crash(&mut self.env, at);
        }
    }

    pub(super) fn start_controllers(&mut self) {
        (0..CONTROLLERS).for_each(|at| self.quorum.restart(&mut self.env, at));
    }

    /// A controller that knows the cluster but no topic stays like this, and goes on serving brokers.
    pub(super) fn part_bystander(&mut self) {
        let Some(at) = self.quorum.bystander() else { return };
        for other in (0..CONTROLLERS).filter(|other| *other != at) {
            self.cut_link(FIRST_CONTROLLER + at, FIRST_CONTROLLER + other);
            self.cut_link(FIRST_CONTROLLER + other, FIRST_CONTROLLER + at);
        }
    }

    // ---- The operator ----

    pub(super) fn recast(&mut self, leader: Host, follower: Host, other: Host) {
        self.cast = Some(Actors { leader, follower, other });
    }

    pub(super) fn set_minimum(&mut self, min_isr: u32) {
        self.administer(Admin::MinIsr { topic: "topic-0".to_owned(), min_isr });
    }

    pub(super) fn reassign(&mut self, hosts: Option<&[Host]>) {
        let target = hosts.map(|hosts| {
            hosts.iter().filter_map(|host| self.brokers[*host].disk_node()).collect::<Vec<NodeId>>()
        });
        let (topic, partition) = ("topic-0".to_owned(), PartitionIndex(0));
        self.administer(Admin::Reassign(Reassign { topic, partition, target }));
    }

    /// In the order of the assignment.
    pub(super) fn replica_hosts(&self) -> Vec<Host> {
        let replicas = self.state().map(|state| state.replicas.clone()).unwrap_or_default();
        replicas.iter().filter_map(|node| self.host_with_disk(*node)).collect()
    }

    /// Hosts that have no replica.
    pub(super) fn spare_hosts(&self) -> Vec<Host> {
        let replicas = self.state().map(|state| state.replicas.clone()).unwrap_or_default();
        let is_spare = |host: &Host| {
            self.brokers[*host].disk_node().is_some_and(|node| !replicas.contains(&node))
        };
        (0..self.brokers.len()).filter(is_spare).collect()
    }

    pub(super) fn delete_topic(&mut self) {
        self.nemesis.note_deletion();
        self.administer(Admin::Delete { topic: "topic-0".to_owned() });
    }

    /// R14, F46: the one replica that had everything is gone for good, and the operator knows what that means.
    pub(super) fn command_unclean_election(&mut self) {
        let Some(id) = self.first() else { return };
        let Some(state) = self.quorum.image.partition_by_id(id) else { return };
        let partition_epoch = state.partition_epoch;
        let candidates = self.brokers.iter().filter(|broker| broker.is_up).filter_map(|broker| {
            let (node, broker_epoch) = broker.session()?;
            let part = broker.parts.get(&id)?;
            let last = part.log.disk.batches().last();
            (part.replica.fitness() != Fitness::Suspect).then_some(Candidate {
                node,
                broker_epoch,
                last_epoch: last.map_or(LeaderEpoch::NONE, |last| last.header.leader_epoch),
                durable_end: part.log.end(),
            })
        });
        let candidates = candidates.collect();
        let topic = "topic-0".to_owned();
        self.administer(Admin::Unclean { topic, partition_epoch, candidates });
    }

    // ---- Lies ----

    pub(super) fn keep_copy(&mut self) {
        let Some(id) = self.first() else { return };
        self.copy = self.disk_log(self.actors().leader, id).cloned().map(|log| (id, log));
    }

    /// The leader's disk shows again what it showed when the copy was made, and says that all of that is flushed.
    pub(super) fn restore_copy(&mut self) {
        let host = self.actors().leader;
        let Some((id, log)) = self.copy.take() else { return };
        self.env.fault(|| format!("broker {host} has an old disk again"));
        self.env.oracle.has_liar = true;
        self.nemesis.damage(host);
        self.brokers[host].crash(&mut self.env);
        let mut log: DiskLog = log;
        log.rewrite_and_flush();
        if let Some(files) = self.brokers[host].log_mut(id) {
            *files = log;
        }
        self.power_on(host);
    }

    /// Somebody noticed, and nobody followed the liar.
    pub(super) fn judge_liar(&mut self) {
        if self.env.stats.halts == 0 {
            self.env.oracle.violated("G-HW", || "nobody noticed the lying leader".to_owned());
        }
        self.is_over = true;
    }
}
