//! Roles: R13, epochs, and who may lead.

use thalweg_replication_core::Identity;
use thalweg_replication_core::{
    AckFailure, Action, Fitness, LogView, Metadata, Replica, Role, Timing,
};
use thalweg_types::{Acks, LeaderEpoch, LogIndex, NodeId, Offset};

use super::bench::*;

/// R13.5.
#[test]
fn nothing_is_done_on_metadata_without_the_own_registration() {
    let mut bench = Bench::new();
    let before = u64::try_from(session(1).0 - 1).unwrap();
    let metadata =
        Metadata { applied: LogIndex(before), partition: &bench.partition, peers: &bench.peers };
    let log = LogView { ends: bench.ends, epochs: &bench.epochs };
    bench.replica.handle_metadata(&metadata, log, bench.now);
    assert!(bench.replica.poll_action().is_none());
    let told = bench.metadata();
    assert_eq!(told[0], Action::BeginEpoch(EPOCH));
}

#[test]
fn older_registrations_change_nothing() {
    let mut bench = Bench::leading();
    bench.partition.leader_epoch.0 -= 1;
    bench.partition.leader = Some(NodeId(2));
    assert!(bench.metadata().is_empty());
    assert!(bench.replica.as_leader().is_some());
    bench.partition.leader_epoch = EPOCH;
    bench.partition.leader = Some(ME);
    bench.partition.partition_epoch.0 -= 1;
    bench.partition.isr = nodes(&[1]);
    bench.metadata();
    assert_eq!(bench.maximal(), nodes(&[1, 2, 3]));
}

/// I7.
#[test]
#[should_panic(expected = "invariant I7")]
fn two_leaders_of_one_epoch_are_a_broken_invariant() {
    let mut bench = Bench::leading();
    bench.change(|partition| partition.leader = Some(NodeId(2)));
}

/// R9, R13, I14: whatever the metadata says.
#[test]
fn a_damaged_or_halted_replica_does_not_lead() {
    for fitness in [Fitness::Suspect, Fitness::HaltedDiverged] {
        let mut bench = Bench::new();
        let me = Identity { node: ME, broker_epoch: session(1), dir_id: dir(1) };
        bench.replica = Replica::new(me, fitness, Timing::DEFAULT);
        assert_eq!(bench.metadata(), [Action::ReportUnfit(fitness)]);
        assert!(matches!(bench.replica.role(), Role::Idle { .. }));
        assert!(bench.replica.admit_append(Acks::Leader).is_err());
    }
}

/// D3: a report may be lost, and the controller goes on believing that it leads.
#[test]
fn a_damaged_leader_asks_again_until_it_is_replaced() {
    let mut bench = Bench::leading();
    bench.replica.handle_fitness(Fitness::Suspect);
    bench.actions();
    let asked = [Action::ReportUnfit(Fitness::Suspect)];
    assert!(bench.replica.next_deadline(bench.now).is_some());
    assert_eq!(bench.wait(0), asked);
    assert_eq!(bench.wait(RETRY_MS), []);
    assert_eq!(bench.wait(RETRY_MS * 10), asked);
    bench.change(|partition| {
        partition.leader = Some(NodeId(2));
        partition.leader_epoch = LeaderEpoch(partition.leader_epoch.0 + 1);
    });
    let again = bench.wait(RETRY_MS * 100);
    assert!(!again.contains(&Action::ReportUnfit(Fitness::Suspect)), "{again:?}");
}

/// D3, I14.
#[test]
fn a_leader_that_finds_damage_resigns_and_asks_to_be_replaced() {
    let mut bench = Bench::leading();
    bench.replica.handle_fitness(Fitness::Suspect);
    let told =
        [Action::ReportUnfit(Fitness::Suspect), Action::FailWaiting(AckFailure::LeadershipLost)];
    assert_eq!(bench.actions(), told);
    assert!(bench.change(|partition| partition.min_isr = 1).is_empty(), "not in this epoch");
    assert!(bench.replica.as_leader().is_none());
    bench.partition.leader_epoch.0 += 1;
    let told = bench.change(|partition| partition.leader = Some(NodeId(2)));
    assert_eq!(handshake_in(&told).fitness, Fitness::Suspect);
}

#[test]
fn a_lone_replica_commits_what_it_has_flushed() {
    let mut bench = Bench::leading_with(|partition| {
        partition.replicas = nodes(&[1]);
        partition.isr = nodes(&[1]);
        partition.min_isr = 1;
    });
    assert_eq!(bench.high_watermark(), 10);
    bench.append(2);
    assert_eq!(bench.high_watermark(), 10);
    bench.flush();
    assert_eq!(bench.high_watermark(), 12);
    assert_eq!(bench.replica.next_deadline(bench.now), None, "an idle leader needs no timer");
}

/// R3: never above the own durable end, which an unclean election could bring about.
#[test]
fn a_leader_begins_with_what_it_has_flushed_itself() {
    let mut bench = Bench::new();
    bench.ends.flushed_end = Offset(6);
    bench.ends.high_watermark = Offset(8);
    bench.metadata();
    assert_eq!(bench.high_watermark(), 6);
}

#[test]
fn without_a_leader_a_replica_waits() {
    let mut bench = Bench::new();
    bench.partition.leader = None;
    assert!(bench.metadata().is_empty());
    assert!(bench.wait(1_000_000).is_empty());
    assert_eq!(bench.replica.epoch(), EPOCH);
}
