//! The whole log against a naive model: a list of batches, searched and replayed from the beginning whenever the log is asked.

use proptest::prelude::*;
use thalweg_record::Attributes;
use thalweg_types::Durability;

use super::*;
use crate::test_batch::{Vary, batch};

const NOW: Timestamp = Timestamp(1_000_000);
const LEADER: Origin = Origin::Client { leader_epoch: LeaderEpoch(3) };

fn led(config: LogConfig) -> PartitionLog {
    let mut log = PartitionLog::new(config, 1, NOW);
    log.begin_leader_epoch(LeaderEpoch(3)).expect("the first epoch");
    log
}

/// Decides on the batch and appends it as decided; what the shell does, without the bytes.
fn append(
    log: &mut PartitionLog,
    header: BatchHeader,
    origin: Origin,
    now: Timestamp,
) -> Result<BatchHeader, AppendError> {
    match log.decide_append(&header, origin, now)? {
        AppendDecision::Append { base_offset, leader_epoch, log_append_time, roll, .. } => {
            let max_timestamp = log_append_time.unwrap_or(header.max_timestamp);
            let stamped = BatchHeader { base_offset, leader_epoch, max_timestamp, ..header };
            log.apply_append(&stamped, roll, now);
            Ok(stamped)
        }
        AppendDecision::Duplicate { base_offset, .. } => Ok(BatchHeader { base_offset, ..header }),
    }
}

fn refused(log: &PartitionLog, header: BatchHeader) -> ErrorCode {
    log.decide_append(&header, LEADER, NOW).expect_err("refused").code()
}

#[test]
fn a_batch_gets_the_log_end_and_the_leaders_epoch() {
    let mut log = led(LogConfig::default());
    append(&mut log, batch(3), LEADER, NOW).expect("accepted");
    let decision = log.decide_append(&batch(2).at(77).epoch(-1), LEADER, NOW);
    let expected = AppendDecision::Append {
        base_offset: Offset(3),
        last_offset: Offset(4),
        leader_epoch: LeaderEpoch(3),
        log_append_time: None,
        roll: None,
    };
    assert_eq!(decision, Ok(expected));
    assert_eq!(log.offsets().log_end(), Offset(3), "a decision changes nothing");
}

#[test]
fn a_repetition_is_answered_even_when_the_rules_have_changed_since() {
    let mut log = led(LogConfig::default());
    let first = batch(3).from(7, 0, 0).time(NOW.0);
    append(&mut log, first, LEADER, NOW).expect("accepted");
    append(&mut log, batch(1), LEADER, NOW).expect("accepted");
    log.configure(LogConfig {
        max_message_bytes: 10,
        timestamp_before_max_ms: 1,
        ..LogConfig::default()
    });
    let (base_offset, last_offset, timestamp) = (Offset(0), Offset(2), NOW);
    assert_eq!(
        log.decide_append(&first, LEADER, NOW.saturating_add_ms(5_000)),
        Ok(AppendDecision::Duplicate { base_offset, last_offset, timestamp })
    );
}

#[test]
fn old_and_unknown_leader_epochs_are_told_apart() {
    let log = led(LogConfig::default());
    let ask = |epoch| {
        let origin = Origin::Client { leader_epoch: LeaderEpoch(epoch) };
        log.decide_append(&batch(1), origin, NOW).expect_err("another epoch").code()
    };
    assert_eq!((ask(2), ask(4)), (ErrorCode::FencedLeaderEpoch, ErrorCode::UnknownLeaderEpoch));
}

#[test]
fn transactional_and_control_batches_are_refused() {
    let log = led(LogConfig::default());
    let with = |bits| BatchHeader { attributes: Attributes(bits), ..batch(1) };
    assert_eq!(refused(&log, with(1 << 4)), ErrorCode::InvalidTxnState);
    assert_eq!(refused(&log, with(1 << 5)), ErrorCode::InvalidRecord);
}

#[test]
fn oversized_batches_are_refused_with_the_limit_they_break() {
    let log = led(LogConfig { max_message_bytes: 260, ..LogConfig::default() });
    assert_eq!(refused(&log, batch(2)), ErrorCode::MessageTooLarge);
    let log = led(LogConfig { segment_bytes: 260, ..LogConfig::default() });
    assert_eq!(refused(&log, batch(2)), ErrorCode::RecordListTooLarge);
}

#[test]
fn timestamps_too_far_from_the_clock_are_refused_unless_the_log_sets_its_own() {
    let config = LogConfig {
        timestamp_before_max_ms: 100,
        timestamp_after_max_ms: 50,
        ..LogConfig::default()
    };
    let log = led(config.clone());
    for (timestamp, accepted) in [(-101, false), (-100, true), (50, true), (51, false)] {
        let header = batch(1).time(NOW.0 + timestamp);
        assert_eq!(log.decide_append(&header, LEADER, NOW).is_ok(), accepted, "{timestamp}");
    }
    assert_eq!(refused(&log, batch(1).time(0)), ErrorCode::InvalidTimestamp);
    let extreme = BatchHeader {
        base_timestamp: Timestamp(i64::MIN),
        max_timestamp: Timestamp(i64::MAX),
        ..batch(1)
    };
    assert_eq!(refused(&log, extreme), ErrorCode::InvalidTimestamp);
    assert!(
        log.decide_append(&batch(1), LEADER, NOW).is_ok(),
        "no timestamp is no wrong timestamp"
    );

    let mut log = led(LogConfig { timestamp_type: TimestampType::LogAppendTime, ..config });
    let stamped = append(&mut log, batch(1).time(0), LEADER, NOW).expect("accepted");
    assert_eq!(stamped.max_timestamp, NOW);
    assert_eq!(log.max_timestamp(), Some((NOW, Offset(0))));
}

#[test]
fn a_log_at_the_end_of_the_number_space_refuses_instead_of_wrapping() {
    let found = RecoveredLog {
        log_start: Offset(i64::MAX - 2),
        high_watermark: Offset::ZERO,
        segments: Vec::new(),
        epochs: EpochIndex::default(),
        producers: ProducerStates::default(),
    };
    let mut log = PartitionLog::recover(found, LogConfig::default(), 1, NOW);
    log.begin_leader_epoch(LeaderEpoch(3)).expect("newer");
    assert!(matches!(
        log.decide_append(&batch(3), LEADER, NOW),
        Err(AppendError::OffsetsExhausted { .. })
    ));
    append(&mut log, batch(2), LEADER, NOW).expect("the last two offsets");
}

#[test]
fn a_replicas_batch_must_continue_the_log_in_offset_and_epoch() {
    let mut log = PartitionLog::new(LogConfig::default(), 1, NOW);
    append(&mut log, batch(4).at(0).epoch(5), Origin::Replica, NOW).expect("continues");
    let offer = |header: BatchHeader| log.decide_append(&header, Origin::Replica, NOW);
    assert!(matches!(offer(batch(1).at(3).epoch(5)), Err(AppendError::NotAtLogEnd { .. })));
    assert!(matches!(offer(batch(1).at(5).epoch(5)), Err(AppendError::NotAtLogEnd { .. })));
    assert!(matches!(offer(batch(1).at(4).epoch(4)), Err(AppendError::EpochWentBack { .. })));
    assert!(offer(batch(1).at(4).epoch(6)).is_ok());
}

#[test]
fn a_leader_that_was_replaced_cannot_begin_again() {
    let mut log = led(LogConfig::default());
    assert_eq!(log.begin_leader_epoch(LeaderEpoch(3)), Ok(false));
    let error = log.begin_leader_epoch(LeaderEpoch(2)).expect_err("replaced");
    assert_eq!(error.code(), ErrorCode::FencedLeaderEpoch);
}

#[test]
fn delete_records_moves_the_log_start_no_further_than_what_is_committed() {
    let mut log = led(LogConfig::default());
    append(&mut log, batch(10), LEADER, NOW).expect("accepted");
    log.flushed(Offset(10));
    log.advance_high_watermark(Offset(6));
    assert_eq!(log.decide_log_start(Offset::NONE), Ok(Offset(6)));
    assert_eq!(
        log.decide_log_start(Offset(7)).expect_err("above").code(),
        ErrorCode::OffsetOutOfRange
    );
    assert!(log.decide_log_start(Offset(-2)).is_err());
    log.move_log_start(log.decide_log_start(Offset(4)).expect("committed"));
    assert_eq!(log.offsets().log_start(), Offset(4));
    assert_eq!(log.decide_log_start(Offset(2)), Ok(Offset(4)), "never back");
    assert_eq!(log.epochs().latest().map(|newest| newest.start_offset), Some(Offset(4)));
}

#[test]
fn cutting_committed_records_needs_an_unclean_mark() {
    let mut log = led(LogConfig::default());
    append(&mut log, batch(10), LEADER, NOW).expect("accepted");
    append(&mut log, batch(10), LEADER, NOW).expect("accepted");
    log.flushed(Offset(20));
    log.advance_high_watermark(Offset(20));
    let (at, high_watermark) = (Offset(10), Offset(20));
    assert_eq!(
        log.plan_truncation(at, &[], false),
        Err(TruncateError::Committed { at, high_watermark })
    );
    assert!(matches!(log.plan_truncation(at, &[], true), Ok(Some(plan)) if plan.unclean));
    assert_eq!(log.plan_truncation(Offset(20), &[], false), Ok(None));
}

// ---- The model ----

/// Batches as the model keeps them: the log is what a replay of this list gives.
type Batches = Vec<BatchHeader>;

#[derive(Debug, Clone)]
enum Step {
    Produce { producer: i64, records: i32, retry_of: Option<usize>, timestamp: i64 },
    NewLeader,
    Commit(i64),
    Truncate(usize),
    LogStart(i64),
    Retain,
    Restart,
    Roll,
}

fn step() -> impl Strategy<Value = Step> {
    let retry = prop::option::weighted(0.3, 0..7_usize);
    let produce = (-1..3_i64, 1..6_i32, retry, 0..2_000_i64).prop_map(
        |(producer, records, retry_of, timestamp)| Step::Produce {
            producer,
            records,
            retry_of,
            timestamp,
        },
    );
    prop_oneof![
        10 => produce,
        1 => Just(Step::NewLeader),
        3 => (0..100_i64).prop_map(Step::Commit),
        1 => (0..6_usize).prop_map(Step::Truncate),
        1 => (0..100_i64).prop_map(Step::LogStart),
        1 => Just(Step::Retain),
        1 => Just(Step::Restart),
        1 => Just(Step::Roll),
    ]
}

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1_500,
        segment_ms: 700,
        index_interval_bytes: 500,
        retention_ms: None,
        retention_bytes: Some(3_000),
        timestamp_after_max_ms: i64::MAX,
        durability: Durability::Fsync,
        ..LogConfig::default()
    }
}

fn end_of(batches: &Batches) -> Offset {
    batches.last().map_or(Offset::ZERO, BatchHeader::next_offset)
}

fn replayed(batches: &[BatchHeader]) -> ProducerStates {
    let mut states = ProducerStates::default();
    batches.iter().for_each(|header| states.apply(header, NOW));
    states
}

/// The facts of the segment that begins at `base_offset`, found again from the batches up to `end`.
fn rescanned(batches: &Batches, base_offset: Offset, end: Offset) -> SegmentFacts {
    let mut facts = SegmentFacts::empty_at(base_offset, NOW);
    let inside = |b: &&BatchHeader| b.base_offset >= base_offset && b.next_offset() <= end;
    for header in batches.iter().filter(inside) {
        facts.push(header, &small(), NOW);
    }
    facts
}

/// Executes a truncation as storage would: a snapshot at every even batch, a replay from there, a scan of the cut segment.
fn truncate(
    log: &mut PartitionLog,
    batches: &mut Batches,
    to: Offset,
) -> Result<(), TruncateError> {
    let snapshots: Vec<Offset> = batches.iter().step_by(2).map(|b| b.base_offset).collect();
    let Some(plan) = log.plan_truncation(to, &snapshots, false)? else { return Ok(()) };
    // The snapshot was taken when the log was longer, from what it held then.
    let snapshot = plan.producer_snapshot.unwrap_or(Offset::ZERO);
    let before: Batches = batches.iter().copied().filter(|b| b.base_offset < snapshot).collect();
    let (mut producers, _) =
        ProducerStates::restore(&replayed(&before).snapshot(snapshot)).expect("own bytes");
    batches.retain(|header| header.next_offset() <= plan.cut.offset);
    let cut = rescanned(batches, plan.cut.segment_base_offset, plan.cut.offset);
    let from = plan.producer_replay_from;
    batches.iter().filter(|b| b.base_offset >= from).for_each(|b| producers.apply(b, NOW));
    log.truncate(&plan, cut, producers);
    Ok(())
}

fn restarted(log: &PartitionLog, batches: &Batches) -> PartitionLog {
    let end = log.offsets().log_end();
    let segments =
        log.segments().iter().map(|s| rescanned(batches, s.base_offset, next_base(log, s, end)));
    let found = RecoveredLog {
        log_start: log.offsets().log_start(),
        high_watermark: log.offsets().high_watermark(),
        segments: segments.collect(),
        epochs: log.epochs().clone(),
        producers: ProducerStates::restore(&log.producers().snapshot(end)).expect("own bytes").0,
    };
    PartitionLog::recover(found, log.config().clone(), 1, NOW)
}

fn next_base(log: &PartitionLog, segment: &SegmentFacts, end: Offset) -> Offset {
    let mut later =
        log.segments().iter().map(|s| s.base_offset).filter(|b| *b > segment.base_offset);
    later.next().unwrap_or(end)
}

/// What a produced batch looks like: a retry of one of the producer's last batches, or its next.
fn produced(
    batches: &Batches,
    producer: i64,
    records: i32,
    retry_of: Option<usize>,
    timestamp: i64,
) -> BatchHeader {
    if producer < 0 {
        return batch(records).time(timestamp);
    }
    let own = || batches.iter().rev().filter(|b| b.producer_id.0 == producer);
    if let Some(original) = retry_of.and_then(|back| own().nth(back)) {
        return *original;
    }
    let next = own().next().map_or(0, |newest| newest.last_sequence().next().0);
    batch(records).time(timestamp).from(producer, 0, next)
}

fn model_duplicate(batches: &Batches, header: &BatchHeader) -> Option<Offset> {
    let own = batches.iter().rev().filter(|b| b.producer_id == header.producer_id).take(5);
    own.filter(|b| {
        header.producer_id != thalweg_types::ProducerId::NONE
            && b.base_sequence == header.base_sequence
    })
    .map(|b| b.base_offset)
    .next()
}

fn check_against_model(log: &PartitionLog, batches: &Batches) -> Result<(), TestCaseError> {
    let offsets = log.offsets();
    prop_assert_eq!(offsets.log_end(), end_of(batches));
    prop_assert!(offsets.log_start() <= offsets.high_watermark());
    prop_assert!(offsets.high_watermark() <= offsets.durable_end());
    prop_assert_eq!(log.producers(), &replayed(batches));
    for header in batches.iter().filter(|b| b.base_offset >= offsets.log_start()) {
        let segment = log.segment_holding(header.base_offset).expect("in the log");
        prop_assert!(header.next_offset() <= next_base(log, segment, offsets.log_end()));
        prop_assert_eq!(log.epochs().epoch_at(header.base_offset), Some(header.leader_epoch));
    }
    let retained = batches.iter().filter(|b| b.base_offset >= log.segments()[0].base_offset);
    let latest = retained.clone().map(|b| b.max_timestamp).max();
    prop_assert_eq!(log.max_timestamp().map(|(timestamp, _)| timestamp), latest);
    prop_assert_eq!(log.size_bytes(), retained.map(|b| b.size_bytes() as u64).sum::<u64>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_log_is_what_a_replay_of_its_batches_gives(steps in prop::collection::vec(step(), 1..80)) {
        let mut log = PartitionLog::new(small(), 1, NOW);
        let mut batches = Batches::new();
        let mut epoch = LeaderEpoch(0);
        log.begin_leader_epoch(epoch).expect("the first epoch");
        for step in steps {
            match step {
                Step::Produce { producer, records, retry_of, timestamp } => {
                    let header = produced(&batches, producer, records, retry_of, timestamp);
                    let duplicate = model_duplicate(&batches, &header);
                    let origin = Origin::Client { leader_epoch: epoch };
                    match (log.decide_append(&header, origin, NOW), duplicate) {
                        (Ok(AppendDecision::Duplicate { base_offset, .. }), Some(original)) => {
                            prop_assert_eq!(base_offset, original);
                        }
                        (Ok(AppendDecision::Append { base_offset, .. }), None) => {
                            prop_assert_eq!(base_offset, end_of(&batches));
                            batches.push(append(&mut log, header, origin, NOW).expect("decided"));
                        }
                        (Err(AppendError::Producer(error)), None) => {
                            prop_assert!(retry_of.is_some_and(|back| back >= 5), "{error}");
                        }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::NewLeader => {
                    epoch = epoch.next().expect("few epochs");
                    log.begin_leader_epoch(epoch).expect("newer");
                }
                Step::Commit(percent) => {
                    let upto = batches.len() * usize::try_from(percent).expect("positive") / 100;
                    let end = end_of(&batches[..upto].to_vec());
                    log.flushed(end);
                    log.advance_high_watermark(end);
                }
                Step::Truncate(back) => {
                    let kept = batches.len().saturating_sub(back);
                    let to = end_of(&batches[..kept].to_vec());
                    let committed = log.offsets().high_watermark();
                    let outcome = truncate(&mut log, &mut batches, to);
                    prop_assert_eq!(outcome.is_ok(), to >= committed || end_of(&batches) == to);
                    log.begin_leader_epoch(epoch).expect("not older");
                }
                Step::LogStart(percent) => {
                    let to = Offset(log.offsets().high_watermark().0 * percent / 100);
                    let to = log.decide_log_start(to).expect("committed");
                    log.move_log_start(to);
                }
                Step::Retain => {
                    let plan = log.plan_retention(NOW);
                    let size = log.size_bytes();
                    log.apply_retention(&plan, NOW);
                    prop_assert!(size < 3_000 || log.size_bytes() >= 3_000 || log.offsets().log_start() > Offset::ZERO);
                }
                Step::Restart => {
                    let again = restarted(&log, &batches);
                    prop_assert_eq!(again.epochs(), log.epochs());
                    prop_assert_eq!(again.offsets().log_start(), log.offsets().log_start());
                    prop_assert_eq!(again.offsets().high_watermark(), log.offsets().high_watermark());
                    log = again;
                    log.begin_leader_epoch(epoch).expect("not older");
                }
                Step::Roll => {
                    log.roll_active(NOW);
                }
            }
            check_against_model(&log, &batches)?;
        }
    }
}
