//! Every reason to roll, and look-up against a scan.

use proptest::prelude::*;

use super::*;
use crate::test_batch::{Vary, batch};

const NOW: Timestamp = Timestamp(1_000_000);

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1000, segment_ms: 100, ..LogConfig::default() }
}

/// A segment from offset 100 on that holds one batch of two records (261 bytes) with this timestamp.
fn active(timestamp: i64) -> SegmentFacts {
    let mut segment = SegmentFacts::empty_at(Offset(100), NOW);
    segment.push(&batch(2).at(100).time(timestamp), &config(), NOW);
    segment
}

fn rolls(
    active: &SegmentFacts,
    next: BatchHeader,
    config: &LogConfig,
    now: i64,
) -> Option<RollReason> {
    roll_reason(active, &next, config, 0, Timestamp(now))
}

#[test]
fn a_segment_ends_before_the_batch_that_would_take_it_past_its_size() {
    let fits = batch(6).at(102).time(5);
    assert_eq!(
        rolls(&active(5), fits, &LogConfig { segment_bytes: 261 + 661, ..config() }, 0),
        None
    );
    let over = LogConfig { segment_bytes: 261 + 660, ..config() };
    assert_eq!(rolls(&active(5), fits, &over, 0), Some(RollReason::Bytes));
}

#[test]
fn an_empty_segment_takes_any_batch() {
    let empty = SegmentFacts::empty_at(Offset(100), NOW);
    let late = NOW.0 + 10 * config().segment_ms;
    assert_eq!(rolls(&empty, batch(50).at(100), &config(), late), None);
}

#[test]
fn a_segments_age_is_measured_in_its_records_own_time() {
    assert_eq!(rolls(&active(5000), batch(1).at(102).time(5100), &config(), i64::MAX), None);
    assert_eq!(
        rolls(&active(5000), batch(1).at(102).time(5101), &config(), 0),
        Some(RollReason::Age)
    );
}

#[test]
fn without_timestamps_a_segments_age_is_measured_from_its_creation() {
    let next = batch(1).at(102);
    assert_eq!(rolls(&active(-1), next, &config(), NOW.0 + 100), None);
    assert_eq!(rolls(&active(-1), next, &config(), NOW.0 + 101), Some(RollReason::Age));
    assert_eq!(rolls(&active(5000), next, &config(), NOW.0 + 101), Some(RollReason::Age));
}

#[test]
fn jitter_ends_segments_early_differently_for_each_log_and_the_same_each_time() {
    let config = LogConfig { segment_jitter_ms: 50, ..config() };
    let all: Vec<_> = (0..64).map(|seed| jitter_ms(&config, seed, Offset(0))).collect();
    assert!(all.iter().all(|jitter| (0..50).contains(jitter)));
    assert!(all.iter().collect::<std::collections::BTreeSet<_>>().len() > 20, "{all:?}");
    assert_eq!(jitter_ms(&config, 7, Offset(3)), jitter_ms(&config, 7, Offset(3)));
    assert_eq!(jitter_ms(&LogConfig { segment_jitter_ms: 0, ..config }, 7, Offset(3)), 0);

    let next = batch(1).at(102).time(5080);
    assert_eq!(roll_reason(&active(5000), &next, &config, 20, NOW), None);
    assert_eq!(roll_reason(&active(5000), &next, &config, 21, NOW), Some(RollReason::Age));
}

#[test]
fn a_segment_ends_when_an_index_has_no_room() {
    let full = SegmentFacts { index_entry_count: 10, ..active(5) };
    let config = LogConfig { segment_index_bytes: 80, ..config() };
    assert_eq!(rolls(&full, batch(1).at(102).time(5), &config, 0), Some(RollReason::IndexFull));
    let room = SegmentFacts { index_entry_count: 9, ..full };
    assert_eq!(rolls(&room, batch(1).at(102).time(5), &config, 0), None);
    let full_of_time = SegmentFacts { time_index_entry_count: 5, ..active(5) };
    assert_eq!(
        rolls(&full_of_time, batch(1).at(102).time(5), &config, 0),
        Some(RollReason::IndexFull)
    );
}

#[test]
fn a_segment_ends_before_offsets_outgrow_its_indexes() {
    let furthest = 100 + i64::from(i32::MAX);
    assert_eq!(rolls(&active(5), batch(1).at(furthest).time(5), &config(), 0), None);
    let beyond = batch(2).at(furthest).time(5);
    assert_eq!(rolls(&active(5), beyond, &config(), 0), Some(RollReason::OffsetOverflow));
    let empty = SegmentFacts::empty_at(Offset(100), NOW);
    assert_eq!(rolls(&empty, beyond, &config(), 0), Some(RollReason::OffsetOverflow));
}

#[test]
fn an_index_entry_is_due_once_the_interval_is_passed() {
    let config = LogConfig { index_interval_bytes: 300, ..config() };
    let mut segment = SegmentFacts::empty_at(Offset(100), NOW);
    // Batches of 261 bytes; the third begins with 522 bytes unindexed, the second with 261.
    let placements: Vec<_> = (0..4)
        .map(|n| segment.push(&batch(2).at(100 + 2 * n).time(50 - n), &config, NOW))
        .collect();
    assert_eq!(placements.iter().map(|p| p.position).collect::<Vec<_>>(), [0, 261, 522, 783]);
    let index: Vec<_> = placements.iter().map(|p| p.index_entry).collect();
    assert_eq!(index, [None, None, Some(IndexEntry { relative_offset: 5, position: 522 }), None]);
    // The first batch has the largest timestamp, and the entry names its last record.
    let expected = TimeIndexEntry { timestamp: Timestamp(50), relative_offset: 1 };
    assert_eq!(placements[2].time_index_entry, Some(expected));
    assert_eq!(segment.index_time(), None, "the index has the largest timestamp already");
}

#[test]
fn offset_911_is_looked_up_in_the_segment_that_begins_at_900() {
    let segment = |base_offset, next_offset| SegmentFacts {
        next_offset: Offset(next_offset),
        ..SegmentFacts::empty_at(Offset(base_offset), NOW)
    };
    let segments = [segment(0, 450), segment(450, 900), segment(900, 950)];
    assert_eq!(holding(&segments, Offset(911)), Some(2));
    assert_eq!(holding(&segments, Offset(899)), Some(1));
    assert_eq!(holding(&segments, Offset(950)), None);
    assert_eq!(holding(&segments[1..], Offset(449)), None);
    assert_eq!(holding(&[], Offset(0)), None);
    assert_eq!(segments[2].relative_offset(Offset(911)), Some(11));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Batches of many sizes and timestamps are appended by the rules; the model is the plain list of what was appended where.
    #[test]
    fn segments_hold_their_limits_and_look_ups_agree_with_a_scan(
        batches in prop::collection::vec((1..9_i32, -1..400_i64), 1..80),
        interval in 0..900_u64,
        (asked_offset, asked_time) in (0..400_i64, 0..400_i64),
    ) {
        let config = LogConfig { index_interval_bytes: interval, segment_index_bytes: 80, ..config() };
        let mut segments = vec![SegmentFacts::empty_at(Offset(0), NOW)];
        let mut placed: Vec<(BatchHeader, Placement)> = Vec::new();
        let mut log_end = 0;
        for (records, timestamp) in batches {
            let header = batch(records).at(log_end).time(timestamp);
            let active = segments.last().expect("never empty");
            if roll_reason(active, &header, &config, 0, NOW).is_some() {
                segments.push(SegmentFacts::empty_at(Offset(log_end), NOW));
            }
            let active = segments.last_mut().expect("never empty");
            placed.push((header, active.push(&header, &config, NOW)));
            log_end += i64::from(records);
        }

        for (position, segment) in segments.iter().enumerate() {
            let inside: Vec<_> = placed.iter().filter(|(_, p)| p.segment_base_offset == segment.base_offset).collect();
            let bytes: u64 = inside.iter().map(|(header, _)| header.size_bytes() as u64).sum();
            prop_assert_eq!(segment.size_bytes, bytes);
            prop_assert!(bytes <= config.segment_bytes || inside.len() == 1);
            prop_assert!(segment.index_entry_count <= 10 && segment.time_index_entry_count <= 6);
            let next = segments.get(position + 1).map_or(Offset(log_end), |next| next.base_offset);
            prop_assert_eq!(segment.next_offset, next);
        }

        // By offset: the index leads to a position at or before the batch, and to one within the interval and two batches of it.
        let asked = Offset(asked_offset % log_end);
        let segment = segments[holding(&segments, asked).expect("in the log")];
        let (_, truth) = placed.iter().find(|(header, _)| header.last_offset() >= asked).expect("in the log");
        prop_assert_eq!(segment.base_offset, truth.segment_base_offset);
        let inside = placed.iter().filter(|(_, p)| p.segment_base_offset == segment.base_offset);
        let entries: Vec<_> = inside.clone().filter_map(|(_, p)| p.index_entry).collect();
        let relative = segment.relative_offset(asked).expect("in range");
        let start = u64::from(crate::position_of(&entries, relative));
        prop_assert!(start <= truth.position && truth.position - start <= interval + 2 * 861);

        // By timestamp: a scan from the time index's answer meets the first batch that late.
        let times: Vec<_> = placed.iter().map(|(header, p)| (header, p)).collect();
        let truth = times.iter().find(|(header, _)| header.max_timestamp.0 >= asked_time);
        let found = with_timestamp_from(&segments, Timestamp(asked_time)).map(|at| segments[at]);
        prop_assert_eq!(found.map(|s| s.base_offset), truth.map(|(_, p)| p.segment_base_offset));
        if let (Some(segment), Some((header, _))) = (found, truth) {
            let entries: Vec<_> = times.iter().filter(|(_, p)| p.segment_base_offset == segment.base_offset)
                .filter_map(|(_, p)| p.time_index_entry).collect();
            let start = crate::scan_start_for_timestamp(&entries, Timestamp(asked_time));
            prop_assert!(segment.base_offset.0 + i64::from(start) <= header.last_offset().0);
        }
    }
}
