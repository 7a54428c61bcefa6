//! What the broker's own tests are built on: a partition over a real log directory in a temporary place.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tempfile::TempDir;
use thalweg_env::fs::RealFs;
use thalweg_env::{SeededRandom, SystemClock};
use thalweg_log_core::LogConfig;
use thalweg_metadata_core::{
    Image, LeaderRecovery, NodeRole, Partition as State, Position, Record, Registration as Node,
};
use thalweg_record::BatchBuilder;
use thalweg_replication_core::{Identity, Metadata, Partition as Registration, Timing};
use thalweg_storage::{LogDir, LogDirOptions};
use thalweg_types::{
    BrokerEpoch, CompressionType, DirId, Durability, IncarnationId, LeaderEpoch, LogIndex, Moment,
    NodeId, PartitionEpoch, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp,
    TopicId, TopicIdPartition, TopicName, TopicPartition, Uuid,
};

use crate::log_events::LogEvents;
use crate::partition::{AppendRules, Partition};
use crate::replication::{Hub, Lease};

/// What topics of tests ask of every batch.
const RULES: AppendRules =
    AppendRules { batch_bytes_max: 1 << 20, keys_required: false, compression: None };

pub(crate) struct Bench {
    pub(crate) hub: Arc<Hub>,
    pub(crate) log_dir: Arc<LogDir>,
    pub(crate) events: Arc<LogEvents>,
    place: TempDir,
}

impl Bench {
    /// Nothing is flushed or written behind but by the test's own steps.
    pub(crate) fn stepped() -> Self {
        Self::open(false)
    }

    /// The log directory's own threads flush and write behind.
    pub(crate) fn running() -> Self {
        Self::open(true)
    }

    /// The same directory as after a restart. The old one must have been shut down.
    pub(crate) fn reopen(self) -> Self {
        let Self { hub, log_dir, events, place } = self;
        drop((hub, log_dir, events));
        Self::open_at(place, false)
    }

    fn open(threads: bool) -> Self {
        Self::open_at(tempfile::tempdir().unwrap(), threads)
    }

    fn open_at(place: TempDir, threads: bool) -> Self {
        let events = LogEvents::new();
        let options = LogDirOptions {
            journal_file_bytes: 1 << 20,
            journal_bytes_max: 8 << 20,
            threads,
            ..LogDirOptions::new(
                place.path().to_owned(),
                Arc::new(RealFs),
                Arc::new(SystemClock::new()),
                Arc::new(SeededRandom::new(1)),
                Arc::clone(&events) as _,
            )
        };
        let log_dir = Arc::new(LogDir::open(options).unwrap());
        Self { hub: hub(), log_dir, events, place }
    }

    /// The one partition, without a role, known to the flush events; created if it is not there.
    pub(crate) fn partition(&self) -> Arc<Partition> {
        let topic_id = TopicId(Uuid::from_bytes([7; 16]));
        let name = TopicPartition {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionIndex(0),
        };
        let id = TopicIdPartition { topic_id, partition: name.partition };
        let log = match self.log_dir.log(&id) {
            Some(log) => log,
            None => self.log_dir.create(name.clone(), topic_id, LogConfig::default()).unwrap(),
        };
        let partition = Partition::new(name, id, log, RULES, Arc::clone(&self.hub));
        self.events.hosted.insert(Arc::clone(&partition));
        partition
    }

    /// A new partition that this broker leads alone, in epoch 1.
    pub(crate) fn leading(&self) -> Arc<Partition> {
        let partition = self.partition();
        lead(&partition, 1);
        partition
    }

    /// As after a restart: the same log, led in the next epoch.
    pub(crate) fn leading_again(&self) -> Arc<Partition> {
        let partition = self.partition();
        lead(&partition, 2);
        partition
    }
}

/// Of node 1, which never loses its controller.
fn hub() -> Arc<Hub> {
    let dir_id = DirId(Uuid::from_bytes([1; 16]));
    let me = Identity { node: NodeId(1), broker_epoch: BrokerEpoch(0), dir_id };
    let lease = Lease::new(Duration::MAX, Duration::MAX);
    lease.confirm(Moment(u64::MAX / 2));
    Arc::new(Hub::new(me, Timing::DEFAULT, lease, Arc::new(SystemClock::new())))
}

/// The registration under which node `leader` leads alone.
pub(crate) fn led_by(leader: i32, epoch: i32) -> Registration {
    Registration {
        leader: Some(NodeId(leader)),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch),
        replicas: vec![NodeId(1), NodeId(leader)],
        isr: vec![NodeId(leader)],
        min_isr: 1,
        durability: Durability::Fsync,
        unproven: Vec::new(),
        recovering: false,
        unclean_epoch: None,
    }
}

pub(crate) fn take_over(partition: &Partition, registration: &Registration) {
    let metadata = Metadata { applied: LogIndex(1), partition: registration, peers: &[] };
    partition.handle_metadata(&metadata, false, partition.log().config(), RULES).unwrap();
}

/// Node 1 leads alone from now on.
pub(crate) fn lead(partition: &Partition, epoch: i32) {
    let registration = Registration { replicas: vec![NodeId(1)], ..led_by(1, epoch) };
    take_over(partition, &registration);
}

/// Another node leads from now on.
pub(crate) fn follow(partition: &Partition, leader: i32, epoch: i32) {
    take_over(partition, &led_by(leader, epoch));
}

/// A batch of so many small records.
pub(crate) fn batch(records: usize) -> BytesMut {
    filled(BatchBuilder::new(CompressionType::None), records)
}

/// The same from an idempotent producer.
pub(crate) fn idempotent_batch(producer: i64, sequence: i32, records: usize) -> BytesMut {
    let builder = BatchBuilder::new(CompressionType::None).producer(
        ProducerId(producer),
        ProducerEpoch(0),
        Sequence(sequence),
    );
    filled(builder, records)
}

fn filled(mut builder: BatchBuilder, records: usize) -> BytesMut {
    for number in 0..records {
        let value = format!("value {number}");
        builder.push(Timestamp(1_000), Some(b"key"), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// Topics with so many partitions each, led by node 1, which lives; node 2 is another replica and does not.
pub(crate) fn image(topics: &[(&str, i32)]) -> Image {
    let registered = Node {
        node_id: NodeId(1),
        role: NodeRole::Broker,
        dir_id: DirId(Uuid::from_bytes([1; 16])),
        incarnation: IncarnationId(Uuid::from_bytes([2; 16])),
        broker_epoch: Some(BrokerEpoch(1)),
        endpoints: Vec::new(),
        rack: None,
        fenced: false,
        shutting_down_at: None,
    };
    let mut records = vec![Record::NodeRegistered(registered)];
    for (number, (name, partition_count)) in (1..).zip(topics) {
        let topic_id = TopicId(Uuid::from_bytes([number; 16]));
        let name = TopicName::new(name).unwrap();
        records.push(Record::TopicCreated { topic_id, name });
        let register = |index| Record::PartitionRegistered {
            topic_id,
            partition: PartitionIndex(index),
            state: partition_state(),
        };
        records.extend((0..*partition_count).map(register));
    }
    let mut image = Image::default();
    records.iter().for_each(|record| image.apply(Position::START, record));
    image
}

fn partition_state() -> State {
    State {
        replicas: vec![NodeId(1), NodeId(2)],
        adding: Vec::new(),
        removing: Vec::new(),
        isr: vec![NodeId(1)],
        elr: vec![NodeId(2)],
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(5),
        min_isr: 2,
        durability: Durability::Fsync,
        recovery: LeaderRecovery::Recovered,
        unclean_epoch: None,
        unproven: Vec::new(),
    }
}
