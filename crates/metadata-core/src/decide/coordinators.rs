//! Which coordinator has which partition of the internal topics.
//!
//! Every decision that changes who is live, or which partitions there are, also decides what follows for coordination, so that the facts
//! of both are one entry of the log: nobody ever sees a partition whose coordinator is known to be gone.
//!
//! Of each internal topic every live coordinator has as many partitions as any other, or one more. A partition stays where it is unless its
//! coordinator is gone or has too many: loading one costs a read of its log, and whoever waits for a group waits for that.

use std::collections::BTreeMap;

use thalweg_types::{CoordinatorEpoch, NodeId, PartitionIndex, TopicIdPartition};

use crate::image::{Coordinator, Image, Topic};
use crate::record::{NodeRole, Record};

const PLENTY: &str = "2^31 assignments of one partition take longer than hardware lasts";

/// Partitions each live coordinator has: of the topic at hand, and of all topics before it.
type Shares = BTreeMap<NodeId, Share>;

#[derive(Debug, Clone, Default)]
struct Share {
    of_topic: Vec<PartitionIndex>,
    before: usize,
}

impl Image {
    /// The facts, and what follows from them for the coordinators of internal topics.
    pub(super) fn with_coordinators(&self, mut records: Vec<Record>) -> Vec<Record> {
        if records.iter().any(|record| self.concerns_coordinators(record)) {
            records.extend(self.with(&records).coordinators_settled());
        }
        records
    }

    fn concerns_coordinators(&self, record: &Record) -> bool {
        match record {
            Record::NodeRegistered(registration) => registration.role == NodeRole::Coordinator,
            Record::NodeUnfenced { node_id }
            | Record::NodeFenced { node_id }
            | Record::NodeShuttingDown { node_id }
            | Record::NodeUnregistered { node_id } => {
                self.node(*node_id).is_some_and(|node| node.role == NodeRole::Coordinator)
            }
            Record::TopicCreated { name, .. } => name.is_internal(),
            _ => false,
        }
    }

    /// One fact for each partition of an internal topic that is to have another coordinator than it has.
    pub(super) fn coordinators_settled(&self) -> Vec<Record> {
        let mut shares: Shares =
            self.live_coordinators().map(|node| (node.id, Share::default())).collect();
        let mut records = Vec::new();
        for topic in self.topics().filter(|topic| topic.name.is_internal()) {
            records.extend(self.settle_topic(topic, &mut shares));
            for share in shares.values_mut() {
                share.before += std::mem::take(&mut share.of_topic).len();
            }
        }
        records
    }

    fn settle_topic(&self, topic: &Topic, shares: &mut Shares) -> Vec<Record> {
        let mut left = Vec::new();
        for partition in topic.partitions.keys() {
            let node = self.assigned(topic, *partition).node;
            match node.and_then(|node| shares.get_mut(&node)) {
                Some(share) => share.of_topic.push(*partition),
                None => left.push(*partition),
            }
        }
        for partition in &left {
            if let Some(share) = least(shares).and_then(|least| shares.get_mut(&least)) {
                share.of_topic.push(*partition);
            }
        }
        even_out(shares);
        let assigned = shares.iter().flat_map(|(node, share)| {
            share.of_topic.iter().map(|partition| (*partition, Some(*node)))
        });
        // Nobody is live: then nobody has them.
        let nobody = left.iter().filter(|_| shares.is_empty()).map(|partition| (*partition, None));
        let mut assigned: Vec<_> = assigned.chain(nobody).collect();
        assigned.sort_unstable();
        let changed = assigned.into_iter().filter_map(|(partition, node)| {
            let known = self.assigned(topic, partition);
            let epoch = known.epoch.next().expect(PLENTY);
            let record = Record::CoordinatorAssigned { topic_id: topic.id, partition, node, epoch };
            (known.node != node).then_some(record)
        });
        changed.collect()
    }

    fn assigned(&self, topic: &Topic, partition: PartitionIndex) -> Coordinator {
        self.coordinator_of(TopicIdPartition { topic_id: topic.id, partition })
            .unwrap_or(Coordinator { node: None, epoch: CoordinatorEpoch(0) })
    }
}

/// Takes from those who have most of the topic until nobody has more than one partition more than another.
fn even_out(shares: &mut Shares) {
    while let (Some(most), Some(least)) = (most(shares), least(shares)) {
        let count = |node| shares.get(&node).map_or(0, |share: &Share| share.of_topic.len());
        if count(most) <= count(least) + 1 {
            return;
        }
        let moved = shares.get_mut(&most).and_then(|share| share.of_topic.pop());
        if let (Some(partition), Some(share)) = (moved, shares.get_mut(&least)) {
            share.of_topic.push(partition);
        }
    }
}

fn least(shares: &Shares) -> Option<NodeId> {
    let load = |share: &Share| (share.of_topic.len(), share.before);
    shares.iter().min_by_key(|(_, share)| load(share)).map(|(node, _)| *node)
}

fn most(shares: &Shares) -> Option<NodeId> {
    let load = |share: &Share| (share.of_topic.len(), share.before);
    shares.iter().max_by_key(|(_, share)| load(share)).map(|(node, _)| *node)
}
