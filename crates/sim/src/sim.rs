//! One run: the cluster, its clients and its faults, moved on event by event, and looked at after each.

use std::collections::BTreeMap;

use thalweg_metadata_core::Candidate;
use thalweg_replication_core::{Fitness, Role};
use thalweg_types::{Durability, LeaderEpoch, NodeId, Offset, TopicIdPartition};

use crate::broker::Broker;
use crate::clients::Clients;
use crate::disk::{Batch, DiskLog};
use crate::env::{Env, Event};
use crate::message::{
    Admin, Ask, BROKERS_MAX, CLIENTS, CONTROLLERS, FIRST_CONTROLLER, HOSTS, Host, Message,
};
use crate::nemesis::Nemesis;
use crate::network::{MS, SECOND, Time};
use crate::plan::Plan;
use crate::quorum::Quorum;
use crate::script::Actors;

/// How long a healed cluster may take until all is well again.
const RECOVERY: Time = 60 * SECOND;

pub(crate) struct Sim {
    pub(crate) env: Env,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) quorum: Quorum,
    pub(crate) clients: Clients,
    pub(crate) nemesis: Nemesis,
    pub(crate) plan: Plan,
    pub(crate) is_healed: bool,
    healed_at: Time,
    /// The audit found everything as it should be.
    pub(crate) is_over: bool,
    /// By partition: how much of the checker's view unclean elections gave up.
    given_up: u64,
    /// Of the script.
    pub(crate) cast: Option<Actors>,
    pub(crate) copy: Option<(TopicIdPartition, DiskLog)>,
}

impl Sim {
    pub(crate) fn new(seed: u64, plan: Plan, is_tracing: bool) -> Self {
        let mut env = Env::new(seed, is_tracing);
        let brokers: Vec<_> = (0..plan.brokers).map(|host| Broker::new(seed, host)).collect();
        let clients = Clients::new(seed, &plan.topic_names(), plan.producers);
        let nemesis = Nemesis::new(seed);
        for broker in 0..brokers.len() {
            env.at(0, Event::StartBroker { broker });
        }
        env.at(0, Event::QuorumTick);
        for client in 0..clients.count() {
            env.at(4 * SECOND, Event::ClientTick { client });
        }
        env.at(SECOND, Event::Nemesis);
        env.at(plan.faults_until, Event::Heal);
        let quorum = Quorum::new(seed);
        let mut sim = Self {
            env,
            brokers,
            quorum,
            clients,
            nemesis,
            plan,
            is_healed: false,
            healed_at: 0,
            is_over: false,
            given_up: 0,
            cast: None,
            copy: None,
        };
        for broker in &mut sim.brokers {
            broker.faults.rate = sim.nemesis.clock_rate();
        }
        if let Some(script) = &sim.plan.script {
            for (step, (at, _)) in script.steps.iter().enumerate() {
                sim.env.at(*at, Event::Script(step));
            }
        }
        sim
    }

    /// To the end, or to the first violation.
    pub(crate) fn run(&mut self) {
        let until = self.plan.faults_until + RECOVERY + 20 * SECOND;
        while !self.is_over && self.violation().is_none() {
            let Some(event) = self.env.next(until) else { break };
            self.handle(event);
            self.check();
        }
    }

    pub(crate) fn violation(&self) -> Option<&String> {
        self.env.oracle.violations.first().or_else(|| self.env.checker.violations.first())
    }

    // ---- Events ----

    fn handle(&mut self, event: Event) {
        if let Some(host) = self.host_of(&event) {
            let resumes = self.env.paused[host];
            if resumes > self.env.now {
                self.env.at(resumes, event);
                return;
            }
        }
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Stream { from, to, connection, message } => {
                if let Some(broker) = self.running(to) {
                    broker.0.handle_stream(broker.1, from, connection, message);
                }
            }
            Event::StreamBroken { at, connection } => {
                if let Some((broker, env)) = self.running(at) {
                    broker.handle_stream_broken(env, connection);
                }
            }
            Event::StartBroker { broker } => self.brokers[broker].start(&mut self.env),
            Event::QuorumTick => self.quorum.handle_tick(&mut self.env),
            Event::CommitDone { controller, proposal } => {
                self.quorum.handle_commit_done(&mut self.env, controller, proposal);
            }
            Event::Learn { controller, upto } => self.quorum.handle_learn(controller, upto),
            Event::ClientTick { client } => {
                self.clients.handle_tick(&mut self.env, &self.brokers, client);
            }
            Event::CallTimeout { id } => {
                self.clients.handle_answer(&mut self.env, id, None, |_| None);
            }
            Event::Nemesis => self.disturb(),
            Event::Heal => self.heal(),
            Event::Audit => self.audit(),
            Event::Script(step) => self.script_step(step),
            event => self.handle_own(event),
        }
    }

    /// What a broker's process has set itself.
    fn handle_own(&mut self, event: Event) {
        let (host, life) = match &event {
            Event::FlushDone { broker, life }
            | Event::Wake { broker, life, .. }
            | Event::AlterTimeout { broker, life, .. }
            | Event::BrokerTick { broker, life } => (*broker, *life),
            _ => return,
        };
        let Some((broker, env)) = self.running(host) else { return };
        if broker.life != life {
            return;
        }
        match event {
            Event::FlushDone { .. } => broker.handle_flush_done(env),
            Event::Wake { partition, deadline, .. } => {
                broker.handle_wake(env, partition, deadline);
            }
            Event::AlterTimeout { partition, epoch, attempt, .. } => {
                broker.handle_alter_timeout(env, partition, (epoch, attempt));
            }
            _ => broker.handle_tick(env),
        }
    }

    fn deliver(&mut self, from: Host, to: Host, message: Message) {
        match message {
            Message::Ask { life, id, ask } if (FIRST_CONTROLLER..CLIENTS).contains(&to) => {
                let at = to - FIRST_CONTROLLER;
                self.quorum.handle_ask(&mut self.env, at, (from, life, id), ask);
            }
            Message::Told { life, id, told } => {
                if let Some((broker, env)) = self.running(to)
                    && broker.life == life
                {
                    broker.handle_told(env, id, told);
                }
            }
            Message::Entries { from, to: upto } => {
                let log = &self.quorum.log;
                let broker = self.brokers.get_mut(to).filter(|broker| broker.is_up);
                if let Some(broker) = broker {
                    broker.handle_entries(&mut self.env, log, from, upto);
                }
            }
            Message::Snapshot(image) => {
                if let Some((broker, env)) = self.running(to) {
                    broker.handle_snapshot(env, *image);
                }
            }
            Message::Call { id, partition, call } => {
                if let Some((broker, env)) = self.running(to) {
                    broker.handle_call(env, id, partition, call);
                }
            }
            Message::Answered { id, result } => {
                let image = &self.quorum.image;
                self.clients.handle_answer(&mut self.env, id, Some(result), |partition| {
                    image.partition_by_id(partition).map(|state| state.leader_epoch)
                });
            }
            Message::Ask { .. } => {}
        }
    }

    fn host_of(&self, event: &Event) -> Option<Host> {
        match event {
            Event::Deliver { to, .. } | Event::Stream { to, .. } => Some(*to),
            Event::StreamBroken { at, .. } => Some(*at),
            Event::FlushDone { broker, .. }
            | Event::Wake { broker, .. }
            | Event::AlterTimeout { broker, .. }
            | Event::BrokerTick { broker, .. } => Some(*broker),
            Event::CommitDone { controller, .. } | Event::Learn { controller, .. } => {
                Some(FIRST_CONTROLLER + controller)
            }
            _ => None,
        }
    }

    fn running(&mut self, host: Host) -> Option<(&mut Broker, &mut Env)> {
        let broker = self.brokers.get_mut(host).filter(|broker| broker.is_up)?;
        Some((broker, &mut self.env))
    }

    /// An operator's wish, to whoever is active.
    pub(crate) fn administer(&mut self, admin: Admin) {
        let Some(active) = self.quorum.newest_active() else { return };
        self.env.note(|| format!("operator: {admin:?}"));
        let message = Message::Ask { life: 0, id: 0, ask: Ask::Admin(admin) };
        self.env.send(CLIENTS, FIRST_CONTROLLER + active, message);
    }

    // ---- Checks after every event ----

    fn check(&mut self) {
        for (host, id, to) in std::mem::take(&mut self.env.oracle.commits) {
            self.check_commit(host, id, to);
            self.check_candidates(id);
        }
        for id in std::mem::take(&mut self.env.oracle.changed) {
            self.check_candidates(id);
        }
        if self.given_up != self.env.oracle.given_up {
            self.given_up = self.env.oracle.given_up;
            for id in self.partitions() {
                let end = self.env.oracle.true_end(id);
                self.env.checker.given_up(id, end);
                self.clients.go_back(id, end);
            }
        }
    }

    /// I5, I13: whom the leader waited for, and whether it is on their disks.
    fn check_commit(&mut self, host: Host, id: TopicIdPartition, to: Offset) {
        let Some(part) = self.brokers[host].parts.get(&id) else { return };
        let Role::Leader(leader) = part.replica.role() else { return };
        let Some(state) = self.quorum.image.partition_by_id(id) else { return };
        let maximal: Vec<NodeId> = leader.maximal_isr().collect();
        let known = leader.partition();
        if leader.epoch() == state.leader_epoch {
            let missing = state.isr.iter().find(|member| !maximal.contains(member));
            if let Some(missing) = missing {
                self.env.oracle.violated("I5", || {
                    format!("{id}: broker {host} commits {to} without {missing}: {maximal:?}")
                });
            }
        }
        if known.durability != Durability::Fsync || !known.unproven.is_empty() {
            return;
        }
        // One that was replaced hears late of what its members had; what it makes of it is held against the truth (I1, I3).
        if leader.epoch() != state.leader_epoch {
            return;
        }
        // Who was taken out of the assignment since has deleted what it had.
        let assigned = maximal.iter().filter(|member| state.replicas.contains(member));
        for member in assigned {
            let Some(at) = self.host_with_disk(*member) else { continue };
            let durable = self.disk_log(at, id).map_or(Offset::ZERO, DiskLog::durable_end);
            if durable < to && !self.nemesis.is_damaged(at) {
                self.env.oracle.violated("I13", || {
                    format!("{id}: {to} is committed, broker {at} has {durable} on its disk")
                });
            }
        }
    }

    /// I4: whoever may be elected has everything.
    fn check_candidates(&mut self, id: TopicIdPartition) {
        let Some(state) = self.quorum.image.partition_by_id(id) else { return };
        let end = self.env.oracle.true_end(id);
        let members: Vec<_> = state.isr.iter().chain(&state.elr).copied().collect();
        for member in members {
            let Some(at) = self.host_with_disk(member) else { continue };
            let broker = &self.brokers[at];
            let registered = self.quorum.image.node(member).map(|node| node.broker_epoch);
            let is_running = broker.is_up && broker.session().map(|(_, epoch)| epoch) == registered;
            let Some(part) = broker.parts.get(&id).filter(|_| is_running) else { continue };
            let have = part.log.end();
            if have < end && !self.nemesis.is_damaged(at) && !self.env.oracle.has_liar {
                self.env.oracle.violated("I4", || {
                    format!("{id}: broker {at} may be elected with {have} of {end}")
                });
            }
        }
    }

    // ---- Looking at the cluster ----

    pub(crate) fn partitions(&self) -> Vec<TopicIdPartition> {
        let topics = self.quorum.image.topics();
        let ids = topics.flat_map(|topic| {
            let topic_id = topic.id;
            topic.partitions.keys().map(move |partition| (topic_id, *partition))
        });
        ids.map(|(topic_id, partition)| TopicIdPartition { topic_id, partition }).collect()
    }

    pub(crate) fn host_with_disk(&self, node: NodeId) -> Option<Host> {
        self.brokers.iter().position(|broker| broker.disk_node() == Some(node))
    }

    pub(crate) fn disk_log(&self, host: Host, id: TopicIdPartition) -> Option<&DiskLog> {
        let broker = &self.brokers[host];
        let running = broker.parts.get(&id).map(|part| &part.log.disk);
        running.or_else(|| broker.files(id))
    }

    // ---- The end ----

    fn heal(&mut self) {
        self.is_healed = true;
        self.healed_at = self.env.now;
        self.env.note(|| "everything is healed".to_owned());
        self.env.network.heal();
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
        self.env.after(3 * SECOND, Event::Audit);
    }

    /// V1 to V9: everything works again. Until it does, asks again; for ever is too long.
    fn audit(&mut self) {
        let since = self.env.now - self.healed_at;
        self.repair();
        self.create_topics();
        if since > 12 * SECOND {
            self.elect_uncleanly();
        }
        self.clients.is_stopping = since > 5 * SECOND;
        match self.unwell() {
            None if self.clients.is_stopping && self.clients.is_idle() => {
                self.drain();
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
                if Some(host) == leader {
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

    /// R14: by command only, and only where records were never flushed: nobody is left who may be elected.
    fn elect_uncleanly(&mut self) {
        for id in self.partitions() {
            let image = &self.quorum.image;
            let Some(state) = image.partition_by_id(id) else { continue };
            let Some(topic) = image.topic_by_id(id.topic_id) else { continue };
            let is_flushed = state.durability == Durability::Fsync && state.unproven.is_empty();
            if state.leader.is_some() || is_flushed {
                continue;
            }
            let topic = topic.name.to_string();
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
            self.administer(Admin::Unclean { topic, candidates });
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
                let is_stuck = !state.is_reassigning() || state.adding.iter().any(is_gone);
                if !state.replicas.iter().any(is_gone) || !is_stuck {
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

const _: () = assert!(BROKERS_MAX + CONTROLLERS < HOSTS);
