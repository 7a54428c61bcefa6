//! Disks that fail, fill up or rot.

use thalweg_env::fs::{Fault, read_whole};
use thalweg_types::{Durability, ErrorCode};

use super::*;

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_any_more() {
    let bench = Bench::new(1);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    append(&log, batch(&[b"flushed"], 1, None)).unwrap();
    dir.step_flush().unwrap();
    append(&log, batch(&[b"lost"], 2, None)).unwrap();
    bench.fs.inject(bench.fs.operations(), Fault::Io);
    assert!(dir.step_flush().is_err());
    // A second flush would succeed and prove nothing.
    assert!(dir.step_flush().is_err());
    assert_eq!(log.offsets().durable_end(), Offset(1));
    assert_eq!(bench.heard.flushed.lock().len(), 1);
    assert_eq!(bench.heard.failures.load(Ordering::Relaxed), 1);
    let refused = append(&log, batch(&[b"no"], 3, None)).unwrap_err();
    assert!(matches!(refused, AppendError::Failed(_)));
    assert_eq!(refused.code(), ErrorCode::KafkaStorageError);
    assert!(dir.step_write_behind().is_err() && dir.shutdown().is_err());
}

#[test]
fn a_failed_write_anywhere_fails_the_dir_or_changes_nothing() {
    // Every operation of a short life fails in turn; the next start finds what was flushed.
    for failing in 0..120 {
        let bench = Bench::new(failing);
        let Ok(dir) = LogDir::open(bench.options.clone()) else { panic!("no fault yet") };
        let log = new_log(&dir, 0);
        bench.fs.inject(bench.fs.operations() + failing, Fault::Io);
        let mut flushed = Offset(0);
        for number in 0..60 {
            let _ = append(&log, batch(&[&[number; 300]], 1, None));
            if dir.step_flush().is_ok() {
                flushed = log.offsets().durable_end();
            }
            let _ = dir.step_write_behind();
        }
        drop((dir, log));
        bench.fs.restart_after_power_cut();
        let dir = bench.open();
        let log = dir.log(&id(0)).unwrap();
        assert!(log.offsets().log_end() >= flushed, "operation {failing}");
        assert_eq!(read_all(&log, Offset(0)).len() as i64, log.offsets().log_end().0);
    }
}

#[test]
fn journal_files_begun_and_lost_between_two_flushes_lose_nothing_that_was_flushed() {
    for seed in 0..150 {
        let mut bench = Bench::new(seed);
        bench.options.tail_bytes_max = 1 << 20;
        let dir = bench.open();
        let log = new_log(&dir, 0);
        if seed % 3 > 0 {
            // Written to the journal's files at once, not with the next flush.
            log.configure(LogConfig { durability: Durability::Replicated, ..LogConfig::default() });
        }
        for number in 0..8 {
            append(&log, batch(&[&[number; 500]], 1, None)).unwrap();
        }
        dir.step_flush().unwrap();
        // Three more files are begun; any of their headers and frames may survive, in any mixture.
        for number in 8..80 {
            append(&log, batch(&[&[number; 500]], 1, None)).unwrap();
        }
        let before = read_all(&log, Offset(0));
        drop((dir, log));
        for _ in 0..2 {
            bench.fs.restart_after_power_cut();
            let dir = bench.open();
            let log = dir.log(&id(0)).unwrap();
            let found = read_all(&log, Offset(0));
            assert!(found.len() >= 8, "seed {seed}: {}", found.len());
            assert_eq!(found[..], before[..found.len()], "seed {seed}");
        }
    }
}

#[test]
fn rot_in_a_segment_is_noticed_and_never_served() {
    let bench = Bench::new(4);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    for number in 0..30 {
        append(&log, batch(&[&[number; 500]], 1, None)).unwrap();
    }
    dir.shutdown().unwrap();
    drop((dir, log));
    let path = Path::new("/data/orders-0/00000000000000000000.log");
    bench.fs.tamper(path, |bytes| bytes[5_000] ^= 1).unwrap();
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    let read = |from, bytes_max| match &log
        .read(Offset(from), Offset(30), bytes_max, true)
        .unwrap()
        .chunks[..]
    {
        [Chunk::File(range)] => range.read(),
        other => panic!("{other:?}"),
    };
    assert!(read(0, 600).is_ok() && read(20, 600).is_ok());
    let damaged: Vec<_> = (0..30).filter(|from| read(*from, 600).is_err()).collect();
    assert_eq!(damaged.len(), 1);
    // What lies before the damage is served, however much is asked for.
    assert_eq!(read(0, 60_000).unwrap().next_offset, Offset(damaged[0]));
    let error = read(damaged[0], 60_000).unwrap_err();
    assert_eq!(error.code(), ErrorCode::CorruptMessage);
    let damages = dir.damages();
    assert_eq!(damages.len(), 1, "told once: {damages:?}");
    assert_eq!(damages[0].path, path);
    // Records go on being taken, and are served.
    log.configure(LogConfig::default());
    append(&log, batch(&[b"behind"], 1, None)).unwrap();
    dir.step_flush().unwrap();
    dir.write_all_behind().unwrap();
    assert_eq!(log.offsets().durable_end(), Offset(31));
    // A segment that lost its end was durable once: not cut, not served.
    drop((dir, log));
    bench.fs.tamper(path, |bytes| bytes.truncate(4_000)).unwrap();
    let dir = bench.open();
    assert!(dir.logs().is_empty());
    assert_eq!(dir.suspects()[0].id, Some(id(0)));
    assert!(dir.create(name(0), topic_id(), LogConfig::default()).is_err());
}

#[test]
fn a_flipped_bit_in_the_journal_is_refused_or_harmless_but_never_a_lost_batch() {
    let bench = Bench::new(5);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    for number in 0..4 {
        append(&log, batch(&[&[number; 40]], 1, None)).unwrap();
        dir.step_flush().unwrap();
    }
    // Nobody waits for the note of how far the last flush came: it is written when the flushing thread has nothing else to do.
    assert!(dir.step_flush().unwrap() && !dir.step_flush().unwrap());
    let before = read_all(&log, Offset(0));
    drop((dir, log));
    bench.fs.restart_after_kill();
    let path = Path::new("/data/journal/00000001.journal");
    let pristine = read_whole(&bench.fs, path, 1 << 20).unwrap().unwrap();
    let used = pristine.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for at in 0..=used {
        // A fresh copy of the disk each time: opening changes it.
        let copy = Bench::new(at as u64);
        thalweg_env::fs::create_dir_all(&copy.fs, Path::new("/data/journal")).unwrap();
        thalweg_env::fs::create_dir_all(&copy.fs, Path::new("/data/orders-0")).unwrap();
        for file in ["/data/storage.meta", "/data/orders-0/partition.metadata"] {
            let bytes = read_whole(&bench.fs, Path::new(file), 1 << 20).unwrap().unwrap();
            thalweg_env::fs::replace_whole(&copy.fs, Path::new(file), &bytes).unwrap();
        }
        let mut damaged = pristine.clone();
        damaged[at] ^= 0x20;
        thalweg_env::fs::replace_whole(&copy.fs, path, &damaged).unwrap();
        match LogDir::open(copy.options.clone()) {
            Err(OpenError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
            Ok(dir) => {
                let log = dir.log(&id(0)).unwrap();
                assert_eq!(read_all(&log, Offset(0)), before, "byte {at}");
                harmless += 1;
            }
        }
    }
    assert!(refused > 500 && harmless > 0, "{refused} {harmless}");
}

#[test]
fn a_dir_is_used_by_one_process_and_keeps_its_identity() {
    let bench = Bench::new(6);
    let dir = bench.open();
    assert!(matches!(LogDir::open(bench.options.clone()), Err(OpenError::InUse { .. })));
    let meta = StorageMeta { node_id: Some(thalweg_types::NodeId(4)), ..dir.meta() };
    dir.write_meta(meta).unwrap();
    new_log(&dir, 0);
    drop(dir);
    assert_eq!(bench.open().meta(), meta);
    bench.fs.remove_file(Path::new("/data/storage.meta")).unwrap();
    assert!(matches!(LogDir::open(bench.options.clone()), Err(OpenError::Corrupt { .. })));
}
