//! The partitions that this coordinator serves: begun and ended as the metadata says.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use thalweg_controller_client::Standing;
use thalweg_coordinator_runtime::{
    Counts, Lease, Limits, Refusal, Shell, ShellOptions, Standing as Phase,
};
use thalweg_env::{Clock, Random};
use thalweg_group_core::{GroupConfig, Response};
use thalweg_metadata_core::{Image, Record};
use thalweg_metadata_feed::{Change, Feed, FeedStopped};
use thalweg_types::{
    CoordinatorEpoch, ErrorCode, NodeId, PartitionIndex, TopicId, TopicName, TopicPartition,
    coordinator_partition,
};
use tokio::sync::watch;

use crate::hosted::{Ask, Figures, Hosted, TopicsChanged};
use crate::log_port::{Appends, RoutedLog};

/// Where groups and their offsets are stored.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

pub(crate) struct Shards {
    hosted: RwLock<HashMap<PartitionIndex, Shard>>,
    feed: Feed,
    appends: Arc<Appends>,
    config: GroupConfig,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    lease: Lease,
    counts: Arc<Counts>,
}

struct Shard {
    topic: TopicId,
    node: NodeId,
    epoch: CoordinatorEpoch,
    shell: Arc<Shell<Hosted>>,
    figures: Arc<Figures>,
}

pub(crate) struct Resources {
    pub(crate) feed: Feed,
    pub(crate) appends: Arc<Appends>,
    pub(crate) config: GroupConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) lease: Lease,
}

impl Shards {
    pub(crate) fn new(resources: Resources) -> Self {
        let Resources { feed, appends, config, clock, random, lease } = resources;
        Self {
            hosted: RwLock::default(),
            feed,
            appends,
            config,
            clock,
            random,
            lease,
            counts: Arc::default(),
        }
    }

    /// Has the partition of a group answer.
    pub(crate) async fn ask(&self, group: &str, ask: Ask) -> Result<Response, ErrorCode> {
        let Some(partition) = self.partition_of(group) else {
            return Err(ErrorCode::CoordinatorNotAvailable);
        };
        self.ask_partition(partition, ask).await
    }

    pub(crate) async fn ask_partition(
        &self,
        partition: PartitionIndex,
        ask: Ask,
    ) -> Result<Response, ErrorCode> {
        let shell = self.hosted.read().get(&partition).map(|shard| Arc::clone(&shard.shell));
        match shell {
            Some(shell) => shell.call(ask).await.map_err(Refusal::code),
            None => Err(ErrorCode::NotCoordinator),
        }
    }

    pub(crate) fn partitions(&self) -> Vec<PartitionIndex> {
        let mut partitions: Vec<_> = self.hosted.read().keys().copied().collect();
        partitions.sort_unstable();
        partitions
    }

    /// Partitions that are being loaded.
    pub(crate) fn loading_count(&self) -> usize {
        let hosted = self.hosted.read();
        hosted.values().filter(|shard| shard.shell.standing() == Phase::Loading).count()
    }

    pub(crate) fn partition_of(&self, group: &str) -> Option<PartitionIndex> {
        let image = self.feed.image();
        let count = image.topic(OFFSETS_TOPIC)?.partitions.len();
        coordinator_partition(group, i32::try_from(count).ok()?)
    }

    /// Whether the group's partition is served here at this moment.
    pub(crate) fn serves(&self, group: &str) -> bool {
        let hosted = self.hosted.read();
        let shard = self.partition_of(group).and_then(|partition| hosted.get(&partition));
        shard.is_some_and(|shard| shard.shell.standing() == Phase::Serving)
    }

    /// Gives everything up: whoever waits is told that another coordinator serves.
    pub(crate) fn clear(&self) {
        for (_, shard) in self.hosted.write().drain() {
            shard.shell.stop();
        }
    }

    /// Follows the metadata until the feed ends.
    pub(crate) async fn follow(self: Arc<Self>, mut session: watch::Receiver<Standing>) {
        let mut changes = self.feed.subscribe();
        loop {
            let change = tokio::select! {
                change = changes.next() => match change {
                    Ok(change) => Some(change),
                    Err(FeedStopped) => return,
                },
                changed = session.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return,
                },
            };
            let node = match &*session.borrow() {
                Standing::Held(registered) => Some(registered.node_id),
                _ => None,
            };
            self.settle(&self.feed.image(), node);
            if change.is_some_and(|change| concerns_topics(&change)) {
                self.tell_topics_changed();
            }
        }
    }

    fn tell_topics_changed(&self) {
        for shard in self.hosted.read().values() {
            shard.shell.tell(TopicsChanged);
        }
    }

    /// Begins and ends partitions until they are those that the metadata gives to this node.
    fn settle(&self, image: &Image, node: Option<NodeId>) {
        let topic = image.topic(OFFSETS_TOPIC);
        let mut wanted = HashMap::new();
        if let (Some(topic), Some(node)) = (topic, node) {
            let own = image.coordinated_by(node).filter(|(id, _)| id.topic_id == topic.id);
            wanted.extend(own.map(|(id, epoch)| (id.partition, (topic.id, node, epoch))));
        }
        let mut hosted = self.hosted.write();
        hosted.retain(|partition, shard| {
            let is_kept = wanted.get(partition) == Some(&(shard.topic, shard.node, shard.epoch));
            if !is_kept {
                // Calls that wait in it hold it as well: it must be told.
                shard.shell.stop();
            }
            is_kept
        });
        for (partition, (topic, node, epoch)) in wanted {
            hosted.entry(partition).or_insert_with(|| self.begin(partition, topic, node, epoch));
        }
    }

    fn begin(
        &self,
        partition: PartitionIndex,
        topic: TopicId,
        node: NodeId,
        epoch: CoordinatorEpoch,
    ) -> Shard {
        let name = TopicName::new(OFFSETS_TOPIC).expect("the topic's name is a valid one");
        let at = TopicPartition { topic: name, partition };
        let options = ShellOptions {
            name: at.to_string(),
            limits: Limits::default(),
            node,
            epoch,
            chain_base: self.random.next_u64(),
            clock: Arc::clone(&self.clock),
            lease: Arc::clone(&self.lease),
            counts: Arc::clone(&self.counts),
        };
        let (config, feed) = (self.config.clone(), self.feed.clone());
        let figures = Arc::<Figures>::default();
        let counted = Arc::clone(&figures);
        let make = move || Hosted::new(config.clone(), feed.clone(), Arc::clone(&counted));
        let log = RoutedLog::new(at, self.feed.clone(), Arc::clone(&self.appends));
        let shell = Arc::new(Shell::start(make, log, options));
        Shard { topic, node, epoch, shell, figures }
    }

    /// Partitions that are served, or about to be.
    pub(crate) fn count(&self) -> usize {
        self.hosted.read().len()
    }

    /// One figure, of all partitions together.
    pub(crate) fn sum(&self, figure: impl Fn(&Figures) -> &AtomicU64) -> u64 {
        let hosted = self.hosted.read();
        hosted.values().map(|shard| figure(&shard.figures).load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

fn concerns_topics(change: &Change) -> bool {
    match change {
        Change::Replaced { .. } => true,
        Change::Applied { records, .. } => records.iter().any(|record| {
            matches!(
                record,
                Record::TopicCreated { .. }
                    | Record::PartitionRegistered { .. }
                    | Record::TopicDeleted { .. }
            )
        }),
    }
}
