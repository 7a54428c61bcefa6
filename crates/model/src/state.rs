//! The whole of it at one moment: three brokers, their controller, what is under way, and what was ever committed.

mod settle;

use thalweg_replication_core::{AlterOutcome, Replica, Timing};
use thalweg_types::{Acks, Moment, NodeId};

use crate::broker::Broker;
use crate::controller::Controller;
use crate::network::{Ask, Body, Message, Network};
use crate::oracle::{Broken, Oracle};
use crate::scope::{Begin, Scope};
use crate::shared::Shared;

const BROKERS: usize = 3;

#[derive(Debug, Clone, PartialEq, Hash)]
pub struct State {
    pub(crate) brokers: [Shared<Broker>; BROKERS],
    pub(crate) controller: Shared<Controller>,
    pub(crate) network: Shared<Network>,
    pub(crate) oracle: Shared<Oracle>,
    pub(crate) now: u64,
    pub(crate) spent: Spent,
    /// The first invariant that did not hold; nothing happens after that.
    pub(crate) broken: Option<Broken>,
}

/// How often things have happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Hash)]
pub(crate) struct Spent {
    pub(crate) records: u8,
    pub(crate) fences: u8,
    pub(crate) crashes: u8,
    pub(crate) lies: u8,
    pub(crate) breaks: u8,
    pub(crate) late: u8,
    pub(crate) give_ups: u8,
    pub(crate) ticks: u8,
    pub(crate) preferred: u8,
    pub(crate) minimum_changes: u8,
}

/// What becomes of a log when its process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The machine goes on: what was written is there.
    Nothing,
    /// The power goes.
    Unflushed,
    /// The disk lied.
    Flushed,
}

pub(crate) fn position(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).unwrap_or(0)
}

impl State {
    /// Three brokers with an empty partition, connected and at rest.
    pub(crate) fn new(scope: &Scope) -> Self {
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        let mut controller = Controller::new();
        let brokers = nodes.map(|node| {
            let mut broker = Broker::new(node);
            let broker_epoch = controller.register(node);
            controller.heartbeat(node, broker_epoch, u64::MAX);
            broker.start(broker_epoch);
            Shared::new(broker)
        });
        controller.create_topic(&nodes, scope.durability, scope.min_isr);
        let mut state = Self {
            brokers,
            controller: Shared::new(controller),
            network: Shared::new(Network::default()),
            oracle: Shared::new(Oracle::default()),
            now: 0,
            spent: Spent::default(),
            broken: None,
        };
        state.come_to_rest(scope);
        for (at, node) in nodes.into_iter().enumerate() {
            if scope.begin[at] != Begin::InSync {
                state.controller.edit(|controller| controller.fence(node));
            }
            if scope.begin[at] == Begin::Gone {
                state.crash(at, Loss::Nothing, scope);
            }
        }
        state.come_to_rest(scope);
        state
    }

    /// Everything that is under way arrives.
    fn come_to_rest(&mut self, scope: &Scope) {
        loop {
            let learner = (0..BROKERS).find(|at| self.has_to_learn(*at));
            let direction = self.network.directions().first().copied();
            match (learner, direction) {
                (Some(at), _) => self.learn(at, scope),
                (None, Some((from, to))) => self.deliver(from, to, scope),
                (None, None) => break,
            }
        }
        self.forget();
    }

    fn now(&self) -> Moment {
        Moment(self.now)
    }

    pub(crate) fn brokers(&self) -> [&Broker; BROKERS] {
        [&*self.brokers[0], &*self.brokers[1], &*self.brokers[2]]
    }

    // ---- Brokers ----

    pub(crate) fn append(&mut self, at: usize, scope: &Scope) {
        let (now, value) = (self.now(), self.spent.records);
        self.brokers[at].edit(|broker| {
            let admitted = broker.replica().map(|replica| replica.admit_append(Acks::Leader));
            if let Some(Ok(epoch)) = admitted {
                broker.append(&[(epoch, value)], !scope.slow_flushes, now);
            }
        });
        self.settle(at, scope);
    }

    pub(crate) fn flush(&mut self, at: usize, scope: &Scope) {
        let now = self.now();
        self.brokers[at].edit(|broker| {
            broker.log.flushed = broker.log.end();
            broker.local(now);
        });
        self.settle(at, scope);
    }

    pub(crate) fn has_to_learn(&self, at: usize) -> bool {
        let process = self.brokers[at].process.as_ref();
        process.is_some_and(|process| self.controller.view_after(process.applied).is_some())
    }

    /// The next entry of the metadata log arrives.
    pub(crate) fn learn(&mut self, at: usize, scope: &Scope) {
        let applied = self.brokers[at].process.as_ref().map_or(0, |process| process.applied);
        let Some(view) = self.controller.view_after(applied).cloned() else { return };
        let (now, timing) = (self.now(), timing(scope));
        self.brokers[at].edit(|broker| broker.learn(&view, timing, now));
        self.settle(at, scope);
        self.forget();
    }

    /// Metadata that everybody knows is no part of the state any more.
    fn forget(&mut self) {
        let known = self.brokers.iter().filter_map(|broker| broker.process.as_ref());
        let least = known.map(|process| process.applied).min().unwrap_or(u64::MAX);
        if self.controller.has_views_to(least) {
            self.controller.edit(|controller| controller.forget_views_to(least));
        }
    }

    /// The process ends, and its streams with it.
    pub(crate) fn crash(&mut self, at: usize, loss: Loss, scope: &Scope) {
        let node = self.brokers[at].node;
        for other in (0..BROKERS).filter(|other| *other != at) {
            self.break_stream(node, self.brokers[other].node, scope);
        }
        self.brokers[at].edit(|broker| {
            broker.process = None;
            let (flushed, high_watermark) = (broker.log.flushed, broker.log.high_watermark);
            match loss {
                Loss::Nothing => broker.log.recover(broker.log.end(), high_watermark),
                Loss::Unflushed => broker.log.recover(flushed, 0),
                Loss::Flushed => broker.log.recover(0, 0),
            }
        });
        if loss == Loss::Flushed {
            self.oracle.edit(|oracle| oracle.was_lied_to = true);
        }
        self.forget();
    }

    pub(crate) fn start(&mut self, at: usize) {
        let node = self.brokers[at].node;
        let broker_epoch = self.controller.edit(|controller| controller.register(node));
        self.brokers[at].edit(|broker| broker.start(broker_epoch));
    }

    pub(crate) fn heartbeat(&mut self, at: usize) {
        let Some(process) = &self.brokers[at].process else { return };
        let (epoch, applied, node) = (process.broker_epoch, process.applied, self.brokers[at].node);
        self.controller.edit(|controller| controller.heartbeat(node, epoch, applied));
    }

    /// Time passes: what was to be done by now is done.
    pub(crate) fn tick(&mut self, scope: &Scope) {
        self.now += 1;
        let now = self.now();
        for at in 0..BROKERS {
            self.brokers[at].edit(|broker| {
                if let Some(replica) = broker.replica() {
                    replica.handle_deadline(now);
                }
            });
            self.settle(at, scope);
        }
    }

    // ---- Streams ----

    /// The next message of a direction arrives.
    pub(crate) fn deliver(&mut self, from: NodeId, to: NodeId, scope: &Scope) {
        let Some(at) = self.network.next(from, to) else { return };
        let message = self.network.edit(|network| network.messages.remove(at));
        self.receive(message, scope);
        self.settle(position(from), scope);
    }

    pub(crate) fn deliver_late(&mut self, which: usize, scope: &Scope) {
        if which < self.network.late.len() {
            let message = self.network.edit(|network| network.late.remove(which));
            self.receive(message, scope);
        }
    }

    fn receive(&mut self, message: Message, scope: &Scope) {
        let (from, to, now) = (message.from, message.to, self.now());
        let flush = !scope.slow_flushes;
        let answer = self.brokers[position(to)].edit(|broker| broker.receive(message, flush, now));
        if let Some(answer) = answer {
            self.send_back(to, from, answer, scope);
        }
        self.settle(position(to), scope);
    }

    /// An answer or a report, which may be there at once.
    fn send_back(&mut self, from: NodeId, to: NodeId, body: Body, scope: &Scope) {
        if scope.slow_reports {
            self.network.edit(|network| network.send(from, to, body));
        } else {
            self.receive(Message { from, to, body }, scope);
        }
    }

    /// Drops what no longer has any effect on whom it is for: nobody is there, or is in a later epoch and refuses it.
    pub(crate) fn drop_stale(&mut self) {
        let is_stale = |message: &Message| {
            let process = self.brokers[position(message.to)].process.as_ref();
            let Some(process) = process else { return true };
            let epoch = process.replica.as_ref().map(Replica::epoch);
            match &message.body {
                Body::Handshake(_) => false,
                Body::Answer(answer) => epoch.is_some_and(|epoch| answer.leader_epoch < epoch),
                Body::Push { cursor, .. } => epoch.is_some_and(|epoch| cursor.leader_epoch < epoch),
                Body::Report(report) => epoch.is_some_and(|epoch| report.leader_epoch < epoch),
            }
        };
        if self.network.messages.iter().any(is_stale) {
            let mut messages = self.network.messages.clone();
            messages.retain(|message| !is_stale(message));
            self.network.edit(|network| network.messages = messages);
        }
    }

    pub(crate) fn break_stream(&mut self, a: NodeId, b: NodeId, scope: &Scope) {
        self.network.edit(|network| network.clear_between(a, b));
        let now = self.now();
        for (one, other) in [(a, b), (b, a)] {
            self.brokers[position(one)].edit(|broker| {
                let follows = broker.leader() == Some(other);
                let Some(process) = &mut broker.process else { return };
                let session = process.sessions.remove(&other);
                let Some(replica) = &mut process.replica else { return };
                if let Some(session) = session {
                    replica.handle_follower_gone(other, session);
                }
                if follows {
                    replica.handle_leader_gone(now);
                }
            });
            self.settle(position(one), scope);
        }
    }

    // ---- Proposals ----

    pub(crate) fn decide(&mut self, which: usize) {
        let Some(ask) = self.network.asks.get(which).cloned() else { return };
        let outcome = self.controller.edit(|controller| controller.alter(&ask.proposal));
        self.network.edit(|network| {
            if ask.given_up {
                network.asks.remove(which);
            } else if let Some(ask) = network.asks.get_mut(which) {
                ask.outcome = Some(outcome);
            }
        });
    }

    /// The answer reaches the leader.
    pub(crate) fn tell(&mut self, which: usize, scope: &Scope) {
        let Some(ask) = self.network.asks.get(which).cloned() else { return };
        self.network.edit(|network| network.asks.remove(which));
        if let Some(outcome) = &ask.outcome {
            self.end_proposal(&ask, outcome, scope);
        }
    }

    /// The leader waits no longer. The request, if it has not arrived yet, may do so at any time.
    pub(crate) fn give_up(&mut self, which: usize, scope: &Scope) {
        let Some(ask) = self.network.asks.get(which).cloned() else { return };
        self.network.edit(|network| match network.asks.get_mut(which) {
            Some(waiting) if waiting.outcome.is_none() => waiting.given_up = true,
            _ => {
                network.asks.remove(which);
            }
        });
        self.end_proposal(&ask, &AlterOutcome::Lost, scope);
    }

    fn end_proposal(&mut self, ask: &Ask, outcome: &AlterOutcome, scope: &Scope) {
        let (at, now) = (position(ask.leader), self.now());
        let attempt = (ask.proposal.leader_epoch, ask.proposal.attempt);
        self.brokers[at].edit(|broker| {
            let same_process =
                broker.process.as_mut().filter(|p| p.broker_epoch == ask.broker_epoch);
            if let Some(replica) = same_process.and_then(|process| process.replica.as_mut()) {
                replica.handle_alter_outcome(attempt, outcome, now);
            }
        });
        self.settle(at, scope);
    }
}

fn timing(scope: &Scope) -> Timing {
    Timing { lag_ms_max: scope.lag_ticks, retry_ms: 1 }
}
