//! The Raft log on a simulated disk: restarts, torn frames, damage, lost power.

use std::path::{Path, PathBuf};

use openraft::vote::RaftVote as _;
use thalweg_env::fs::{EntryKind, Fault, Fs, OpenMode, SimFs, create_dir_all};

use super::*;
use crate::types::{Facts, LeaderId, Payload};

const DIR: &str = "/log";
const FILE_BYTES_MAX: u64 = 400;

fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 1 }, index }
}

fn vote(term: u64) -> Vote {
    Vote::from_leader_id(LeaderId { term, node_id: 1 }, true)
}

fn entry(term: u64, index: u64) -> Entry {
    let fact = bytes::Bytes::from(format!("fact {index} of term {term}"));
    Entry { log_id: id(term, index), payload: Payload::Normal(Facts(vec![fact])) }
}

fn entry_record(term: u64, index: u64) -> Record {
    let entry = entry(term, index);
    Record::Entry { log_id: entry.log_id, encoded: entry_to_proto(&entry).encode_to_vec() }
}

fn entry_bytes(term: u64, index: u64) -> u64 {
    entry_record(term, index).size_bytes() as u64
}

fn disk(seed: u64) -> Arc<SimFs> {
    let fs = SimFs::new(seed);
    create_dir_all(&fs, Path::new(DIR)).unwrap();
    Arc::new(fs)
}

fn open(fs: &Arc<SimFs>) -> Result<Recovered, StartError> {
    Files::open(fs.clone(), Path::new(DIR))
}

fn file_names(fs: &SimFs) -> Vec<PathBuf> {
    let entries = fs.list(Path::new(DIR)).unwrap();
    let files = entries.into_iter().filter(|entry| entry.kind == EntryKind::File);
    files.map(|entry| Path::new(DIR).join(entry.name)).collect()
}

fn length(fs: &SimFs, path: &Path) -> u64 {
    fs.open(path, OpenMode::Read).unwrap().len().unwrap()
}

/// All that a log says.
fn told(contents: &Contents) -> (Summary, Vec<Entry>) {
    (Summary::of(contents), contents.read(..))
}

// ---- Recovery -----------------------------------------------------------------------------------------------------------------

#[test]
fn everything_written_is_found_again() {
    let fs = disk(1);
    let Recovered { mut files, contents } = open(&fs).unwrap();
    assert_eq!(told(&contents), (Summary::default(), Vec::new()));
    files.write([Record::Vote(vote(1)), entry_record(1, 0), entry_record(1, 1)].iter()).unwrap();
    files.write([entry_record(1, 2), Record::Truncated(Some(id(1, 1)))].iter()).unwrap();
    files
        .write([entry_record(2, 2), Record::Vote(vote(2)), Record::Purged(id(1, 0))].iter())
        .unwrap();
    fs.restart_after_power_cut();

    let Recovered { contents, .. } = open(&fs).unwrap();

    let summary = Summary { vote: Some(vote(2)), purged: Some(id(1, 0)), last: Some(id(2, 2)) };
    assert_eq!(told(&contents), (summary, vec![entry(1, 1), entry(2, 2)]));
}

#[test]
fn a_last_frame_torn_at_any_byte_is_cut_and_nothing_before_it() {
    let fs = disk(1);
    let Recovered { mut files, .. } = open(&fs).unwrap();
    files.write([Record::Vote(vote(1)), entry_record(1, 0)].iter()).unwrap();
    let [path] = file_names(&fs).try_into().unwrap();
    let whole_before = length(&fs, &path);
    files.write([entry_record(1, 1)].iter()).unwrap();
    let whole = length(&fs, &path);

    // The zeros that fill the frame up may be missing: they mean nothing.
    let content_end = whole_before + 48 + entry_bytes(1, 1);
    assert!(content_end <= whole);
    for torn_bytes in whole_before..content_end {
        let fs = copy(&fs, &path);
        fs.tamper(&path, |bytes| bytes.truncate(usize::try_from(torn_bytes).unwrap())).unwrap();
        let Recovered { mut files, contents } = open(&fs).unwrap();

        assert_eq!(contents.vote(), Some(vote(1)), "torn at byte {torn_bytes}");
        assert_eq!(contents.read(..), [entry(1, 0)], "torn at byte {torn_bytes}");
        // What is written over the cut is found again.
        files.write([entry_record(2, 1)].iter()).unwrap();
        fs.restart_after_kill();
        assert_eq!(open(&fs).unwrap().contents.read(..), [entry(1, 0), entry(2, 1)]);
    }
}

#[test]
fn a_flipped_byte_below_the_durable_mark_is_refused_or_without_effect() {
    let fs = disk(1);
    let Recovered { mut files, .. } = open(&fs).unwrap();
    files.write([Record::Vote(vote(1)), entry_record(1, 0)].iter()).unwrap();
    files.write([entry_record(1, 1)].iter()).unwrap();
    files.write([Record::Seal].iter()).unwrap();
    let [path] = file_names(&fs).try_into().unwrap();
    let sealed_bytes = length(&fs, &path) - 48;
    let before = told(&open(&fs).unwrap().contents);

    let mut refused_count = 0;
    for position in 0..usize::try_from(sealed_bytes).unwrap() {
        let fs = copy(&fs, &path);
        fs.tamper(&path, |bytes| bytes[position] ^= 0x10).unwrap();
        match open(&fs) {
            Err(StartError::LogCorrupt { .. }) => refused_count += 1,
            // The zeros between two frames mean nothing.
            Ok(Recovered { contents, .. }) => {
                assert_eq!(told(&contents), before, "byte {position}")
            }
            Err(other) => panic!("byte {position}: {other}"),
        }
    }
    assert!(
        refused_count > sealed_bytes * 9 / 10,
        "only {refused_count} of {sealed_bytes} were refused"
    );
}

#[test]
fn the_refusal_of_a_damaged_log_says_what_to_do() {
    let fs = disk(1);
    let Recovered { mut files, .. } = open(&fs).unwrap();
    files.write([Record::Vote(vote(1))].iter()).unwrap();
    files.write([Record::Seal].iter()).unwrap();
    let [path] = file_names(&fs).try_into().unwrap();
    fs.tamper(&path, |bytes| bytes[60] ^= 1).unwrap();

    let text = open(&fs).err().unwrap().to_string();

    assert!(text.contains("must not vote") && text.contains("Restore"), "{text}");
}

/// Twelve entries in several files.
fn several_files(fs: &Arc<SimFs>) -> Files {
    let Recovered { mut files, mut contents } = open(fs).unwrap();
    for index in 0..12 {
        if files.active_bytes() >= FILE_BYTES_MAX {
            files.roll(&Summary::of(&contents)).unwrap();
        }
        contents.append(entry(1, index)).unwrap();
        files.write([entry_record(1, index)].iter()).unwrap();
    }
    files
}

#[test]
fn purged_files_are_deleted_and_the_rest_still_tells_everything() {
    let fs = disk(1);
    let mut files = several_files(&fs);
    let count_before = file_names(&fs).len();
    files.write([Record::Purged(id(1, 8))].iter()).unwrap();

    files.delete_purged(id(1, 8)).unwrap();

    assert!(file_names(&fs).len() < count_before, "{count_before} files before");
    fs.restart_after_power_cut();
    let Recovered { contents, .. } = open(&fs).unwrap();
    assert_eq!(contents.purged(), Some(id(1, 8)));
    assert_eq!(contents.read(..), [entry(1, 9), entry(1, 10), entry(1, 11)]);
}

#[test]
fn a_missing_file_is_refused_wherever_it_was() {
    let fs = disk(1);
    several_files(&fs);
    let names = file_names(&fs);
    assert!(names.len() >= 3);
    for missing in &names[..names.len() - 1] {
        let fs = copy_all(&fs, &names);
        fs.remove_file(missing).unwrap();

        assert!(matches!(open(&fs), Err(StartError::LogCorrupt { .. })), "{}", missing.display());
    }
}

fn copy(fs: &SimFs, path: &Path) -> Arc<SimFs> {
    copy_all(fs, &[path.to_owned()])
}

fn copy_all(fs: &SimFs, paths: &[PathBuf]) -> Arc<SimFs> {
    let target = disk(7);
    for path in paths {
        let bytes = thalweg_env::fs::read_whole(fs, path, u64::MAX).unwrap().unwrap();
        thalweg_env::fs::replace_whole(target.as_ref(), path, &bytes).unwrap();
    }
    target
}

// ---- Power cuts ---------------------------------------------------------------------------------------------------------------

/// Groups that vote, append, truncate and purge over several files.
fn script() -> Vec<Vec<Record>> {
    let mut groups = Vec::new();
    let mut next = 0;
    for term in 1..5 {
        groups.push(vec![Record::Vote(vote(term))]);
        for _ in 0..3 {
            groups.push(vec![entry_record(term, next), entry_record(term, next + 1)]);
            next += 2;
        }
        groups.push(vec![Record::Truncated(Some(id(term, next - 2)))]);
        next -= 1;
        groups.push(vec![Record::Purged(id(term, next - 2))]);
    }
    groups
}

fn follow(contents: &mut Contents, record: &Record) {
    match record {
        Record::Entry { encoded, .. } => {
            let message = crate::codec::decode("entry", encoded.clone().into()).unwrap();
            contents.append(crate::codec::entry_from_proto(message).unwrap()).unwrap();
        }
        Record::Vote(vote) => contents.save_vote(*vote),
        Record::Truncated(last) => contents.truncate(*last),
        Record::Purged(last) => contents.purge(*last),
        Record::Header(_) | Record::Seal => {}
    }
}

/// Writes the script until something fails. What may be found afterwards: the log as flushed, and then as it grows record by record by
/// the group that was under way.
fn run_until_failure(fs: &Arc<SimFs>) -> (Vec<(Summary, Vec<Entry>)>, bool) {
    let mut model = Contents::default();
    let Ok(Recovered { mut files, .. }) = open(fs) else { return (vec![told(&model)], true) };
    for group in script() {
        let mut possible = vec![told(&model)];
        let rolled = if files.active_bytes() >= FILE_BYTES_MAX {
            files.roll(&Summary::of(&model))
        } else {
            Ok(())
        };
        if rolled.is_err() {
            return (possible, true);
        }
        let written = files.write(group.iter());
        for record in &group {
            follow(&mut model, record);
            possible.push(told(&model));
        }
        if written.is_err() {
            return (possible, true);
        }
        if let [Record::Purged(last)] = group.as_slice()
            && files.delete_purged(*last).is_err()
        {
            return (vec![told(&model)], true);
        }
    }
    (vec![told(&model)], false)
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_flushed() {
    let uncut = disk(0);
    let operation_count = {
        run_until_failure(&uncut);
        uncut.operations()
    };
    for seed in 0..6 {
        for operation in 0..operation_count {
            let fs = disk(seed);
            fs.inject(operation, Fault::PowerCut);
            let (possible, _) = run_until_failure(&fs);
            fs.restart_after_power_cut();
            if fs.kind(Path::new(DIR)).unwrap().is_none() {
                continue;
            }

            let found = match open(&fs) {
                Ok(Recovered { contents, .. }) => told(&contents),
                Err(error) => panic!("seed {seed}, operation {operation}: {error}"),
            };

            assert!(possible.contains(&found), "seed {seed}, operation {operation}: {found:?}");
        }
    }
}

// ---- The thread ---------------------------------------------------------------------------------------------------------------

fn opened(fs: &Arc<SimFs>) -> OpenedLog {
    let lock = fs.lock_dir(Path::new("/")).unwrap();
    LogStore::open(fs.clone(), Path::new(DIR), FILE_BYTES_MAX, lock, false).unwrap()
}

/// Writes, votes, new files and purges, each flushed before the next; hands on what was acknowledged.
fn steps(fs: &Arc<SimFs>, mut acknowledged: impl FnMut(Summary)) -> Result<(), ()> {
    let Recovered { mut files, .. } = open(fs).map_err(|_| ())?;
    let mut summary = Summary::default();
    for index in 0..12 {
        let records = [Record::Vote(vote(index + 1)), entry_record(index + 1, index)];
        files.write(records.iter()).map_err(|_| ())?;
        records.iter().for_each(|record| summary.follow(record));
        if index == 8 {
            let purged = Record::Purged(id(4, 3));
            files.write([&purged].into_iter()).map_err(|_| ())?;
            summary.follow(&purged);
        }
        acknowledged(summary);
        if files.active_bytes() > FILE_BYTES_MAX {
            files.roll(&summary).map_err(|_| ())?;
        }
        if index > 8 {
            files.delete_purged(id(4, 3)).map_err(|_| ())?;
        }
    }
    Ok(())
}

#[test]
fn a_disk_that_fails_any_step_loses_nothing_that_was_acknowledged() {
    let operations = {
        let fs = disk(1);
        steps(&fs, drop).unwrap();
        assert!(file_names(&fs).len() >= 2);
        fs.operations()
    };
    assert!(operations > 40, "{operations}");
    let mut failed_count = 0;
    for fault in [Fault::Io, Fault::PowerCut] {
        for failing in 0..operations {
            for is_power_lost in [false, true] {
                let fs = disk(failing);
                fs.inject(failing, fault);
                let mut promised = Summary::default();
                let done = steps(&fs, |summary| promised = summary);
                failed_count += usize::from(done.is_err());
                if is_power_lost || !fs.is_powered() {
                    fs.restart_after_power_cut();
                } else {
                    fs.restart_after_kill();
                }
                create_dir_all(&*fs, Path::new(DIR)).unwrap();
                let what =
                    format!("{fault:?} at {failing} ({done:?}), power lost: {is_power_lost}");
                let Recovered { contents, .. } =
                    open(&fs).unwrap_or_else(|e| panic!("{what}: {e}"));
                let found = Summary::of(&contents);
                let reaches = |found: Option<u64>, promised: Option<u64>| found >= promised;
                assert!(reaches(last_index(&found), last_index(&promised)), "{what}: {found:?}");
                assert!(found.vote >= promised.vote, "{what}: {found:?}");
                assert!(found.purged >= promised.purged, "{what}: {found:?}");
                for entry in contents.read(..) {
                    let index = entry.log_id.index;
                    assert_eq!(entry, self::entry(index + 1, index), "{what}");
                }
            }
        }
    }
    assert!(failed_count > 100, "{failed_count}");
}

fn last_index(summary: &Summary) -> Option<u64> {
    summary.last.map(|last| last.index)
}

#[tokio::test]
async fn a_saved_vote_survives_a_power_cut_at_once() {
    let fs = disk(1);
    let mut log = opened(&fs);

    log.store.save_vote(&vote(3)).await.unwrap();
    fs.restart_after_power_cut();

    assert_eq!(open(&fs).unwrap().contents.vote(), Some(vote(3)));
}

#[tokio::test]
async fn after_a_failed_flush_everything_is_refused_even_when_the_disk_is_well_again() {
    let fs = disk(1);
    let mut log = opened(&fs);
    log.store.save_vote(&vote(1)).await.unwrap();
    // The next operations are the write and its flush.
    fs.inject(fs.operations() + 1, Fault::Io);

    assert!(log.store.save_vote(&vote(2)).await.is_err());
    assert!(log.store.save_vote(&vote(2)).await.is_err());
    assert!(log.store.truncate_after(None).await.is_err());
    assert_eq!(log.store.read_vote().await.unwrap(), Some(vote(1)));
}

#[tokio::test]
async fn an_idle_log_is_sealed_so_that_damage_to_its_last_vote_is_noticed() {
    let fs = disk(1);
    let mut log = opened(&fs);
    log.store.save_vote(&vote(1)).await.unwrap();
    while log.counters.seal_count() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    log.writer.close().await;
    let [path] = file_names(&fs).try_into().unwrap();
    // The vote stands before the seal, which is one bare frame header.
    let vote_end = usize::try_from(length(&fs, &path) - 48).unwrap();
    fs.tamper(&path, |bytes| bytes[vote_end - 20] ^= 1).unwrap();

    assert!(matches!(open(&fs), Err(StartError::LogCorrupt { .. })));
}

#[tokio::test]
async fn a_closed_log_refuses_jobs_and_releases_its_lock() {
    let fs = disk(1);
    let OpenedLog { mut store, writer, .. } = opened(&fs);
    assert!(fs.lock_dir(Path::new("/")).is_err());

    writer.close().await;

    assert!(store.save_vote(&vote(1)).await.is_err());
    assert!(fs.lock_dir(Path::new("/")).is_ok());
}

#[tokio::test]
async fn an_entry_waits_on_a_full_disk_and_is_durable_when_there_is_space() {
    let fs = disk(5);
    let lock = fs.lock_dir(Path::new(DIR)).unwrap();
    let opened = LogStore::open(fs.clone(), Path::new(DIR), FILE_BYTES_MAX, lock, false).unwrap();
    let mut store = opened.store;
    store.save_vote(&vote(1)).await.unwrap();
    // Full to the last byte: neither the vote nor the next file finds room.
    fs.set_capacity_bytes(1);

    let (mut waiting, next) = (store.clone(), vote(2));
    let saved = tokio::spawn(async move { waiting.save_vote(&next).await });
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    assert!(!saved.is_finished(), "nothing is said before it is durable");

    fs.set_capacity_bytes(u64::MAX);
    saved.await.unwrap().unwrap();
    // Files are begun again, too.
    for term in 3..40 {
        store.save_vote(&vote(term)).await.unwrap();
    }
    assert!(file_names(&fs).len() > 1);
    drop(store);
    opened.writer.close().await;
    fs.restart_after_power_cut();
    assert_eq!(open(&fs).unwrap().contents.vote(), Some(vote(39)));
}

#[tokio::test]
async fn a_log_that_waits_for_space_can_be_closed() {
    let fs = disk(6);
    let lock = fs.lock_dir(Path::new(DIR)).unwrap();
    let opened = LogStore::open(fs.clone(), Path::new(DIR), FILE_BYTES_MAX, lock, false).unwrap();
    let mut store = opened.store;
    store.save_vote(&vote(1)).await.unwrap();
    fs.set_capacity_bytes(1);
    let saved = tokio::spawn(async move { store.save_vote(&vote(2)).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;

    opened.writer.close().await;

    assert!(saved.await.unwrap().is_err());
    fs.set_capacity_bytes(u64::MAX);
    fs.restart_after_kill();
    assert_eq!(open(&fs).unwrap().contents.vote(), Some(vote(1)));
}
