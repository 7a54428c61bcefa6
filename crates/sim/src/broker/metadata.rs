//! Metadata: applied entry by entry, in order; what it means for the replicas here.

use std::collections::BTreeSet;

use thalweg_invariants::{Mutant, mutant};
use thalweg_metadata_core::{Image, Position, Record};
use thalweg_replication_core::{AckFailure, Fitness, Metadata, Replica, Role};
use thalweg_types::{LogIndex, NodeId, Offset, TopicId, TopicIdPartition};

use super::{Broker, Part, TIMING};
use crate::env::Env;
use crate::log::Log;
use crate::partition;

/// What applied entries may mean for replicas here.
#[derive(Default)]
struct News {
    was_ready: bool,
    changed: BTreeSet<TopicIdPartition>,
    all: bool,
}

impl Broker {
    /// Entries after `from` up to `to`. With a gap before them they are of no use.
    pub(crate) fn handle_entries(
        &mut self,
        env: &mut Env,
        log: &[Vec<Record>],
        from: LogIndex,
        to: LogIndex,
    ) {
        if from > self.image.position().index {
            return;
        }
        let mut news = News { was_ready: self.is_ready(), ..News::default() };
        for index in self.image.position().index.0 + 1..=to.0 {
            let entry = usize::try_from(index - 1).ok().and_then(|at| log.get(at));
            let Some(records) = entry else { break };
            self.apply(env, LogIndex(index), records, &mut news);
            if !self.faults.coalesces {
                let seen = News { was_ready: self.is_ready(), ..News::default() };
                self.follow(env, std::mem::replace(&mut news, seen));
            }
        }
        self.follow(env, news);
    }

    fn apply(&mut self, env: &mut Env, index: LogIndex, records: &[Record], news: &mut News) {
        let position = Position { index, ..self.image.position() };
        for record in records {
            self.image.apply(position, record);
            match record {
                Record::TopicDeleted { topic_id } => self.delete_topic(env, *topic_id),
                Record::PartitionRegistered { topic_id, partition, .. }
                | Record::PartitionChanged { topic_id, partition, .. } => {
                    let partition = *partition;
                    news.changed.insert(TopicIdPartition { topic_id: *topic_id, partition });
                }
                Record::NodeRegistered(_)
                | Record::NodeUnfenced { .. }
                | Record::NodeFenced { .. }
                | Record::NodeShuttingDown { .. }
                | Record::NodeUnregistered { .. } => news.all = true,
                _ => {}
            }
        }
        self.image.advance(position);
    }

    /// Brings the replicas in line with what is new.
    fn follow(&mut self, env: &mut Env, news: News) {
        if !self.is_ready() {
            return;
        }
        let mut changed = news.changed;
        if news.all || !news.was_ready {
            changed.extend(self.known_partitions());
        }
        for id in changed {
            self.update(env, id);
        }
    }

    /// A whole image. Never an older one than what is known; and what it does not mention may just be newer than it: it says nothing of
    /// deletion.
    pub(crate) fn handle_snapshot(&mut self, env: &mut Env, image: Image) {
        if image.position() <= self.image.position() {
            return;
        }
        self.image = image;
        if mutant!(Mutant::M29) {
            self.stray.retain(|id, _| self.image.partition_by_id(*id).is_some());
        }
        self.registered(env);
    }

    /// The own registration or a snapshot is new: look at everything, if the registration is applied.
    pub(super) fn registered(&mut self, env: &mut Env) {
        self.disk.cluster = self.disk.cluster.or_else(|| self.image.cluster_id());
        if self.is_ready() {
            for id in self.known_partitions() {
                self.update(env, id);
            }
        }
    }

    fn known_partitions(&self) -> Vec<TopicIdPartition> {
        let of_topic = |topic: &std::sync::Arc<thalweg_metadata_core::Topic>| {
            let topic_id = topic.id;
            let partitions: Vec<_> = topic.partitions.keys().copied().collect();
            partitions.into_iter().map(move |partition| TopicIdPartition { topic_id, partition })
        };
        self.image.topics().flat_map(of_topic).collect()
    }

    /// Deleted because a fact says so.
    fn delete_topic(&mut self, env: &mut Env, topic: TopicId) {
        let ids: Vec<_> = self.parts.keys().filter(|id| id.topic_id == topic).copied().collect();
        for id in ids {
            self.delete(env, id);
        }
        self.stray.retain(|id, _| id.topic_id != topic);
    }

    fn delete(&mut self, env: &mut Env, id: TopicIdPartition) {
        if let Some(mut part) = self.parts.remove(&id) {
            self.fail_waiting(env, &mut part, AckFailure::LeadershipLost);
        }
    }

    /// Brings the replica of one partition in line with the image.
    fn update(&mut self, env: &mut Env, id: TopicIdPartition) {
        let (Some((node, _)), Some(state)) = (self.session, self.image.partition_by_id(id)) else {
            return;
        };
        let state = state.clone();
        if !state.replicas.contains(&node) {
            self.delete(env, id);
            self.stray.remove(&id);
            return;
        }
        let mut part = match self.parts.remove(&id) {
            Some(part) => part,
            None => self.open(env, id),
        };
        self.rebuild_if_damaged(env, id, &mut part, (node, state.leader));
        let retention = self.image.topic_by_id(id.topic_id).and_then(|topic| {
            let resource = thalweg_metadata_core::ConfigResource::Topic(topic.id);
            self.image.config(&resource, "retention.bytes")?.parse().ok()
        });
        part.log.core.configure(partition::log_config(&state, retention));
        let registration = partition::of_image(&state);
        let peers = partition::peers(&self.image, &state);
        let applied = self.image.position().index;
        let metadata = Metadata { applied, partition: &registration, peers: &peers };
        let now = self.moment(env);
        part.replica.handle_metadata(&metadata, part.log.view(), now);
        self.settle(env, id, &mut part);
        self.parts.insert(id, part);
    }

    fn open(&mut self, env: &mut Env, id: TopicIdPartition) -> Part {
        let found = self.stray.remove(&id);
        let (log, fitness) = found.unwrap_or_else(|| {
            let config = thalweg_log_core::LogConfig { segment_bytes: 4_000, ..Default::default() };
            (Log::empty(config, self.wall(env)), Fitness::Fit)
        });
        let me = self.identity().expect("only a registered broker opens replicas");
        let mut replica = Replica::new(me, fitness, TIMING);
        replica.handle_lease(self.lease_is_valid);
        if self.wants_shutdown {
            replica.handle_shutdown();
        }
        let (waiters, sessions) = (Vec::new(), std::collections::BTreeMap::new());
        let chain = thalweg_log_core::Chain::default();
        Part { replica, log, waiters, chain, sessions, wake_at: None, cut: None }
    }

    /// A damaged replica is of no use once somebody else leads: it begins anew and catches up.
    fn rebuild_if_damaged(
        &mut self,
        env: &mut Env,
        id: TopicIdPartition,
        part: &mut Part,
        (node, leader): (NodeId, Option<NodeId>),
    ) {
        let is_led = leader.is_some_and(|leader| leader != node);
        let out = self
            .image
            .partition_by_id(id)
            .is_some_and(|state| !state.isr.contains(&node) && !state.elr.contains(&node));
        if part.replica.fitness() != Fitness::Suspect || !is_led || !out {
            return;
        }
        if let Role::Leader(_) = part.replica.role() {
            return;
        }
        let host = self.host;
        env.note(|| format!("broker {host} rebuilds {id}"));
        part.log.restart_at(Offset::ZERO, self.wall(env));
        let me = self.identity().expect("only a registered broker has replicas");
        part.replica = Replica::new(me, Fitness::Fit, TIMING);
        part.replica.handle_lease(self.lease_is_valid);
    }
}
