//! The end of a run: everything is healed, and after a while all must be well, complete and alike.

use std::collections::BTreeMap;

use thalweg_metadata_core::Candidate;
use thalweg_replication_core::Fitness;
use thalweg_types::{Durability, LeaderEpoch, NodeId, TopicIdPartition};

use super::Sim;
use crate::broker::Broker;
use crate::disk::Batch;
use crate::env::Event;
use crate::message::{Admin, CONTROLLERS};
use crate::network::{MS, SECOND, Time};

/// How long a healed cluster may take until all is well again.
pub(super) const RECOVERY: Time = 60 * SECOND;

impl Sim {
    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        self.healed_at = self.env.now;
        self.env.note(|| "everything is healed".to_owned());
        self.env.network.heal();
        self.env.release_all();
        self.judge_script();
        // Pauses run out by themselves: ended early, what waits for them would be overtaken on its own stream.
        for at in 0..CONTROLLERS {
            self.quorum.restart(&mut self.env, at);
        }
        let restart_all = self.nemesis.wants_full_restart() && !self.has_lossy();
        for broker in &mut self.brokers {
            broker.faults.slow_disk = false;
            broker.faults.fail_flush = false;
            broker.faults.disk_full = false;
            broker.faults.skew_ms = 0;
            if restart_all {
                broker.crash(&mut self.env);
            }
        }
        for broker in 0..self.brokers.len() {
            self.env.after(500 * MS, Event::StartBroker { broker });
        }
        self.heal_coordinators();
        self.env.after(3 * SECOND, Event::Audit);
    }

    /// V1 to V9: everything works again. Until it does, asks again; for ever is too long.
    pub(super) fn audit(&mut self) {
        let since = self.env.now - self.healed_at;
        self.repair();
        self.create_topics();
        if since > 12 * SECOND {
            self.elect_uncleanly(true);
        }
        self.clients.is_stopping = since > 5 * SECOND;
        self.check_metadata();
        match self.unwell().or_else(|| self.uncoordinated()) {
            None if self.clients.is_stopping && self.clients.is_idle() => {
                self.drain();
                self.drain_coordinated();
                self.is_over = true;
            }
            Some(what) if since > RECOVERY => self.env.oracle.violated("V1-V9", || what),
            None if since > RECOVERY => {
                self.env.oracle.violated("V3", || "producers are not answered".to_owned());
            }
            _ => self.env.after(SECOND, Event::Audit),
        }
    }

    /// What is not as it should be long after the last fault.
    fn unwell(&self) -> Option<String> {
        for id in self.partitions() {
            let state = self.quorum.image.partition_by_id(id)?;
            let Some(leader) = state.leader.and_then(|leader| self.host_with_disk(leader)) else {
                return Some(format!("V1: {id} has no leader: {state:?}"));
            };
            if state.isr.len() != state.replicas.len() || state.is_reassigning() {
                return Some(format!("V2, V8: {id}: {state:?}"));
            }
            let Some(part) = self.brokers[leader].parts.get(&id) else {
                return Some(format!("V7: {id}: its leader does not know it"));
            };
            let (end, high_watermark) = (part.log.end(), part.log.high_watermark());
            if end != high_watermark || part.replica.as_leader().is_none() {
                return Some(format!("V4: {id}: committed up to {high_watermark} of {end}"));
            }
            for member in &state.replicas {
                let host = self.host_with_disk(*member);
                let other = host.and_then(|host| self.brokers[host].parts.get(&id));
                let known = other.map(|other| (other.log.end(), other.log.high_watermark()));
                if known != Some((end, end)) {
                    return Some(format!("V7: {id}: node {member} is at {known:?} of {end}"));
                }
            }
        }
        None
    }

    /// The last look: every log, record by record, against the truth, the other replicas, and what clients were told.
    fn drain(&mut self) {
        for id in self.partitions() {
            let Some(state) = self.quorum.image.partition_by_id(id) else { continue };
            let end = self.env.oracle.true_end(id);
            let leader = state.leader.and_then(|leader| self.host_with_disk(leader));
            for member in state.replicas.clone() {
                let Some(host) = self.host_with_disk(member) else { continue };
                let Some(part) = self.brokers[host].parts.get(&id) else { continue };
                let have = self.env.oracle.agreed_end(id, &part.log.disk);
                let log_end = part.log.end();
                if have != end || log_end != end {
                    self.env.oracle.violated("I2", || {
                        format!("{id}: broker {host} has {have} (ends at {log_end}) of {end}")
                    });
                }
                let is_clients = !self.is_coordinated(id);
                if Some(host) == leader && is_clients {
                    let log_start = part.log.log_start();
                    let batches: Vec<Batch> =
                        part.log.disk.batches_from(log_start).copied().collect();
                    let records = batches.iter().flat_map(Batch::records);
                    let records = records.filter(|(offset, _)| *offset >= log_start);
                    self.env.checker.drained(id, log_start, records);
                }
            }
        }
    }

    /// R14: by command only: nobody is left who may be elected, because records were never flushed, or because a topic was made with
    /// replicas on disks that were gone already. In the second case nothing may get lost.
    pub(crate) fn elect_uncleanly(&mut self, is_end: bool) {
        for id in self.partitions() {
            let image = &self.quorum.image;
            let Some(state) = image.partition_by_id(id) else { continue };
            let Some(topic) = image.topic_by_id(id.topic_id) else { continue };
            let is_flushed = state.durability == Durability::Fsync && state.unproven.is_empty();
            let mut may_lead = state.isr.iter().chain(&state.elr);
            let is_hopeless = may_lead.all(|node| self.host_with_disk(*node).is_none());
            if state.leader.is_some() || (is_flushed && !(is_hopeless && is_end)) {
                continue;
            }
            let end = self.env.oracle.true_end(id);
            let has_all = |broker: &Broker| {
                let part = broker.parts.get(&id);
                part.is_some_and(|part| self.env.oracle.agreed_end(id, &part.log.disk) >= end)
            };
            if is_flushed && !self.nemesis.has_overdone() && !self.brokers.iter().any(has_all) {
                let what = format!("{id}: nobody has all of {end}: {state:?}");
                self.env.oracle.violated("I1", || what);
                return;
            }
            let (topic, partition_epoch) = (topic.name.to_string(), state.partition_epoch);
            let candidate = |broker: &Broker| {
                let (node, broker_epoch) = broker.session()?;
                // R9: damaged replicas are not offered, however long their logs.
                let part = broker.parts.get(&id)?;
                let log = (part.replica.fitness() != Fitness::Suspect).then_some(&part.log)?;
                let last = log.disk.batches().last();
                let last_epoch = last.map_or(LeaderEpoch::NONE, |last| last.header.leader_epoch);
                Some(Candidate { node, broker_epoch, last_epoch, durable_end: log.end() })
            };
            let up = self.brokers.iter().filter(|broker| broker.is_up);
            let candidates: Vec<_> = up.filter_map(candidate).collect();
            self.administer(Admin::Unclean { topic, partition_epoch, candidates });
        }
    }

    /// Replaces nodes that will never come back, because their disks are gone.
    fn repair(&mut self) {
        let image = self.quorum.image.clone();
        let live: Vec<_> = image.live_brokers().map(|node| node.id).collect();
        let mut wishes: BTreeMap<TopicIdPartition, Admin> = BTreeMap::new();
        for topic in image.topics() {
            for (partition, state) in &topic.partitions {
                let is_gone = |id: &NodeId| self.host_with_disk(*id).is_none();
                // A move goes on by itself, unless it waits for one of those.
                let mut waited_for =
                    state.replicas.iter().filter(|id| !state.removing.contains(id));
                if !waited_for.any(is_gone) {
                    continue;
                }
                let stays = |id: &&NodeId| !is_gone(id) && !state.removing.contains(id);
                let mut target: Vec<_> = state.replicas.iter().filter(stays).copied().collect();
                let spare = live.iter().filter(|id| !state.replicas.contains(id));
                let lacking = 3_usize.saturating_sub(target.len());
                target.extend(spare.take(lacking));
                let id = TopicIdPartition { topic_id: topic.id, partition: *partition };
                let request = thalweg_metadata_core::Reassign {
                    topic: topic.name.to_string(),
                    partition: *partition,
                    target: Some(target),
                };
                wishes.insert(id, Admin::Reassign(request));
            }
        }
        for wish in wishes.into_values() {
            self.administer(wish);
        }
    }
}
