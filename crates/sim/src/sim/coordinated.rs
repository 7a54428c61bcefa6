//! Coordinators in a run: their clients, what befalls them, and what must be well at the end.

use thalweg_coordinator_runtime::Token;
use thalweg_types::{NodeId, PartitionIndex, TopicIdPartition};

use super::Sim;
use crate::coordinators::{Asking, Coordinator, TOPIC, send_call};
use crate::env::Event;
use crate::message::{COORDINATORS, FIRST_COORDINATOR, HOSTS, Host, Message};
use crate::network::{MS, SECOND};

impl Sim {
    pub(super) fn start_coordinators(&mut self, seed: u64) {
        if !self.plan.coordinators {
            return;
        }
        for host in FIRST_COORDINATOR..HOSTS {
            self.coordinators.push(Coordinator::new(seed, host));
            self.env.at(SECOND, Event::StartCoordinator { host });
        }
        self.env.at(5 * SECOND, Event::Coordinated);
        self.env.at(6 * SECOND, Event::CoordinatorFault);
    }

    pub(super) fn handle_coordinated(&mut self, event: Event) {
        match event {
            Event::StartCoordinator { host } => {
                if let Some(coordinator) = self.coordinators.get_mut(host - FIRST_COORDINATOR) {
                    coordinator.start(&mut self.env);
                }
            }
            Event::CoordinatorTick { host, life } => {
                let coordinator = &mut self.coordinators[host - FIRST_COORDINATOR];
                let answers = coordinator.handle_tick(&mut self.env, life);
                self.judge_all(answers);
            }
            Event::CoordinatorTimeout { host, life, call } => {
                let coordinator = &mut self.coordinators[host - FIRST_COORDINATOR];
                if coordinator.is_living(life) {
                    let answers = coordinator.handle_answer(&mut self.env, call, None);
                    self.judge_all(answers);
                }
            }
            Event::Coordinated => self.call_coordinator(),
            Event::CoordinatorFault => self.disturb_coordinator(),
            _ => {}
        }
    }

    pub(super) fn deliver_to_coordinator(&mut self, to: Host, message: Message) {
        let (env, quorum) = (&mut self.env, &self.quorum);
        let Some(coordinator) = self.coordinators.get_mut(to - FIRST_COORDINATOR) else { return };
        let answers = match message {
            Message::Told { life, id, told } => {
                coordinator.handle_told(env, (life, id), told);
                Vec::new()
            }
            Message::Entries { from, to } => {
                coordinator.handle_entries(env, &quorum.log, (from, to))
            }
            Message::Snapshot(image) => coordinator.handle_snapshot(env, *image),
            Message::Coordinate { partition, token, ask } => {
                coordinator.handle_call(env, partition, (token, ask))
            }
            Message::Answered { id, result } => coordinator.handle_answer(env, id, Some(result)),
            Message::Ask { .. } | Message::Call { .. } => Vec::new(),
        };
        self.judge_all(answers);
    }

    fn judge_all(&mut self, answers: Vec<(TopicIdPartition, Token, crate::coordinators::Version)>) {
        for (id, token, version) in answers {
            self.judge.answered(&mut self.env, id, token, version);
        }
    }

    fn coordinated(&self) -> Option<TopicIdPartition> {
        let topic_id = self.quorum.image.topic(TOPIC)?.id;
        Some(TopicIdPartition { topic_id, partition: PartitionIndex(0) })
    }

    /// Whether coordinators write to it, and not clients.
    pub(super) fn is_coordinated(&self, id: TopicIdPartition) -> bool {
        self.coordinated().is_some_and(|other| other.topic_id == id.topic_id)
    }

    /// Whom the controllers mean.
    fn assigned(&self, id: TopicIdPartition) -> Option<Host> {
        let node: NodeId = self.quorum.image.coordinator_of(id)?.node?;
        let at = self.coordinators.iter().position(|c| c.node() == Some(node))?;
        Some(FIRST_COORDINATOR + at)
    }

    /// A client asks whom the controllers mean, or, having heard of nothing new, anybody.
    fn call_coordinator(&mut self) {
        let delay = self.coordinated_rng.between(5 * MS, 120 * MS);
        self.env.after(delay, Event::Coordinated);
        let Some(id) = self.coordinated().filter(|_| !self.clients.is_stopping) else { return };
        let anybody = FIRST_COORDINATOR + self.coordinated_rng.index(COORDINATORS);
        let right = self.assigned(id).filter(|_| self.coordinated_rng.chance(800));
        let number = self.env.fresh_id();
        let ask = match self.coordinated_rng.chance(600) {
            true => Asking::Add(number),
            false => Asking::Look,
        };
        let token = Token(number);
        self.judge.asked(token, ask);
        send_call(&mut self.env, right.unwrap_or(anybody), id, token, ask);
    }

    fn disturb_coordinator(&mut self) {
        if self.is_healed {
            return;
        }
        let rng = &mut self.coordinated_rng;
        let (at, draw) = (rng.index(COORDINATORS), rng.below(10));
        let (pause, long) = (rng.between(500 * MS, 8 * SECOND), rng.between(100 * MS, 4 * SECOND));
        let host = FIRST_COORDINATOR + at;
        match draw {
            0..3 => {
                self.coordinators[at].kill(&mut self.env);
                self.env.after(long, Event::StartCoordinator { host });
            }
            3..6 => {
                // SIGSTOP and SIGCONT: it goes on as if nothing had been.
                self.env.fault(|| format!("coordinator {host} stands still"));
                self.env.paused[host] = self.env.now + long;
            }
            6..8 => {
                self.coordinators[at].leave();
                self.env.after(long + 3 * SECOND, Event::StartCoordinator { host });
            }
            8 if self.plan.kinds.network => {
                self.env.fault(|| format!("coordinator {host} is cut off"));
                self.env.network.isolate(host);
            }
            _ => self.env.network.heal(),
        }
        self.env.after(pause, Event::CoordinatorFault);
    }

    /// What is not as it should be with coordinators, long after the last fault.
    pub(super) fn uncoordinated(&self) -> Option<String> {
        if !self.plan.coordinators {
            return None;
        }
        let id = self.coordinated()?;
        match self.assigned(id) {
            Some(host) if self.coordinators[host - FIRST_COORDINATOR].serves(id) => None,
            assigned => Some(format!("G5: nobody serves {id}: assigned to {assigned:?}")),
        }
    }

    /// Everybody is up again.
    pub(super) fn heal_coordinators(&mut self) {
        for host in FIRST_COORDINATOR..FIRST_COORDINATOR + self.coordinators.len() {
            // Who was leaving goes first.
            self.env.after(500 * MS, Event::StartCoordinator { host });
            self.env.after(8 * SECOND, Event::StartCoordinator { host });
        }
    }

    /// The last look at the history.
    pub(super) fn drain_coordinated(&mut self) {
        if let Some(id) = self.coordinated() {
            self.judge.follow(&mut self.env, id);
        }
    }
}
