//! Disks that run full, and have room again.

use thalweg_env::fs::Fs as _;
use thalweg_log_core::CleanupPolicy;
use thalweg_types::ErrorCode;

use super::*;

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 4_000,
        index_interval_bytes: 500,
        cleanup_policy: CleanupPolicy { delete: true, compact: false },
        ..LogConfig::default()
    }
}

/// Appends until the disk refuses; returns how many batches were taken.
fn fill(dir: &LogDir, log: &Log) -> usize {
    let mut taken = 0;
    for round in 0..4_000_u32 {
        match append(log, batch(&[&[(round % 251) as u8; 400]], 1, None)) {
            Ok(_) => taken += 1,
            Err(AppendError::NoSpace { .. }) => return taken,
            // The writer behind finds no space either; it is what notices.
            Err(AppendError::Throttled) => {}
            Err(error) => panic!("{error}"),
        }
        dir.step_flush().unwrap();
        match dir.step_write_behind() {
            Ok(_) | Err(StorageError::NoSpace) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never ran full");
}

fn used_bytes(bench: &Bench) -> u64 {
    bench.fs.set_capacity_bytes(1 << 40);
    let space = bench.fs.space(Path::new("/")).unwrap();
    space.total_bytes - space.available_bytes
}

#[test]
fn below_the_reserve_records_are_refused_and_everything_else_goes_on() {
    let mut bench = Bench::new(1);
    bench.options.reserve = Reserve::Bytes(100 << 10);
    let dir = bench.open();
    let (log, other) = (new_log(&dir, 0), new_log(&dir, 1));
    log.configure(small_segments());
    while dir.step_write_behind().unwrap() {}
    bench.fs.set_capacity_bytes(400 << 10);

    let taken = fill(&dir, &log);
    let refused = append(&other, batch(&[b"x"], 1, None)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::KafkaStorageError);
    assert_eq!(refused.outcome(), thalweg_types::Outcome::NotApplied);
    assert!(dir.disk_space().is_low && dir.disk_space().available_bytes > 80 << 10);
    assert_eq!(*bench.heard.disk_low.lock(), [true], "told once");
    assert_eq!(read_all(&log, Offset(0)).len(), taken);
    assert_eq!(log.offsets().durable_end(), Offset(taken as i64));

    // What makes space works, and what it makes is used again.
    log.advance_high_watermark(log.offsets().log_end());
    log.delete_records(Offset(100)).unwrap();
    log.configure(LogConfig { retention_bytes: Some(20_000), ..small_segments() });
    assert!(log.apply_retention(Timestamp(2)).unwrap().segments_deleted > 10);
    dir.delete(&other.id()).unwrap();
    dir.step_write_behind().unwrap();
    assert_eq!(*bench.heard.disk_low.lock(), [true, false]);
    append(&log, batch(&[b"again"], 1, None)).unwrap();
    assert!(dir.failure().is_none());
}

#[test]
fn logs_of_the_system_may_use_half_of_the_reserve() {
    let mut bench = Bench::new(2);
    bench.options.reserve = Reserve::Bytes(100 << 10);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    let internal = TopicPartition {
        topic: TopicName::new("__consumer_offsets").unwrap(),
        partition: PartitionIndex(0),
    };
    let other_id = TopicId(Uuid::from_random_bits(0x77));
    let internal = dir.create(internal, other_id, LogConfig::default()).unwrap();
    while dir.step_write_behind().unwrap() {}
    let used = used_bytes(&bench);
    bench.fs.set_capacity_bytes(used + (70 << 10));
    dir.step_write_behind().unwrap();
    assert!(append(&log, batch(&[b"x"], 1, None)).is_err());
    append(&internal, batch(&[b"x"], 1, None)).unwrap();
    bench.fs.set_capacity_bytes(used + (40 << 10));
    dir.step_write_behind().unwrap();
    assert!(append(&internal, batch(&[b"x"], 1, None)).is_err());
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_fails_nothing_and_gives_everything_back() {
    // Without a reserve, so that every write in turn is the one that finds no space.
    for spare in (0..48_000_u64).step_by(331) {
        let bench = Bench::new(spare);
        let dir = bench.open();
        let (log, other) = (new_log(&dir, 0), new_log(&dir, 1));
        log.configure(small_segments());
        for number in 0..40 {
            append(&log, batch(&[&[number; 400]], 1, None)).unwrap();
            dir.step_flush().unwrap();
        }
        append(&other, batch(&[&[7; 9_000]], 1, None)).unwrap();
        dir.step_flush().unwrap();
        dir.write_all_behind().unwrap();
        while dir.step_write_behind().unwrap() {}
        bench.fs.set_capacity_bytes(used_bytes(&bench) + spare);

        let taken = fill(&dir, &log) + 40;
        assert!(dir.failure().is_none(), "spare {spare}");
        assert_eq!(read_all(&log, Offset(0)).len(), taken, "spare {spare}");
        let refused = dir.create(name(2), topic_id(), LogConfig::default());
        assert!(refused.is_ok() || matches!(refused, Err(StorageError::NoSpace)), "{refused:?}");

        if spare % 2 == 0 {
            // Retention alone makes room, though neither segments nor a checkpoint can be written.
            log.advance_high_watermark(log.offsets().log_end());
            log.configure(LogConfig { retention_bytes: Some(1), ..small_segments() });
            let retained = log.apply_retention(Timestamp(2)).unwrap();
            assert!(retained.segments_deleted > 0, "spare {spare}");
        } else {
            dir.delete(&other.id()).unwrap();
        }
        for _ in 0..4 {
            let _ = dir.step_write_behind();
        }
        let start = log.offsets().log_start();
        append(&log, batch(&[&[9; 400]], 1, None)).unwrap();
        dir.step_flush().unwrap();
        let before = read_all(&log, start);
        assert_eq!(before.len() as i64, taken as i64 + 1 - start.0, "spare {spare}");
        assert!(dir.failure().is_none());

        drop((dir, log, other));
        if spare % 3 == 0 {
            bench.fs.restart_after_power_cut();
        } else {
            bench.fs.restart_after_kill();
        }
        let dir = bench.open();
        assert_eq!(dir.suspects(), [], "spare {spare}");
        let log = dir.log(&id(0)).unwrap();
        assert_eq!(log.offsets().log_start(), start, "spare {spare}");
        assert_eq!(read_all(&log, start), before, "spare {spare}");
    }
}

#[test]
fn a_crash_on_a_full_disk_starts_again_and_goes_on_when_there_is_space() {
    for seed in 0..40 {
        let bench = Bench::new(seed);
        let dir = bench.open();
        let log = new_log(&dir, 0);
        log.configure(small_segments());
        while dir.step_write_behind().unwrap() {}
        bench.fs.set_capacity_bytes(100_000 + 997 * seed);
        let taken = fill(&dir, &log);
        let before = read_all(&log, Offset(0));
        assert_eq!(before.len(), taken);
        drop((dir, log));
        bench.fs.restart_after_kill();
        let dir = bench.open();
        let log = dir.log(&id(0)).unwrap();
        assert_eq!(read_all(&log, Offset(0)), before, "seed {seed}");
        bench.fs.set_capacity_bytes(u64::MAX);
        dir.step_write_behind().unwrap();
        append(&log, batch(&[b"again"], 1, None)).unwrap();
    }
}
