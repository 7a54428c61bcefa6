//! One life: what can happen, in which mix, and how it is healed.

mod actions;
mod administration;
mod faults;
mod healing;

use std::ops::AddAssign;

use thalweg_metadata_core::Image;
use thalweg_replication_core::{AlterOutcome, Proposal, Role};
use thalweg_types::{Acks, BrokerEpoch, LeaderEpoch, LogIndex, Moment, NodeId};

use super::broker::Broker;
use super::controller::Controller;
use super::log::index;
use super::network::Network;
use super::oracle::{Oracle, find};
use super::random::Dice;

const BROKERS: i32 = 4;

/// What lives amounted to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) lives: usize,
    pub(crate) committed: usize,
    pub(crate) crashes: usize,
    pub(crate) elections: usize,
    pub(crate) unclean_elections: usize,
    pub(crate) healed: usize,
}

#[derive(Debug)]
pub(crate) struct World {
    dice: Dice,
    now: Moment,
    controller: Controller,
    brokers: Vec<Broker>,
    network: Network,
    /// Proposals that will, or will not, reach the controller; each once.
    proposals: Vec<Sent<Proposal>>,
    outcomes: Vec<Sent<AlterOutcome>>,
    oracle: Oracle,
    next_value: u64,
    crashes: usize,
    unclean_elections: usize,
    changes_durability: bool,
    has_damage: bool,
}

/// Something between a leader and the controller.
#[derive(Debug, Clone)]
struct Sent<T> {
    leader: NodeId,
    broker_epoch: BrokerEpoch,
    attempt: (LeaderEpoch, u32),
    /// Nobody waits for what becomes of it any more.
    is_forgotten: bool,
    what: T,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.lives += other.lives;
        self.committed += other.committed;
        self.crashes += other.crashes;
        self.elections += other.elections;
        self.unclean_elections += other.unclean_elections;
        self.healed += other.healed;
    }
}

impl World {
    pub(crate) fn live(seed: u64, steps: usize) -> Tally {
        let mut world = Self::new(seed);
        for step in 0..steps {
            let context = Context { seed, step };
            world.step();
            world.oracle.check(&world.controller, &world.brokers);
            std::mem::forget(context);
        }
        let context = Context { seed, step: steps };
        let healed = world.heal(seed);
        std::mem::forget(context);
        Tally {
            lives: 1,
            committed: world.oracle.committed.len(),
            crashes: world.crashes,
            elections: usize::try_from(world.controller.partition().leader_epoch.0).unwrap_or(0),
            unclean_elections: world.unclean_elections,
            healed: usize::from(healed),
        }
    }

    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut controller = Controller::new();
        let mut brokers: Vec<_> = (1..=BROKERS).map(|id| Broker::new(NodeId(id))).collect();
        for broker in &mut brokers {
            broker.start(&mut controller);
            let process = broker.process.as_ref().expect("it was started");
            let applied = LogIndex(u64::MAX);
            controller.heartbeat(broker.node, process.broker_epoch, applied, None);
        }
        let durability = if dice.percent(65) { "fsync" } else { "replicated" };
        let minimum = if dice.percent(80) { 2 } else { 1 };
        controller.create_topic(&[NodeId(1), NodeId(2), NodeId(3)], durability, minimum);
        let (changes_durability, has_damage) = (dice.percent(25), dice.percent(30));
        let mut world = Self {
            dice,
            now: Moment(1_000),
            controller,
            brokers,
            network: Network::default(),
            proposals: Vec::new(),
            outcomes: Vec::new(),
            oracle: Oracle::default(),
            next_value: 0,
            crashes: 0,
            unclean_elections: 0,
            changes_durability,
            has_damage,
        };
        for at in 0..world.brokers.len() {
            world.follow_metadata(at, usize::MAX);
        }
        world
    }

    // ---- What happens ----

    fn step(&mut self) {
        let at = self.dice.below(self.brokers.len());
        match self.dice.below(1_000) {
            0..120 => self.produce(),
            120..220 => self.flush(at),
            220..400 => self.pump(at),
            400..640 => self.deliver(true),
            640..740 => {
                let count = 1 + self.dice.below(3);
                self.follow_metadata(at, count);
            }
            740..790 => self.decide_proposal(),
            790..840 => self.deliver_outcome(),
            840..890 => {
                self.now = self.now.saturating_add_ms(self.dice.next() % 200);
                (0..self.brokers.len()).for_each(|at| self.deadline(at));
            }
            890..920 => self.heartbeat(at),
            920..927 => self.crash(at),
            927..933 => self.bounce(at),
            933..958 => self.restart(at),
            958..966 => self.fence(at),
            966..973 => self.break_streams(at),
            973..977 => self.set_minimum(),
            977..981 => self.reassign(),
            981..992 => self.controller.elect_preferred(),
            992..995 => self.set_durability(),
            995..997 => self.delete_records(at),
            997..998 => self.elect_unclean(),
            998..999 => self.find_damage(at),
            _ => self.shut_down(at),
        }
    }

    fn produce(&mut self) {
        let leads = |broker: &Broker| broker.as_leader().is_some();
        let leaders: Vec<_> =
            (0..self.brokers.len()).filter(|at| leads(&self.brokers[*at])).collect();
        if leaders.is_empty() {
            return;
        }
        let at = leaders[self.dice.below(leaders.len())];
        let broker = &mut self.brokers[at];
        let admitted = broker.replica().expect("it leads").admit_append(Acks::All);
        if let Ok(epoch) = admitted {
            self.next_value += 1;
            broker.log.append((epoch, self.next_value));
            broker.local(self.now);
            self.execute(at);
        }
    }

    fn flush(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        if broker.process.is_some() {
            broker.log.flushed = broker.log.end();
            broker.local(self.now);
            self.execute(at);
        }
    }

    fn pump(&mut self, at: usize) {
        let count = self.dice.below(5);
        for message in self.brokers[at].pump(count) {
            self.network.send(message);
        }
        self.break_overtaken_streams(at);
    }

    /// A follower below the log start cannot be pushed to: its stream ends, and the next handshake says why.
    fn break_overtaken_streams(&mut self, at: usize) {
        let start = self.brokers[at].log.start;
        let node = self.brokers[at].node;
        let Some(replica) = self.brokers[at].replica() else { return };
        let followers: Vec<_> = replica.followers().collect();
        for follower in followers {
            let replica = self.brokers[at].replica().expect("it was there");
            let cursor = replica.next_push(follower);
            if let Some(cursor) = cursor.filter(|cursor| index(cursor.from) < start) {
                replica.handle_follower_gone(follower, cursor.session);
                self.leader_gone(follower, node);
            }
        }
    }

    fn leader_gone(&mut self, follower: NodeId, leader: NodeId) {
        let at = self.position(follower);
        let now = self.now;
        if let Some(replica) = self.brokers[at].replica()
            && matches!(replica.role(), Role::Follower(role) if role.leader() == leader)
        {
            replica.handle_leader_gone(now);
        }
        self.execute(at);
    }

    fn position(&self, node: NodeId) -> usize {
        self.brokers.iter().position(|broker| broker.node == node).expect("a broker")
    }

    fn deliver(&mut self, faults: bool) {
        let Some(message) = self.network.take(&mut self.dice, faults) else { return };
        let at = self.position(message.to);
        let answer = self.brokers[at].receive(message, self.now);
        self.execute(at);
        if let Some(answer) = answer {
            self.network.send(answer);
        }
    }

    fn follow_metadata(&mut self, at: usize, count: usize) {
        self.brokers[at].follow_metadata(&self.controller, count, self.now);
        self.execute(at);
    }

    fn deadline(&mut self, at: usize) {
        let now = self.now;
        if let Some(replica) = self.brokers[at].replica() {
            replica.handle_deadline(now);
        }
        self.execute(at);
    }

    fn decide_proposal(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        let at = self.dice.below(self.proposals.len());
        if self.dice.percent(20) && !self.proposals[at].is_forgotten {
            // The leader gives up waiting; the request may be lost, or still be on its way.
            let sent = self.proposals[at].clone();
            self.outcomes.push(with(&sent, AlterOutcome::Lost));
            self.proposals[at].is_forgotten = true;
            if self.dice.percent(50) {
                self.proposals.remove(at);
            }
            return;
        }
        let sent = self.proposals.remove(at);
        let outcome = self.controller.alter(&sent.what);
        if !sent.is_forgotten {
            let is_lost = self.dice.percent(15);
            let outcome = if is_lost { AlterOutcome::Lost } else { outcome };
            self.outcomes.push(with(&sent, outcome));
        }
    }

    fn deliver_outcome(&mut self) {
        if self.outcomes.is_empty() {
            return;
        }
        let which = self.dice.below(self.outcomes.len());
        let sent = self.outcomes.remove(which);
        let at = self.position(sent.leader);
        let now = self.now;
        if let Some(process) = &mut self.brokers[at].process
            && process.broker_epoch == sent.broker_epoch
            && let Some(replica) = &mut process.replica
        {
            replica.handle_alter_outcome(sent.attempt, &sent.what, now);
        }
        self.execute(at);
    }

    fn heartbeat(&mut self, at: usize) {
        let broker = &self.brokers[at];
        let Some(process) = &broker.process else { return };
        let (node, epoch, applied) = (broker.node, process.broker_epoch, broker.applied());
        let image = &self.controller.image;
        let shutdown = process.wants_shutdown.then(|| self.others_applied(image, node));
        let may_stop = self.controller.heartbeat(node, epoch, applied, shutdown);
        if may_stop && shutdown.is_some() {
            let broker = &mut self.brokers[at];
            broker.log.flushed = broker.log.end();
            broker.marker = Some(epoch);
            broker.process = None;
        }
    }

    fn others_applied(&self, image: &Image, node: NodeId) -> Option<LogIndex> {
        let others = image.live_brokers().filter(|other| other.id != node);
        others.map(|other| find(&self.brokers, other.id).applied()).min()
    }

    fn shut_down(&mut self, at: usize) {
        if let Some(process) = &mut self.brokers[at].process {
            process.wants_shutdown = true;
            if let Some(replica) = &mut process.replica {
                replica.handle_shutdown();
            }
        }
        self.execute(at);
    }
}

fn with<T, U>(sent: &Sent<T>, what: U) -> Sent<U> {
    let Sent { leader, broker_epoch, attempt, is_forgotten, .. } = *sent;
    Sent { leader, broker_epoch, attempt, is_forgotten, what }
}

/// Says which life it was when a check fails.
struct Context {
    seed: u64,
    step: usize,
}

impl Drop for Context {
    fn drop(&mut self) {
        eprintln!("seed {} at step {}", self.seed, self.step);
    }
}
