//! R16 by example, and against a model that keeps every batch ever written and searches it.

use proptest::prelude::*;

use super::*;
use crate::test_batch::{Vary, batch};

const NOW: Timestamp = Timestamp(1_000_000);

/// Appends what the states accept, at the given offset, and says what they said.
fn offer(states: &mut ProducerStates, header: BatchHeader) -> Result<SequenceCheck, ProducerError> {
    let verdict = states.check(&header)?;
    if verdict == SequenceCheck::New {
        states.apply(&header, NOW);
    }
    Ok(verdict)
}

/// States of producer 7, epoch 0, after `batches` batches of two records.
fn after(batches: i32) -> ProducerStates {
    let mut states = ProducerStates::default();
    for n in 0..batches {
        let header = batch(2).at(i64::from(n) * 2).from(7, 0, n * 2);
        assert_eq!(offer(&mut states, header), Ok(SequenceCheck::New));
    }
    states
}

fn out_of_order(given: i32, expected: i32) -> Result<SequenceCheck, ProducerError> {
    let producer_id = ProducerId(7);
    Err(ProducerError::OutOfOrder {
        producer_id,
        given: Sequence(given),
        expected: Sequence(expected),
    })
}

#[test]
fn duplicate_batch_returns_original_offset() {
    let states = after(8);
    for remembered in 3..8 {
        let repeated = batch(2).at(99).from(7, 0, remembered * 2);
        let Ok(SequenceCheck::Duplicate(original)) = states.check(&repeated) else {
            panic!("batch {remembered} is remembered")
        };
        assert_eq!(original.base_offset, Offset(i64::from(remembered) * 2));
        assert_eq!(original.last_offset, Offset(i64::from(remembered) * 2 + 1));
    }
}

#[test]
fn a_repetition_from_before_the_last_five_batches_is_out_of_order() {
    assert_eq!(after(8).check(&batch(2).from(7, 0, 4)), out_of_order(4, 16));
}

#[test]
fn a_batch_that_overlaps_a_remembered_one_is_no_repetition_of_it() {
    assert_eq!(after(3).check(&batch(1).from(7, 0, 4)), out_of_order(4, 6));
    assert_eq!(after(3).check(&batch(3).from(7, 0, 4)), out_of_order(4, 6));
}

#[test]
fn a_gap_in_the_numbering_is_out_of_order() {
    assert_eq!(after(3).check(&batch(1).from(7, 0, 7)), out_of_order(7, 6));
}

#[test]
fn sequence_wraps_to_zero_within_a_batch_and_between_batches() {
    let mut states = ProducerStates::default();
    let across = batch(4).at(0).from(7, 0, i32::MAX - 1);
    assert_eq!(offer(&mut states, across), Ok(SequenceCheck::New));
    assert_eq!(states.check(&batch(1).from(7, 0, 1)), out_of_order(1, 2));
    assert_eq!(offer(&mut states, batch(1).at(4).from(7, 0, 2)), Ok(SequenceCheck::New));
    assert!(matches!(states.check(&across), Ok(SequenceCheck::Duplicate(_))));

    let mut states = ProducerStates::default();
    offer(&mut states, batch(1).at(0).from(7, 0, i32::MAX))
        .expect("without state any start is right");
    assert_eq!(offer(&mut states, batch(1).at(1).from(7, 0, 0)), Ok(SequenceCheck::New));
}

#[test]
fn a_producer_without_state_may_start_anywhere() {
    let mut states = after(2);
    assert_eq!(offer(&mut states, batch(1).at(4).from(8, 3, 500)), Ok(SequenceCheck::New));
    assert_eq!(offer(&mut states, batch(1).at(5).from(8, 3, 501)), Ok(SequenceCheck::New));
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
    let mut states = after(2);
    assert_eq!(states.check(&batch(1).from(7, 1, 4)), out_of_order(4, 0));
    assert_eq!(offer(&mut states, batch(1).at(4).from(7, 1, 0)), Ok(SequenceCheck::New));
    let error = states.check(&batch(2).from(7, 0, 2)).expect_err("even a repetition is fenced");
    assert_eq!(error.code(), ErrorCode::InvalidProducerEpoch);
}

#[test]
fn a_producer_id_without_a_proper_epoch_and_sequence_is_refused() {
    for wrong in [batch(1).from(7, -1, 0), batch(1).from(7, 0, -1), batch(1).from(-2, 0, 0)] {
        let error = ProducerStates::default().check(&wrong).expect_err("malformed");
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
}

#[test]
fn producers_expire_when_not_heard_of_for_the_whole_time() {
    let mut states = after(1);
    states.apply(&batch(1).at(10).from(9, 0, 0), NOW.saturating_add_ms(500));
    assert_eq!(states.expire(NOW.saturating_add_ms(999), 1000), 0);
    assert_eq!(states.expire(NOW.saturating_add_ms(1000), 1000), 1);
    assert_eq!(states.iter().map(|(id, _)| id).collect::<Vec<_>>(), [ProducerId(9)]);
}

#[test]
fn a_record_from_long_ago_does_not_shorten_its_producers_protection() {
    let mut states = ProducerStates::default();
    states.apply(&batch(1).at(0).time(5).from(7, 0, 0), NOW);
    assert_eq!(states.expire(NOW.saturating_add_ms(999), 1000), 0);
}

#[test]
fn a_snapshot_cut_short_or_changed_in_length_is_refused() {
    let bytes = after(7).snapshot(Offset(14));
    assert_eq!(ProducerStates::restore(&bytes), Ok((after(7), Offset(14))));
    for cut in 0..bytes.len() {
        assert!(ProducerStates::restore(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(ProducerStates::restore(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_snapshot_of_batches_above_its_own_log_end_is_refused() {
    assert!(ProducerStates::restore(&after(7).snapshot(Offset(13))).is_err());
}

/// Everything ever appended: producer, epoch, first sequence, records, base offset.
type History = Vec<(i64, i16, i64, i64, i64)>;

/// The rules of R16 by searching the whole history.
fn model_verdict(
    history: &History,
    id: i64,
    epoch: i16,
    sequence: i64,
    records: i64,
) -> Result<Option<i64>, ErrorCode> {
    let of_producer: Vec<_> = history.iter().filter(|b| b.0 == id).collect();
    let Some(newest) = of_producer.last() else { return Ok(None) };
    if epoch < newest.1 {
        return Err(ErrorCode::InvalidProducerEpoch);
    }
    let of_epoch: Vec<_> = of_producer.iter().rev().take_while(|b| b.1 == epoch).take(5).collect();
    if let Some(original) = of_epoch.iter().find(|b| b.2 == sequence && b.3 == records) {
        return Ok(Some(original.4));
    }
    let expected = of_epoch.first().map_or(0, |b| (b.2 + b.3) % (1 << 31));
    if sequence == expected { Ok(None) } else { Err(ErrorCode::OutOfOrderSequenceNumber) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn verdicts_agree_with_a_search_of_the_whole_history(
        offers in prop::collection::vec((0..3_i64, 0..2_i16, 0..12_i64, 1..4_i32, any::<bool>()), 0..80),
        first in prop_oneof![Just(0_i64), Just((1 << 31) - 9)],
    ) {
        let mut states = ProducerStates::default();
        let mut history = History::new();
        let mut log_end = 0;
        for (id, epoch, step, records, continues) in offers {
            // Half of the offers continue their producer's numbering, the others are near it.
            let newest = history.iter().rev().find(|b| b.0 == id && b.1 == epoch);
            let next = newest.map_or(if epoch == 0 { first } else { 0 }, |b| b.2 + b.3);
            let sequence = (if continues { next } else { next + step - 8 }).rem_euclid(1 << 31);
            let header = batch(records)
                .at(log_end)
                .from(id, epoch, i32::try_from(sequence).expect("below 2^31"));
            let verdict = states.check(&header);
            let seen = verdict.map_err(|error| error.code()).map(|verdict| match verdict {
                SequenceCheck::New => None,
                SequenceCheck::Duplicate(original) => Some(original.base_offset.0),
            });
            prop_assert_eq!(seen, model_verdict(&history, id, epoch, sequence, i64::from(records)));
            if verdict == Ok(SequenceCheck::New) {
                states.apply(&header, NOW);
                history.push((id, epoch, sequence, i64::from(records), log_end));
                log_end += i64::from(records);
            }
        }
        let bytes = states.snapshot(Offset(log_end));
        prop_assert_eq!(ProducerStates::restore(&bytes), Ok((states, Offset(log_end))));
    }

    #[test]
    fn no_bytes_make_restoring_panic_or_allocate_by_their_counts(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        let _ = ProducerStates::restore(&bytes);
    }
}
