//! Which of several writers is right, over a real log.

use std::sync::{Arc, Barrier};

use thalweg_record::{ProduceLimits, check_produced};
use thalweg_types::ErrorCode;

use super::*;
use crate::bench::{Bench, batch, follow, idempotent_batch, lead};

fn append(
    partition: &Partition,
    batch: bytes::BytesMut,
    condition: &Condition,
) -> Result<Pending, AppendError> {
    let header = check_produced(&batch, &ProduceLimits::default()).unwrap();
    partition.append(batch, &header, Acks::All, Some(condition))
}

/// In leader epoch 1.
fn coordinator(expected_end: i64, chain: u64) -> CoordinatorCondition {
    CoordinatorCondition {
        leader_epoch: LeaderEpoch(1),
        expected_end: Offset(expected_end),
        coordinator_epoch: CoordinatorEpoch(1),
        chain: Some(chain),
        opens_chain: false,
    }
}

fn opening(expected_end: i64, chain: u64) -> CoordinatorCondition {
    CoordinatorCondition { opens_chain: true, ..coordinator(expected_end, chain) }
}

fn write(
    partition: &Partition,
    records: usize,
    condition: CoordinatorCondition,
) -> Result<Pending, AppendError> {
    append(partition, batch(records), &Condition::Coordinator(condition))
}

#[test]
fn of_two_writers_who_expect_the_same_end_exactly_one_appends_at_every_step() {
    const STEPS: usize = 200;
    let bench = Bench::running();
    let partition = bench.leading();
    let step = Barrier::new(2);
    let won: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let writers: Vec<_> = [1, 2]
            .map(|chain| {
                let (partition, step) = (Arc::clone(&partition), &step);
                scope.spawn(move || {
                    let mut won = Vec::with_capacity(STEPS);
                    for end in 0..STEPS {
                        step.wait();
                        let condition = opening(i64::try_from(end).unwrap(), chain);
                        won.push(write(&partition, 1, condition).is_ok());
                    }
                    won
                })
            })
            .into_iter()
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for (step, (first, second)) in won[0].iter().zip(&won[1]).enumerate() {
        assert!(first != second, "step {step}: {first} and {second}");
    }
    assert_eq!(partition.log().offsets().log_end(), Offset(200));
}

#[test]
fn a_delayed_append_is_refused_after_a_change_of_leader_although_the_log_ends_there() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    write(&partition, 1, opening(0, 5)).unwrap();
    let delayed = coordinator(1, 5);
    follow(&partition, 9, 2);
    let elsewhere = write(&partition, 1, delayed).unwrap_err();
    assert_eq!(elsewhere.code(), ErrorCode::NotLeaderOrFollower);
    lead(&partition, 3);
    assert_eq!(write(&partition, 1, delayed).unwrap_err().code(), ErrorCode::FencedLeaderEpoch);
    let ahead = CoordinatorCondition { leader_epoch: LeaderEpoch(4), ..delayed };
    assert_eq!(write(&partition, 1, ahead).unwrap_err().code(), ErrorCode::UnknownLeaderEpoch);
    let new_leader = CoordinatorCondition { leader_epoch: LeaderEpoch(3), ..delayed };
    let chainless = write(&partition, 1, new_leader).unwrap_err();
    assert_eq!(chainless.code(), ErrorCode::InvalidUpdateVersion, "a leader begins without chain");
    assert_eq!(partition.log().offsets().log_end(), Offset(1));
}

#[test]
fn an_append_whose_end_is_right_only_by_chance_is_refused() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    write(&partition, 1, opening(0, 1)).unwrap();
    // The first writer's append at 1 is lost, the one behind it is on its way. Meanwhile somebody else writes as much.
    write(&partition, 1, opening(1, 2)).unwrap();
    let refused = write(&partition, 1, coordinator(2, 1)).unwrap_err();
    assert!(matches!(refused, AppendError::Condition(ConditionError::Chain)), "{refused}");
    write(&partition, 1, coordinator(2, 2)).unwrap();
    // Nor does anybody continue upon what is of no chain.
    append(&partition, batch(1), &Condition::Offset(Offset(3))).unwrap();
    assert!(write(&partition, 1, coordinator(4, 2)).is_err());
}

#[tokio::test]
async fn a_check_is_answered_when_everything_below_its_end_is_committed() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let appended = write(&partition, 2, opening(0, 1)).unwrap();
    assert!(partition.check(&coordinator(0, 1)).is_err());
    assert!(partition.check(&coordinator(2, 7)).is_err());
    let any = CoordinatorCondition { chain: None, ..coordinator(2, 1) };
    let checks = [coordinator(2, 1), any].map(|condition| partition.check(&condition).unwrap());
    let checks = checks.map(|check| tokio::spawn(check.acknowledged()));
    tokio::task::yield_now().await;
    assert!(checks.iter().all(|check| !check.is_finished()), "nothing is flushed");
    assert_eq!(partition.standing().unwrap().offsets.log_end(), Offset(2), "nothing was appended");

    assert!(bench.log_dir.step_flush().unwrap());
    assert!(appended.acknowledged().await.is_ok());
    for check in checks {
        assert_eq!(check.await.unwrap().unwrap().base_offset, Offset(2));
    }
    let done = partition.check(&coordinator(2, 1)).unwrap().acknowledged().await;
    assert!(done.is_ok(), "there is nothing to wait for");
}

#[tokio::test]
async fn a_check_whose_leader_goes_is_not_answered_with_success() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    write(&partition, 1, opening(0, 1)).unwrap();
    let check = partition.check(&coordinator(1, 1)).unwrap();
    follow(&partition, 9, 2);
    assert!(check.acknowledged().await.is_err());
    assert!(partition.check(&coordinator(1, 1)).is_err());
    assert!(partition.standing().is_err());
}

#[test]
fn an_expected_offset_is_met_or_nothing_is_appended() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let at = |offset| Condition::Offset(Offset(offset));
    append(&partition, batch(3), &at(0)).unwrap();
    for wrong in [0, 2, 4, i64::MAX] {
        let refused = append(&partition, batch(1), &at(wrong)).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidUpdateVersion);
        assert!(refused.to_string().contains("ends at 3"), "{refused}");
    }
    assert_eq!(append(&partition, batch(1), &at(3)).unwrap().appended.base_offset, Offset(3));
}

#[test]
fn what_an_idempotent_producer_repeats_is_answered_as_the_first_time() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let at = |offset| Condition::Offset(Offset(offset));
    append(&partition, idempotent_batch(7, 0, 2), &at(0)).unwrap();
    let again = append(&partition, idempotent_batch(7, 0, 2), &at(0)).unwrap().appended;
    assert_eq!((again.base_offset, again.duplicate), (Offset(0), true));
    let next = append(&partition, idempotent_batch(7, 2, 2), &at(0)).unwrap_err();
    assert_eq!(next.code(), ErrorCode::InvalidUpdateVersion);
    assert_eq!(partition.log().offsets().log_end(), Offset(2));
}
