//! How long it takes to take a partition over that holds so many committed offsets (default: a million), from memory.
//!
//! `cargo run --release -p thalweg-coordinator-runtime --example load -- 1000000`

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thalweg_coordinator_runtime::{
    Condition, Core, CorruptRecord, Counts, Effects, Limits, LogEnds, LogPort, Now, PortError,
    Shell, ShellOptions, Standing, Token,
};
use thalweg_env::SystemClock;
use thalweg_group_core::record::{CommittedOffset, OffsetKey, decode, encode};
use thalweg_group_core::{GroupConfig, Groups, Record};
use thalweg_record::{BatchBuilder, BatchHeader, stamp};
use thalweg_types::{
    CompressionType, CoordinatorEpoch, GroupId, LeaderEpoch, Moment, NodeId, Offset,
    PartitionIndex, Timestamp, TopicId, TopicName,
};

/// Commits of one batch, and bytes of one read, as with clients that commit some partitions at a time.
const COMMITS_PER_BATCH: usize = 10;
const READ_BYTES_MAX: usize = 2 << 20;
const PARTITIONS_PER_GROUP: usize = 100;

struct Hosted(Groups);

impl Core for Hosted {
    type Request = ();
    type Response = ();
    type Event = ();

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CorruptRecord> {
        let value = value.map(Bytes::copy_from_slice);
        let record = decode(&Bytes::copy_from_slice(key), value.as_ref());
        if let Some(record) = record.map_err(|error| CorruptRecord(error.to_string()))? {
            self.0.replay(record);
        }
        Ok(())
    }

    fn start(&mut self, _now: Now) -> Effects<()> {
        Effects::default()
    }

    fn handle(&mut self, token: Token, (): (), _now: Now) -> Effects<()> {
        Effects { records: Vec::new(), answers: vec![(token, ())] }
    }

    fn handle_event(&mut self, (): (), _now: Now) -> Effects<()> {
        Effects::default()
    }

    fn handle_deadline(&mut self, _now: Now) -> Effects<()> {
        Effects::default()
    }

    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn cancel(&mut self, _token: Token) {}

    fn must_be_current((): &()) -> bool {
        false
    }
}

/// Chunks of batches, with the offset after each.
struct Memory(Vec<(Offset, Bytes)>);

impl LogPort for Memory {
    fn locate(&self) -> impl Future<Output = Result<LogEnds, PortError>> + Send + 'static {
        let end = self.0.last().map_or(Offset::ZERO, |(end, _)| *end);
        ready(Ok(LogEnds {
            leader_epoch: LeaderEpoch(0),
            epoch_start_offset: Offset::ZERO,
            log_start_offset: Offset::ZERO,
            high_watermark: end,
            log_end_offset: end,
        }))
    }

    fn read(
        &self,
        from: Offset,
    ) -> impl Future<Output = Result<Vec<Bytes>, PortError>> + Send + 'static {
        let chunk = self.0.iter().find(|(end, _)| *end > from);
        ready(Ok(chunk.map(|(_, bytes)| bytes.clone()).into_iter().collect()))
    }

    fn append(
        &self,
        _condition: Condition,
        _batch: Bytes,
    ) -> impl Future<Output = Result<(), PortError>> + Send + 'static {
        ready(Ok(()))
    }
}

fn commit(number: usize, topic: &TopicName) -> Record {
    let group = format!("group-{:06}", number / PARTITIONS_PER_GROUP);
    let key = OffsetKey {
        group: GroupId::from(group),
        topic: topic.clone(),
        partition: PartitionIndex((number % PARTITIONS_PER_GROUP) as i32),
    };
    let committed = CommittedOffset {
        offset: Offset(number as i64),
        leader_epoch: LeaderEpoch(3),
        metadata: "".into(),
        committed_at: Timestamp(1_750_000_000_000),
        expires_at: None,
        topic_id: TopicId::ZERO,
    };
    Record::Offset(key, Some(committed))
}

fn memory(count: usize) -> Memory {
    let topic = TopicName::new("orders").expect("a valid name");
    let mut chunks = vec![(Offset::ZERO, Vec::new())];
    let mut end = Offset::ZERO;
    for first in (0..count).step_by(COMMITS_PER_BATCH) {
        let mut builder = BatchBuilder::new(CompressionType::None);
        for number in first..count.min(first + COMMITS_PER_BATCH) {
            let (key, value) = encode(&commit(number, &topic));
            let pushed = builder.push(Timestamp(0), Some(&key), value.as_deref(), &[]);
            pushed.expect("ten commits fit into a batch");
        }
        let mut batch = builder.finish().expect("it has records");
        stamp(&mut batch, end, LeaderEpoch(0));
        end = BatchHeader::parse(&batch).expect("a batch").next_offset();
        if chunks.last().is_some_and(|(_, bytes)| bytes.len() + batch.len() > READ_BYTES_MAX) {
            chunks.push((end, Vec::new()));
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.0 = end;
            chunk.1.extend_from_slice(&batch);
        }
    }
    Memory(chunks.into_iter().map(|(end, bytes)| (end, bytes.into())).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().expect("a number"));
    let log = memory(count);
    let bytes: usize = log.0.iter().map(|(_, bytes)| bytes.len()).sum();
    let counts = Arc::<Counts>::default();
    let options = ShellOptions {
        name: "example-0".to_owned(),
        limits: Limits::default(),
        node: NodeId(1),
        epoch: CoordinatorEpoch(1),
        chain_base: 1,
        clock: Arc::new(SystemClock::new()),
        lease: Arc::new(|| None),
        counts: Arc::clone(&counts),
    };
    let begun = Instant::now();
    let shell = Shell::start(|| Hosted(Groups::new(GroupConfig::default())), log, options);
    while shell.standing() != Standing::Serving {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let taken = begun.elapsed();
    let records = counts.loaded_records.load(Ordering::Relaxed);
    println!("{records} records, {} MiB: {taken:?}", bytes >> 20);
}
