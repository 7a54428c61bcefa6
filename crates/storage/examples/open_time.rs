//! How long a log dir takes to open after a crash when its segments have nothing of what its journal has.
//!
//! Twice: with as much as the default bound of recent batches in memory allows, which is the worst a server leaves, and with the whole
//! journal full, which takes a bound four times as large.
//!
//! `cargo run --release -p thalweg-storage --example open_time [DIRECTORY]`; needs 600 MB there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let append = || {
            let copy = BytesMut::from(&batch[..]);
            log.append_as_leader(copy, &header, LeaderEpoch(0))
        };
        // What waits to be flushed has a bound of its own.
        if append().is_err() && (!dir.step_flush()? || append().is_err()) {
            break;
        }
        bytes += batch.len();
    }
    dir.step_flush()?;
    Ok(bytes)
}

fn open(options: &LogDirOptions, bytes: usize) -> Result<(), Failure> {
    for _ in 0..3 {
        let (begun, cpu_before) = (Instant::now(), cpu_time()?);
        let dir = LogDir::open(options.clone())?;
        let (elapsed, cpu) = (begun.elapsed(), cpu_time()?.saturating_sub(cpu_before));
        let in_memory = dir.tail_bytes();
        println!(
            "{bytes} bytes in the journal, {in_memory} of them not in segments: opened in {elapsed:?} ({cpu:?} of processor time)"
        );
    }
    Ok(())
}

/// Processor time of all threads so far, to a hundredth of a second.
fn cpu_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no fields in /proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
}
