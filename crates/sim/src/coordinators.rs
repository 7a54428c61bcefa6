//! Simulated coordinators: processes without disks around [`thalweg_coordinator_runtime::Machine`], which write to one partition that brokers
//! lead and the controllers assign.
//!
//! They are killed, stand still and go on, are cut off, and leave in order. Whoever was replaced does not know it until it hears of it.

mod batches;
mod judge;
mod ledger;

use std::collections::BTreeMap;

use bytes::Bytes;
use thalweg_coordinator_runtime::{
    Action, Condition, Limits, LogEnds, Machine, Now, PortError, Ticket, Token,
};
use thalweg_log_core::Continuation;
use thalweg_metadata_core::{Endpoint, Image, NodeRole, RegisterNode};
use thalweg_types::{
    BrokerEpoch, CoordinatorEpoch, DirId, ErrorCode, IncarnationId, LogIndex, Moment, NodeId,
    Offset, Outcome, Timestamp, TopicIdPartition, Uuid,
};

use crate::env::{Env, Event, ms};
use crate::message::{
    Ask, CLIENTS, CONTROLLERS, Call, CallResult, FIRST_CONTROLLER, Host, Message, Told,
};
use crate::network::{MS, Time};
use crate::quorum::{SESSION_MS, catch_up};
use crate::rng::Rng;

pub(crate) use batches::Batches;
pub(crate) use judge::Judge;
use ledger::Ledger;
pub(crate) use ledger::{Ask as Asking, Version};

pub(crate) const TOPIC: &str = "__consumer_offsets";

const TICK: Time = 50 * MS;

const CALL_TIMEOUT: Time = 1_500 * MS;

/// Heartbeats, in ticks.
const BEAT_TICKS: u64 = 6;

type Hosted = Machine<Ledger, fn() -> Ledger>;

pub(crate) struct Coordinator {
    host: Host,
    life: u64,
    is_up: bool,
    identity: DirId,
    incarnation: IncarnationId,
    session: Option<(NodeId, BrokerEpoch)>,
    wants_to_leave: bool,
    image: Image,
    controller: usize,
    asked: BTreeMap<u64, Asked>,
    lease_until: Moment,
    ticks: u64,
    hosted: BTreeMap<TopicIdPartition, (CoordinatorEpoch, Hosted)>,
    /// Under way to brokers.
    calls: BTreeMap<u64, (TopicIdPartition, Ticket, Kind)>,
    /// When the last append sent to each broker arrives there.
    lines: BTreeMap<Host, Time>,
    rng: Rng,
}

enum Asked {
    Register,
    Heartbeat { sent_at: Moment },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Locate,
    Read,
    Append,
}

/// Answers that leave.
type Answers = Vec<(TopicIdPartition, Token, Version)>;

impl Coordinator {
    pub(crate) fn new(seed: u64, host: Host) -> Self {
        let mut rng = Rng::new(seed, &format!("coordinator {host}"));
        Self {
            host,
            life: 0,
            is_up: false,
            identity: DirId(Uuid::from_random_bits(rng.bits_128())),
            incarnation: IncarnationId(Uuid::ZERO),
            session: None,
            wants_to_leave: false,
            image: Image::default(),
            controller: 0,
            asked: BTreeMap::new(),
            lease_until: Moment(0),
            ticks: 0,
            hosted: BTreeMap::new(),
            calls: BTreeMap::new(),
            lines: BTreeMap::new(),
            rng,
        }
    }

    pub(crate) fn node(&self) -> Option<NodeId> {
        self.session.map(|(node, _)| node)
    }

    /// Whether it serves the partition.
    pub(crate) fn serves(&self, id: TopicIdPartition) -> bool {
        self.hosted.get(&id).is_some_and(|(_, machine)| machine.is_serving())
    }

    // ---- Life ----

    pub(crate) fn start(&mut self, env: &mut Env) {
        if self.is_up {
            return;
        }
        self.is_up = true;
        self.life += 1;
        self.incarnation = IncarnationId(Uuid::from_random_bits(self.rng.bits_128()));
        // With a data directory it is the same node again, without one another.
        if self.rng.chance(500) {
            self.identity = DirId(Uuid::from_random_bits(self.rng.bits_128()));
        }
        self.forget();
        self.image = Image::default();
        self.wants_to_leave = false;
        let (host, life) = (self.host, self.life);
        env.note(|| format!("coordinator {host} starts"));
        env.after(0, Event::CoordinatorTick { host, life });
    }

    /// The process is gone, and with it all it knew.
    pub(crate) fn kill(&mut self, env: &mut Env) {
        if self.is_up {
            let host = self.host;
            env.fault(|| format!("coordinator {host} dies"));
            self.is_up = false;
            self.forget();
        }
    }

    pub(crate) fn leave(&mut self) {
        self.wants_to_leave = self.is_up;
    }

    fn forget(&mut self) {
        self.session = None;
        self.asked.clear();
        self.calls.clear();
        self.lines.clear();
        self.hosted.clear();
        self.lease_until = Moment(0);
    }

    pub(crate) fn handle_tick(&mut self, env: &mut Env, life: u64) -> Answers {
        if !self.is_up || self.life != life {
            return Vec::new();
        }
        let host = self.host;
        env.after(TICK, Event::CoordinatorTick { host, life });
        let watched =
            if self.rng.chance(700) { self.controller } else { self.rng.index(CONTROLLERS) };
        let ask = Ask::Watch { applied: self.image.position().index };
        let id = env.fresh_id();
        env.send(host, FIRST_CONTROLLER + watched, Message::Ask { life, id, ask });
        if self.ticks.is_multiple_of(BEAT_TICKS) {
            self.call_controller(env);
        }
        self.ticks += 1;
        let now = self.now(env);
        for (_, machine) in self.hosted.values_mut() {
            if machine.next_deadline().is_some_and(|at| at <= now.moment) {
                machine.handle_deadline(now);
            }
        }
        self.drain(env)
    }

    // ---- The controller ----

    fn call_controller(&mut self, env: &mut Env) {
        let (asked, ask) = match self.session {
            None => (Asked::Register, Ask::Register(Box::new(self.registration()))),
            Some((node, epoch)) => {
                let (applied, want_shutdown) = (self.image.position().index, self.wants_to_leave);
                let sent_at = self.now(env).moment;
                let ask = Ask::Heartbeat { node, epoch, applied, want_shutdown };
                (Asked::Heartbeat { sent_at }, ask)
            }
        };
        // Only the latest of each is waited for.
        self.asked
            .retain(|_, other| std::mem::discriminant(other) != std::mem::discriminant(&asked));
        let id = env.fresh_id();
        self.asked.insert(id, asked);
        let to = FIRST_CONTROLLER + self.controller;
        env.send(self.host, to, Message::Ask { life: self.life, id, ask });
        if self.rng.chance(200) {
            self.controller = (self.controller + 1) % CONTROLLERS;
        }
    }

    fn registration(&self) -> RegisterNode {
        RegisterNode {
            role: NodeRole::Coordinator,
            dir_id: self.identity,
            incarnation: self.incarnation,
            cluster_id: None,
            node_id: None,
            previous_broker_epoch: None,
            endpoints: vec![Endpoint {
                listener: Endpoint::INTERNAL.to_owned(),
                host: "sim".to_owned(),
                port: u16::try_from(self.host + 1).unwrap_or(u16::MAX),
            }],
            rack: None,
            suspect: std::collections::BTreeSet::new(),
        }
    }

    pub(crate) fn handle_told(&mut self, env: &mut Env, (life, id): (u64, u64), told: Told) {
        if !self.is_up || self.life != life {
            return;
        }
        let Some(asked) = self.asked.remove(&id) else { return };
        match (asked, told) {
            (Asked::Register, Told::Registered { node, epoch }) => {
                self.session = Some((node, epoch));
            }
            (Asked::Heartbeat { sent_at }, Told::Heartbeat { fenced, may_shut_down }) => {
                if may_shut_down && self.wants_to_leave {
                    self.kill(env);
                } else if !fenced {
                    self.lease_until = sent_at.saturating_add_ms(SESSION_MS);
                    for (_, machine) in self.hosted.values_mut() {
                        machine.handle_lease(self.lease_until);
                    }
                }
            }
            (_, Told::Refused(ErrorCode::BrokerIdNotRegistered | ErrorCode::StaleBrokerEpoch)) => {
                self.session = None;
            }
            (_, Told::Refused(_)) => self.controller = (self.controller + 1) % CONTROLLERS,
            _ => {}
        }
    }

    pub(crate) fn handle_entries(
        &mut self,
        env: &mut Env,
        log: &[Vec<thalweg_metadata_core::Record>],
        (from, to): (LogIndex, LogIndex),
    ) -> Answers {
        if !self.is_up || self.image.position().index < from {
            return Vec::new();
        }
        catch_up(&mut self.image, log, to.0);
        self.follow(env)
    }

    pub(crate) fn handle_snapshot(&mut self, env: &mut Env, image: Image) -> Answers {
        if !self.is_up || self.image.position() >= image.position() {
            return Vec::new();
        }
        self.image = image;
        self.follow(env)
    }

    /// Begins what it was given, and ends what is another's.
    fn follow(&mut self, env: &mut Env) -> Answers {
        let Some(node) = self.node() else { return Vec::new() };
        let assigned: BTreeMap<_, _> = self.image.coordinated_by(node).collect();
        let mut answers = Vec::new();
        for (id, (epoch, machine)) in &mut self.hosted {
            if assigned.get(id) != Some(epoch) {
                machine.stop();
            }
        }
        answers.extend(self.drain(env));
        self.hosted.retain(|id, (epoch, _)| assigned.get(id) == Some(epoch));
        let now = self.now(env);
        for (id, epoch) in assigned {
            if self.hosted.contains_key(&id) {
                continue;
            }
            let limits = Limits { appends_max: 4, batch_bytes_max: 300, ..Limits::default() };
            let make: fn() -> Ledger = Ledger::default;
            let machine = Machine::new(make, limits, node, epoch, self.rng.next(), now);
            self.hosted.insert(id, (epoch, machine));
        }
        answers.extend(self.drain(env));
        answers
    }

    // ---- Clients and brokers ----

    pub(crate) fn handle_call(
        &mut self,
        env: &mut Env,
        id: TopicIdPartition,
        (token, ask): (Token, Asking),
    ) -> Answers {
        let now = self.now(env);
        if let Some((_, machine)) = self.hosted.get_mut(&id) {
            machine.handle_call(token, ask, now);
        }
        self.drain(env)
    }

    /// A broker's answer, or `None` after a while.
    pub(crate) fn handle_answer(
        &mut self,
        env: &mut Env,
        call: u64,
        result: Option<CallResult>,
    ) -> Answers {
        let Some((id, ticket, kind)) = self.calls.remove(&call) else { return Vec::new() };
        let now = self.now(env);
        let Some((_, machine)) = self.hosted.get_mut(&id) else { return Vec::new() };
        match (kind, result) {
            (Kind::Locate, Some(CallResult::Standing(ends))) => {
                machine.handle_located(ticket, Ok(ends), now);
            }
            (Kind::Read, Some(CallResult::Fetched { batches, .. })) => {
                let read = batches.iter().filter_map(|batch| env.batches.read(batch));
                machine.handle_read(ticket, Ok(read.collect()), now);
            }
            (Kind::Append, Some(CallResult::Produced(..))) => {
                machine.handle_appended(ticket, Ok(()), now);
            }
            (kind, result) => {
                let error = match result {
                    Some(CallResult::Error { code: ErrorCode::NotCoordinator, .. }) => {
                        PortError::Deposed("a later assignment".to_owned())
                    }
                    Some(CallResult::Error { code, outcome: Outcome::NotApplied }) => {
                        PortError::Refused(code.to_string())
                    }
                    _ => PortError::Unknown("no answer".to_owned()),
                };
                fail(machine, ticket, kind, error, now);
            }
        }
        self.drain(env)
    }

    /// Does what the machines want.
    fn drain(&mut self, env: &mut Env) -> Answers {
        let mut answers = Vec::new();
        let ids: Vec<_> = self.hosted.keys().copied().collect();
        for id in ids {
            let Some((epoch, mut machine)) = self.hosted.remove(&id) else { continue };
            while let Some(action) = machine.poll_action() {
                match action {
                    Action::Locate { ticket } => {
                        self.ask(env, (id, &mut machine), (ticket, Kind::Locate), Call::Locate);
                    }
                    Action::Read { ticket, from } => {
                        let call = Call::Fetch { from };
                        self.ask(env, (id, &mut machine), (ticket, Kind::Read), call);
                    }
                    Action::Append { ticket, condition, batch } => {
                        let call = append(env, &condition, batch);
                        self.ask(env, (id, &mut machine), (ticket, Kind::Append), call);
                    }
                    Action::Answer { token, answer } => {
                        answers.extend(answer.ok().map(|version| (id, token, version)));
                    }
                    Action::Report(report) => {
                        let host = self.host;
                        env.note(|| format!("coordinator {host}: {report:?}"));
                    }
                }
            }
            self.hosted.insert(id, (epoch, machine));
        }
        answers
    }

    fn ask(
        &mut self,
        env: &mut Env,
        (id, machine): (TopicIdPartition, &mut Hosted),
        (ticket, kind): (Ticket, Kind),
        call: Call,
    ) {
        let Some(leader) = self.leader(id) else {
            fail(machine, ticket, kind, PortError::Refused("no leader".to_owned()), self.now(env));
            return;
        };
        let call_id = env.fresh_id();
        self.calls.insert(call_id, (id, ticket, kind));
        let message = Message::Call { id: call_id, partition: id, call };
        // One stream leads to each broker: nothing overtakes on it.
        let line = self.lines.entry(leader).or_default();
        *line = env.send_behind(self.host, leader, *line, message);
        let (host, life) = (self.host, self.life);
        env.after(CALL_TIMEOUT, Event::CoordinatorTimeout { host, life, call: call_id });
    }

    fn leader(&self, id: TopicIdPartition) -> Option<Host> {
        let leader = self.image.partition_by_id(id)?.leader?;
        let endpoint = self.image.node(leader)?.endpoints.first()?;
        Some(usize::from(endpoint.port).saturating_sub(1))
    }

    pub(crate) fn is_living(&self, life: u64) -> bool {
        self.is_up && self.life == life
    }

    fn now(&self, env: &Env) -> Now {
        let wall = Timestamp(i64::try_from(ms(env.now)).unwrap_or(i64::MAX));
        Now { moment: Moment(ms(env.now)), wall }
    }
}

fn append(env: &mut Env, condition: &Condition, batch: Bytes) -> Call {
    let continuation = Continuation {
        leader_epoch: condition.leader_epoch,
        expected_end: condition.expected_end,
        chain: (condition.chain != 0).then_some(condition.chain),
        opens_chain: condition.opens_chain,
    };
    let batch = if batch.is_empty() { None } else { env.batches.keep(batch) };
    Call::Append { continuation, epoch: condition.coordinator_epoch, batch }
}

fn fail(machine: &mut Hosted, ticket: Ticket, kind: Kind, error: PortError, now: Now) {
    match kind {
        Kind::Locate => machine.handle_located(ticket, Err(error), now),
        Kind::Read => machine.handle_read(ticket, Err(error), now),
        Kind::Append => machine.handle_appended(ticket, Err(error), now),
    }
}

/// Where a log stands, as the runtime reads it.
pub(crate) fn standing(
    epoch: thalweg_types::LeaderEpoch,
    epoch_start_offset: Offset,
    offsets: thalweg_log_core::LogOffsets,
) -> LogEnds {
    LogEnds {
        leader_epoch: epoch,
        epoch_start_offset,
        log_start_offset: offsets.log_start(),
        high_watermark: offsets.high_watermark(),
        log_end_offset: offsets.log_end(),
    }
}

/// To a coordinator, from the clients' host.
pub(crate) fn send_call(
    env: &mut Env,
    to: Host,
    partition: TopicIdPartition,
    token: Token,
    ask: Asking,
) {
    env.send(CLIENTS, to, Message::Coordinate { partition, token, ask });
}
