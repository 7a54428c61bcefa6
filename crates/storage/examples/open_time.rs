//! How long a log dir takes to open after a crash when its segments have nothing of what its journal has.
//!
//! Twice: with as much as the default bound of recent batches in memory allows, which is the worst a server leaves, and with the whole
//! journal full, which takes a bound four times as large.
//!
//! `cargo run --release -p thalweg-storage --example open_time [DIRECTORY]`; needs 600 MB there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use thalweg_env::fs::RealFs;
use thalweg_env::{OsRandom, SystemClock};
use thalweg_log_core::LogConfig;
use thalweg_record::{BatchBuilder, ProduceLimits, check_produced};
use thalweg_storage::{LogDir, LogDirOptions, NoObserver};
use thalweg_types::{
    CompressionType, LeaderEpoch, PartitionIndex, Timestamp, TopicId, TopicName, TopicPartition,
    Uuid,
};

const PARTITIONS: i32 = 8;
const BATCH_BYTES: usize = 64 << 10;

type Failure = Box<dyn std::error::Error>;

fn options(path: PathBuf, tail_bytes_max: u64) -> LogDirOptions {
    LogDirOptions {
        threads: false,
        tail_bytes_max,
        ..LogDirOptions::new(
            path,
            Arc::new(RealFs),
            Arc::new(SystemClock::new()),
            Arc::new(OsRandom),
            Arc::new(NoObserver),
        )
    }
}

fn main() -> Result<(), Failure> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for tail_bytes_max in [256 << 20, 1 << 30] {
        let path = parent.join(format!("open-time-{}", std::process::id()));
        let options = options(path.clone(), tail_bytes_max);
        let measured = fill(&options).and_then(|bytes| open(&options, bytes));
        std::fs::remove_dir_all(&path)?;
        measured?;
    }
    Ok(())
}

/// Appends until journal or memory is full, and goes as a killed process does. Returns the bytes appended.
fn fill(options: &LogDirOptions) -> Result<usize, Failure> {
    let dir = LogDir::open(options.clone())?;
    let topic = TopicName::new("filled").map_err(|error| format!("{error:?}"))?;
    let mut logs = Vec::new();
    for partition in 0..PARTITIONS {
        let partition = PartitionIndex(partition);
        let name = TopicPartition { topic: topic.clone(), partition };
        let log = dir.create(name, TopicId(Uuid::from_random_bits(7)), LogConfig::default())?;
        log.begin_leader_epoch(LeaderEpoch(0))?;
        logs.push(log);
    }
    let mut builder = BatchBuilder::new(CompressionType::None);
    builder.push(Timestamp(1), None, Some(&vec![0x5a; BATCH_BYTES]), &[])?;
    let batch = builder.finish()?;
    let header = check_produced(&batch, &ProduceLimits::default())?;
    let mut bytes = 0;
    for log in logs.iter().cycle() {
        let copy = BytesMut::from(&batch[..]);
        if log.append_as_leader(copy, &header, LeaderEpoch(0)).is_err() {
            break;
        }
        bytes += batch.len();
    }
    dir.step_flush()?;
    Ok(bytes)
}

fn open(options: &LogDirOptions, bytes: usize) -> Result<(), Failure> {
    for _ in 0..3 {
        let begun = Instant::now();
        let dir = LogDir::open(options.clone())?;
        let elapsed = begun.elapsed();
        let in_memory = dir.tail_bytes();
        println!(
            "{bytes} bytes in the journal, {in_memory} of them not in segments: opened in {elapsed:?}"
        );
    }
    Ok(())
}
