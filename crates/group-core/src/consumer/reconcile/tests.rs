//! Each way from one state of a member to the next.

use thalweg_types::Uuid;

use super::*;

const TOPIC: TopicId = TopicId(Uuid::from_bytes([7; 16]));

fn set(partitions: &[i32]) -> PartitionSet {
    partitions.iter().map(|partition| (TOPIC, PartitionIndex(*partition))).collect()
}

fn current(
    state: MemberState,
    epoch: i32,
    previous: i32,
    assigned: &[i32],
    revoking: &[i32],
) -> Current {
    Current {
        state,
        epoch: MemberEpoch(epoch),
        previous_epoch: MemberEpoch(previous),
        assigned: set(assigned),
        revoking: set(revoking),
    }
}

/// A step towards a target, with the given partitions in others' hands.
fn step(
    from: &Current,
    epoch: i32,
    target: &[i32],
    owned: Option<&[i32]>,
    taken: &[i32],
) -> Option<Current> {
    let partitions = &set(target);
    let target = Target { epoch: AssignmentEpoch(epoch), partitions };
    let taken = set(taken);
    let owned = owned.map(set);
    let report = Report { owned: owned.as_ref(), may_take_up: true };
    from.reconcile(target, report, |topic, index| taken.contains(topic, index)).unwrap()
}

/// The same of a member that has not heard yet what it is to own.
fn step_unheard(from: &Current, epoch: i32, target: &[i32], owned: &[i32]) -> Option<Current> {
    let partitions = &set(target);
    let target = Target { epoch: AssignmentEpoch(epoch), partitions };
    let report = Report { owned: Some(&set(owned)), may_take_up: false };
    from.reconcile(target, report, |_, _| false).unwrap()
}

use MemberState::{Stable, Unknown, UnreleasedPartitions, UnrevokedPartitions};

#[test]
fn a_member_at_its_target_does_nothing() {
    assert_eq!(step(&current(Stable, 5, 4, &[1], &[]), 5, &[1], Some(&[1]), &[]), None);
}

#[test]
fn a_newcomer_gets_what_is_free_and_waits_for_the_rest() {
    let new = Current::NEW;
    assert_eq!(step(&new, 3, &[1, 2], Some(&[]), &[]), Some(current(Stable, 3, 0, &[1, 2], &[])));
    let waiting = step(&new, 3, &[1, 2], Some(&[]), &[2]).unwrap();
    assert_eq!(waiting, current(UnreleasedPartitions, 3, 0, &[1], &[]));
    assert_eq!(step(&waiting, 3, &[1, 2], None, &[2]), None);
    let released = step(&waiting, 3, &[1, 2], None, &[]);
    assert_eq!(released, Some(current(Stable, 3, 0, &[1, 2], &[])));
}

#[test]
fn a_member_gives_up_before_it_gets() {
    let old = current(Stable, 3, 2, &[1, 2], &[]);
    let revoking = step(&old, 4, &[2, 3], None, &[]).unwrap();
    assert_eq!(revoking, current(UnrevokedPartitions, 3, 2, &[2], &[1]));
    assert_eq!(step(&revoking, 4, &[2, 3], None, &[]), None, "it said nothing");
    assert_eq!(step(&revoking, 4, &[2, 3], Some(&[1, 2]), &[]), None, "it still owns it");
    let done = step(&revoking, 4, &[2, 3], Some(&[2]), &[]);
    assert_eq!(done, Some(current(Stable, 4, 3, &[2, 3], &[])));
}

#[test]
fn what_a_member_was_never_told_need_not_be_given_up() {
    let old = current(Stable, 3, 2, &[1, 2], &[]);
    let done = step_unheard(&old, 4, &[2], &[2]);
    assert_eq!(done, Some(current(Stable, 4, 3, &[2], &[])));
    let revoking = step_unheard(&old, 4, &[2], &[1, 2]);
    assert_eq!(revoking, Some(current(UnrevokedPartitions, 3, 2, &[2], &[1])));
}

#[test]
fn what_a_member_does_not_report_yet_it_may_be_taking_up() {
    let old = current(Stable, 3, 2, &[1, 2], &[]);
    let revoking = step(&old, 4, &[2], Some(&[2]), &[]).unwrap();
    assert_eq!(revoking, current(UnrevokedPartitions, 3, 2, &[2], &[1]));
    let done = step(&revoking, 4, &[2], Some(&[2]), &[]);
    assert_eq!(done, Some(current(Stable, 4, 3, &[2], &[])));
}

#[test]
fn a_target_that_changes_while_a_member_gives_up_is_taken_up_afterwards() {
    let revoking = current(UnrevokedPartitions, 3, 2, &[2], &[1]);
    assert_eq!(step(&revoking, 9, &[4], None, &[]), None);
    let again = step(&revoking, 9, &[4], Some(&[2]), &[]).unwrap();
    assert_eq!(again, current(UnrevokedPartitions, 4, 3, &[], &[2]));
    let done = step(&again, 9, &[4], Some(&[]), &[]);
    assert_eq!(done, Some(current(Stable, 9, 4, &[4], &[])));
}

#[test]
fn what_was_given_up_may_come_back() {
    let revoking = current(UnrevokedPartitions, 3, 2, &[2], &[1]);
    let done = step(&revoking, 4, &[1, 2], Some(&[2]), &[]);
    assert_eq!(done, Some(current(Stable, 4, 3, &[1, 2], &[])));
}

#[test]
fn a_waiting_member_may_have_to_give_up() {
    let waiting = current(UnreleasedPartitions, 3, 2, &[1], &[]);
    let revoking = step(&waiting, 4, &[2], None, &[2]);
    assert_eq!(revoking, Some(current(UnrevokedPartitions, 3, 2, &[], &[1])));
    let empty_handed = step_unheard(&waiting, 4, &[], &[]);
    assert_eq!(empty_handed, Some(current(Stable, 4, 3, &[], &[])));
}

#[test]
fn a_member_of_an_unknown_state_must_come_back_without_partitions() {
    let unknown = current(Unknown, 3, 2, &[1], &[]);
    let partitions = &set(&[1]);
    let target = Target { epoch: AssignmentEpoch(4), partitions };
    for owned in [None, Some(&set(&[1]))] {
        let report = Report { owned, may_take_up: true };
        assert_eq!(unknown.reconcile(target, report, |_, _| false), Err(MustRejoin));
    }
    let done = step(&unknown, 4, &[1], Some(&[]), &[]);
    assert_eq!(done, Some(current(Stable, 4, 3, &[1], &[])));
}
