//! The controllers: one committed log, terms, and an active controller that can be stale, crash, and lose its answers.
//!
//! How a log is agreed on is tested elsewhere; here only what the rest of the system can see of it. There is one log of committed
//! entries. At most one controller has the newest term and a majority, and only it adds to the log. Others may believe that they are
//! active: what they propose never takes effect, and they never answer from what they know without asking a majority. What was under
//! way when an active controller went may or may not turn out committed under the next one.

mod decide;
mod holds;

use std::collections::VecDeque;

use thalweg_metadata_core::{Image, Policy, Position, Record, SessionTiming, Sessions};
use thalweg_types::{ClusterId, ControllerEpoch, ErrorCode, LogIndex, Moment, NodeId, Uuid};

use crate::env::{Env, Event, ms};
use crate::message::{Ask, BROKERS_MAX, CONTROLLERS, FIRST_CONTROLLER, Host, Message, Told};
use crate::network::{MS, Time};
use crate::rng::Rng;
use holds::Contacts;

/// How long a broker may be silent.
pub(crate) const SESSION_MS: u64 = 2_000;

/// How long after the end of the stream by which it holds its session.
pub(crate) const RETURN_MS: u64 = 500;

const TIMING: SessionTiming = SessionTiming { timeout_ms: SESSION_MS, return_ms: RETURN_MS };

const TICK: Time = 100 * MS;

pub(crate) struct Quorum {
    /// Committed entries; the first one has index 1.
    pub(crate) log: Vec<Vec<Record>>,
    /// What all of it amounts to.
    pub(crate) image: Image,
    /// What it amounted to after every entry.
    history: Vec<Image>,
    controllers: [Controller; CONTROLLERS],
    term: u64,
    policy: Policy,
    cluster_id: ClusterId,
    /// Was under way when its proposer died, and may have reached a majority.
    orphan: Option<Vec<Record>>,
    leaderless_since: Option<Time>,
    elect_after: Time,
    next_proposal: u64,
    rng: Rng,
}

struct Controller {
    is_up: bool,
    image: Image,
    term: u64,
    active: Option<Active>,
}

struct Active {
    sessions: Sessions,
    /// What of that is known to the simulation.
    contacts: Contacts,
    waiting: VecDeque<Work>,
    flight: Option<Flight>,
}

enum Work {
    Asked { from: Host, life: u64, id: u64, ask: Ask },
    Fence(NodeId),
    Activate,
}

/// A proposal under way.
struct Flight {
    proposal: u64,
    records: Vec<Record>,
    answer: Option<(Host, u64, u64, Told)>,
    /// A majority may have it.
    has_reached: bool,
}

impl Quorum {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "quorum");
        let controller =
            || Controller { is_up: true, image: Image::default(), term: 0, active: None };
        Self {
            log: Vec::new(),
            image: Image::default(),
            history: Vec::new(),
            controllers: [controller(), controller(), controller()],
            term: 0,
            policy: Policy::default(),
            cluster_id: ClusterId(Uuid::from_random_bits(rng.bits_128())),
            orphan: None,
            leaderless_since: None,
            elect_after: 0,
            next_proposal: 0,
            rng,
        }
    }

    pub(crate) fn index(&self) -> u64 {
        self.log.len() as u64
    }

    /// What each controller has applied.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Image> {
        self.controllers.iter().map(|controller| &controller.image)
    }

    /// Whether this is what the log amounted to at the image's position.
    pub(crate) fn has_been(&self, image: &Image) -> bool {
        let Some(at) = image.position().index.0.checked_sub(1) else {
            return image.cluster_id().is_none();
        };
        let then = usize::try_from(at).ok().and_then(|at| self.history.get(at));
        then.is_some_and(|then| then.to_records() == image.to_records())
    }

    /// A controller that is not active, but knows the cluster and not yet its topics.
    pub(crate) fn bystander(&self) -> Option<usize> {
        let knows =
            |c: &Controller| c.image.cluster_id().is_some() && c.image.topics().count() == 0;
        let active = self.newest_active()?;
        (0..CONTROLLERS).find(|at| *at != active && knows(&self.controllers[*at]))
    }

    // ---- Events ----

    pub(crate) fn handle_ask(
        &mut self,
        env: &mut Env,
        at: usize,
        (from, life, id): (Host, u64, u64),
        ask: Ask,
    ) {
        let controller = &mut self.controllers[at];
        if !controller.is_up {
            return;
        }
        if let Ask::Watch { applied } = ask {
            self.serve_watch(env, at, from, applied);
            return;
        }
        let Some(active) = &mut controller.active else {
            answer(env, at, (from, life, id), Told::Refused(ErrorCode::NotController));
            return;
        };
        active.waiting.push_back(Work::Asked { from, life, id, ask });
        self.pump(env, at);
    }

    /// A broker that knows nothing gets a snapshot, as old as this controller is behind; others get what follows.
    fn serve_watch(&mut self, env: &mut Env, at: usize, from: Host, applied: LogIndex) {
        let image = &self.controllers[at].image;
        let known = image.position().index;
        let message = if applied == LogIndex::ZERO && image.cluster_id().is_some() {
            let records = image.to_records();
            Message::Snapshot(Box::new(Image::restore(image.position(), &records)))
        } else if known > applied {
            Message::Entries { from: applied, to: known }
        } else {
            return;
        };
        env.send(FIRST_CONTROLLER + at, from, message);
    }

    pub(crate) fn handle_tick(&mut self, env: &mut Env) {
        env.after(TICK, Event::QuorumTick);
        match self.acting(env) {
            Some(at) => {
                self.leaderless_since = None;
                self.teach(env, at);
                self.fence_expired(env, at);
            }
            None => self.elect_when_due(env),
        }
    }

    /// A proposal's round trip has ended.
    pub(crate) fn handle_commit_done(&mut self, env: &mut Env, at: usize, proposal: u64) {
        let is_acting = self.acting(env) == Some(at);
        let controller = &mut self.controllers[at];
        let Some(active) = controller.active.as_mut() else { return };
        let Some(flight) = active.flight.take_if(|flight| flight.proposal == proposal) else {
            return;
        };
        if !is_acting {
            active.flight = Some(flight);
            env.after(200 * MS, Event::CommitDone { controller: at, proposal });
            return;
        }
        self.commit(env, flight.records);
        self.controllers[at].image = self.image.clone();
        if let Some((from, life, id, told)) = flight.answer {
            let told = match told {
                Told::Registered { node, .. } => {
                    let epoch = self.image.node(node).map(|node| node.broker_epoch);
                    epoch.map_or(Told::Done, |epoch| Told::Registered { node, epoch })
                }
                told => told,
            };
            answer(env, at, (from, life, id), told);
        }
        let (from, to) = (LogIndex(self.index() - 1), LogIndex(self.index()));
        for broker in 0..BROKERS_MAX {
            env.send(FIRST_CONTROLLER + at, broker, Message::Entries { from, to });
        }
        for controller in (0..CONTROLLERS).filter(|other| *other != at) {
            if let Some(delay) =
                env.network.route(FIRST_CONTROLLER + at, FIRST_CONTROLLER + controller)
            {
                env.after(delay, Event::Learn { controller, upto: to.0 });
            }
        }
        self.pump(env, at);
    }

    pub(crate) fn handle_learn(&mut self, at: usize, upto: u64) {
        let controller = &mut self.controllers[at];
        if controller.is_up {
            catch_up(&mut controller.image, &self.log, upto);
        }
    }

    // ---- Faults ----

    pub(crate) fn crash(&mut self, env: &mut Env, at: usize) {
        env.fault(|| format!("controller {at} dies"));
        let is_newest = self.controllers[at].term == self.term;
        let controller = &mut self.controllers[at];
        controller.is_up = false;
        let flight = controller.active.take().and_then(|active| active.flight);
        if let Some(flight) = flight.filter(|flight| flight.has_reached && is_newest) {
            self.orphan = Some(flight.records);
        }
    }

    pub(crate) fn restart(&mut self, env: &mut Env, at: usize) {
        if !self.controllers[at].is_up {
            env.note(|| format!("controller {at} starts"));
            self.controllers[at].is_up = true;
        }
    }

    pub(crate) fn is_up(&self, at: usize) -> bool {
        self.controllers[at].is_up
    }

    /// Who believes to be active with the newest term.
    pub(crate) fn newest_active(&self) -> Option<usize> {
        self.controllers.iter().position(|c| c.active.is_some() && c.term == self.term)
    }

    // ---- The log ----

    /// Who can commit now.
    fn acting(&self, env: &Env) -> Option<usize> {
        self.newest_active().filter(|at| self.has_majority(env, *at))
    }

    fn has_majority(&self, env: &Env, at: usize) -> bool {
        let host = FIRST_CONTROLLER + at;
        let works =
            |at: usize| self.controllers[at].is_up && env.paused[FIRST_CONTROLLER + at] <= env.now;
        let reached = (0..CONTROLLERS).filter(|other| {
            let peer = FIRST_CONTROLLER + other;
            works(*other) && !env.network.is_cut(host, peer) && !env.network.is_cut(peer, host)
        });
        works(at) && reached.count() > CONTROLLERS / 2
    }

    fn commit(&mut self, env: &mut Env, records: Vec<Record>) {
        let index = LogIndex(self.index() + 1);
        let position = Position { index, controller_epoch: epoch_of(self.term) };
        for record in &records {
            env.note(|| format!("commit {index} {record:?}"));
            env.oracle.metadata_changes(&self.image, record);
            self.image.apply(position, record);
        }
        self.image.advance(position);
        env.mark(&[index.0, records.len() as u64]);
        for record in &records {
            env.oracle.check_registered(&self.image, record);
        }
        self.history.push(self.image.clone());
        self.log.push(records);
    }

    /// Followers the active controller reaches learn what is committed, and stale ones that they are.
    fn teach(&mut self, env: &Env, at: usize) {
        let upto = self.index();
        let term = self.term;
        for other in (0..CONTROLLERS).filter(|other| *other != at) {
            let (from, to) = (FIRST_CONTROLLER + at, FIRST_CONTROLLER + other);
            let controller = &mut self.controllers[other];
            if !controller.is_up || env.network.is_cut(from, to) || env.paused[to] > env.now {
                continue;
            }
            controller.term = term;
            controller.active = None;
            catch_up(&mut controller.image, &self.log, upto);
        }
    }

    fn fence_expired(&mut self, env: &mut Env, at: usize) {
        let controller = &mut self.controllers[at];
        let Some(active) = &mut controller.active else { return };
        let expired = active.sessions.take_expired(&controller.image, Moment(ms(env.now)));
        expired.iter().for_each(|node| active.contacts.check_silent(env, *node));
        active.waiting.extend(expired.into_iter().map(Work::Fence));
        self.pump(env, at);
    }

    fn elect_when_due(&mut self, env: &mut Env) {
        let since = *self.leaderless_since.get_or_insert_with(|| {
            self.elect_after = self.rng.between(200 * MS, 1_500 * MS);
            env.now
        });
        if env.now < since + self.elect_after {
            return;
        }
        let able: Vec<_> = (0..CONTROLLERS).filter(|at| self.has_majority(env, *at)).collect();
        let Some(at) = self.rng.pick(&able) else { return };
        self.leaderless_since = None;
        let flights = self.controllers.iter_mut().filter(|c| c.term == self.term);
        let flights = flights.filter_map(|c| c.active.as_mut()?.flight.as_mut());
        let reached = flights
            .filter_map(|flight| {
                std::mem::take(&mut flight.has_reached).then(|| flight.records.clone())
            })
            .next();
        let left = self.orphan.take().or(reached);
        if let Some(records) = left
            && self.rng.chance(500)
        {
            self.commit(env, records);
        }
        self.term += 1;
        self.commit(env, Vec::new());
        env.note(|| format!("controller {at} is active in term {}", self.term));
        let controller = &mut self.controllers[at];
        controller.term = self.term;
        controller.image = self.image.clone();
        let sessions = Sessions::take_over(&self.image, TIMING, Moment(ms(env.now)));
        let waiting = VecDeque::from([Work::Activate]);
        let contacts = Contacts::since(ms(env.now));
        controller.active = Some(Active { sessions, contacts, waiting, flight: None });
        self.pump(env, at);
    }
}

fn answer(env: &mut Env, at: usize, (to, life, id): (Host, u64, u64), told: Told) {
    env.send(FIRST_CONTROLLER + at, to, Message::Told { life, id, told });
}

fn epoch_of(term: u64) -> ControllerEpoch {
    ControllerEpoch(i32::try_from(term).unwrap_or(i32::MAX).into())
}

/// Applies the committed entries that follow the image's position, up to `upto`.
pub(crate) fn catch_up(image: &mut Image, log: &[Vec<Record>], upto: u64) {
    let applied = image.position().index.0;
    for index in applied + 1..=upto.min(log.len() as u64) {
        let position = Position { index: LogIndex(index), ..image.position() };
        for record in &log[usize::try_from(index - 1).unwrap_or(usize::MAX)] {
            image.apply(position, record);
        }
        image.advance(position);
    }
}
