//! A sound history is judged sound; each kind of break, planted in it, is found, and as what it is.

use super::*;

fn place(partition: i32) -> Place {
    Place { topic: "orders".to_owned(), partition }
}

fn value(producer: u32, number: u64) -> Value {
    Value { place: place(0), producer, number }
}

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn send(value: Value, begun: u64, ended: u64, outcome: Outcome) -> Send {
    Send { value, begun: at(begun), ended: at(ended), outcome }
}

fn reading(consumer: &str, seen: &[(i64, Value)]) -> Reading {
    let seen = seen.iter().map(|(offset, value)| Seen {
        place: place(0),
        offset: *offset,
        value: Some(value.clone()),
    });
    Reading { consumer: consumer.to_owned(), seen: seen.collect() }
}

/// Two producers, one after the other in time, one unknown record that is there and one that is not, one failed one.
fn sound() -> History {
    use Outcome::{Acknowledged, Failed, Unknown};
    let log = [(0, value(1, 0)), (1, value(1, 1)), (2, value(2, 0)), (3, value(2, 1))];
    History {
        sends: vec![
            send(value(1, 0), 0, 10, Acknowledged(0)),
            send(value(1, 1), 5, 20, Acknowledged(1)),
            send(value(2, 0), 30, 40, Acknowledged(2)),
            send(value(2, 1), 50, 60, Unknown),
            send(value(2, 2), 70, 80, Unknown),
            send(value(2, 3), 90, 95, Failed),
        ],
        readings: vec![reading("tail", &log[1..3])],
        drains: vec![reading("kafka", &log), reading("grpc", &log)],
        ends: vec![
            End { place: place(0), begun: at(0), offset: 0 },
            End { place: place(0), begun: at(45), offset: 3 },
        ],
    }
}

/// The kinds that are found after a change.
fn found(change: impl FnOnce(&mut History)) -> Vec<Kind> {
    let mut history = sound();
    change(&mut history);
    let mut kinds: Vec<_> = check(&history).violations.iter().map(|one| one.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[test]
fn a_sound_history_is_sound_and_counted() {
    let verdict = check(&sound());
    verdict.expect_sound();
    assert_eq!((verdict.acknowledged, verdict.failed, verdict.unknown), (3, 1, 2));
    assert_eq!((verdict.unknown_applied, verdict.drained), (1, 4));
}

#[test]
fn an_acknowledged_record_that_is_gone_is_lost() {
    let kinds = found(|history| {
        for drain in &mut history.drains {
            drain.seen.truncate(2);
        }
        history.readings.clear();
        history.sends[3].outcome = Outcome::Unknown;
    });
    assert_eq!(kinds, [Kind::Lost]);
}

#[test]
fn a_record_that_was_read_and_is_gone_is_lost() {
    // Nobody was told that it is there, but somebody saw it (I9).
    let kinds = found(|history| history.readings.push(reading("other", &[(4, value(2, 2))])));
    assert_eq!(kinds, [Kind::Lost]);
}

#[test]
fn a_record_at_two_offsets_is_a_duplicate() {
    let kinds = found(|history| {
        for drain in &mut history.drains {
            drain.seen.push(Seen { place: place(0), offset: 4, value: Some(value(1, 1)) });
        }
    });
    assert_eq!(kinds, [Kind::Duplicate]);
}

#[test]
fn an_acknowledgement_at_another_offset_than_the_record_has_is_found() {
    let kinds = found(|history| history.sends[2].outcome = Outcome::Acknowledged(3));
    assert!(kinds.contains(&Kind::InconsistentOffset) && kinds.contains(&Kind::Duplicate));
}

#[test]
fn two_consumers_that_see_different_records_at_one_offset_are_found() {
    let kinds = found(|history| history.drains[1].seen[3].value = Some(value(2, 2)));
    assert_eq!(kinds, [Kind::InconsistentOffset]);
}

#[test]
fn a_failed_record_that_is_there_is_found() {
    let kinds = found(|history| history.sends[3].outcome = Outcome::Failed);
    assert_eq!(kinds, [Kind::FailedRead]);
}

#[test]
fn a_record_that_nobody_sent_is_a_phantom() {
    let kinds = found(|history| drop(history.sends.remove(3)));
    assert_eq!(kinds, [Kind::Phantom]);
}

#[test]
fn two_records_of_one_producer_in_the_wrong_order_are_found() {
    let kinds = found(|history| {
        let swapped = [(0, value(1, 1)), (1, value(1, 0)), (2, value(2, 0)), (3, value(2, 1))];
        history.drains = vec![reading("kafka", &swapped)];
        history.readings.clear();
        history.sends[0].outcome = Outcome::Acknowledged(1);
        history.sends[1].outcome = Outcome::Acknowledged(0);
    });
    assert_eq!(kinds, [Kind::SendOrder]);
}

#[test]
fn a_record_before_one_that_was_acknowledged_earlier_is_found() {
    let kinds = found(|history| {
        let moved = [(0, value(2, 0)), (1, value(1, 0)), (2, value(1, 1)), (3, value(2, 1))];
        history.drains = vec![reading("kafka", &moved)];
        history.readings.clear();
        history.ends.clear();
        for (number, offset) in [(0, 1), (1, 2), (2, 0)] {
            history.sends[number].outcome = Outcome::Acknowledged(offset);
        }
    });
    assert_eq!(kinds, [Kind::RealTimeOrder]);
}

#[test]
fn an_end_that_is_behind_what_was_acknowledged_is_found() {
    let kinds = found(|history| history.ends[1].offset = 2);
    assert_eq!(kinds, [Kind::StaleEnd]);
}

#[test]
fn a_consumer_that_goes_back_or_jumps_is_found() {
    let back = |history: &mut History| {
        let again = history.readings[0].seen[0].clone();
        history.readings[0].seen.push(again);
    };
    assert_eq!(found(back), [Kind::PollBack]);
    let jump = |history: &mut History| drop(history.drains[0].seen.remove(1));
    assert_eq!(found(jump), [Kind::PollSkip]);
}

#[test]
fn a_record_in_another_place_is_found() {
    let kinds = found(|history| {
        let elsewhere = Seen { place: place(1), offset: 0, value: Some(value(2, 1)) };
        history.drains.push(Reading { consumer: "kafka".to_owned(), seen: vec![elsewhere] });
    });
    assert!(kinds.contains(&Kind::CrossTopic), "{kinds:?}");
}

#[test]
fn a_damaged_record_is_found() {
    let kinds = found(|history| history.readings[0].seen[1].value = None);
    assert_eq!(kinds, [Kind::Damaged]);
}
