//! R5, R6, R8, R14, R19: whom the leader proposes, and what it makes of the answers.

use thalweg_invariants::{Mutant, Plant};
use thalweg_replication_core::{Action, AlterOutcome, Fitness, Handshake, Proposal, Report};
use thalweg_types::{BrokerEpoch, ErrorCode, NodeId, Offset};

use super::bench::*;

/// Nodes 1 and 2 are in sync; 2 has everything. The log ends at 10, which is the epoch's start, and so does the high watermark.
fn two_in_sync() -> Bench {
    let mut bench = Bench::leading_with(|partition| partition.isr = nodes(&[1, 2]));
    bench.connect(2, 10);
    assert_eq!(bench.high_watermark(), 10);
    bench.actions();
    bench
}

fn proposed(bench: &mut Bench) -> Option<Proposal> {
    proposal_in(&bench.actions()).cloned()
}

/// R5.
#[test]
fn a_follower_with_everything_is_proposed_with_the_session_it_was_heard_in() {
    let mut bench = two_in_sync();
    bench.connect(3, 10);
    let proposal = proposed(&mut bench).unwrap();
    let expected: Vec<_> = (1..=3).map(|id| (NodeId(id), session(id))).collect();
    assert_eq!(proposal.isr, expected);
    assert_eq!(
        (proposal.leader_epoch, proposal.partition_epoch),
        (EPOCH, bench.partition.partition_epoch)
    );
    assert_eq!((proposal.leader, proposal.broker_epoch), (NodeId(1), session(1)));
}

/// R5, condition by condition.
#[test]
fn nobody_is_proposed_who_lacks_one_condition() {
    type Spoil = fn(&mut Bench) -> Handshake;
    let cases: [(&str, Spoil); 7] = [
        ("below the high watermark", |bench| bench.handshake(3, 9)),
        ("a session that the metadata does not have yet", |bench| Handshake {
            broker_epoch: BrokerEpoch(90),
            ..bench.handshake(3, 10)
        }),
        ("another directory", |bench| Handshake { dir_id: dir(9), ..bench.handshake(3, 10) }),
        ("suspect", |bench| Handshake { fitness: Fitness::Suspect, ..bench.handshake(3, 10) }),
        ("halted", |bench| Handshake {
            fitness: Fitness::HaltedDiverged,
            ..bench.handshake(3, 10)
        }),
        ("fenced or shutting down", |bench| {
            bench.peers[2].live = false;
            bench.metadata();
            bench.handshake(3, 10)
        }),
        ("the leader has not recovered", |bench| {
            bench.change(|partition| partition.recovering = true);
            let proposal = bench.actions();
            assert!(proposal_in(&proposal).is_none_or(|p| p.isr.len() < 3));
            bench.handshake(3, 10)
        }),
    ];
    for (what, spoil) in cases {
        let mut bench = two_in_sync();
        let handshake = spoil(&mut bench);
        bench.actions();
        bench.ask(&handshake);
        assert!(proposed(&mut bench).is_none_or(|p| p.isr.len() < 3), "{what}");
    }
}

/// R5: LESO, the TLA+ finding; and M1.
#[test]
fn a_follower_joins_only_from_the_epochs_start() {
    let joins_at_nine = || {
        let mut bench = Bench::leading_with(|partition| partition.isr = nodes(&[1, 2]));
        bench.connect(2, 5);
        bench.connect(3, 9);
        assert_eq!(bench.high_watermark(), 5, "it lags behind the true one");
        proposed(&mut bench).is_some()
    };
    assert!(!joins_at_nine());
    let _plant = Plant::new(Mutant::M1);
    assert!(joins_at_nine());
}

/// R5: lag time.
#[test]
fn a_follower_that_has_not_had_everything_for_too_long_does_not_join() {
    let mut bench = two_in_sync();
    bench.wait(LAG_MS + 1);
    bench.append_and_flush(5);
    let three = bench.connect(3, 10);
    assert!(proposed(&mut bench).is_none(), "it was never seen to have everything");
    bench.flushed(3, three, 15);
    assert!(proposed(&mut bench).is_some());
}

/// R6.
#[test]
fn a_member_that_is_behind_for_too_long_is_proposed_for_removal_and_waited_for_until_then() {
    let mut bench = Bench::leading();
    let two = bench.connect(2, 10);
    bench.connect(3, 10);
    bench.append_and_flush(5);
    bench.flushed(2, two, 15);
    assert_eq!(
        bench.replica.next_deadline(bench.now),
        Some(bench.now.saturating_add_ms(LAG_MS + 1))
    );
    assert!(proposal_in(&bench.wait(LAG_MS)).is_none());
    let told = bench.wait(1);
    assert_eq!(members(proposal_in(&told).unwrap()), nodes(&[1, 2]));
    assert_eq!((bench.maximal(), bench.high_watermark()), (nodes(&[1, 2, 3]), 10));
    let attempt = proposal_in(&told).unwrap().attempt;
    let mut committed = bench.partition.clone();
    committed.partition_epoch.0 += 1;
    committed.isr = nodes(&[1, 2]);
    bench.outcome(attempt, &AlterOutcome::Committed(committed));
    assert_eq!((bench.maximal(), bench.high_watermark()), (nodes(&[1, 2]), 15));
}

/// R6: however long nothing was appended, nobody is behind because of that.
#[test]
fn a_member_of_an_idle_partition_is_behind_only_from_the_next_append_on() {
    let mut bench = Bench::leading();
    bench.connect(2, 10);
    bench.connect(3, 10);
    assert!(proposal_in(&bench.wait(100 * LAG_MS)).is_none());
    assert!(proposal_in(&bench.append(1)).is_none());
    assert!(proposal_in(&bench.wait(LAG_MS)).is_none());
    assert!(proposal_in(&bench.wait(1)).is_some());
}

/// A busy leader's followers are always a little behind.
#[test]
fn a_member_that_stays_a_little_behind_all_the_time_keeps_its_place() {
    let mut bench = Bench::leading();
    let (two, three) = (bench.connect(2, 10), bench.connect(3, 10));
    for _ in 0..200 {
        let before = bench.ends.log_end.0;
        bench.append_and_flush(3);
        bench.wait(20);
        bench.flushed(2, two, before);
        bench.flushed(3, three, before + 1);
        assert!(proposed(&mut bench).is_none());
    }
    assert!(bench.high_watermark() > 500);
}

/// R6: and what they had is not eligible.
#[test]
fn a_member_that_reports_damage_is_proposed_for_removal_at_once() {
    let mut bench = Bench::leading();
    let two = bench.connect(2, 10);
    bench.connect(3, 10);
    bench.actions();
    bench.report(2, &Report { fitness: Fitness::Suspect, ..report(two, 10, 10) }).unwrap();
    let proposal = proposed(&mut bench).unwrap();
    assert_eq!((members(&proposal), proposal.unfit), (nodes(&[1, 3]), nodes(&[2])));
}

/// R8: only a refusal that says that nothing was applied is one; and M5.
#[test]
fn a_proposal_whose_fate_is_unknown_stays_pending() {
    let maximal_after = |outcome: AlterOutcome| {
        let mut bench = two_in_sync();
        bench.connect(3, 10);
        let attempt = proposed(&mut bench).unwrap().attempt;
        bench.outcome(attempt, &outcome);
        bench.maximal()
    };
    for code in [ErrorCode::IneligibleReplica, ErrorCode::OperationNotAttempted] {
        assert_eq!(maximal_after(AlterOutcome::Refused(code)), nodes(&[1, 2]), "{code:?}");
    }
    for code in [
        ErrorCode::NotController,
        ErrorCode::FencedLeaderEpoch,
        ErrorCode::InvalidRequest,
        ErrorCode::StaleBrokerEpoch,
        ErrorCode::InvalidUpdateVersion,
        ErrorCode::UnknownTopicId,
        ErrorCode::UnknownServerError,
        ErrorCode::RequestTimedOut,
    ] {
        assert_eq!(maximal_after(AlterOutcome::Refused(code)), nodes(&[1, 2, 3]), "{code:?}");
    }
    assert_eq!(maximal_after(AlterOutcome::Lost), nodes(&[1, 2, 3]));
    let _plant = Plant::new(Mutant::M5);
    assert_eq!(maximal_after(AlterOutcome::Lost), nodes(&[1, 2]));
}

/// R8: an attempt that was lost may be applied after a later one was refused. Committing the same set again ends that.
#[test]
fn after_a_lost_attempt_a_refusal_takes_nothing_back_until_the_version_has_moved() {
    let mut bench = two_in_sync();
    bench.connect(3, 10);
    let first = proposed(&mut bench).unwrap().attempt;
    bench.outcome(first, &AlterOutcome::Lost);
    let told = bench.wait(RETRY_MS);
    let second = proposal_in(&told).unwrap().clone();
    assert_eq!(members(&second), nodes(&[1, 2]));
    bench.outcome(second.attempt, &AlterOutcome::Refused(ErrorCode::IneligibleReplica));
    assert_eq!(bench.maximal(), nodes(&[1, 2, 3]));
    let told = bench.wait(RETRY_MS);
    let third = proposal_in(&told).unwrap().attempt;
    bench.peers[2].live = false;
    let mut committed = bench.partition.clone();
    committed.partition_epoch.0 += 1;
    bench.outcome(third, &AlterOutcome::Committed(committed.clone()));
    bench.partition = committed;
    bench.metadata();
    assert!(bench.maximal().len() <= 3 && bench.maximal().starts_with(&nodes(&[1, 2])));
}

/// R8.
#[test]
fn a_newer_registration_settles_whatever_was_proposed_on_an_older_one() {
    let mut bench = two_in_sync();
    bench.connect(3, 10);
    assert!(bench.replica.as_leader().unwrap().has_pending_proposal());
    bench.peers[2].live = false;
    bench.metadata();
    assert_eq!(bench.maximal(), nodes(&[1, 2, 3]), "the same version says nothing");
    bench.change(|partition| partition.min_isr = 1);
    assert_eq!(bench.maximal(), nodes(&[1, 2]));
}

#[test]
fn a_refused_proposal_is_not_repeated_at_once() {
    let mut bench = two_in_sync();
    bench.connect(3, 10);
    let attempt = proposed(&mut bench).unwrap().attempt;
    let told = bench.outcome(attempt, &AlterOutcome::Refused(ErrorCode::IneligibleReplica));
    assert!(proposal_in(&told).is_none());
    assert_eq!(bench.replica.next_deadline(bench.now), Some(bench.now.saturating_add_ms(RETRY_MS)));
    assert!(proposal_in(&bench.wait(RETRY_MS)).is_some());
}

/// R5: the same leader in a new epoch measures everybody anew.
#[test]
fn a_new_epoch_forgets_all_progress() {
    let mut bench = Bench::leading();
    bench.connect(2, 10);
    bench.connect(3, 10);
    bench.append_and_flush(5);
    bench.partition.leader_epoch.0 += 1;
    bench.change(|partition| partition.isr = nodes(&[1, 2]));
    bench.actions();
    assert!(bench.replica.next_push(NodeId(2)).is_none());
    let leader = bench.replica.as_leader().unwrap();
    assert_eq!((leader.epoch_start_offset(), leader.high_watermark()), (Offset(15), Offset(10)));
}

/// R14.
#[test]
fn the_leader_of_an_unclean_election_says_that_it_has_recovered_before_anybody_joins() {
    let mut bench = Bench::new();
    bench.ends.flushed_end = Offset(8);
    bench.partition.isr = nodes(&[1]);
    bench.partition.min_isr = 1;
    bench.partition.recovering = true;
    bench.partition.unclean_epoch = Some(EPOCH);
    assert!(proposal_in(&bench.metadata()).is_none(), "its own log is not flushed yet");
    bench.connect(2, 10);
    assert!(proposed(&mut bench).is_none());
    let told = bench.flush();
    let proposal = proposal_in(&told).unwrap();
    assert_eq!((members(proposal), proposal.recovering), (nodes(&[1]), false));
    let attempt = proposal.attempt;
    let mut committed = bench.partition.clone();
    committed.partition_epoch.0 += 1;
    committed.recovering = false;
    let told = bench.outcome(attempt, &AlterOutcome::Committed(committed));
    assert_eq!(members(proposal_in(&told).unwrap()), nodes(&[1, 2]));
}

/// R19: the controller learns who has flushed everything committed.
#[test]
fn replicas_that_have_flushed_since_the_change_to_fsync_are_named_once() {
    let mut bench = Bench::leading();
    let (two, three) = (bench.connect(2, 10), bench.connect(3, 10));
    bench.append_and_flush(2);
    bench.report(2, &report(two, 12, 12)).unwrap();
    bench.report(3, &report(three, 12, 12)).unwrap();
    bench.actions();
    let told = bench.change(|partition| partition.unproven = nodes(&[1, 2, 3]));
    let proposal = proposal_in(&told).unwrap().clone();
    assert_eq!(proposal.proven, nodes(&[1, 2, 3]));
    assert_eq!(members(&proposal), nodes(&[1, 2, 3]));
    let mut committed = bench.partition.clone();
    committed.partition_epoch.0 += 1;
    committed.unproven.clear();
    let told = bench.outcome(proposal.attempt, &AlterOutcome::Committed(committed));
    assert!(told.iter().all(|action| !matches!(action, Action::Propose(_))));
}
