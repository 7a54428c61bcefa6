//! Large reads of segments, which go past the page cache, against small ones, which do not.

use super::*;
use crate::ReadError;

const SMALL: usize = 60_000;

/// A log whose batches are all in segments and not in memory: some tiny, some large, as far apart in the index as they come.
fn written(bench: &mut Bench) -> (LogDir, Arc<Log>) {
    bench.options.journal_file_bytes = 1 << 20;
    bench.options.journal_bytes_max = 8 << 20;
    bench.options.tail_bytes_max = 2 << 20;
    let dir = bench.open();
    let log = new_log(&dir, 0);
    log.configure(LogConfig { segment_bytes: 1_500_000, ..LogConfig::default() });
    for number in 0..200_usize {
        let value = vec![number as u8; [30, 900, 25_000, 3_000, 70_000][number % 5]];
        append(&log, batch(&[&value, &value[..10]], 1, None)).unwrap();
        dir.step_flush().unwrap();
        dir.write_all_behind().unwrap();
    }
    log.advance_high_watermark(log.offsets().durable_end());
    dir.shutdown().unwrap();
    drop((dir, log));
    bench.fs.restart_after_kill();
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    (dir, log)
}

fn read(log: &Log, from: i64, end: i64, bytes_max: usize) -> Result<crate::FileSlice, ReadError> {
    let slice = log.read(Offset(from), Offset(end), bytes_max, true)?;
    match &slice.chunks[..] {
        [Chunk::File(range)] => range.read(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_read_gives_what_small_ones_give() {
    let mut bench = Bench::new(1);
    let (_dir, log) = written(&mut bench);
    for end in [400, 123 * 2] {
        for from in 0..end {
            let large = read(&log, from, end, 400_000).unwrap();
            assert!(large.bytes.len() <= 400_000 && !large.bytes.is_empty(), "{from}");
            let mut next = Offset(from);
            let mut expected = Vec::new();
            while next < large.next_offset {
                let small = read(&log, next.0, end, SMALL).unwrap();
                expected.extend_from_slice(&small.bytes);
                next = small.next_offset;
            }
            // Small reads may reach a little further.
            assert!(expected.starts_with(&large.bytes), "{from}");
            let ends_where_it_should = large.next_offset == Offset(end)
                || large.bytes.len() > 300_000
                || log.offsets().log_end() > large.next_offset;
            assert!(ends_where_it_should, "{from}");
        }
    }
}

#[test]
fn a_first_batch_larger_than_the_read_comes_whole() {
    let mut bench = Bench::new(2);
    bench.options.journal_file_bytes = 4 << 20;
    bench.options.journal_bytes_max = 16 << 20;
    bench.options.tail_bytes_max = 8 << 20;
    let dir = bench.open();
    let log = new_log(&dir, 0);
    for number in 0..3 {
        append(&log, batch(&[&vec![number; 900_000]], 1, None)).unwrap();
    }
    dir.shutdown().unwrap();
    drop((dir, log));
    bench.fs.restart_after_kill();
    let dir = bench.open();
    let log = dir.log(&id(0)).unwrap();
    let whole = read(&log, 1, 3, 200_000).unwrap();
    assert!(whole.bytes.len() > 900_000 && whole.next_offset == Offset(2));
    let slice = log.read(Offset(1), Offset(3), 200_000, false).unwrap();
    let [Chunk::File(range)] = &slice.chunks[..] else { panic!("{slice:?}") };
    assert!(range.read().unwrap().bytes.is_empty());
}

#[test]
fn rot_is_noticed_by_large_reads_too() {
    let mut bench = Bench::new(3);
    let (dir, log) = written(&mut bench);
    let path = Path::new("/data/orders-0/00000000000000000000.log");
    let intact = read(&log, 0, 400, 400_000).unwrap();
    drop((dir, log));
    for at in [9, 40, 200_000] {
        let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 4;
        bench.fs.tamper(path, flip).unwrap();
        let dir = bench.open();
        let log = dir.log(&id(0)).unwrap();
        let mut found = read(&log, 0, 400, 400_000);
        if let Ok(before) = &found {
            // What lies before the damage is served, and nothing else.
            let count = before.bytes.len();
            assert!(0 < count && count <= at && before.bytes[..] == intact.bytes[..count]);
            found = read(&log, before.next_offset.0, 400, 400_000);
        }
        assert!(matches!(found, Err(ReadError::Corrupt { .. })), "{at}: {found:?}");
        drop((dir, log));
        bench.fs.tamper(path, flip).unwrap();
    }
    let dir = bench.open();
    assert_eq!(read(&dir.log(&id(0)).unwrap(), 0, 400, 400_000).unwrap().bytes, intact.bytes);
}
