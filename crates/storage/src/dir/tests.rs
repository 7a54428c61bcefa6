//! A log dir on a simulated disk, its threads' work done by the test's own steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use parking_lot::Mutex;
use thalweg_env::fs::SimFs;
use thalweg_env::{SeededRandom, SimClock};
use thalweg_record::{BatchBuilder, Batches, ProduceLimits, check_produced};
use thalweg_types::{
    CompressionType, LeaderEpoch, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp,
    TopicName, Uuid,
};

use super::*;
use crate::AppendError;
use crate::chunk::Chunk;

mod crashes;
mod damage;
mod faults;
mod full_disk;
mod maintenance;
mod many;
mod reads;
mod truncation;

#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(super) flushed: Mutex<Vec<(TopicIdPartition, Offset)>>,
    pub(super) failures: AtomicU64,
    pub(super) room: AtomicU64,
    pub(super) disk_low: Mutex<Vec<bool>>,
}

impl LogObserver for Heard {
    fn flushed(&self, log: &Arc<Log>, durable_end: Offset) {
        self.flushed.lock().push((log.id(), durable_end));
    }

    fn failed(&self, _error: &DirFailed) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn disk_space_changed(&self, is_low: bool) {
        self.disk_low.lock().push(is_low);
    }

    fn room_available(&self) {
        self.room.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) struct Bench {
    pub(crate) fs: SimFs,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) options: LogDirOptions,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Self {
        let fs = SimFs::new(seed);
        let clock = Arc::new(SimClock::new(Timestamp(1_000_000)));
        let heard = Arc::new(Heard::default());
        let options = LogDirOptions {
            journal_file_bytes: 16 << 10,
            journal_bytes_max: 96 << 10,
            tail_bytes_max: 32 << 10,
            reserve: Reserve::Bytes(0),
            threads: false,
            ..LogDirOptions::new(
                "/data".into(),
                Arc::new(fs.clone()),
                Arc::clone(&clock) as Arc<dyn Clock>,
                Arc::new(SeededRandom::new(seed)),
                Arc::clone(&heard) as Arc<dyn LogObserver>,
            )
        };
        Self { fs, clock, heard, options }
    }

    pub(crate) fn open(&self) -> LogDir {
        LogDir::open(self.options.clone()).unwrap()
    }
}

pub(crate) fn name(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("orders").unwrap(),
        partition: PartitionIndex(partition),
    }
}

pub(super) fn topic_id() -> TopicId {
    TopicId(Uuid::from_random_bits(0x1234_5678_9abc))
}

pub(super) fn id(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: topic_id(), partition: PartitionIndex(partition) }
}

/// A batch as a client sends it.
pub(crate) fn batch(
    values: &[&[u8]],
    timestamp: i64,
    producer: Option<(i64, i16, i32)>,
) -> BytesMut {
    let mut builder = BatchBuilder::new(CompressionType::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    }
    for (position, value) in values.iter().enumerate() {
        builder.push(Timestamp(timestamp + position as i64), None, Some(value), &[]).unwrap();
    }
    builder.finish().unwrap()
}

pub(crate) fn append(log: &Log, batch: BytesMut) -> Result<crate::Appended, AppendError> {
    let header = check_produced(&batch, &ProduceLimits::default()).unwrap();
    log.append_as_leader(batch, &header, log.leader_epoch())
}

/// All batches from an offset to the log end: base offset and bytes.
pub(super) fn read_all(log: &Log, mut from: Offset) -> Vec<(Offset, Vec<u8>)> {
    let end = log.offsets().log_end();
    let mut found = Vec::new();
    while from < end {
        let slice = log.read(from, end, 3_000, true).unwrap();
        let bytes: Vec<u8> = slice
            .chunks
            .iter()
            .flat_map(|chunk| match chunk {
                Chunk::Tail(bytes) => bytes.to_vec(),
                Chunk::File(range) => {
                    let read = range.read().unwrap();
                    if let Some(cached) = range.read_cached().unwrap() {
                        assert_eq!(cached.bytes, read.bytes);
                    }
                    read.bytes.to_vec()
                }
            })
            .collect();
        assert!(!bytes.is_empty(), "nothing at {from} of {end}");
        for batch in Batches::new(&bytes) {
            let (header, batch) = batch.unwrap();
            thalweg_record::verify_crc(batch, &header).unwrap();
            found.push((header.base_offset, batch.to_vec()));
            from = header.next_offset();
        }
    }
    found
}

pub(crate) fn new_log(dir: &LogDir, partition: i32) -> Arc<Log> {
    let log = dir.create(name(partition), topic_id(), LogConfig::default()).unwrap();
    log.begin_leader_epoch(LeaderEpoch(0)).unwrap();
    log
}

#[test]
fn batches_are_readable_at_once_and_durable_after_a_flush() {
    let bench = Bench::new(1);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    let first = append(&log, batch(&[b"a", b"b"], 10, None)).unwrap();
    let second = append(&log, batch(&[b"c"], 20, None)).unwrap();
    assert_eq!((first.base_offset, first.last_offset), (Offset(0), Offset(1)));
    assert_eq!((second.base_offset, second.duplicate), (Offset(2), false));
    assert_eq!(read_all(&log, Offset(0)).len(), 2);
    assert_eq!(log.offsets().durable_end(), Offset(0));
    assert!(dir.step_flush().unwrap());
    // What is left is the journal's own note of it.
    assert!(dir.step_flush().unwrap());
    assert!(!dir.step_flush().unwrap());
    assert_eq!(log.offsets().durable_end(), Offset(3));
    assert_eq!(*bench.heard.flushed.lock(), [(id(0), Offset(3))]);
}

#[test]
fn a_second_start_finds_everything_whether_the_first_ended_cleanly_or_not() {
    for clean in [true, false] {
        let bench = Bench::new(2);
        let dir = bench.open();
        let meta = dir.meta();
        let log = new_log(&dir, 0);
        for number in 0..300 {
            let value = vec![number as u8; 200];
            while let Err(error) =
                append(&log, batch(&[&value], number, Some((7, 0, number as i32))))
            {
                eprintln!("{number}: {error}");
                dir.step_write_behind().unwrap();
            }
        }
        let before = read_all(&log, Offset(0));
        assert_eq!(before.len(), 300);
        let producers = log.inspect(|core| core.producers().clone());
        dir.step_flush().unwrap();
        dir.begin_session(BrokerEpoch(42));
        if clean {
            dir.shutdown().unwrap();
        }
        drop((dir, log));
        bench.fs.restart_after_kill();

        let dir = bench.open();
        assert_eq!((dir.was_clean(), dir.meta()), (clean, meta));
        assert_eq!(dir.clean_session(), clean.then_some(BrokerEpoch(42)));
        let log = dir.log(&id(0)).unwrap();
        assert_eq!(read_all(&log, Offset(0)), before);
        assert_eq!(log.offsets().durable_end(), Offset(300));
        assert_eq!(log.leader_epoch(), LeaderEpoch(0));
        let again = log.inspect(|core| core.producers().clone());
        let last = |states: &thalweg_log_core::ProducerStates| {
            states.get(ProducerId(7)).unwrap().batches.clone()
        };
        assert_eq!(last(&again), last(&producers));
        let repeated = append(&log, batch(&[&[43; 200]], 299, Some((7, 0, 299)))).unwrap();
        assert!(repeated.duplicate && repeated.base_offset == Offset(299));
        let next = append(&log, batch(&[b"next"], 300, Some((7, 0, 300)))).unwrap();
        assert_eq!(next.base_offset, Offset(300));
    }
}
