//! The operator, who works on regardless of faults.

use thalweg_metadata_core::Reassign;
use thalweg_types::{Durability, NodeId, PartitionIndex, TopicId, Uuid};

use crate::coordinators;
use crate::message::Admin;
use crate::network::SECOND;
use crate::rng::Rng;
use crate::sim::Sim;

impl Sim {
    /// Creates the topics of the plan that are not there. Says whether all are.
    pub(crate) fn create_topics(&mut self) -> bool {
        let image = self.quorum.image.clone();
        let live: Vec<_> = image.live_brokers().map(|node| node.id).collect();
        let mut complete = true;
        for at in 0..self.plan.topics.len() {
            let topic = self.plan.topics[at].clone();
            if image.topic(&topic.name).is_some() {
                continue;
            }
            complete &= self.nemesis.deleted > 0;
            if live.len() < topic.replication_factor {
                continue;
            }
            let first = self.nemesis.rng.index(live.len());
            let replicas: Vec<_> = live.iter().cycle().skip(first).take(3).copied().collect();
            let id = TopicId(Uuid::from_random_bits(self.nemesis.rng.bits_128()));
            self.administer(Admin::Create {
                topic: topic.name,
                id,
                replicas: vec![replicas],
                min_isr: topic.min_isr,
                durability: topic.durability,
                small: topic.is_small,
            });
        }
        complete & self.create_coordinated(&live)
    }

    /// The topic that coordinators write to.
    fn create_coordinated(&mut self, live: &[NodeId]) -> bool {
        if !self.plan.coordinators || self.quorum.image.topic(coordinators::TOPIC).is_some() {
            return true;
        }
        if live.len() >= 3 {
            let id = TopicId(Uuid::from_random_bits(self.nemesis.rng.bits_128()));
            self.administer(Admin::Create {
                topic: coordinators::TOPIC.to_owned(),
                id,
                replicas: vec![live.iter().take(3).copied().collect()],
                min_isr: 2,
                durability: Durability::Fsync,
                small: false,
            });
        }
        false
    }

    pub(super) fn operate(&mut self) {
        let at = self.nemesis.rng.index(self.plan.topics.len());
        let topic = self.plan.topics[at].name.clone();
        let is_whole = self.nemesis.damaged.is_empty();
        let draw = self.nemesis.rng.below(12);
        let admin = match draw {
            0..=1 if is_whole => {
                let min_isr = u32::try_from(self.nemesis.rng.between(1, 3)).unwrap_or(2);
                Admin::MinIsr { topic, min_isr }
            }
            2 if is_whole => {
                let durability = match self.nemesis.rng.chance(500) {
                    true => Durability::Replicated,
                    false => Durability::Fsync,
                };
                Admin::Durability { topic, durability }
            }
            3 if is_whole => {
                self.nemesis.deleted += 1;
                Admin::Delete { topic }
            }
            4..=8 if is_whole => match self.reassignment(topic) {
                Some(request) => Admin::Reassign(request),
                None => return,
            },
            _ => Admin::Preferred,
        };
        self.nemesis.careful_until = self.env.now + 8 * SECOND;
        self.env.fault(|| format!("{admin:?}"));
        self.administer(admin);
    }

    fn reassignment(&mut self, topic: String) -> Option<Reassign> {
        let state = self.quorum.image.partition(&topic, PartitionIndex(0))?.clone();
        let partition = PartitionIndex(0);
        if state.is_reassigning() && self.nemesis.rng.chance(500) {
            return Some(Reassign { topic, partition, target: None });
        }
        let mut live: Vec<_> = self.quorum.image.live_brokers().map(|node| node.id).collect();
        for at in (1..live.len()).rev() {
            live.swap(at, self.nemesis.rng.index(at + 1));
        }
        live.truncate(3);
        (live.len() == 3).then_some(Reassign { topic, partition, target: Some(live) })
    }

    /// Another number of replicas, or, where a partition that was never flushed has nobody left who may lead, an unclean election.
    pub(super) fn later_wish(&mut self, rng: &mut Rng) {
        if rng.chance(300) {
            self.elect_uncleanly(false);
            return;
        }
        let at = rng.index(self.plan.topics.len());
        let topic = self.plan.topics[at].name.clone();
        let partition = PartitionIndex(0);
        let Some(state) = self.quorum.image.partition(&topic, partition) else { return };
        let is_quiet = !state.is_reassigning() && self.nemesis.damaged.is_empty();
        let mut live: Vec<NodeId> = self.quorum.image.live_brokers().map(|node| node.id).collect();
        for at in (1..live.len()).rev() {
            live.swap(at, rng.index(at + 1));
        }
        live.truncate(rng.index(live.len()) + 1);
        if live.len() < 2 || !is_quiet {
            return;
        }
        self.nemesis.careful_until = self.env.now + 8 * SECOND;
        let request = Reassign { topic, partition, target: Some(live) };
        self.env.fault(|| format!("{request:?}"));
        self.administer(Admin::Reassign(request));
    }
}
