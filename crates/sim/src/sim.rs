//! One run: the cluster, its clients and its faults, moved on event by event, and looked at after each.

mod audit;
mod coordinated;

use thalweg_metadata_core::LeaderRecovery;
use thalweg_replication_core::Role;
use thalweg_types::{Durability, NodeId, Offset, TopicIdPartition};

use crate::broker::Broker;
use crate::clients::Clients;
use crate::coordinators::{Coordinator, Judge};
use crate::disk::DiskLog;
use crate::env::{Env, Event};
use crate::message::{
    Admin, Ask, BROKERS_MAX, CLIENTS, CONTROLLERS, FIRST_CONTROLLER, FIRST_COORDINATOR, HOSTS,
    Host, Message,
};
use crate::nemesis::Nemesis;
use crate::network::{SECOND, Time};
use crate::plan::Plan;
use crate::quorum::Quorum;
use crate::rng::Rng;
use crate::script::Actors;

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
    pub(crate) steps_played: usize,
    pub(crate) copy: Option<(TopicIdPartition, DiskLog)>,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) judge: Judge,
    coordinated_rng: Rng,
}

impl Sim {
    pub(crate) fn new(seed: u64, plan: Plan, is_tracing: bool) -> Self {
        let mut env = Env::new(seed, is_tracing);
        let brokers: Vec<_> = (0..plan.brokers).map(|host| Broker::new(seed, host)).collect();
        let clients = Clients::new(seed, &plan.topic_names(), plan.producers, plan.hasty);
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
            steps_played: 0,
            copy: None,
            coordinators: Vec::new(),
            judge: Judge::default(),
            coordinated_rng: Rng::new(seed, "coordinated"),
        };
        sim.start_coordinators(seed);
        for broker in &mut sim.brokers {
            broker.faults.rate = sim.nemesis.clock_rate();
            broker.faults.keeps_old_positions = sim.plan.later.old_positions;
            broker.faults.late_cuts = sim.plan.later.late_cuts;
            broker.faults.coalesces = sim.plan.later.coalesces;
            broker.holds.are_used = sim.plan.later.session_holds;
        }
        if let Some(first) = sim.plan.script.as_ref().and_then(|script| script.steps.first()) {
            sim.env.at(first.at, Event::Script(0));
        }
        sim
    }

    /// To the end, or to the first violation.
    pub(crate) fn run(&mut self) {
        let until = self.plan.faults_until + audit::RECOVERY + 20 * SECOND;
        while !self.is_over && self.violation().is_none() {
            let Some(event) = self.env.next(until) else { break };
            self.handle(event);
            self.check();
        }
    }

    pub(crate) fn violation(&self) -> Option<&String> {
        // Clients of a leader that lies are lied to; what must hold is that nobody follows it.
        let of_clients = (!self.env.oracle.has_liar).then_some(&self.env.checker.violations);
        let of_clients = of_clients.and_then(|violations| violations.first());
        self.env.oracle.violations.first().or(of_clients)
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
            Event::HoldEnds { at, broker, hold } => match at.checked_sub(FIRST_CONTROLLER) {
                Some(controller) => self.quorum.handle_hold_ended(&mut self.env, controller, hold),
                None => {
                    if let Some((broker, env)) = self.running(broker) {
                        broker.handle_hold_ended(env, hold);
                    }
                }
            },
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
            Event::CoordinatorTick { .. }
            | Event::CoordinatorTimeout { .. }
            | Event::StartCoordinator { .. }
            | Event::Coordinated
            | Event::CoordinatorFault => self.handle_coordinated(event),
            event => self.handle_own(event),
        }
    }

    /// What a broker's process has set itself.
    fn handle_own(&mut self, event: Event) {
        let (host, life) = match &event {
            Event::FlushDone { broker, life }
            | Event::Wake { broker, life, .. }
            | Event::Cut { broker, life, .. }
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
            Event::Cut { partition, .. } => broker.handle_cut_due(env, partition),
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
        if to >= FIRST_COORDINATOR {
            self.deliver_to_coordinator(to, message);
            return;
        }
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
                    broker.handle_call(env, (from, id), partition, call);
                }
            }
            Message::Answered { id, result } => {
                let image = &self.quorum.image;
                self.clients.handle_answer(&mut self.env, id, Some(result), |partition| {
                    image.partition_by_id(partition).map(|state| state.leader_epoch)
                });
            }
            Message::Ask { .. } | Message::Coordinate { .. } => {}
        }
    }

    fn host_of(&self, event: &Event) -> Option<Host> {
        match event {
            Event::Deliver { to, .. } | Event::Stream { to, .. } => Some(*to),
            Event::StreamBroken { at, .. } | Event::HoldEnds { at, .. } => Some(*at),
            Event::FlushDone { broker, .. }
            | Event::Wake { broker, .. }
            | Event::Cut { broker, .. }
            | Event::AlterTimeout { broker, .. }
            | Event::BrokerTick { broker, .. } => Some(*broker),
            Event::CoordinatorTick { host, .. } | Event::CoordinatorTimeout { host, .. } => {
                Some(*host)
            }
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
        // After an unclean election the truth is what its leader has, once it has begun.
        if state.recovery == LeaderRecovery::Recovering {
            return;
        }
        let end = self.env.oracle.true_end(id);
        let members: Vec<_> = state.isr.iter().chain(&state.elr).copied().collect();
        for member in members {
            let Some(at) = self.host_with_disk(member) else { continue };
            let broker = &self.brokers[at];
            let registered = self.quorum.image.node(member).map(|node| node.broker_epoch);
            let is_running = broker.is_up && broker.session().map(|(_, epoch)| epoch) == registered;
            let Some(part) = broker.parts.get(&id).filter(|_| is_running) else { continue };
            let have = part.log.end();
            let is_complete = have >= end && self.env.oracle.agrees_at_end(id, &part.log.disk);
            if !is_complete && !self.nemesis.is_damaged(at) && !self.env.oracle.has_liar {
                self.env.oracle.violated("I4", || {
                    format!("{id}: broker {at} may be elected with {have} of {end}")
                });
            }
        }
    }

    /// I16: what anybody knows of the metadata is what the committed log amounts to up to some entry.
    pub(crate) fn check_metadata(&mut self) {
        let of_brokers = self.brokers.iter().filter(|broker| broker.is_up).map(Broker::image);
        let images = of_brokers.chain(self.quorum.images());
        let foreign = images.filter(|image| !self.quorum.has_been(image));
        let foreign: Vec<_> = foreign.map(|image| image.position().index).collect();
        for index in foreign {
            self.env.oracle.violated("I16", || format!("an image of {index} that never was"));
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
}

const _: () = assert!(BROKERS_MAX + CONTROLLERS < HOSTS);
