//! Every small file of a log dir, flipped and cut at every byte: noticed before anything wrong is served.
//!
//! A dir with two logs is left behind by a kill or by a clean stop. Then, one at a time, a bit of each byte of each file is flipped, and each file is
//! cut at each byte. The next start must refuse, set the log aside, or serve: and what it serves is what was there, all of it, or an error at
//! the damaged place.

use std::path::Path;

use thalweg_env::fs::{EntryKind, Fs as _, read_whole, replace_whole};

use super::*;
use crate::ReadError;

/// What must be found again.
#[derive(Debug, PartialEq)]
struct Contents {
    log_start: Offset,
    /// Base offset and checksum of all bytes, header included.
    batches: Vec<(Offset, u32)>,
    next_sequence: Option<i32>,
    leader_epoch: LeaderEpoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Clean,
    /// A kill after both logs' ends were taken back.
    Truncated,
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1_500, index_interval_bytes: 200, ..LogConfig::default() }
}

/// A dir with closed and active segments, snapshots, epochs, and frames in the journal that segments lack.
fn written(end: End) -> (Bench, Vec<Contents>) {
    written_with(end, config())
}

fn written_with(end: End, config: LogConfig) -> (Bench, Vec<Contents>) {
    let mut bench = Bench::new(1);
    bench.options.journal_file_bytes = 8 << 10;
    let dir = bench.open();
    let logs = [new_log(&dir, 0), new_log(&dir, 1)];
    for log in &logs {
        log.configure(config.clone());
    }
    let mut sequence = 0;
    let mut produce = |count: u8| {
        for number in 0..count {
            for log in &logs {
                let timestamp = 1_000_000 + i64::from(sequence);
                let value = [number; 150];
                append(log, batch(&[&value], timestamp, Some((9, 0, sequence)))).unwrap();
            }
            sequence += 1;
        }
        dir.step_flush().unwrap();
        dir.step_flush().unwrap();
    };
    produce(12);
    logs[0].begin_leader_epoch(LeaderEpoch(3)).unwrap();
    dir.write_all_behind().unwrap();
    logs[0].advance_high_watermark(logs[0].offsets().log_end());
    logs[0].delete_records(Offset(2)).unwrap();
    dir.step_flush().unwrap();
    dir.write_all_behind().unwrap();
    match end {
        End::Clean => dir.shutdown().unwrap(),
        End::Kill => produce(3),
        End::Truncated => {
            produce(3);
            for log in &logs {
                log.truncate(Offset(13), true).unwrap();
                log.begin_leader_epoch(LeaderEpoch(5)).unwrap();
                append(log, batch(&[&[7; 150]], 1_000_100, Some((9, 0, 13)))).unwrap();
            }
            dir.step_flush().unwrap();
            dir.step_flush().unwrap();
        }
    }
    let contents = logs.iter().map(|log| contents(log).unwrap()).collect();
    drop((dir, logs));
    bench.fs.restart_after_kill();
    (bench, contents)
}

fn contents(log: &Log) -> Result<Contents, ReadError> {
    let log_start = log.offsets().log_start();
    let end = log.offsets().log_end();
    let (mut batches, mut from) = (Vec::new(), log_start);
    while from < end {
        for chunk in log.read(from, end, 400, true)?.chunks {
            let bytes = match chunk {
                Chunk::Tail(bytes) => bytes,
                Chunk::File(range) => range.read()?.bytes,
            };
            for batch in Batches::new(&bytes) {
                let (header, batch) = batch.expect("only whole batches are given out");
                thalweg_record::verify_crc(batch, &header).expect("only sound ones");
                batches.push((header.base_offset, crc_fast::crc32_iscsi(batch)));
                from = header.next_offset();
            }
        }
    }
    let next_sequence = log.inspect(|core| {
        let last = core.producers().get(ProducerId(9))?.batches.back().copied()?;
        Some(last.last_sequence.0 + 1)
    });
    Ok(Contents { log_start, batches, next_sequence, leader_epoch: log.leader_epoch() })
}

fn files(fs: &SimFs, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs.list(folder).unwrap() {
        let path = folder.join(&entry.name);
        match entry.kind {
            EntryKind::File => found.push(path),
            EntryKind::Directory => files(fs, &path, found),
        }
    }
}

fn copy(source: &SimFs, paths: &[PathBuf]) -> SimFs {
    let target = SimFs::new(7);
    for path in paths {
        thalweg_env::fs::create_dir_all(&target, path.parent().unwrap()).unwrap();
        let bytes = read_whole(source, path, 1 << 20).unwrap().unwrap();
        replace_whole(&target, path, &bytes).unwrap();
    }
    target
}

/// How the next start took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    Refused,
    SetAside,
    ReadError,
    /// The end of the journal is missing, mark of its durability and all: as if it had never been written.
    Torn,
    Whole,
}

/// `may_be_torn`: what is missing may have been the end of a write.
fn start_on(
    bench: &Bench,
    fs: SimFs,
    expected: &[Contents],
    may_be_torn: bool,
    what: &str,
) -> Taken {
    let options = LogDirOptions { fs: Arc::new(fs), ..bench.options.clone() };
    let dir = match LogDir::open(options) {
        Ok(dir) => dir,
        Err(OpenError::Corrupt { .. }) => return Taken::Refused,
        Err(error) => panic!("{what}: {error}"),
    };
    let mut taken = Taken::Whole;
    for (partition, expected) in expected.iter().enumerate() {
        let partition = i32::try_from(partition).unwrap();
        let Some(log) = dir.log(&id(partition)) else {
            let suspect = dir.suspects().iter().any(|suspect| suspect.name == name(partition));
            assert!(suspect, "{what}: partition {partition} is gone without a word");
            taken = taken.min(Taken::SetAside);
            continue;
        };
        match contents(&log) {
            Ok(found) if may_be_torn && found != *expected => {
                let count = found.batches.len();
                assert_eq!(found.batches[..], expected.batches[..count], "{what}");
                assert!(count >= expected.batches.len() - 2, "{what}: only {count}");
                taken = taken.min(Taken::Torn);
            }
            Ok(found) => assert_eq!(found, *expected, "{what}"),
            Err(ReadError::Corrupt { .. }) => taken = taken.min(Taken::ReadError),
            Err(error) => panic!("{what}: {error}"),
        }
        // Look-ups by time lead to the same record, or to the damage.
        match log.offset_for_timestamp(Timestamp(1_000_007)) {
            Ok(found) => assert_eq!(found.map(|f| f.offset), Some(Offset(7)), "{what}"),
            Err(ReadError::Corrupt { .. }) => taken = taken.min(Taken::ReadError),
            Err(error) => panic!("{what}: {error}"),
        }
    }
    taken
}

/// The bytes of a file that are worth a loop: all of a small one, the end of what is used of a journal file or a segment.
fn interesting(path: &Path, bytes: &[u8]) -> std::ops::Range<usize> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let name = path.to_string_lossy();
    if name.ends_with(".journal") || name.ends_with(".log") {
        return used.saturating_sub(330)..used;
    }
    0..bytes.len()
}

fn damage_every_byte(end: End, damage: impl Fn(&mut Vec<u8>, usize), word: &str) {
    let (bench, expected) = written(end);
    let mut paths = Vec::new();
    files(&bench.fs, Path::new("/data"), &mut paths);
    let mut tally: BTreeMap<(String, Taken), usize> = BTreeMap::new();
    // The second log is a witness: what happens to the first is none of its business.
    for path in paths.iter().filter(|path| !path.starts_with("/data/orders-1")) {
        let pristine = read_whole(&bench.fs, path, 1 << 20).unwrap().unwrap();
        for at in interesting(path, &pristine) {
            let fs = copy(&bench.fs, &paths);
            fs.tamper(path, |bytes| damage(bytes, at)).unwrap();
            let is_journal = path.extension().is_some_and(|extension| extension == "journal");
            let may_be_torn = is_journal && word == "cut at";
            let what = format!("{word} byte {at} of {} after {end:?}", path.display());
            let taken = start_on(&bench, fs, &expected, may_be_torn, &what);
            let kind = path.extension().or_else(|| path.file_name()).unwrap_or_default();
            *tally.entry((kind.to_string_lossy().into_owned(), taken)).or_default() += 1;
        }
    }
    // Which file answers how is told once, so that a change of it is seen.
    let kinds: std::collections::BTreeSet<_> = tally.keys().map(|(kind, _)| kind.clone()).collect();
    for kind in
        ["log", "index", "timeindex", "snapshot", "checkpoint", "metadata", "meta", "journal"]
    {
        assert!(kinds.contains(kind), "{kind} was not looked at: {kinds:?}");
    }
    for kind in ["snapshot", "checkpoint", "index", "timeindex", "clean-shutdown"] {
        let harmless = tally.keys().filter(|(name, _)| name == kind);
        assert!(harmless.clone().all(|(_, taken)| *taken == Taken::Whole), "{kind}: {tally:?}");
    }
    println!("{word} after {end:?}: {tally:?}");
}

#[test]
fn a_read_that_fails_is_an_error_of_that_call_and_of_nothing_else() {
    let (bench, expected) = written(End::Kill);
    let mut paths = Vec::new();
    files(&bench.fs, Path::new("/data"), &mut paths);
    let reads = {
        let fs = copy(&bench.fs, &paths);
        let before = fs.reads();
        start_on(&bench, fs.clone(), &expected, false, "no fault");
        fs.reads() - before
    };
    assert!(reads > 50, "{reads}");
    let (mut refused, mut failed, mut unharmed) = (0, 0, 0);
    for failing in 0..reads {
        let fs = copy(&bench.fs, &paths);
        fs.inject_read_error(fs.reads() + failing);
        let options = LogDirOptions { fs: Arc::new(fs.clone()), ..bench.options.clone() };
        match LogDir::open(options) {
            Err(OpenError::Io { .. }) => refused += 1,
            Err(error) => panic!("read {failing}: {error}"),
            Ok(dir) => {
                assert_eq!(dir.suspects(), [], "read {failing}");
                for (partition, expected) in (0..).zip(&expected) {
                    let log = dir.log(&id(partition)).unwrap();
                    match contents(&log) {
                        Ok(found) => assert_eq!(found, *expected, "read {failing}"),
                        Err(ReadError::Io { .. }) => {
                            failed += 1;
                            // The same reader again.
                            assert_eq!(contents(&log).unwrap(), *expected, "read {failing}");
                        }
                        Err(error) => panic!("read {failing}: {error}"),
                    }
                }
                assert!(dir.failure().is_none() && dir.damages().is_empty());
                unharmed += 1;
            }
        }
        // And the next start, with the fault gone.
        fs.restart_after_kill();
        let taken = start_on(&bench, fs, &expected, false, &format!("after read {failing}"));
        assert_eq!(taken, Taken::Whole, "read {failing}");
    }
    assert!(refused > 5 && failed > 5 && unharmed > failed, "{refused} {failed} {unharmed}");
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_before_anything_wrong_is_served() {
    for end in [End::Kill, End::Clean, End::Truncated] {
        damage_every_byte(end, |bytes, at| bytes[at] ^= 1 << (at % 8), "flipped");
    }
}

#[test]
fn a_file_cut_anywhere_is_noticed_before_anything_is_missing() {
    for end in [End::Kill, End::Clean, End::Truncated] {
        damage_every_byte(end, |bytes, at| bytes.truncate(at), "cut at");
    }
}

/// Removes each segment of the first log in turn, with its indexes or without them.
fn lose_each_segment(end: End) -> BTreeMap<PathBuf, Taken> {
    let (bench, expected) = written_with(end, LogConfig { segment_bytes: 800, ..config() });
    let mut paths = Vec::new();
    files(&bench.fs, Path::new("/data"), &mut paths);
    let is_segment = |path: &&PathBuf| {
        path.starts_with("/data/orders-0") && path.extension().is_some_and(|ending| ending == "log")
    };
    let mut found = BTreeMap::new();
    for path in paths.iter().filter(is_segment) {
        for extensions in [&["log"][..], &["log", "index", "timeindex"]] {
            let fs = copy(&bench.fs, &paths);
            for extension in extensions {
                fs.remove_file(&path.with_extension(extension)).unwrap();
            }
            let what = format!("{} lost after {end:?}", path.display());
            let taken = start_on(&bench, fs, &expected, false, &what);
            found.insert(path.clone(), taken);
        }
    }
    found
}

#[test]
fn a_missing_segment_sets_the_log_aside_wherever_it_was() {
    for end in [End::Kill, End::Clean, End::Truncated] {
        let found = lose_each_segment(end);
        assert!(found.len() >= 3, "{found:?}");
        assert!(found.values().all(|taken| *taken == Taken::SetAside), "{end:?}: {found:?}");
    }
}
