//! R3, R4, R11, R19: when the high watermark moves, what it is good for, and who is told what.

use thalweg_invariants::{Mutant, Plant};
use thalweg_replication_core::{AckFailure, Action, AlterOutcome, AppendRefusal};
use thalweg_types::{Acks, BrokerEpoch, Durability, ErrorCode, NodeId, Offset, Outcome};

use super::bench::*;

/// R3.
#[test]
fn the_high_watermark_waits_for_the_flush_of_everyone_in_sync() {
    let mut bench = Bench::leading();
    bench.append_and_flush(5);
    let two = bench.connect(2, 10);
    assert_eq!(bench.high_watermark(), 0, "3 was not heard of in this epoch");
    let three = bench.connect(3, 10);
    assert_eq!(bench.high_watermark(), 10);
    bench.flushed(2, two, 15);
    bench.report(3, &report(three, 15, 12)).unwrap();
    assert_eq!(bench.high_watermark(), 12, "3 has appended more, but not flushed it");
    assert_eq!(bench.actions(), [Action::Commit(Offset(10)), Action::Commit(Offset(12))]);
}

/// R3: with its own flush outstanding, the leader commits nothing; the planted bug does.
#[test]
fn the_leaders_own_flush_counts_like_any_other() {
    let mut bench = Bench::leading();
    let (two, three) = (bench.connect(2, 10), bench.connect(3, 10));
    bench.append(5);
    bench.flushed(2, two, 15);
    bench.flushed(3, three, 15);
    assert_eq!(bench.high_watermark(), 10);
    bench.flush();
    assert_eq!(bench.high_watermark(), 15);
}

/// R3, and M10.
#[test]
fn with_too_few_in_sync_nothing_is_committed() {
    let lone = || {
        let mut bench = Bench::leading_with(|partition| partition.isr = nodes(&[1]));
        bench.append_and_flush(5);
        bench.high_watermark()
    };
    assert_eq!(lone(), 0);
    let _plant = Plant::new(Mutant::M10);
    assert_eq!(lone(), 15);
}

/// R3: what is proposed counts before it is sent (KIP-497), and M2.
#[test]
fn the_high_watermark_waits_for_whoever_is_proposed() {
    let committed = || {
        let mut bench = Bench::leading_with(|partition| partition.isr = nodes(&[1, 2]));
        let two = bench.connect(2, 10);
        bench.connect(3, 10);
        assert!(proposal_in(&bench.actions()).is_some(), "3 may join");
        assert_eq!(bench.maximal(), nodes(&[1, 2, 3]));
        bench.append_and_flush(5);
        bench.flushed(2, two, 15);
        // 3 lags for so long that nobody would wait for it to join.
        bench.wait(LAG_MS + 1);
        bench.high_watermark()
    };
    assert_eq!(committed(), 10);
    let _plant = Plant::new(Mutant::M2);
    assert_eq!(committed(), 15);
}

#[test]
fn a_follower_that_keeps_up_is_waited_for_before_it_joins() {
    let mut bench = Bench::leading_with(|partition| partition.isr = nodes(&[1, 2]));
    let two = bench.connect(2, 10);
    bench.replica.handle_alter_outcome((EPOCH, 99), &AlterOutcome::Lost, bench.now);
    bench.append_and_flush(5);
    let three = bench.connect(3, 12);
    assert!(proposal_in(&bench.actions()).is_some_and(|p| members(p).len() == 3));
    bench.flushed(2, two, 15);
    assert_eq!(bench.high_watermark(), 12);
    bench.flushed(3, three, 15);
    assert_eq!(bench.high_watermark(), 15);
}

/// R3: the true high watermark, and M28.
#[test]
fn the_high_watermark_is_not_the_true_one_before_it_reaches_the_epochs_start() {
    let mut bench = Bench::leading();
    assert_eq!(bench.replica.true_high_watermark(), None);
    bench.connect(2, 10);
    bench.connect(3, 9);
    assert_eq!(bench.high_watermark(), 9);
    assert_eq!(bench.replica.true_high_watermark(), None);
    {
        let _plant = Plant::new(Mutant::M28);
        assert_eq!(bench.replica.true_high_watermark(), Some(Offset(9)));
    }
    bench.connect(3, 10);
    assert_eq!(bench.replica.true_high_watermark(), Some(Offset(10)));
}

/// R3: DEO counts in the present session only.
#[test]
fn what_an_earlier_session_had_flushed_does_not_count() {
    let mut bench = Bench::leading();
    bench.append_and_flush(5);
    let two = bench.connect(2, 10);
    bench.connect(3, 15);
    bench.peers[1].broker_epoch = BrokerEpoch(50);
    bench.metadata();
    assert!(bench.report(2, &report(two, 15, 15)).is_err());
    assert_eq!(bench.high_watermark(), 10);
}

/// R4.1, R4.3.
#[test]
fn too_few_in_sync_refuse_before_the_append_and_are_unknown_after_it() {
    let mut bench = Bench::leading();
    assert_eq!(bench.replica.admit_append(Acks::All), Ok(EPOCH));
    bench.append(5);
    let told = bench.change(|partition| partition.isr = nodes(&[1]));
    assert_eq!(told, [Action::FailWaiting(AckFailure::NotEnoughReplicas)]);
    assert_eq!(AckFailure::NotEnoughReplicas.outcome(), Outcome::Unknown);
    let refused = bench.replica.admit_append(Acks::All).unwrap_err();
    assert_eq!(refused, AppendRefusal::NotEnoughReplicas { in_sync: 1, required: 2 });
    assert_eq!(
        (refused.code(), refused.outcome()),
        (ErrorCode::NotEnoughReplicas, Outcome::NotApplied)
    );
    assert_eq!(bench.replica.admit_append(Acks::Leader), Ok(EPOCH));
}

/// R4.3.
#[test]
fn a_leader_that_is_replaced_leaves_its_producers_an_unknown_outcome() {
    let mut bench = Bench::leading();
    bench.append(5);
    bench.partition.leader_epoch.0 += 1;
    bench.partition.leader = Some(NodeId(2));
    let told = bench.change(|_| {});
    assert_eq!(told[0], Action::FailWaiting(AckFailure::LeadershipLost));
    let refused = bench.replica.admit_append(Acks::All).unwrap_err();
    assert!(matches!(refused, AppendRefusal::NotLeader { leader: Some(NodeId(2)), .. }));
}

/// R11: it may still commit, which is safe, but speaks for the partition no more.
#[test]
fn a_leader_that_lost_its_controller_takes_nothing_and_tells_readers_nothing() {
    let mut bench = Bench::leading();
    bench.connect(2, 10);
    bench.connect(3, 10);
    bench.replica.handle_lease(false);
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        assert_eq!(bench.replica.admit_append(acks), Err(AppendRefusal::SelfFenced));
    }
    assert!(!bench.replica.may_serve_readers());
    assert_eq!(bench.replica.true_high_watermark(), None);
    bench.replica.handle_lease(true);
    assert_eq!(bench.replica.true_high_watermark(), Some(Offset(10)));
}

/// R12.
#[test]
fn a_leader_that_shuts_down_takes_nothing_but_still_commits() {
    let mut bench = Bench::leading();
    let (two, three) = (bench.connect(2, 10), bench.connect(3, 10));
    bench.append_and_flush(5);
    bench.replica.handle_shutdown();
    assert_eq!(bench.replica.admit_append(Acks::All), Err(AppendRefusal::ShuttingDown));
    bench.flushed(2, two, 15);
    bench.flushed(3, three, 15);
    assert_eq!(bench.high_watermark(), 15);
}

/// R10: a leader takes the minimum from the registration only, with the in-sync replicas that belong to it.
#[test]
fn the_answer_to_a_proposal_brings_the_minimum_that_belongs_to_it() {
    let mut bench = Bench::leading_with(|partition| partition.min_isr = 1);
    bench.append_and_flush(5);
    let mut committed = bench.partition.clone();
    committed.partition_epoch.0 += 3;
    committed.isr = nodes(&[1]);
    committed.min_isr = 2;
    bench.outcome(1, &AlterOutcome::Committed(committed));
    assert_eq!(bench.high_watermark(), 0);
}

/// R19.
#[test]
fn after_a_change_to_fsync_the_high_watermark_waits_for_flushes() {
    let mut bench = Bench::leading_with(|partition| partition.durability = Durability::Replicated);
    let (two, three) = (bench.connect(2, 10), bench.connect(3, 10));
    bench.append(5);
    bench.report(2, &report(two, 15, 10)).unwrap();
    bench.report(3, &report(three, 15, 10)).unwrap();
    assert_eq!(bench.high_watermark(), 15, "in the memory of all");
    let all = nodes(&[1, 2, 3]);
    bench.change(|partition| {
        partition.durability = Durability::Fsync;
        partition.unproven = all;
    });
    bench.append_and_flush(1);
    let told = bench.actions();
    assert!(proposal_in(&told).is_none_or(|p| p.proven == nodes(&[1])), "{told:?}");
    bench.report(2, &report(two, 16, 16)).unwrap();
    assert_eq!(bench.high_watermark(), 15);
    bench.report(3, &report(three, 16, 16)).unwrap();
    assert_eq!(bench.high_watermark(), 16);
}
