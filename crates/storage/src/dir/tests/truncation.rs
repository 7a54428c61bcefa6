//! A follower's log: batches as the leader has them, its end taken back, its beginning moved.

use thalweg_env::fs::{Fs as _, read_whole};
use thalweg_log_core::{SegmentFacts, TruncateError};
use thalweg_record::{BatchError, BatchHeader};

use super::*;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2_000, index_interval_bytes: 250, ..LogConfig::default() }
}

/// A batch of a leader's log, of two records.
fn led(base_offset: i64, epoch: i32, value: &[u8]) -> Vec<u8> {
    let mut bytes = batch(&[value, value], 1_000_000 + base_offset, Some((5, 0, 0)));
    let sequence = i32::try_from(base_offset).unwrap();
    if sequence > 0 {
        bytes = batch(&[value, value], 1_000_000 + base_offset, Some((5, 0, sequence)));
    }
    thalweg_record::stamp(&mut bytes, Offset(base_offset), LeaderEpoch(epoch));
    bytes.to_vec()
}

fn follow(log: &Log, from: i64, to: i64, epoch: i32) {
    for base_offset in (from..to).step_by(2) {
        let value = [(base_offset + i64::from(epoch)) as u8; 120];
        log.append_as_follower(&led(base_offset, epoch, &value)).unwrap();
    }
}

fn follower(dir: &LogDir, partition: i32) -> Arc<Log> {
    dir.create(name(partition), topic_id(), config()).unwrap()
}

/// The facts but for what depends on when things were done.
fn facts(log: &Log) -> Vec<SegmentFacts> {
    let timeless = |facts: &SegmentFacts| SegmentFacts {
        created_at: Timestamp(0),
        appended_at: Timestamp(0),
        ..*facts
    };
    log.inspect(|core| core.segments().iter().map(timeless).collect())
}

#[test]
fn a_truncated_log_is_the_log_that_never_went_further() {
    for to in (2..80).step_by(2) {
        for is_written in [false, true] {
            let bench = Bench::new(1);
            let dir = bench.open();
            let (log, shorter) = (follower(&dir, 0), follower(&dir, 1));
            follow(&log, 0, 40, 0);
            if is_written {
                dir.write_all_behind().unwrap();
            }
            follow(&log, 40, 80, 2);
            assert_eq!(log.truncate(Offset(to + 1), false).unwrap(), Offset(to));
            follow(&shorter, 0, to.min(40), 0);
            follow(&shorter, 40, to, 2);
            dir.write_all_behind().unwrap();

            assert_eq!(read_all(&log, Offset(0)), read_all(&shorter, Offset(0)));
            let same = |look: fn(&PartitionLog) -> String| {
                assert_eq!(log.inspect(look), shorter.inspect(look), "to {to}");
            };
            same(|core| format!("{:?}", core.epochs()));
            same(|core| format!("{:?}", core.producers()));
            // An empty segment is left where the cut lies between two.
            let (mut found, expected) = (facts(&log), facts(&shorter));
            found.pop_if(|last| last.is_empty());
            assert_eq!(found, expected, "to {to}");
            // And goes on as one.
            follow(&log, to, to + 20, 3);
            follow(&shorter, to, to + 20, 3);
            dir.step_flush().unwrap();
            assert_eq!(log.offsets().durable_end(), Offset(to + 20));
            let before = read_all(&shorter, Offset(0));
            assert_eq!(read_all(&log, Offset(0)), before);
            drop((dir, log, shorter));
            bench.fs.restart_after_power_cut();
            let dir = bench.open();
            assert_eq!(dir.suspects(), []);
            for partition in 0..2 {
                let log = dir.log(&id(partition)).unwrap();
                assert_eq!(read_all(&log, Offset(0)), before);
                let from = Timestamp(1_000_000 + to);
                let first = log.offset_for_timestamp(from).unwrap().unwrap();
                assert_eq!(first.offset, Offset(to));
            }
        }
    }
}

#[test]
fn what_was_committed_is_not_cut_without_an_unclean_election() {
    let bench = Bench::new(2);
    let dir = bench.open();
    let log = follower(&dir, 0);
    follow(&log, 0, 20, 0);
    dir.step_flush().unwrap();
    log.follow_high_watermark(Offset(10));
    // The batch that holds offset 11 begins at the high watermark; the one before does not.
    assert_eq!(log.truncate(Offset(11), false).unwrap(), Offset(10));
    let refused = log.truncate(Offset(9), false).unwrap_err();
    let StorageError::Truncate(TruncateError::Committed { at, high_watermark }) = refused else {
        panic!("{refused}");
    };
    assert_eq!((at, high_watermark), (Offset(9), Offset(10)));
    assert_eq!(log.offsets().log_end(), Offset(10));
    assert_eq!(log.truncate(Offset(30), false).unwrap(), Offset(10), "nothing to cut");
    assert_eq!(log.truncate(Offset(9), true).unwrap(), Offset(8));
    assert_eq!(log.offsets().high_watermark(), Offset(8));
}

#[test]
fn a_flush_that_began_before_a_truncation_covers_nothing_behind_it() {
    let bench = Bench::new(3);
    let dir = bench.open();
    let log = follower(&dir, 0);
    follow(&log, 0, 20, 0);
    let journal = dir.inner.shared.journal();
    let mut group = journal.begin_flush(false).unwrap();
    log.truncate(Offset(10), false).unwrap();
    follow(&log, 10, 16, 1);
    journal.sync(&mut group).unwrap();
    let (covered, position) = (group.covered[&id(0)], group.position);
    assert_eq!(covered, Offset(20));
    assert_eq!(log.flushed(covered, position), None);
    assert_eq!(log.offsets().durable_end(), Offset(10));
    assert!(dir.step_flush().unwrap());
    assert_eq!(log.offsets().durable_end(), Offset(16));
}

#[test]
fn a_group_that_gathered_before_a_truncation_covers_nothing_behind_it() {
    let bench = Bench::new(3);
    let dir = bench.open();
    let log = follower(&dir, 0);
    follow(&log, 0, 20, 0);
    log.truncate(Offset(10), false).unwrap();
    let journal = dir.inner.shared.journal();
    let group = journal.begin_flush(false).unwrap();
    assert_eq!(group.covered[&id(0)], Offset(10));
    follow(&log, 10, 16, 1);
    assert_eq!(log.flushed(group.covered[&id(0)], group.position), None);
    assert_eq!(log.offsets().durable_end(), Offset(10));
}

#[test]
fn a_leaders_batches_are_checked_one_by_one() {
    let bench = Bench::new(4);
    let dir = bench.open();
    let log = follower(&dir, 0);
    let three = [led(0, 1, b"a"), led(2, 1, b"b"), led(4, 3, b"c")].concat();
    assert_eq!(log.append_as_follower(&three).unwrap(), Offset(6));
    assert_eq!(log.epoch_at(Offset(5)), Some(LeaderEpoch(3)));

    let mut damaged = [led(6, 3, b"d"), led(8, 3, b"e")].concat();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = log.append_as_follower(&damaged).unwrap_err();
    assert!(matches!(refused, AppendError::Batch(BatchError::Checksum { .. })), "{refused}");
    assert_eq!(log.offsets().log_end(), Offset(8), "the sound one before it counts");
    let whole = led(8, 3, b"f");
    for cut in 1..whole.len() {
        let refused = log.append_as_follower(&whole[..cut]).unwrap_err();
        assert!(matches!(refused, AppendError::Batch(BatchError::Truncated { .. })), "{refused}");
    }
    let refused = |batch: &[u8]| match log.append_as_follower(batch).unwrap_err() {
        AppendError::Refused(refused) => refused,
        other => panic!("{other}"),
    };
    use thalweg_log_core::AppendError as Rule;
    assert!(matches!(refused(&led(10, 3, b"gap")), Rule::NotAtLogEnd { .. }));
    assert!(matches!(refused(&led(6, 3, b"again")), Rule::NotAtLogEnd { .. }));
    assert!(matches!(refused(&led(8, 2, b"old")), Rule::EpochWentBack { .. }));
    assert_eq!(log.append_as_follower(&[]).unwrap(), Offset(8));
    // The tail has copies: what the batches came in is the caller's.
    let slice = log.read(Offset(0), Offset(8), 1 << 20, true).unwrap();
    let Chunk::Tail(first) = &slice.chunks[0] else { panic!("on disk already") };
    assert!(!three.as_ptr_range().contains(&first.as_ptr()));
}

#[test]
fn readers_of_what_is_cut_keep_it_or_find_nothing() {
    let mut bench = Bench::new(5);
    bench.options.tail_bytes_max = 4 << 10;
    let dir = bench.open();
    let log = follower(&dir, 0);
    for base_offset in (0..60).step_by(2) {
        while let Err(error) = log.append_as_follower(&led(base_offset, 0, &[1; 120])) {
            assert!(matches!(error, AppendError::Throttled), "{error}");
            dir.step_flush().unwrap();
            dir.step_write_behind().unwrap();
        }
    }
    dir.write_all_behind().unwrap();
    dir.step_write_behind().unwrap();
    let end = log.offsets().log_end();
    let ranges: Vec<_> = (0..60)
        .flat_map(|from| log.read(Offset(from), end, 200_000, true).unwrap().chunks)
        .collect();
    let ranges: Vec<_> = ranges
        .into_iter()
        .filter_map(|chunk| match chunk {
            Chunk::File(range) => Some(range),
            Chunk::Tail(_) => None,
        })
        .collect();
    assert!(ranges.len() > 20, "{}", ranges.len());
    let tail = log.read(Offset(58), end, 1 << 20, true).unwrap();
    let cut = log.truncate(Offset(8), false).unwrap();
    for from in (cut.0..40).step_by(8) {
        follow(&log, from, from + 8, 1);
        dir.write_all_behind().unwrap();
    }
    for range in &ranges {
        let found = range.read().unwrap();
        for batch in Batches::new(&found.bytes) {
            let (header, _) = batch.unwrap();
            assert_eq!((header.leader_epoch, header.base_offset < cut), (LeaderEpoch(0), true));
        }
        let cached = range.read_cached().unwrap();
        assert!(cached.is_none_or(|cached| cached.bytes == found.bytes));
    }
    assert_eq!(dir.damages(), []);
    let Some(Chunk::Tail(kept)) = tail.chunks.first() else { panic!("not in memory") };
    assert_eq!(BatchHeader::parse(kept).unwrap().base_offset, Offset(58));
    assert_eq!(read_all(&log, Offset(0)).len(), 20);
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let bench = Bench::new(6);
    let dir = bench.open();
    let log = follower(&dir, 0);
    follow(&log, 0, 20, 0);
    dir.step_flush().unwrap();
    dir.write_all_behind().unwrap();
    follow(&log, 20, 30, 0);
    dir.write_all_behind().unwrap();
    let used = {
        bench.fs.set_capacity_bytes(1 << 40);
        let space = bench.fs.space(std::path::Path::new("/")).unwrap();
        space.total_bytes - space.available_bytes
    };
    bench.fs.set_capacity_bytes(used);
    let before = read_all(&log, Offset(0));
    let refused = log.truncate(Offset(10), false).unwrap_err();
    assert!(matches!(refused, StorageError::NoSpace), "{refused}");
    assert_eq!(read_all(&log, Offset(0)), before);
    follow(&log, 30, 32, 0);
    dir.step_flush().unwrap();
    assert_eq!(log.offsets().durable_end(), Offset(32));
    bench.fs.set_capacity_bytes(used + (1 << 20));
    assert_eq!(log.truncate(Offset(10), false).unwrap(), Offset(10));
    follow(&log, 10, 12, 1);
    dir.step_flush().unwrap();
    drop((dir, log));
    bench.fs.restart_after_power_cut();
    let log = bench.open().log(&id(0)).unwrap();
    assert_eq!(log.offsets().log_end(), Offset(12));
}

#[test]
fn an_old_truncation_cuts_nothing_when_the_checkpoint_is_lost() {
    for is_removed in [false, true] {
        let bench = Bench::new(7);
        let dir = bench.open();
        let log = follower(&dir, 0);
        follow(&log, 0, 20, 0);
        log.truncate(Offset(10), false).unwrap();
        follow(&log, 10, 40, 1);
        dir.step_flush().unwrap();
        dir.write_all_behind().unwrap();
        dir.shutdown().unwrap();
        let before = read_all(&log, Offset(0));
        drop((dir, log));
        bench.fs.restart_after_kill();
        let checkpoint = std::path::Path::new("/data/checkpoint");
        if is_removed {
            bench.fs.remove_file(checkpoint).unwrap();
        } else {
            bench.fs.tamper(checkpoint, |bytes| bytes[60] ^= 1).unwrap();
        }
        // Each start may leave another checkpoint, without this log or with it.
        for _ in 0..3 {
            let dir = bench.open();
            assert_eq!(read_all(&dir.log(&id(0)).unwrap(), Offset(0)), before);
            new_log(&dir, 1);
            append(&dir.log(&id(1)).unwrap(), batch(&[b"x"], 1, None)).unwrap();
            dir.step_flush().unwrap();
            dir.step_write_behind().unwrap();
            dir.delete(&id(1)).unwrap();
            drop(dir);
            bench.fs.restart_after_power_cut();
        }
    }
}

#[test]
fn a_truncation_that_was_lost_is_noticed() {
    let bench = Bench::new(8);
    let dir = bench.open();
    let log = follower(&dir, 0);
    follow(&log, 0, 20, 0);
    dir.step_flush().unwrap();
    log.truncate(Offset(10), false).unwrap();
    follow(&log, 10, 14, 1);
    dir.step_flush().unwrap();
    drop((dir, log));
    bench.fs.restart_after_kill();
    let path = std::path::Path::new("/data/orders-0/truncation");
    assert!(read_whole(&bench.fs, path, 1 << 20).unwrap().is_some());
    bench.fs.remove_file(path).unwrap();
    let dir = bench.open();
    assert_eq!(dir.suspects().len(), 1, "{:?}", dir.logs());
    assert!(dir.suspects()[0].reason.contains("truncation"), "{:?}", dir.suspects());
}

#[test]
fn a_log_begins_anew_where_the_leaders_begins_even_within_a_batch() {
    let bench = Bench::new(9);
    let dir = bench.open();
    let log = follower(&dir, 0);
    follow(&log, 0, 20, 0);
    log.follow_high_watermark(Offset(20));
    assert_eq!(log.move_log_start(Offset(6)).unwrap(), Offset(6));
    assert_eq!(log.move_log_start(Offset(3)).unwrap(), Offset(6));
    // The leader's first batch is 100 to 101, of which 100 is deleted.
    log.restart(Offset(101)).unwrap();
    assert_eq!(log.inspect(|core| core.producers().len()), 0);
    let first = led(100, 4, b"first");
    assert!(log.append_as_follower(&first).is_err());
    log.restart(Offset(100)).unwrap();
    assert_eq!(log.append_as_follower(&first).unwrap(), Offset(102));
    assert_eq!(log.move_log_start(Offset(500)).unwrap(), Offset(102), "as far as it reaches");
    dir.step_flush().unwrap();
    drop((dir, log));
    bench.fs.restart_after_power_cut();
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    let offsets = log.offsets();
    assert_eq!((offsets.log_start(), offsets.log_end()), (Offset(102), Offset(102)));
    assert_eq!(log.append_as_follower(&led(102, 4, b"next")).unwrap(), Offset(104));
}
