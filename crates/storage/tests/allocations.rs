//! How often memory is asked for on the way of a batch through a log dir: appended, flushed, written to its segment. A count is the
//! same on a slow, loaded machine, as times are not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg_env::fs::RealFs;
use thalweg_env::{OsRandom, SystemClock};
use thalweg_log_core::LogConfig;
use thalweg_record::{BatchBuilder, ProduceLimits, check_produced};
use thalweg_storage::{LogDir, LogDirOptions, NoObserver, Reserve};
use thalweg_types::{
    CompressionType, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicName,
    TopicPartition, Uuid,
};

const BATCH_BYTES: usize = 64 << 10;

/// As many as a producer usually has in flight.
const BATCHES_PER_FLUSH: usize = 5;
const FLUSHES: usize = 40;

/// For each hundred batches, their flushes included: what is kept of each batch, and the list of what a flush covers. 81 were measured.
const APPEND_ALLOCATIONS_MAX: u64 = 150;

/// For each hundred batches of one pass: their index entries, and what a pass costs whatever it writes. 122 were measured.
const WRITE_ALLOCATIONS_MAX: u64 = 200;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
// SAFETY: every call goes to the system allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[test]
fn a_batch_is_appended_flushed_and_written_with_few_allocations() {
    let place = tempfile::tempdir().unwrap();
    let options = LogDirOptions {
        reserve: Reserve::Bytes(0),
        threads: false,
        ..LogDirOptions::new(
            place.path().join("logs"),
            Arc::new(RealFs),
            Arc::new(SystemClock::new()),
            Arc::new(OsRandom),
            Arc::new(NoObserver),
        )
    };
    let dir = LogDir::open(options).unwrap();
    let name =
        TopicPartition { topic: TopicName::new("orders").unwrap(), partition: PartitionIndex(0) };
    let topic_id = TopicId(Uuid::from_random_bits(7));
    let log = dir.create(name, topic_id, LogConfig::default()).unwrap();
    log.begin_leader_epoch(LeaderEpoch(0)).unwrap();

    let mut built = BatchBuilder::new(CompressionType::None);
    built.push(Timestamp(1), None, Some(&vec![1; BATCH_BYTES]), &[]).unwrap();
    let built = built.finish().unwrap();
    // Each in a buffer of its own, as the listener hands them over.
    let batches = BATCHES_PER_FLUSH * FLUSHES;
    let mut waiting: Vec<_> = (0..2 * batches).map(|_| built.clone()).collect();
    let mut round = || {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..FLUSHES {
            for batch in waiting.drain(..BATCHES_PER_FLUSH) {
                let header = check_produced(&batch, &ProduceLimits::default()).unwrap();
                log.append_as_leader(batch, &header, LeaderEpoch(0)).unwrap();
            }
            assert!(dir.step_flush().unwrap());
        }
        assert_eq!(log.offsets().durable_end(), log.offsets().log_end());
        let appended = ALLOCATIONS.load(Ordering::Relaxed) - before;
        dir.write_all_behind().unwrap();
        (appended, ALLOCATIONS.load(Ordering::Relaxed) - before - appended)
    };
    // What grows once grows now.
    round();
    let (appended, written) = round();
    assert_eq!(log.offsets().log_end(), Offset(2 * batches as i64));
    let each = |count: u64| count as f64 / batches as f64;
    println!(
        "each batch: {:.2} to append and flush, {:.2} to write",
        each(appended),
        each(written)
    );
    let hundreds = batches as u64 / 100;
    assert!(appended > 0 && appended <= APPEND_ALLOCATIONS_MAX * hundreds, "{}", each(appended));
    assert!(written > 0 && written <= WRITE_ALLOCATIONS_MAX * hundreds, "{}", each(written));
}
