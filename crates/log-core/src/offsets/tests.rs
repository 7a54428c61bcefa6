//! The order of the positions, by example and by random movements.

use proptest::prelude::*;

use super::*;

fn offsets(log_end: i64, flushed: i64, committed: i64) -> LogOffsets {
    let mut offsets = LogOffsets::empty_at(Offset::ZERO, Durability::Fsync);
    offsets.appended(Offset(log_end));
    offsets.flushed(Offset(flushed));
    offsets.commit(Offset(committed), None);
    offsets
}

#[test]
fn a_flush_that_reports_late_changes_nothing() {
    let mut offsets = offsets(10, 8, 8);
    offsets.flushed(Offset(5));
    assert_eq!(offsets.recovery_point(), Offset(8));
}

#[test]
fn a_flush_begun_before_a_truncation_covers_only_what_is_left() {
    let mut offsets = offsets(10, 2, 2);
    offsets.truncated(Offset(4), false);
    offsets.flushed(Offset(10));
    assert_eq!(offsets.recovery_point(), Offset(4));
}

#[test]
fn appended_records_count_as_durable_on_replicated_topics_only() {
    let mut offsets = offsets(10, 4, 4);
    assert_eq!(offsets.durable_end(), Offset(4));
    offsets.set_durability(Durability::Replicated);
    assert_eq!(offsets.durable_end(), Offset(10));
    offsets.commit(Offset(10), None);
    // Back again: what was committed stays committed (R19), what is durable is told truly.
    offsets.set_durability(Durability::Fsync);
    assert_eq!((offsets.durable_end(), offsets.high_watermark()), (Offset(4), Offset(10)));
}

#[test]
fn the_last_stable_offset_stops_at_an_open_transaction() {
    let mut offsets = offsets(10, 10, 2);
    offsets.commit(Offset(9), Some(Offset(5)));
    assert_eq!((offsets.high_watermark(), offsets.last_stable()), (Offset(9), Offset(5)));
    offsets.commit(Offset(9), None);
    assert_eq!(offsets.last_stable(), Offset(9));
}

#[test]
fn a_follower_believes_its_leader_for_the_records_it_has() {
    let mut offsets = offsets(10, 2, 2);
    offsets.follow(Offset(50), None);
    assert_eq!(offsets.high_watermark(), Offset(10));
}

#[test]
fn a_remembered_high_watermark_is_brought_into_the_log() {
    let recover = |remembered| {
        let durability = Durability::Fsync;
        LogOffsets::recovered(Offset(5), Offset(remembered), Offset(9), durability).high_watermark()
    };
    assert_eq!([recover(0), recover(7), recover(70)], [Offset(5), Offset(7), Offset(9)]);
}

#[test]
#[should_panic(expected = "invariant I6")]
fn committing_what_is_not_durable_is_a_broken_invariant() {
    offsets(10, 4, 4).commit(Offset(5), None);
}

#[test]
#[should_panic(expected = "invariant I17")]
fn deleting_what_is_not_committed_is_a_broken_invariant() {
    offsets(10, 10, 4).move_log_start(Offset(5));
}

#[test]
#[should_panic(expected = "invariant I12")]
fn cutting_what_is_committed_is_a_broken_invariant() {
    offsets(10, 10, 4).truncated(Offset(3), false);
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Append(i64),
    Flush(i64),
    Commit(i64),
    Follow(i64),
    Start(i64),
    Cut(i64, bool),
}

fn movement() -> impl Strategy<Value = Move> {
    prop_oneof![
        (1..9_i64).prop_map(Move::Append),
        (0..60_i64).prop_map(Move::Flush),
        (0..60_i64).prop_map(Move::Commit),
        (0..60_i64).prop_map(Move::Follow),
        (0..60_i64).prop_map(Move::Start),
        (0..60_i64, any::<bool>()).prop_map(|(to, unclean)| Move::Cut(to, unclean)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Five plain integers moved by plain arithmetic are the model; every accepted movement keeps both equal and in order.
    #[test]
    fn positions_keep_their_order_under_any_movements(moves in prop::collection::vec(movement(), 0..60)) {
        let mut offsets = LogOffsets::empty_at(Offset::ZERO, Durability::Fsync);
        let (mut start, mut committed, mut flushed, mut end) = (0, 0, 0, 0);
        for movement in moves {
            match movement {
                Move::Append(records) => {
                    end += records;
                    offsets.appended(Offset(end));
                }
                Move::Flush(to) => {
                    flushed = flushed.max(to.min(end));
                    offsets.flushed(Offset(to));
                }
                Move::Commit(to) if to <= flushed || to <= committed => {
                    committed = committed.max(to);
                    offsets.commit(Offset(to), None);
                }
                Move::Follow(to) => {
                    committed = committed.max(to.min(end));
                    offsets.follow(Offset(to), None);
                }
                Move::Start(to) if to <= committed => {
                    start = start.max(to);
                    offsets.move_log_start(Offset(to));
                }
                Move::Cut(to, unclean) if to >= start && to <= end && (unclean || to >= committed) => {
                    end = to;
                    flushed = flushed.min(to);
                    committed = committed.min(to);
                    offsets.truncated(Offset(to), unclean);
                }
                _ => continue,
            }
            let now = [offsets.log_start(), offsets.last_stable(), offsets.high_watermark(),
                       offsets.recovery_point(), offsets.log_end()];
            prop_assert_eq!(now.map(|offset| offset.0), [start, committed, committed, flushed, end]);
            prop_assert!(start <= committed && committed <= end && flushed <= end);
        }
    }
}
