//! A whole log dir on a simulated disk, one of whose files is not what was written there.
//!
//! The first byte of an input chooses (bit 0) whether the last stop was clean, (bit 1) whether there is a checkpoint, (bit 2) whether the
//! rest replaces the file or changes it in places: position 2, length 1, that many bytes, and so on.
//!
//! The dir must open or be refused with a typed error. What it serves must be what was written at that offset; nothing may be missing
//! but what a torn write explains; damage to a cache may not even be noticed by a reader.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use thalweg_env::fs::{EntryKind, Fs as _, OpenMode, SimFs};
use thalweg_env::{SeededRandom, SimClock};
use thalweg_log_core::{LogConfig, ProducerBatch};
use thalweg_record::{BatchBuilder, Batches, ProduceLimits, check_produced, verify_crc};
use thalweg_storage::{AppendError, Chunk, Log, LogDir, LogDirOptions, NoObserver, ReadError};
use thalweg_types::{
    CompressionType, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    Timestamp, TopicId, TopicIdPartition, TopicName, TopicPartition, Uuid,
};

use super::Choices;
use crate::{Seeds, peak};

const DIR: &str = "/data";
const FOLDER: &str = "/data/orders-0";

/// Most memory of opening the small dir and reading it twice: the disk itself, pieces of files, the log.
const OPEN_BYTES_MAX: usize = 16 << 20;

const BATCHES: i32 = 14;

/// Reads of this size go past the page cache.
const LARGE_READ_BYTES: usize = 1 << 20;

/// A dir as it was left.
struct Sample {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Every batch as stored, in order.
    batches: Vec<(Offset, Vec<u8>)>,
    producers: Vec<ProducerBatch>,
}

/// After a clean stop: everything is in segments.
static CLEAN: LazyLock<Sample> = LazyLock::new(|| Sample::make(true));

/// After a crash: the newest batches are in the journal only.
static CRASHED: LazyLock<Sample> = LazyLock::new(|| Sample::make(false));

// ---- Making the dir ----

pub(super) fn options(fs: &SimFs) -> LogDirOptions {
    LogDirOptions {
        journal_file_bytes: 8 << 10,
        journal_bytes_max: 48 << 10,
        tail_bytes_max: 32 << 10,
        threads: false,
        ..LogDirOptions::new(
            DIR.into(),
            Arc::new(fs.clone()),
            Arc::new(SimClock::new(Timestamp(1_000_000))),
            Arc::new(SeededRandom::new(1)),
            Arc::new(NoObserver),
        )
    }
}

pub(super) fn partition(index: i32) -> (TopicPartition, TopicIdPartition) {
    let (topic_id, partition) = (TopicId(Uuid::from_random_bits(77)), PartitionIndex(index));
    let topic = TopicName::new("orders").expect("a good name");
    (TopicPartition { topic, partition }, TopicIdPartition { topic_id, partition })
}

pub(super) fn config() -> LogConfig {
    LogConfig { segment_bytes: 900, index_interval_bytes: 150, ..LogConfig::default() }
}

/// One record of an idempotent producer, as it sends it.
pub(super) fn produced(producer: i64, sequence: i32, value: &[u8]) -> BytesMut {
    let mut builder = BatchBuilder::new(CompressionType::None).producer(
        ProducerId(producer),
        ProducerEpoch(0),
        Sequence(sequence),
    );
    let timestamp = Timestamp(1_000 + i64::from(sequence) * 10);
    builder.push(timestamp, None, Some(value), &[]).expect("it is small");
    builder.finish().expect("it has a record")
}

pub(super) fn append(log: &Log, batch: BytesMut) -> Result<Offset, AppendError> {
    let header = check_produced(&batch, &ProduceLimits::default()).expect("our own batch");
    log.append_as_leader(batch, &header, log.leader_epoch()).map(|appended| appended.base_offset)
}

impl Sample {
    fn make(clean: bool) -> Self {
        let fs = SimFs::new(1);
        let dir = LogDir::open(options(&fs)).expect("an empty disk");
        let (name, id) = partition(0);
        let log = dir.create(name, id.topic_id, config()).expect("an empty dir");
        log.begin_leader_epoch(LeaderEpoch(0)).expect("the first");
        for number in 0..BATCHES {
            if number == 5 {
                log.begin_leader_epoch(LeaderEpoch(3)).expect("a newer one");
            }
            let value = vec![number.to_le_bytes()[0]; 120];
            append(&log, produced(7, number, &value)).expect("there is room");
            dir.step_flush().expect("a sound disk");
            if number == 9 {
                dir.write_all_behind().expect("a sound disk");
            }
        }
        let batches = read_all(&log, Offset(0)).expect("a sound disk");
        let producers = producer_batches(&log);
        if clean {
            dir.shutdown().expect("a sound disk");
        }
        drop((log, dir));
        fs.restart_after_kill();
        let mut files = Vec::new();
        collect(&fs, Path::new(DIR), &mut files);
        Self { files, batches, producers }
    }

    /// The disk again, with `change` made to one file, if there is such a file.
    fn disk(&self, path: &Path, mode: u8, change: impl FnOnce(&mut Vec<u8>)) -> SimFs {
        let fs = SimFs::new(1);
        let is_left_out = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            mode & 1 == 0 && name == "clean-shutdown" || mode & 2 == 0 && name == "checkpoint"
        };
        let mut files: Vec<_> =
            self.files.iter().filter(|(path, _)| !is_left_out(path)).cloned().collect();
        if let Some((_, bytes)) = files.iter_mut().find(|(known, _)| known == path) {
            change(bytes);
        }
        for (path, bytes) in files {
            let parent = path.parent().expect("no file is the root");
            thalweg_env::fs::create_dir_all(&fs, parent).expect("a sound disk");
            let file = fs.open(&path, OpenMode::CreateNew).expect("a sound disk");
            file.write_all_at(&bytes, 0).expect("a sound disk");
            file.sync_all().expect("a sound disk");
            fs.sync_dir(parent).expect("a sound disk");
        }
        fs
    }
}

fn collect(fs: &SimFs, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs.list(folder).expect("a sound disk") {
        let path = folder.join(entry.name);
        match entry.kind {
            EntryKind::Directory => collect(fs, &path, files),
            EntryKind::File => {
                let bytes = thalweg_env::fs::read_whole(fs, &path, u64::MAX);
                files.push((path, bytes.expect("a sound disk").expect("it was listed")));
            }
        }
    }
}

// ---- Reading it ----

/// All batches from an offset to the log end, each with its base offset.
pub(super) fn read_all(log: &Log, mut from: Offset) -> Result<Vec<(Offset, Vec<u8>)>, ReadError> {
    let end = log.offsets().log_end();
    let mut found = Vec::new();
    while from < end {
        let bytes = read_from(log, from, 1_000)?;
        assert!(!bytes.is_empty(), "nothing at {from} of {end}");
        for batch in Batches::new(&bytes) {
            let (header, batch) = batch.expect("only whole batches are served");
            assert!(verify_crc(batch, &header).is_ok(), "a damaged batch at {from} was served");
            assert!(header.base_offset >= from || found.is_empty(), "{from} is served again");
            found.push((header.base_offset, batch.to_vec()));
            from = header.next_offset();
        }
    }
    Ok(found)
}

pub(super) fn read_from(log: &Log, from: Offset, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    let slice = log.read(from, log.offsets().log_end(), bytes_max, true)?;
    let mut bytes = Vec::new();
    for chunk in &slice.chunks {
        match chunk {
            Chunk::Tail(batches) => bytes.extend_from_slice(batches),
            Chunk::File(range) => bytes.extend_from_slice(&range.read()?.bytes),
        }
    }
    Ok(bytes)
}

fn producer_batches(log: &Log) -> Vec<ProducerBatch> {
    log.inspect(|core| {
        let states = core.producers().iter();
        states.flat_map(|(_, state)| state.batches.iter().copied().collect::<Vec<_>>()).collect()
    })
}

// ---- Targets ----

/// What a damaged file may cost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stake {
    /// It can be made again from the batches: nothing.
    Cache,
    /// It holds the batches: what is damaged is not served.
    Truth,
}

fn check(sample: &Sample, path: &str, stake: Stake, input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let fs = sample.disk(Path::new(path), *mode, |bytes| change(bytes, *mode, rest));
    peak::within(OPEN_BYTES_MAX, || {
        let first = open_and_read(sample, &fs, *mode, stake);
        fs.restart_after_kill();
        let second = open_and_read(sample, &fs, *mode, stake);
        assert_eq!(first, second, "a second start finds something else");
    });
}

fn change(bytes: &mut Vec<u8>, mode: u8, rest: &[u8]) {
    if mode & 4 == 4 {
        *bytes = rest.to_vec();
        return;
    }
    let mut choices = Choices::new(rest);
    while !choices.is_empty() {
        let at = usize::from(u16::from_be_bytes([choices.byte(), choices.byte()]));
        let length = usize::from(choices.byte());
        if length == 255 {
            bytes.truncate(at);
            continue;
        }
        let piece = choices.take(length);
        if let Some(place) = bytes.get_mut(at..at + piece.len()) {
            place.copy_from_slice(piece);
        }
    }
}

/// Opens the dir and reads what there is; says how far the log goes, or `None` when it is not served.
fn open_and_read(sample: &Sample, fs: &SimFs, mode: u8, stake: Stake) -> Option<Offset> {
    let dir = match LogDir::open(options(fs)) {
        Ok(dir) => dir,
        Err(error) => {
            assert!(stake == Stake::Truth, "a cache keeps the dir from opening: {error}");
            return None;
        }
    };
    let (_, id) = partition(0);
    let Some(log) = dir.log(&id) else {
        assert!(stake == Stake::Truth, "a cache took the log: {:?}", dir.suspects());
        assert!(!dir.suspects().is_empty(), "the log is gone without a word");
        return None;
    };
    let end = log.offsets().log_end();
    if stake == Stake::Cache {
        assert_eq!(end, Offset(i64::from(BATCHES)));
        let read = read_all(&log, Offset(0)).expect("the batches are sound");
        assert_eq!(read, sample.batches);
        assert_eq!(producer_batches(&log), sample.producers);
    }
    for (offset, stored) in &sample.batches {
        if *offset >= end {
            break;
        }
        // Every place by itself, so that each look-up is tried, in both ways of reading a segment.
        for bytes_max in [1, LARGE_READ_BYTES] {
            match read_from(&log, *offset, bytes_max) {
                Ok(bytes) => {
                    let first = Batches::new(&bytes).next().and_then(Result::ok);
                    let (_, batch) = first.unwrap_or_else(|| panic!("nothing at {offset}"));
                    assert_eq!(without_epoch(batch), without_epoch(stored), "at {offset}");
                }
                Err(error) => assert!(stake == Stake::Truth, "at {offset}: {error}"),
            }
        }
    }
    look_up_times(&log, stake);
    let is_cut = end < Offset(i64::from(BATCHES));
    // What a checkpoint knows to be durable is not cut.
    assert!(!is_cut || mode & 2 == 0 || end >= Offset(10), "cut at {end} in spite of a checkpoint");
    drop((log, dir));
    Some(end)
}

/// A batch without its leader epoch, which no checksum covers.
fn without_epoch(batch: &[u8]) -> (&[u8], &[u8]) {
    let (place, rest) = batch.split_at(batch.len().min(12));
    (place, rest.get(4..).unwrap_or_default())
}

/// A look-up by time may fail on damage; what it finds is there, and not older than asked.
fn look_up_times(log: &Log, stake: Stake) {
    for target in [0, 1_005, 1_070, 1_130, 2_000] {
        match log.offset_for_timestamp(Timestamp(target)) {
            Ok(Some(found)) => {
                assert!(found.timestamp >= Timestamp(target), "{found:?} for {target}");
                assert_eq!(found.timestamp.0, 1_000 + found.offset.0 * 10);
            }
            Ok(None) => {}
            Err(error) => assert!(stake == Stake::Truth, "for {target}: {error}"),
        }
    }
    let _ = log.max_timestamp();
}

/// The second of the closed segments, and the newest offsets that are in a segment in both samples.
const SEGMENT: &str = "00000000000000000004";

fn in_folder(extension: &str) -> String {
    format!("{FOLDER}/{SEGMENT}.{extension}")
}

pub(super) fn index(input: &[u8]) {
    check(&CLEAN, &in_folder("index"), Stake::Cache, input);
}

pub(super) fn time_index(input: &[u8]) {
    check(&CLEAN, &in_folder("timeindex"), Stake::Cache, input);
}

pub(super) fn segment(input: &[u8]) {
    check(&CLEAN, &in_folder("log"), Stake::Truth, input);
}

pub(super) fn snapshot(input: &[u8]) {
    let newest = newest("snapshot");
    check(&CLEAN, &newest, Stake::Cache, input);
}

pub(super) fn epochs(input: &[u8]) {
    check(&CLEAN, &format!("{FOLDER}/leader-epoch-checkpoint"), Stake::Cache, input);
}

pub(super) fn checkpoint(input: &[u8]) {
    check(&CLEAN, &format!("{DIR}/checkpoint"), Stake::Cache, input);
}

pub(super) fn journal(input: &[u8]) {
    check(&CRASHED, &journal_file(), Stake::Truth, input);
}

fn journal_file() -> String {
    let mut files = CRASHED.files.iter().map(|(path, _)| path);
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "journal"));
    file.expect("a dir has a journal").to_string_lossy().into_owned()
}

fn newest(extension: &str) -> String {
    let files = CLEAN.files.iter().map(|(path, _)| path);
    let of_kind = files.filter(|path| path.extension().is_some_and(|known| known == extension));
    of_kind.max().expect("there is one").to_string_lossy().into_owned()
}

// ---- Seeds ----

/// A file of the dir after a clean stop.
pub(super) fn sample_file(name: &str) -> Vec<u8> {
    let found = CLEAN.files.iter().find(|(path, _)| path.ends_with(name));
    found.unwrap_or_else(|| panic!("no {name} in the sample")).1.clone()
}

/// The file as it is, whole and in places, with and without the clean mark and the checkpoint.
fn seeds_of(bytes: &[u8]) -> Seeds {
    let places = [0_u8, 3, 12, 40, 77];
    let mut seeds = Seeds::new();
    for mode in 0..4_u8 {
        seeds.push((format!("whole-{mode}"), [&[mode | 4], bytes].concat()));
        let changes = places.map(|at| [0, at, 2, 0x55, 0xaa]).concat();
        seeds.push((
            format!("changed-{mode}"),
            [&[mode], &changes[..5 * usize::from(mode) + 5]].concat(),
        ));
        let middle = u16::try_from(bytes.len() / 2).unwrap_or(u16::MAX).to_be_bytes();
        seeds.push((format!("cut-{mode}"), [&[mode][..], &middle, &[255]].concat()));
        seeds.push((format!("same-{mode}"), vec![mode]));
    }
    seeds
}

pub(super) fn index_seeds() -> Seeds {
    seeds_of(&sample_file(&format!("{SEGMENT}.index")))
}

pub(super) fn time_index_seeds() -> Seeds {
    seeds_of(&sample_file(&format!("{SEGMENT}.timeindex")))
}

pub(super) fn segment_seeds() -> Seeds {
    seeds_of(&sample_file(&format!("{SEGMENT}.log")))
}

pub(super) fn snapshot_seeds() -> Seeds {
    seeds_of(&sample_file(&newest("snapshot")))
}

pub(super) fn epochs_seeds() -> Seeds {
    seeds_of(&sample_file("leader-epoch-checkpoint"))
}

pub(super) fn checkpoint_seeds() -> Seeds {
    seeds_of(&sample_file("checkpoint"))
}

pub(super) fn journal_seeds() -> Seeds {
    let path = journal_file();
    let found = CRASHED.files.iter().find(|(known, _)| known == Path::new(&path));
    seeds_of(&found.expect("it is there").1)
}
