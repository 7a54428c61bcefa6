//! R7: every refusal, in its order; R10: who stays eligible; R19: what is proven.

use thalweg_invariants::{Mutant, Plant};
use thalweg_types::{LeaderEpoch, PartitionEpoch};

use super::*;

/// Brokers 1 to 3 in sync on one partition, at least two of them.
fn cluster() -> Cluster {
    let mut cluster = Cluster::of_brokers(4);
    cluster.create_on("t", &[1, 2, 3], &[("min.insync.replicas", "2")]);
    cluster
}

fn code(cluster: &Cluster, request: &AlterPartition) -> ErrorCode {
    let mut copy = cluster.clone();
    let refused = copy.alter_partition(request).unwrap_err();
    assert_eq!(copy.partition("t"), cluster.partition("t"), "a refusal changes nothing");
    refused.code()
}

/// R7. Each request has every later flaw too, so that the order is seen.
#[test]
fn a_proposal_is_refused_for_its_first_flaw() {
    let mut cluster = cluster();
    cluster.alter_partition(&cluster.proposal("t", &[1, 2])).unwrap();
    cluster.fence(NodeId(2));
    let good = cluster.proposal("t", &[1]);
    let ineligible = AlterPartition {
        isr: vec![(NodeId(1), good.broker_epoch), (NodeId(2), cluster.epoch(NodeId(2)))],
        ..good.clone()
    };
    assert_eq!(code(&cluster, &ineligible), ErrorCode::IneligibleReplica);
    let recovering = AlterPartition { recovering: true, ..ineligible };
    assert_eq!(code(&cluster, &recovering), ErrorCode::InvalidRequest);
    let without_leader =
        AlterPartition { isr: vec![(NodeId(2), BrokerEpoch(0))], ..recovering.clone() };
    assert_eq!(code(&cluster, &without_leader), ErrorCode::InvalidRequest);
    let stranger = AlterPartition {
        isr: vec![(NodeId(1), good.broker_epoch), (NodeId(4), BrokerEpoch(0))],
        ..recovering
    };
    assert_eq!(code(&cluster, &stranger), ErrorCode::InvalidRequest);
    let older = PartitionEpoch(good.partition_epoch.0 - 1);
    let old_version = AlterPartition { partition_epoch: older, ..stranger };
    assert_eq!(code(&cluster, &old_version), ErrorCode::InvalidUpdateVersion);
    let old_session = AlterPartition { broker_epoch: BrokerEpoch(0), ..old_version };
    assert_eq!(code(&cluster, &old_session), ErrorCode::StaleBrokerEpoch);
    let other_sender = AlterPartition { leader: NodeId(3), ..old_session };
    assert_eq!(code(&cluster, &other_sender), ErrorCode::InvalidRequest);
    let old_leader =
        AlterPartition { leader_epoch: LeaderEpoch(good.leader_epoch.0 - 1), ..other_sender };
    assert_eq!(code(&cluster, &old_leader), ErrorCode::FencedLeaderEpoch);
    let newer = PartitionEpoch(good.partition_epoch.0 + 1);
    let ahead = AlterPartition { partition_epoch: newer, ..old_leader };
    assert_eq!(code(&cluster, &ahead), ErrorCode::NotController);
    let nowhere = TopicIdPartition { partition: PartitionIndex(1), ..ahead.id };
    let unknown = AlterPartition { id: nowhere, ..ahead };
    assert_eq!(code(&cluster, &unknown), ErrorCode::UnknownTopicId);
    let twice = AlterPartition { isr: vec![(NodeId(1), good.broker_epoch); 2], ..good.clone() };
    assert_eq!(code(&cluster, &twice), ErrorCode::InvalidRequest);

    cluster.alter_partition(&good).unwrap();
    assert_eq!(code(&cluster, &good), ErrorCode::InvalidUpdateVersion, "a version is used once");
}

/// R7, KIP-903: the leader heard a session that is over.
#[test]
fn a_member_that_has_registered_again_since_is_refused() {
    let mut cluster = cluster();
    cluster.alter_partition(&cluster.proposal("t", &[1, 2])).unwrap();
    let proposal = cluster.proposal("t", &[1, 2, 3]);
    cluster.register(&broker(3)).unwrap();
    cluster.unfence(NodeId(3));
    assert_eq!(code(&cluster, &proposal), ErrorCode::IneligibleReplica);
    let _plant = Plant::new(Mutant::M4);
    assert!(cluster.alter_partition(&proposal).is_ok());
}

/// R7, KIP-841.
#[test]
fn a_member_that_is_shutting_down_is_refused() {
    let mut cluster = cluster();
    let others = Some(LogIndex(0));
    let records = cluster.shut_down(NodeId(3), others).0;
    assert!(records > 1);
    assert_eq!(&*cluster.partition("t").isr, &nodes(&[1, 2])[..]);
    assert_eq!(code(&cluster, &cluster.proposal("t", &[1, 2, 3])), ErrorCode::IneligibleReplica);
}

/// R7: an accepted proposal is one version further even when nothing else changes, which ends every other proposal on that version.
#[test]
fn the_same_set_again_takes_a_version() {
    let mut cluster = cluster();
    let before = cluster.partition("t").clone();
    let after = cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3])).unwrap();
    assert_eq!(after.partition_epoch, before.partition_epoch.next().unwrap());
    assert_eq!((after.leader_epoch, &after.isr), (before.leader_epoch, &before.isr));
}

#[test]
fn two_proposals_for_one_partition_in_one_request_are_both_refused() {
    let cluster = cluster();
    let proposal = cluster.proposal("t", &[1, 2]);
    let decision =
        cluster.image.decide_alter_partitions(&[proposal.clone(), proposal], &cluster.policy);
    assert!(decision.records.is_empty());
    assert!(
        decision
            .response
            .iter()
            .all(|r| r.as_ref().unwrap_err().code() == ErrorCode::InvalidRequest)
    );
}

/// R10.
#[test]
fn who_leaves_below_the_minimum_stays_eligible_unless_unfit_and_until_enough_are_in_sync() {
    let mut cluster = cluster();
    cluster.alter_partition(&cluster.proposal("t", &[1, 2])).unwrap();
    assert!(cluster.partition("t").elr.is_empty(), "enough are in sync");
    let mut unfit = cluster.clone();
    let proposal = AlterPartition { unfit: nodes(&[2]), ..cluster.proposal("t", &[1]) };
    assert!(unfit.alter_partition(&proposal).unwrap().elr.is_empty());

    let shrunk = cluster.alter_partition(&cluster.proposal("t", &[1])).unwrap();
    assert_eq!((&*shrunk.isr, &*shrunk.elr), (&nodes(&[1])[..], &nodes(&[2])[..]));
    let grown = cluster.alter_partition(&cluster.proposal("t", &[1, 3])).unwrap();
    assert_eq!((&*grown.isr, &*grown.elr), (&nodes(&[1, 3])[..], &[][..]));
}

/// R10: the same fact has the new minimum and no eligible replicas.
#[test]
fn a_change_of_the_minimum_forgets_who_is_eligible() {
    let shrunk = || {
        let mut cluster = cluster();
        cluster.alter_partition(&cluster.proposal("t", &[1])).unwrap();
        assert_eq!(&*cluster.partition("t").elr, &nodes(&[2, 3])[..]);
        cluster
    };
    let to_one = |cluster: &mut Cluster| {
        let change = ConfigChange::Set { name: "min.insync.replicas".into(), value: "1".into() };
        let target = ConfigTarget::Topic("t".to_owned());
        let resources = vec![ConfigAlteration { target, changes: vec![change], replace: false }];
        let request = AlterConfigs { resources, validate_only: false };
        let decision = cluster.image.decide_alter_configs(&request, &cluster.policy);
        cluster.commit(&decision.records);
        cluster.partition("t").clone()
    };
    let after = to_one(&mut shrunk());
    assert_eq!((after.min_isr, &*after.elr), (1, &[][..]));

    let _plant = Plant::new(Mutant::M11);
    assert_eq!(&*to_one(&mut shrunk()).elr, &nodes(&[2, 3])[..]);
}

/// R19.
#[test]
fn after_a_change_to_fsync_a_replica_counts_as_before_until_its_leader_says_it_has_flushed() {
    let mut cluster = Cluster::of_brokers(3);
    let configs = [("min.insync.replicas", "3"), ("thalweg.durability", "replicated")];
    cluster.create_on("t", &[1, 2, 3], &configs);
    let change = ConfigChange::Set { name: "thalweg.durability".into(), value: "fsync".into() };
    let target = ConfigTarget::Topic("t".to_owned());
    let resources = vec![ConfigAlteration { target, changes: vec![change], replace: false }];
    let request = AlterConfigs { resources, validate_only: false };
    let decision = cluster.image.decide_alter_configs(&request, &cluster.policy);
    cluster.commit(&decision.records);
    assert_eq!(&*cluster.partition("t").unproven, &nodes(&[1, 2, 3])[..]);

    let proven = AlterPartition { proven: nodes(&[1, 2]), ..cluster.proposal("t", &[1, 2, 3]) };
    cluster.alter_partition(&proven).unwrap();
    assert_eq!(&*cluster.partition("t").unproven, &nodes(&[3])[..]);
    cluster.register(&broker(3)).unwrap();
    assert!(cluster.partition("t").elr.is_empty(), "3 may have lost what was not flushed");
    cluster.register(&broker(2)).unwrap();
    assert_eq!(&*cluster.partition("t").elr, &nodes(&[2])[..]);
}
