//! R15: growing, completing, cancelling, replacing.

use super::*;

fn cluster(configs: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::of_brokers(5);
    cluster.create_on("t", &[1, 2], configs);
    cluster
}

#[test]
fn a_reassignment_completes_when_everyone_added_is_in_sync() {
    let mut cluster = cluster(&[("min.insync.replicas", "2")]);
    let epoch = cluster.partition("t").leader_epoch;
    cluster.reassign("t", Some(&[3, 4])).unwrap();
    let moving = cluster.partition("t").clone();
    assert_eq!(moving.replicas, nodes(&[3, 4, 1, 2]));
    assert_eq!((moving.adding, moving.removing), (nodes(&[3, 4]), nodes(&[1, 2])));
    assert_eq!((moving.isr, moving.leader_epoch), (nodes(&[1, 2]), epoch));
    let ongoing: Vec<_> = cluster.image.reassignments().collect();
    assert_eq!((ongoing.len(), &ongoing[0].adding), (1, &nodes(&[3, 4])));

    let half = cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3])).unwrap();
    assert!(half.is_reassigning());
    let done = cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3, 4])).unwrap();
    assert_eq!((&done.replicas, &done.isr), (&nodes(&[3, 4]), &nodes(&[3, 4])));
    assert_eq!((done.leader, done.is_reassigning()), (Some(NodeId(3)), false));
    assert_eq!(done.leader_epoch.0, epoch.0 + 1);
    assert_eq!(cluster.image.reassignments().count(), 0);
}

/// A replica deletes its data only once it knows of the epoch in which it is not assigned any more.
#[test]
fn a_completed_reassignment_begins_an_epoch_even_under_the_same_leader() {
    let mut cluster = cluster(&[]);
    let epoch = cluster.partition("t").leader_epoch;
    cluster.reassign("t", Some(&[1])).unwrap();
    let done = cluster.partition("t");
    assert_eq!((&done.replicas, done.leader), (&nodes(&[1]), Some(NodeId(1))));
    assert_eq!(done.leader_epoch.0, epoch.0 + 1, "nobody was to be added: it is done at once");
}

#[test]
fn a_reassignment_waits_for_enough_of_the_target() {
    let mut cluster = cluster(&[("min.insync.replicas", "2")]);
    cluster.reassign("t", Some(&[2, 3, 4])).unwrap();
    cluster.fence(NodeId(2));
    // 3 and 4 are two of three.
    let done = cluster.alter_partition(&cluster.proposal("t", &[1, 3, 4])).unwrap();
    assert_eq!((done.isr, done.leader), (nodes(&[3, 4]), Some(NodeId(3))));
}

/// More replicas must not make the minimum unreachable while they catch up.
#[test]
fn replicas_that_are_being_added_do_not_raise_the_minimum_yet() {
    let mut cluster = Cluster::of_brokers(3);
    cluster.create_on("t", &[1], &[("min.insync.replicas", "2")]);
    assert_eq!(cluster.partition("t").min_isr, 1);
    cluster.reassign("t", Some(&[1, 2, 3])).unwrap();
    assert_eq!(cluster.partition("t").min_isr, 1);
    let done = cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3])).unwrap();
    assert_eq!((done.min_isr, done.is_reassigning()), (2, false));
}

#[test]
fn a_cancelled_reassignment_leaves_the_replicas_as_they_were() {
    let mut cluster = cluster(&[]);
    let refused = cluster.reassign("t", None).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NoReassignmentInProgress);
    cluster.reassign("t", Some(&[3, 4])).unwrap();
    cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3])).unwrap();
    cluster.reassign("t", None).unwrap();
    let back = cluster.partition("t");
    assert_eq!((&back.replicas, &back.isr), (&nodes(&[1, 2]), &nodes(&[1, 2])));
    assert!(!back.is_reassigning());
}

#[test]
fn a_reassignment_that_would_leave_nobody_in_sync_is_not_cancelled() {
    let mut cluster = cluster(&[("min.insync.replicas", "1")]);
    cluster.reassign("t", Some(&[3, 4])).unwrap();
    cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3])).unwrap();
    cluster.fence(NodeId(1));
    cluster.fence(NodeId(2));
    assert_eq!(&*cluster.partition("t").isr, &nodes(&[3])[..]);
    let refused = cluster.reassign("t", None).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidReplicaAssignment);
}

/// 3 is the only one that is known to be complete, though it is in sync with nobody while it is away.
#[test]
fn the_last_eligible_replica_stays_assigned() {
    let mut cluster = cluster(&[("min.insync.replicas", "1")]);
    cluster.reassign("t", Some(&[3, 4])).unwrap();
    cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3])).unwrap();
    for node in [1, 2, 3] {
        cluster.fence(NodeId(node));
    }
    let partition = cluster.partition("t");
    assert_eq!((&*partition.isr, &*partition.elr), (&[][..], &nodes(&[3])[..]));
    for target in [None, Some(&[4, 5][..])] {
        let refused = cluster.reassign("t", target).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidReplicaAssignment);
    }
    cluster.reassign("t", Some(&[3, 5])).unwrap();
}

#[test]
fn another_target_replaces_the_one_under_way() {
    let mut cluster = cluster(&[]);
    cluster.reassign("t", Some(&[3, 4])).unwrap();
    cluster.reassign("t", Some(&[4, 5])).unwrap();
    let moving = cluster.partition("t");
    assert_eq!(moving.replicas, nodes(&[4, 5, 1, 2]));
    assert_eq!((&moving.adding, &moving.removing), (&nodes(&[4, 5]), &nodes(&[1, 2])));
}

#[test]
fn strangers_repetitions_and_unknown_partitions_are_refused() {
    let mut cluster = cluster(&[]);
    for target in [&[1, 9][..], &[1, 1], &[]] {
        let refused = cluster.reassign("t", Some(target)).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidReplicaAssignment, "{target:?}");
    }
    let missing = cluster.reassign("u", Some(&[1])).unwrap_err();
    assert_eq!(missing.code(), ErrorCode::UnknownTopicOrPartition);
}
