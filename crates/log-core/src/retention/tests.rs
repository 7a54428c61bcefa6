//! Retention by example, and against brute force over prefixes of the log.

use proptest::prelude::*;
use thalweg_types::Durability;

use super::*;
use crate::config::CleanupPolicy;

const NOW: Timestamp = Timestamp(10_000);

/// Segments of ten records and 100 bytes each, with these newest timestamps; the last is the active one.
fn segments(timestamps: &[i64]) -> Vec<SegmentFacts> {
    let segment = |(position, timestamp): (i64, &i64)| SegmentFacts {
        next_offset: Offset(position * 10 + 10),
        size_bytes: 100,
        max_timestamp: (*timestamp >= 0).then_some((Timestamp(*timestamp), Offset(position * 10))),
        ..SegmentFacts::empty_at(Offset(position * 10), Timestamp(9_000))
    };
    (0..).zip(timestamps).map(segment).collect()
}

fn offsets(log_start: i64, committed: i64, log_end: i64) -> LogOffsets {
    let durability = Durability::Fsync;
    LogOffsets::recovered(Offset(log_start), Offset(committed), Offset(log_end), durability)
}

fn keep(retention_ms: Option<i64>, retention_bytes: Option<u64>) -> LogConfig {
    LogConfig { retention_ms, retention_bytes, ..LogConfig::default() }
}

fn deleted(plan: &Plan) -> Vec<(i64, Reason)> {
    plan.delete.iter().map(|expired| (expired.base_offset.0, expired.reason)).collect()
}

#[test]
fn old_segments_go_from_the_front_up_to_the_first_young_one() {
    let segments = segments(&[1_000, 9_500, 1_000, 9_500]);
    let plan = plan(&segments, &offsets(0, 40, 40), &keep(Some(1_000), None), NOW);
    assert_eq!(deleted(&plan), [(0, Reason::Age)]);
    assert!(!plan.roll_active);
}

#[test]
fn the_active_segment_ends_so_that_it_can_go_too() {
    let segments = segments(&[1_000, 2_000]);
    let plan = plan(&segments, &offsets(0, 20, 20), &keep(Some(1_000), None), NOW);
    assert_eq!(deleted(&plan), [(0, Reason::Age), (10, Reason::Age)]);
    assert!(plan.roll_active);
}

#[test]
fn nothing_above_the_last_stable_offset_goes() {
    let segments = segments(&[1_000, 1_000, 1_000]);
    let plan = plan(&segments, &offsets(0, 19, 30), &keep(Some(1_000), None), NOW);
    assert_eq!(deleted(&plan), [(0, Reason::Age)]);
}

#[test]
fn a_segment_without_timestamps_is_as_old_as_its_last_append() {
    let segments = segments(&[-1, -1]);
    assert!(plan(&segments, &offsets(0, 20, 20), &keep(Some(1_000), None), NOW).is_empty());
    let plan = plan(&segments, &offsets(0, 20, 20), &keep(Some(999), None), NOW);
    assert_eq!(plan.delete.len(), 2);
}

#[test]
fn size_retention_leaves_at_least_the_configured_bytes() {
    let segments = segments(&[9_900; 4]);
    let sized =
        |bytes| deleted(&plan(&segments, &offsets(0, 40, 40), &keep(None, Some(bytes)), NOW)).len();
    assert_eq!([sized(250), sized(300), sized(301), sized(400), sized(0)], [1, 1, 0, 0, 4]);
}

#[test]
fn segments_below_the_log_start_go_whatever_the_policy() {
    let config = LogConfig {
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        ..keep(Some(1), Some(0))
    };
    let segments = segments(&[1_000; 3]);
    let plan = |start| deleted(&plan(&segments, &offsets(start, 30, 30), &config, NOW));
    assert_eq!(plan(25), [(0, Reason::BelowLogStart), (10, Reason::BelowLogStart)]);
    assert_eq!(plan(9), []);
}

#[test]
fn an_empty_active_segment_is_left_alone() {
    let mut segments = segments(&[1_000]);
    segments.push(SegmentFacts::empty_at(Offset(10), Timestamp(0)));
    let plan = plan(&segments, &offsets(0, 10, 10), &keep(Some(1_000), Some(0)), NOW);
    assert_eq!(deleted(&plan), [(0, Reason::Age)]);
    assert!(!plan.roll_active);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The model tries every prefix: the plan deletes the longest one in which every segment may go for a reason of its own.
    #[test]
    fn the_plan_is_the_longest_prefix_of_which_every_segment_may_go(
        timestamps in prop::collection::vec(8_000..10_000_i64, 1..8),
        (start, committed) in (0..80_i64, 0..80_i64),
        retention_ms in prop::option::of(0..2_000_i64),
        retention_bytes in prop::option::of(0..900_u64),
    ) {
        let segments = segments(&timestamps);
        let log_end = segments.len() as i64 * 10;
        let committed = committed.min(log_end);
        let start = start.min(committed);
        let config = keep(retention_ms, retention_bytes);
        let may_go = |position: usize| {
            let end = (position as i64 + 1) * 10;
            let left = (segments.len() - position - 1) as u64 * 100;
            end <= committed
                && (end <= start
                    || retention_ms.is_some_and(|limit| timestamps[position] < NOW.0 - limit)
                    || retention_bytes.is_some_and(|limit| left >= limit))
        };
        let expected = (0..segments.len()).take_while(|position| may_go(*position)).count();
        let plan = plan(&segments, &offsets(start, committed, log_end), &config, NOW);
        prop_assert_eq!(plan.delete.len(), expected);
        prop_assert_eq!(plan.roll_active, expected == segments.len());
    }
}
