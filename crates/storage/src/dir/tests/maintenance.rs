//! Retention, look-ups by time, deletion, and the dir's own threads.

use std::time::{Duration, Instant};

use thalweg_env::SystemClock;
use thalweg_env::fs::RealFs;

use super::*;

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 2_000, index_interval_bytes: 300, ..LogConfig::default() }
}

fn fill(dir: &LogDir, log: &Log, from: u8, to: u8) {
    for number in from..to {
        let timestamp = 1_000_000 + i64::from(number) * 10;
        while append(log, batch(&[&[number; 150], &[number; 150]], timestamp, None)).is_err() {
            dir.step_write_behind().unwrap();
        }
    }
    dir.step_flush().unwrap();
    log.advance_high_watermark(log.offsets().durable_end());
}

#[test]
fn retention_deletes_whole_segments_and_readers_keep_what_they_hold() {
    let mut bench = Bench::new(1);
    bench.options.tail_bytes_max = 6 << 10;
    let dir = bench.open();
    let log = new_log(&dir, 0);
    log.configure(LogConfig { retention_bytes: Some(5_000), ..small_segments() });
    fill(&dir, &log, 0, 60);
    dir.write_all_behind().unwrap();
    let first = log.read(Offset(0), Offset(120), 1_000, true).unwrap();
    let [Chunk::File(range)] = &first.chunks[..] else { panic!("{first:?}") };

    let retained = log.apply_retention(bench.clock.now()).unwrap();
    assert!(retained.segments_deleted > 3);
    let start = log.offsets().log_start();
    assert!(start > Offset(50) && log.size_bytes() < 8_000);
    dir.step_write_behind().unwrap();
    let names: Vec<_> = bench.fs.list(Path::new("/data/orders-0")).unwrap();
    let logs = names.iter().filter(|entry| entry.name.ends_with(".log")).count();
    assert_eq!(logs, log.inspect(|core| core.segments().len()));
    assert!(!names.iter().any(|entry| entry.name.ends_with("deleted")));

    assert!(matches!(
        log.read(Offset(0), Offset(120), 1_000, true),
        Err(crate::ReadError::OutOfRange { offset: Offset(0), .. })
    ));
    assert!(!range.read().unwrap().bytes.is_empty(), "an old reader reads on");
    drop((dir, log));
    bench.fs.restart_after_power_cut();
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    assert_eq!(log.offsets().log_start(), start);
    assert_eq!(log.offsets().log_end(), Offset(120));
}

#[test]
fn a_log_whose_records_are_all_too_old_keeps_only_its_end() {
    let bench = Bench::new(2);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    log.configure(LogConfig { retention_ms: Some(1_000), ..small_segments() });
    fill(&dir, &log, 0, 20);
    bench.clock.advance_ms(3_600_000);
    log.apply_retention(bench.clock.now()).unwrap();
    assert_eq!(log.offsets().log_start(), Offset(40));
    dir.step_write_behind().unwrap();
    drop((dir, log));
    bench.fs.restart_after_power_cut();
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    let offsets = log.offsets();
    assert_eq!((offsets.log_start(), offsets.log_end()), (Offset(40), Offset(40)));
    log.begin_leader_epoch(LeaderEpoch(1)).unwrap();
    assert_eq!(append(&log, batch(&[b"new"], 1, None)).unwrap().base_offset, Offset(40));
}

fn segment_bases(log: &Log) -> Vec<i64> {
    log.inspect(|core| core.segments().iter().map(|segment| segment.base_offset.0).collect())
}

#[test]
fn a_segment_ends_by_its_age_without_traffic_and_its_end_survives_a_power_cut() {
    let bench = Bench::new(4);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    let week_ms: u32 = 7 * 24 * 3_600_000;
    let jitter = LogConfig { segment_jitter_ms: i64::from(week_ms) / 2, ..LogConfig::default() };
    log.configure(LogConfig { retention_ms: None, ..jitter });
    fill(&dir, &log, 0, 5);

    bench.clock.advance_ms(week_ms / 2 - 1);
    assert_eq!(log.apply_retention(bench.clock.now()).unwrap().segments_deleted, 0);
    assert_eq!(segment_bases(&log), [0], "no jitter ends it that early");
    bench.clock.advance_ms(week_ms / 2 + 2);
    assert_eq!(log.apply_retention(bench.clock.now()).unwrap().segments_deleted, 0);
    assert_eq!(segment_bases(&log), [0, 10]);
    bench.clock.advance_ms(2 * week_ms);
    log.apply_retention(bench.clock.now()).unwrap();
    assert_eq!(segment_bases(&log), [0, 10], "an empty one does not end");

    drop((dir, log));
    bench.fs.restart_after_power_cut();
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    assert_eq!(segment_bases(&log), [0, 10]);
    assert_eq!(log.offsets().log_end(), Offset(10));
    log.begin_leader_epoch(LeaderEpoch(1)).unwrap();
    assert_eq!(append(&log, batch(&[b"new"], 1, None)).unwrap().base_offset, Offset(10));
    dir.step_flush().unwrap();
    log.advance_high_watermark(log.offsets().durable_end());
    let read = log.read(Offset(0), Offset(11), 1 << 20, true).unwrap();
    assert!(!read.chunks.is_empty());
}

#[test]
fn limits_that_change_while_the_log_is_used_hold_from_the_next_look_on() {
    let bench = Bench::new(5);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    let keep = LogConfig { retention_ms: None, ..small_segments() };
    log.configure(keep.clone());
    fill(&dir, &log, 0, 60);
    bench.clock.advance_ms(3_600_000);
    let retain = || log.apply_retention(bench.clock.now()).unwrap().segments_deleted;
    assert_eq!(retain(), 0);

    log.configure(LogConfig { retention_bytes: Some(10_000), ..keep.clone() });
    assert!(retain() > 1);
    assert!((10_000..12_000).contains(&log.size_bytes()), "{}", log.size_bytes());
    let before = segment_bases(&log).len();
    log.configure(LogConfig { segment_bytes: 1_000, ..keep.clone() });
    assert_eq!(retain(), 0, "no limit any more");
    fill(&dir, &log, 60, 70);
    assert!(segment_bases(&log).len() >= before + 5, "the new size holds for new segments");

    log.configure(LogConfig { retention_ms: Some(1_000), ..keep });
    assert!(retain() > 0);
    assert_eq!(log.offsets().log_start(), log.offsets().log_end());
}

#[test]
fn records_are_found_by_time_in_segments_and_in_memory() {
    for written in [false, true] {
        let bench = Bench::new(3);
        let dir = bench.open();
        let log = new_log(&dir, 0);
        log.configure(small_segments());
        fill(&dir, &log, 0, 40);
        if written {
            dir.shutdown().unwrap();
            drop((dir, log));
            let dir = bench.open();
            check_times(&dir.log(&id(0)).unwrap());
        } else {
            check_times(&log);
        }
    }
}

/// Record 2n has timestamp 1_000_000 + 10n, record 2n + 1 one more.
fn check_times(log: &Log) {
    let at = |timestamp| {
        log.offset_for_timestamp(Timestamp(timestamp)).unwrap().map(|found| found.offset)
    };
    assert_eq!(at(0), Some(Offset(0)));
    assert_eq!(at(1_000_000), Some(Offset(0)));
    assert_eq!(at(1_000_001), Some(Offset(1)));
    assert_eq!(at(1_000_002), Some(Offset(2)));
    assert_eq!(at(1_000_205), Some(Offset(42)));
    assert_eq!(at(1_000_391), Some(Offset(79)));
    assert_eq!(at(1_000_392), None);
    let newest = log.max_timestamp().unwrap().unwrap();
    assert_eq!((newest.timestamp, newest.offset), (Timestamp(1_000_391), Offset(79)));
    assert_eq!(newest.leader_epoch, LeaderEpoch(0));
}

#[test]
fn a_lost_index_is_made_anew() {
    let bench = Bench::new(4);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    log.configure(small_segments());
    fill(&dir, &log, 0, 40);
    let before = read_all(&log, Offset(0));
    dir.shutdown().unwrap();
    drop((dir, log));
    for entry in bench.fs.list(Path::new("/data/orders-0")).unwrap() {
        if entry.name.ends_with("index") {
            let path = Path::new("/data/orders-0").join(&entry.name);
            bench.fs.tamper(&path, |bytes| bytes.fill(0)).unwrap();
        }
    }
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    assert_eq!(read_all(&log, Offset(0)), before);
    check_times(&log);
}

#[test]
fn a_deleted_log_is_gone_and_its_name_free() {
    let bench = Bench::new(5);
    let dir = bench.open();
    let log = new_log(&dir, 0);
    fill(&dir, &log, 0, 10);
    dir.delete(&id(0)).unwrap();
    assert!(matches!(append(&log, batch(&[b"x"], 1, None)), Err(AppendError::Deleted)));
    assert!(dir.log(&id(0)).is_none() && dir.delete(&id(0)).is_err());
    let other = TopicId(Uuid::from_random_bits(99));
    dir.create(name(0), other, LogConfig::default()).unwrap();
    assert!(matches!(
        dir.create(name(0), topic_id(), LogConfig::default()),
        Err(StorageError::FolderTaken(_))
    ));
    dir.step_write_behind().unwrap();
    drop((dir, log));
    bench.fs.restart_after_power_cut();
    let dir = bench.open();
    assert_eq!(dir.logs().len(), 1);
    assert_eq!(dir.logs()[0].offsets().log_end(), Offset(0));
    // The power cut may have brought the folder back, under the name it was to be removed by.
    dir.step_write_behind().unwrap();
    assert!(
        !bench.fs.list(Path::new("/data")).unwrap().iter().any(|e| e.name.ends_with("-delete"))
    );
}

#[test]
fn the_threads_flush_and_write_behind_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let options = LogDirOptions {
        journal_file_bytes: 256 << 10,
        journal_bytes_max: 2 << 20,
        tail_bytes_max: 1 << 20,
        ..LogDirOptions::new(
            folder.path().join("logs"),
            Arc::new(RealFs),
            Arc::new(SystemClock::new()),
            Arc::new(thalweg_env::OsRandom),
            Arc::clone(&heard) as Arc<dyn LogObserver>,
        )
    };
    let dir = LogDir::open(options.clone()).unwrap();
    let value = vec![5; 10_000];
    std::thread::scope(|scope| {
        for partition in 0..2 {
            let (dir, value) = (&dir, &value);
            scope.spawn(move || {
                let log = new_log(dir, partition);
                let mut appended = 0;
                while appended < 300 {
                    match append(&log, batch(&[value], 1, None)) {
                        Ok(_) => appended += 1,
                        Err(AppendError::Throttled) => {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while dir.logs().iter().any(|log| log.offsets().durable_end() < Offset(300)) {
        assert!(Instant::now() < deadline, "flushes did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
    while dir.tail_bytes() > 1 << 20 {
        assert!(Instant::now() < deadline, "{} bytes stay in memory", dir.tail_bytes());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(heard.flushed.lock().len() >= 2);
    // Dropped without a shutdown, as if killed.
    drop(dir);
    let dir = LogDir::open(options).unwrap();
    assert!(!dir.was_clean());
    for partition in 0..2 {
        let log = dir.log(&id(partition)).unwrap();
        assert_eq!(log.offsets().log_end(), Offset(300));
        assert_eq!(read_all(&log, Offset(0)).len(), 300);
    }
    dir.shutdown().unwrap();
}

#[test]
fn few_files_stay_open_and_closed_ones_are_read_all_the_same() {
    let mut bench = Bench::new(8);
    bench.options.tail_bytes_max = 6 << 10;
    bench.options.segment_files_max = 8;
    let dir = bench.open();
    let logs: Vec<_> = (0..50).map(|partition| new_log(&dir, partition)).collect();
    for log in &logs {
        log.configure(LogConfig { retention_bytes: Some(1_000), ..small_segments() });
        fill(&dir, log, 0, 20);
        dir.write_all_behind().unwrap();
        assert!(dir.open_segment_files() <= 8);
    }
    let read = |log: &Log| {
        let slice = log.read(Offset(0), Offset(40), 1_000, true).unwrap();
        let [Chunk::File(range)] = &slice.chunks[..] else { panic!("{slice:?}") };
        range.clone()
    };
    let ranges: Vec<_> = logs[..49].iter().map(|log| read(log)).collect();
    let first: Vec<_> = ranges.iter().map(|range| range.read().unwrap().bytes).collect();
    assert!(dir.open_segment_files() == 8);
    assert!(ranges[0].read_cached().unwrap().is_none(), "closed: opening it may wait");

    // Retention takes the files away, most of them closed, while readers hold their ranges.
    for log in &logs {
        assert!(log.apply_retention(bench.clock.now()).unwrap().segments_deleted > 0);
    }
    while dir.step_write_behind().unwrap() {}
    for _ in 0..2 {
        for (range, bytes) in ranges.iter().zip(&first) {
            assert_eq!(&range.read().unwrap().bytes, bytes);
        }
    }
    assert!(dir.open_segment_files() <= 8);

    // A deleted log's range that is closed by then fails, and never gives what a new folder of that name holds.
    let kept = logs[1].read(logs[1].offsets().log_start(), Offset(40), 1_000, true).unwrap();
    dir.delete(&id(1)).unwrap();
    if let [Chunk::File(range)] = &kept.chunks[..] {
        match range.read() {
            Ok(slice) => assert!(!slice.bytes.is_empty()),
            Err(error) => assert!(matches!(error, crate::ReadError::Io { .. }), "{error}"),
        }
    }
}
