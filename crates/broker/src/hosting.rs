//! The partitions hosted here, kept in step with the metadata image.
//!
//! Reconciling compares what the image says with what is on disk and makes the second follow the first: missing logs are created,
//! roles and configs taken over. It runs on a thread of its own, since creating logs touches the disk. Data is never deleted because
//! it is absent from the image (C5): only a committed deletion of that very topic id does that, or a committed reassignment after which the
//! replica belongs elsewhere (R15).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use thalweg_log_core::{CleanupPolicy, LogConfig};
use thalweg_metadata_core::{ConfigResource, Image, Record, StaticConfigs, Topic, TopicConfig};
use thalweg_replication_core::Metadata;
use thalweg_storage::{AppendError, LogDir, StorageError};
use thalweg_types::{NodeId, PartitionIndex, TopicId, TopicIdPartition, TopicPartition};

use crate::partition::{AckError, AppendRules, Compression, Partition};
use crate::replication::{Hub, of_image, peers};

/// Every partition this broker has a replica of.
#[derive(Debug, Default)]
pub(crate) struct Hosted {
    partitions: RwLock<HashMap<TopicIdPartition, Arc<Partition>>>,
}

/// Takes one image after the other and makes the hosted partitions follow.
#[derive(Debug)]
pub(crate) struct Reconciler {
    node_id: NodeId,
    pub(crate) hub: Arc<Hub>,
    pub(crate) log_dir: Arc<LogDir>,
    pub(crate) hosted: Arc<Hosted>,
    settings: StaticConfigs,
    /// Topics of which a partition could not be hosted: tried again with the next change, and by [`Reconciler::retry`].
    failed: Mutex<BTreeSet<TopicId>>,
}

/// How many partitions are hosted, and how many of them led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HostedCount {
    pub(crate) partitions: usize,
    pub(crate) leaders: usize,
}

/// Why a partition that belongs here is not served. It is tried again a little later.
#[derive(Debug, thiserror::Error)]
enum HostingError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("its leader epoch could not be begun: {0}")]
    Epoch(#[from] AppendError),
    #[error(
        "its files are damaged, and no other replica leads that is known to have all of it; `thalweg log verify` says what is wrong"
    )]
    Damaged,
}

impl Hosted {
    pub(crate) fn get(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        self.partitions.read().get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().cloned().collect()
    }

    pub(crate) fn count(&self) -> HostedCount {
        let all = self.all();
        let leaders = all.iter().filter(|partition| partition.is_leader()).count();
        HostedCount { partitions: all.len(), leaders }
    }

    pub(crate) fn insert(&self, partition: Arc<Partition>) {
        self.partitions.write().insert(partition.id(), partition);
    }

    fn remove(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        self.partitions.write().remove(&id)
    }

    fn remove_topic(&self, topic_id: TopicId) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.write();
        let gone: Vec<_> =
            partitions.keys().filter(|id| id.topic_id == topic_id).copied().collect();
        gone.iter().filter_map(|id| partitions.remove(id)).collect()
    }
}

impl Reconciler {
    pub(crate) fn new(
        hub: Arc<Hub>,
        log_dir: Arc<LogDir>,
        hosted: Arc<Hosted>,
        settings: StaticConfigs,
    ) -> Self {
        let (node_id, failed) = (hub.me().node, Mutex::default());
        Self { node_id, hub, log_dir, hosted, settings, failed }
    }

    /// Makes the hosted partitions follow the whole of `image`. What fails is logged and tried again with the next change; the rest
    /// goes on.
    pub(crate) fn follow(&self, image: &Image) {
        self.failed.lock().clear();
        self.hub.configure(image, &self.settings);
        for topic in image.topics() {
            self.follow_topic(image, topic);
        }
    }

    /// Whether some partition that belongs here is not served.
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.lock().is_empty()
    }

    /// Tries again what failed.
    pub(crate) fn retry(&self, image: &Image) {
        let failed = std::mem::take(&mut *self.failed.lock());
        for topic in failed.iter().filter_map(|id| image.topic_by_id(*id)) {
            self.follow_topic(image, topic);
        }
    }

    /// Makes the hosted partitions follow the facts that led to `image`. Looks only at topics that the facts name, or else every new
    /// topic would cost a look at all others.
    pub(crate) fn follow_records(&self, image: &Image, records: &[Record]) {
        for record in records {
            if let Record::TopicDeleted { topic_id } = record {
                self.delete_topic(*topic_id);
            }
        }
        let is_of_brokers = |record: &Record| {
            matches!(
                record.config_resource(),
                Some(ConfigResource::Cluster | ConfigResource::Broker(_))
            ) || matches!(record, Record::NodeRegistered(_))
        };
        if records.iter().any(is_of_brokers) {
            self.hub.configure(image, &self.settings);
        }
        let Some(mut topics) = self.topics_named_by(records) else { return self.follow(image) };
        topics.append(&mut *self.failed.lock());
        self.add_topics_shared_with(records, &mut topics, image);
        for topic in topics.iter().filter_map(|id| image.topic_by_id(*id)) {
            self.follow_topic(image, topic);
        }
    }

    /// What becomes of another node concerns the partitions that have a replica on it: their leaders go by who lives.
    fn add_topics_shared_with(
        &self,
        records: &[Record],
        topics: &mut BTreeSet<TopicId>,
        image: &Image,
    ) {
        let nodes: BTreeSet<NodeId> = records.iter().filter_map(node_named_by).collect();
        if nodes.is_empty() {
            return;
        }
        for partition in self.hosted.all() {
            let id = partition.id();
            let replicas = image.partition_by_id(id).map(|state| &state.replicas[..]);
            if replicas.unwrap_or_default().iter().any(|replica| nodes.contains(replica)) {
                topics.insert(id.topic_id);
            }
        }
    }

    /// `None`: every topic. What other nodes do and how they are configured concerns partitions here only through partition facts.
    fn topics_named_by(&self, records: &[Record]) -> Option<BTreeSet<TopicId>> {
        let mut topics = BTreeSet::new();
        for record in records {
            match record {
                Record::TopicCreated { topic_id, .. }
                | Record::PartitionRegistered { topic_id, .. }
                | Record::PartitionChanged { topic_id, .. }
                | Record::ConfigSet { resource: ConfigResource::Topic(topic_id), .. }
                | Record::ConfigRemoved { resource: ConfigResource::Topic(topic_id), .. } => {
                    topics.insert(*topic_id);
                }
                Record::NodeRegistered(registration) if registration.node_id != self.node_id => {}
                Record::NodeUnfenced { node_id }
                | Record::NodeFenced { node_id }
                | Record::NodeShuttingDown { node_id }
                | Record::NodeUnregistered { node_id }
                    if *node_id != self.node_id => {}
                Record::ConfigSet { resource: ConfigResource::Broker(id), .. }
                | Record::ConfigRemoved { resource: ConfigResource::Broker(id), .. }
                    if *id != self.node_id => {}
                Record::NodeRegistered(_)
                | Record::NodeUnfenced { .. }
                | Record::NodeFenced { .. }
                | Record::NodeShuttingDown { .. }
                | Record::NodeUnregistered { .. }
                | Record::ConfigSet { .. }
                | Record::ConfigRemoved { .. } => return None,
                Record::ClusterCreated { .. }
                | Record::NodeIdAllocated { .. }
                | Record::CoordinatorAssigned { .. }
                | Record::FeatureSet { .. }
                | Record::VoterRetired { .. }
                | Record::TopicDeleted { .. }
                | Record::ProducerIdsAllocated { .. } => {}
            }
        }
        Some(topics)
    }

    fn follow_topic(&self, image: &Image, topic: &Topic) {
        let (mine, others): (Vec<_>, Vec<_>) =
            topic.partitions.iter().partition(|(_, state)| state.replicas.contains(&self.node_id));
        for (index, _) in others {
            self.give_up(TopicIdPartition { topic_id: topic.id, partition: *index });
        }
        let mut config = None;
        for (index, state) in mine {
            let config = config.get_or_insert_with(|| self.topic_config(image, topic));
            if let Err(error) = self.follow_partition(image, topic, *index, state, config) {
                tracing::error!(topic = %topic.name, partition = %index, %error, "cannot host partition");
                self.failed.lock().insert(topic.id);
            }
        }
    }

    /// Carries out a committed deletion.
    pub(crate) fn delete_topic(&self, topic_id: TopicId) {
        for partition in self.hosted.remove_topic(topic_id) {
            self.delete(&partition);
        }
    }

    /// Carries out the end of a reassignment: a committed registration, newer than what was served here, has no replica here any more.
    fn give_up(&self, id: TopicIdPartition) {
        if let Some(partition) = self.hosted.remove(id) {
            tracing::info!(partition = %partition.name(), "the replica was moved to another node");
            self.delete(&partition);
        }
    }

    fn delete(&self, partition: &Partition) {
        partition.retire(AckError::LeadershipLost);
        if let Err(error) = self.log_dir.delete(&partition.id()) {
            tracing::error!(partition = %partition.name(), %error, "cannot delete log");
        }
    }

    /// Sets aside the logs that `image`, which must hold everything committed before this broker registered, does not know: data is
    /// not deleted because metadata lacks it, but neither may it stand in the way of a topic of the same name (R13).
    pub(crate) fn set_strays_aside(&self, image: &Image) {
        for log in self.log_dir.logs() {
            let id = log.id();
            let is_mine = image
                .partition_by_id(id)
                .is_some_and(|state| state.replicas.contains(&self.node_id));
            if is_mine {
                continue;
            }
            match self.log_dir.set_aside(&id) {
                Ok(path) => tracing::warn!(
                    partition = %log.topic_partition(),
                    %id,
                    path = %path.display(),
                    "the cluster does not know this partition; its files are set aside and can be removed"
                ),
                Err(error) => {
                    tracing::error!(%id, %error, "an unknown partition cannot be set aside")
                }
            }
        }
    }

    fn follow_partition(
        &self,
        image: &Image,
        topic: &Topic,
        index: PartitionIndex,
        state: &thalweg_metadata_core::Partition,
        config: &TopicConfig,
    ) -> Result<(), HostingError> {
        let id = TopicIdPartition { topic_id: topic.id, partition: index };
        let log_config = log_config(config, state);
        let rules = append_rules(config);
        let hosted = self.hosted.get(id).filter(|known| !self.set_served_aside(known, state));
        let partition = match hosted {
            Some(partition) => partition,
            None => {
                let name = TopicPartition { topic: topic.name.clone(), partition: index };
                let log = match self.log_dir.log(&id) {
                    Some(log) => log,
                    None => {
                        self.set_damaged_aside(id, state)?;
                        self.log_dir.create(name.clone(), topic.id, log_config.clone())?
                    }
                };
                let partition = Partition::new(name, id, log, rules, Arc::clone(&self.hub));
                self.hosted.insert(Arc::clone(&partition));
                partition
            }
        };
        let (registration, peers) = (of_image(state), peers(image, state));
        let applied = image.position().index;
        let metadata = Metadata { applied, partition: &registration, peers: &peers };
        let is_dispensable = self.is_dispensable(state);
        Ok(partition.handle_metadata(&metadata, is_dispensable, log_config, rules)?)
    }

    /// Whether another replica leads, and nobody counts on this one having anything.
    fn is_dispensable(&self, state: &thalweg_metadata_core::Partition) -> bool {
        let me = self.node_id;
        state.leader.is_some_and(|leader| leader != me)
            && !state.isr.contains(&me)
            && !state.elr.contains(&me)
    }

    /// A replica that was found damaged while it was served: its files are kept, out of the way, once nobody counts on it. False: it is
    /// sound, or still counted on, or cannot be set aside; then it is rebuilt where it is.
    fn set_served_aside(
        &self,
        partition: &Partition,
        state: &thalweg_metadata_core::Partition,
    ) -> bool {
        if !partition.is_damaged() || !self.is_dispensable(state) {
            return false;
        }
        let id = partition.id();
        match self.log_dir.set_aside(&id) {
            Ok(path) => {
                let path = path.display();
                tracing::warn!(partition = %partition.name(), %path, "damaged files are set aside; the replica begins anew");
            }
            Err(error) => {
                tracing::error!(partition = %partition.name(), %error, "damaged files cannot be set aside");
                if self.log_dir.log(&id).is_some() {
                    return false;
                }
            }
        }
        self.hosted.remove(id);
        partition.retire(AckError::LeadershipLost);
        true
    }

    /// A replica whose files were found damaged begins anew, and catches up, once nobody counts on it.
    fn set_damaged_aside(
        &self,
        id: TopicIdPartition,
        state: &thalweg_metadata_core::Partition,
    ) -> Result<(), HostingError> {
        if !self.log_dir.suspects().iter().any(|suspect| suspect.id == Some(id)) {
            return Ok(());
        }
        if !self.is_dispensable(state) {
            return Err(HostingError::Damaged);
        }
        if let Some(path) = self.log_dir.set_suspect_aside(&id)? {
            let path = path.display();
            tracing::warn!(partition = %id, %path, "damaged files are set aside; the replica begins anew");
        }
        Ok(())
    }

    fn topic_config(&self, image: &Image, topic: &Topic) -> TopicConfig {
        TopicConfig::resolve(image, topic.id, Some(self.node_id), &self.settings)
    }
}

/// The node whose state a fact changes.
fn node_named_by(record: &Record) -> Option<NodeId> {
    match record {
        Record::NodeRegistered(registration) => Some(registration.node_id),
        Record::NodeUnfenced { node_id }
        | Record::NodeFenced { node_id }
        | Record::NodeShuttingDown { node_id }
        | Record::NodeUnregistered { node_id } => Some(*node_id),
        _ => None,
    }
}

fn append_rules(config: &TopicConfig) -> AppendRules {
    AppendRules {
        batch_bytes_max: usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX),
        keys_required: config.cleanup_compact,
        compression: config
            .compression_type
            .map(|codec| Compression { codec, level: config.compression_level }),
    }
}

/// The configs that the rules of a log read. Durability binds as the partition's registration says, not as configured.
fn log_config(config: &TopicConfig, state: &thalweg_metadata_core::Partition) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        segment_jitter_ms: config.segment_jitter_ms,
        index_interval_bytes: config.index_interval_bytes,
        segment_index_bytes: config.segment_index_bytes,
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        max_message_bytes: config.max_message_bytes,
        timestamp_type: config.timestamp_type,
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        compression_type: config.compression_type,
        durability: state.durability,
        cleanup_policy: CleanupPolicy {
            delete: config.cleanup_delete,
            compact: config.cleanup_compact,
        },
        min_in_sync_replicas: state.min_isr,
        producer_id_expiration_ms: config.producer_id_expiration_ms,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use thalweg_metadata_core::{ConfigResource, Position, Record};
    use thalweg_types::{Acks, ErrorCode, TopicName};

    use super::*;
    use crate::admission::Admission;
    use crate::append;
    use crate::bench::Bench;

    fn reconciler(bench: &Bench) -> Reconciler {
        let (log_dir, hosted) = (Arc::clone(&bench.log_dir), Arc::clone(&bench.events.hosted));
        Reconciler::new(Arc::clone(&bench.hub), log_dir, hosted, StaticConfigs::default())
    }

    #[test]
    fn a_partition_unknown_to_the_cluster_is_set_aside_and_its_name_is_free_again() {
        let bench = Bench::stepped();
        let partition = bench.leading();
        let batch = crate::bench::batch(3);
        let header = thalweg_record::BatchHeader::parse(&batch).unwrap();
        partition.append(batch, &header, thalweg_types::Acks::Leader, None).unwrap();
        let id = partition.id();

        reconciler(&bench).set_strays_aside(&Image::default());

        assert!(bench.log_dir.log(&id).is_none());
        let folder = bench.log_dir.path().join(format!("orders-0.{}-stray", id.topic_id));
        let segment = folder.join("00000000000000000000.log");
        assert!(std::fs::metadata(segment).unwrap().len() > 0, "nothing was lost");
        let other = TopicId(thalweg_types::Uuid::from_bytes([8; 16]));
        let name = partition.name().clone();
        bench.log_dir.create(name, other, LogConfig::default()).unwrap();
    }

    #[tokio::test]
    async fn a_changed_config_measures_the_next_batch() {
        let bench = Bench::stepped();
        let reconciler = reconciler(&bench);
        let mut image = crate::bench::image(&[("orders", 1)]);
        reconciler.follow(&image);
        let topic_id = image.topic("orders").unwrap().id;
        let id = TopicIdPartition { topic_id, partition: PartitionIndex(0) };
        let partition = bench.events.hosted.get(id).unwrap();
        let (log_dir, events) = (Arc::clone(&bench.log_dir), Arc::clone(&bench.events));
        let admission = Admission::new(log_dir, events, Duration::from_secs(1));
        let produce = async || {
            let checked = match append::check(partition.rules(), crate::bench::batch(3)) {
                Ok(checked) => checked,
                Err(error) => return Some(error.code()),
            };
            let appended = append::append(&admission, &partition, checked, Acks::None, None).await;
            appended.err().map(|error| error.code())
        };
        assert_eq!(produce().await, None);

        let (resource, name) = (ConfigResource::Topic(topic_id), "max.message.bytes".to_owned());
        let smaller = Record::ConfigSet { resource, name: name.clone(), value: "10".to_owned() };
        image.apply(Position::START, &smaller);
        reconciler.follow(&image);
        assert_eq!(produce().await, Some(ErrorCode::MessageTooLarge));

        image.apply(Position::START, &Record::ConfigRemoved { resource, name });
        reconciler.follow(&image);
        assert_eq!(produce().await, None, "back to the default");
    }

    fn limit_of(reconciler: &Reconciler, image: &Image, topic: &str) -> Option<usize> {
        let topic_id = image.topic(topic).unwrap().id;
        let id = TopicIdPartition { topic_id, partition: PartitionIndex(0) };
        Some(reconciler.hosted.get(id)?.rules().batch_bytes_max)
    }

    fn limit(resource: ConfigResource, name: &str) -> Record {
        Record::ConfigSet { resource, name: name.to_owned(), value: "10".to_owned() }
    }

    #[test]
    fn facts_move_the_topics_they_name_and_those_about_all_brokers_every_topic() {
        let bench = Bench::stepped();
        let reconciler = reconciler(&bench);
        let mut image = crate::bench::image(&[("named", 1), ("other", 1)]);
        reconciler.follow(&image);
        let by_default = limit_of(&reconciler, &image, "other");
        let named = ConfigResource::Topic(image.topic("named").unwrap().id);
        let other = ConfigResource::Topic(image.topic("other").unwrap().id);

        let of_named = [limit(named, "max.message.bytes")];
        image.apply(Position::START, &of_named[0]);
        image.apply(Position::START, &limit(other, "max.message.bytes"));
        reconciler.follow_records(&image, &of_named);
        assert_eq!(limit_of(&reconciler, &image, "named"), Some(10));
        assert_eq!(limit_of(&reconciler, &image, "other"), by_default, "not looked at");

        let elsewhere = [limit(ConfigResource::Broker(NodeId(2)), "message.max.bytes")];
        reconciler.follow_records(&image, &elsewhere);
        assert_eq!(limit_of(&reconciler, &image, "other"), by_default, "another broker's");

        reconciler.follow_records(&image, &[limit(ConfigResource::Cluster, "message.max.bytes")]);
        assert_eq!(limit_of(&reconciler, &image, "other"), Some(10));
    }

    #[test]
    fn what_could_not_be_hosted_is_tried_again_with_any_next_change() {
        let bench = Bench::stepped();
        let reconciler = reconciler(&bench);
        let image = crate::bench::image(&[("orders", 1)]);
        let topic_id = image.topic("orders").unwrap().id;
        let in_the_way = bench.log_dir.path().join("orders-0");
        std::fs::write(&in_the_way, "a file where a folder belongs").unwrap();

        let name = TopicName::new("orders").unwrap();
        reconciler.follow_records(&image, &[Record::TopicCreated { topic_id, name }]);
        assert_eq!(limit_of(&reconciler, &image, "orders"), None);

        std::fs::remove_file(&in_the_way).unwrap();
        let next_producer_id = thalweg_types::ProducerId(1_000);
        let unrelated = [Record::ProducerIdsAllocated { next_producer_id }];
        reconciler.follow_records(&image, &unrelated);
        assert!(limit_of(&reconciler, &image, "orders").is_some());
    }
}
