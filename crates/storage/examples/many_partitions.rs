//! What a log dir of very many partitions costs: time to open, memory, descriptors, and an idle pass of its maintenance.
//!
//! Every partition has a few records of a producer. The dir is opened three times: as a kill leaves it when nothing was written behind, as
//! one leaves it when everything was, and after a clean stop.
//!
//! `cargo run --release -p thalweg-storage --example many_partitions [PARTITIONS [DIRECTORY]]`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use thalweg_env::fs::RealFs;
use thalweg_env::{OsRandom, SystemClock};
use thalweg_log_core::LogConfig;
use thalweg_record::{BatchBuilder, ProduceLimits, check_produced};
use thalweg_storage::{LogDir, LogDirOptions, NoObserver, Reserve};
use thalweg_types::{
    CompressionType, LeaderEpoch, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp,
    TopicId, TopicName, TopicPartition, Uuid,
};

const PARTITIONS_DEFAULT: i32 = 5_000;
const BATCHES: i32 = 3;
const IDLE_PASSES: u32 = 20;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let partitions = arguments.next().map_or(Ok(PARTITIONS_DEFAULT), |text| text.parse())?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let path = parent.join(format!("many-partitions-{}", std::process::id()));
    let measured = measure(&path, partitions);
    std::fs::remove_dir_all(&path)?;
    measured
}

fn measure(path: &Path, partitions: i32) -> Result<(), Failure> {
    let options = LogDirOptions {
        threads: true,
        reserve: Reserve::Bytes(0),
        ..LogDirOptions::new(
            path.to_owned(),
            Arc::new(RealFs),
            Arc::new(SystemClock::new()),
            Arc::new(OsRandom),
            Arc::new(NoObserver),
        )
    };
    timed("fill", || fill(&options, partitions))?;
    drop(open("killed, all in the journal", &options, partitions)?);
    let dir = open("the same again", &options, partitions)?;
    timed("write all behind", || Ok(dir.write_all_behind()?))?;
    idle_passes(&dir)?;
    one_busy_partition(&dir)?;
    drop(dir);
    let dir = open("killed, all in segments", &options, partitions)?;
    timed("clean stop", || Ok(dir.shutdown()?))?;
    drop(dir);
    let dir = open("stopped cleanly", &options, partitions)?;
    if dir.logs().len() != usize::try_from(partitions)? || !dir.was_clean() {
        return Err("something is missing".into());
    }
    Ok(())
}

fn timed<T>(what: &str, run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    let result = run()?;
    println!("{what}: {:?}", begun.elapsed());
    Ok(result)
}

fn fill(options: &LogDirOptions, partitions: i32) -> Result<(), Failure> {
    let dir = LogDir::open(options.clone())?;
    let topic = TopicName::new("many").map_err(|error| format!("{error:?}"))?;
    for partition in 0..partitions {
        let name = TopicPartition { topic: topic.clone(), partition: PartitionIndex(partition) };
        let log = dir.create(name, TopicId(Uuid::from_random_bits(7)), LogConfig::default())?;
        log.begin_leader_epoch(LeaderEpoch(0))?;
        for number in 0..BATCHES {
            append(&log, number)?;
        }
    }
    while dir.step_flush()? {}
    Ok(())
}

fn append(log: &thalweg_storage::Log, number: i32) -> Result<(), Failure> {
    let builder = BatchBuilder::new(CompressionType::None);
    let mut builder = builder.producer(ProducerId(9), ProducerEpoch(0), Sequence(number));
    builder.push(Timestamp(1), None, Some(&[0x5a; 100]), &[])?;
    let batch = builder.finish()?;
    let header = check_produced(&batch, &ProduceLimits::default())?;
    log.append_as_leader(BytesMut::from(&batch[..]), &header, LeaderEpoch(0))?;
    Ok(())
}

fn open(how: &str, options: &LogDirOptions, partitions: i32) -> Result<LogDir, Failure> {
    let (before, cpu_before) = (resident_bytes()?, cpu_time()?);
    let begun = Instant::now();
    let dir = LogDir::open(options.clone())?;
    let (elapsed, cpu) = (begun.elapsed(), cpu_time()?.saturating_sub(cpu_before));
    let grown = resident_bytes()?.saturating_sub(before);
    let descriptors = std::fs::read_dir("/proc/self/fd")?.count();
    println!(
        "{how}: {partitions} partitions opened in {elapsed:?} ({cpu:?} of processor time), resident memory grew by {} bytes a partition, {descriptors} descriptors",
        grown / u64::try_from(partitions)?
    );
    Ok(dir)
}

/// Passes of the segment writer that find nothing to do.
fn idle_passes(dir: &LogDir) -> Result<(), Failure> {
    // The first ones prepare journal files.
    while dir.step_write_behind()? {}
    let begun = Instant::now();
    for _ in 0..IDLE_PASSES {
        dir.step_write_behind()?;
    }
    println!("an idle pass: {:?}", begun.elapsed() / IDLE_PASSES);
    Ok(())
}

/// Passes that find one partition with something to write, and a checkpoint of all of them.
fn one_busy_partition(dir: &LogDir) -> Result<(), Failure> {
    let logs = dir.logs();
    let log = logs.first().ok_or("there are partitions")?;
    let mut spent = Duration::ZERO;
    for number in 0..5 {
        append(log, BATCHES + number)?;
        while dir.step_flush()? {}
        let begun = Instant::now();
        dir.write_all_behind()?;
        spent += begun.elapsed();
    }
    println!("a pass with one busy partition: {:?}", spent / 5);
    Ok(())
}

/// Processor time of all threads so far, to a hundredth of a second: what a busy machine does not change much.
fn cpu_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no fields in /proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
}

fn resident_bytes() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line.ok_or("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}
