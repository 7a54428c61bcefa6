//! Registration, heartbeats, fencing.

use super::*;

#[test]
fn a_new_disk_gets_the_next_id_and_a_known_one_its_own_with_a_new_epoch() {
    let mut cluster = Cluster::new();
    let first = cluster.register(&broker(1)).unwrap();
    let second = cluster.register(&broker(2)).unwrap();
    assert_eq!((first.node_id, second.node_id), (NodeId(1), NodeId(2)));
    let epoch = cluster.epoch(NodeId(1));
    assert_eq!(epoch, BrokerEpoch(2), "the log index of the registration");

    let again = RegisterNode {
        node_id: Some(first.node_id),
        cluster_id: Some(first.cluster_id),
        ..broker(1)
    };
    assert_eq!(cluster.register(&again), Ok(first));
    assert!(cluster.epoch(NodeId(1)) > epoch);
    assert!(cluster.image.node(NodeId(1)).unwrap().fenced);
}

#[test]
fn a_new_disk_at_the_address_of_a_node_that_is_gone_is_noticed() {
    let mut cluster = Cluster::of_brokers(1);
    assert_eq!(cluster.image.predecessor(&broker(2)), None, "it is live");
    cluster.fence(NodeId(1));
    assert_eq!(cluster.image.predecessor(&broker(2)), Some(NodeId(1)));
    assert_eq!(cluster.image.predecessor(&broker(1)), None, "it came back itself");
    let elsewhere = RegisterNode { endpoints: Vec::new(), ..broker(2) };
    assert_eq!(cluster.image.predecessor(&elsewhere), None);
}

#[test]
fn a_disk_of_another_cluster_or_with_an_id_that_is_not_its_own_is_refused() {
    let mut cluster = Cluster::of_brokers(2);
    let foreign = RegisterNode { cluster_id: Some(ClusterId(uuid(77))), ..broker(3) };
    let code = |refused: Result<Registered, Error>| refused.unwrap_err().code();
    assert_eq!(code(cluster.register(&foreign)), ErrorCode::InconsistentClusterId);
    // An empty disk under an id that somebody had: the id is not given to it.
    let reused = RegisterNode { node_id: Some(NodeId(1)), ..broker(3) };
    assert_eq!(code(cluster.register(&reused)), ErrorCode::InvalidRegistration);
    let swapped = RegisterNode { node_id: Some(NodeId(2)), ..broker(1) };
    assert_eq!(code(cluster.register(&swapped)), ErrorCode::InvalidRegistration);
    let other_role = RegisterNode { role: NodeRole::Gateway, ..broker(1) };
    assert_eq!(code(cluster.register(&other_role)), ErrorCode::InvalidRegistration);
    let nameless = RegisterNode { dir_id: DirId::ZERO, ..broker(1) };
    assert_eq!(code(cluster.register(&nameless)), ErrorCode::InvalidRegistration);
    let twice = RegisterNode {
        endpoints: [broker(3).endpoints, broker(3).endpoints].concat(),
        ..broker(3)
    };
    assert_eq!(code(cluster.register(&twice)), ErrorCode::InvalidRegistration);
}

#[test]
fn a_node_is_unfenced_once_it_has_applied_its_registration() {
    let mut cluster = Cluster::new();
    cluster.register(&broker(1)).unwrap();
    let mut request = Heartbeat {
        node_id: NodeId(1),
        broker_epoch: BrokerEpoch(2),
        applied: LogIndex(1),
        want_shutdown: false,
        others_applied: None,
    };
    let behind = cluster.image.decide_heartbeat(&request).unwrap();
    assert_eq!((behind.records.len(), behind.response.fenced), (0, true));
    request.applied = LogIndex(2);
    let caught_up = cluster.image.decide_heartbeat(&request).unwrap();
    assert_eq!(caught_up.records, [Record::NodeUnfenced { node_id: NodeId(1) }]);

    request.broker_epoch = BrokerEpoch(1);
    let stale = cluster.image.decide_heartbeat(&request).unwrap_err();
    assert_eq!(stale.code(), ErrorCode::StaleBrokerEpoch);
    request.node_id = NodeId(9);
    let unknown = cluster.image.decide_heartbeat(&request).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::BrokerIdNotRegistered);
}

#[test]
fn the_only_replica_leads_again_after_a_restart_under_a_new_epoch() {
    for (durability, clean) in [("fsync", false), ("replicated", false), ("replicated", true)] {
        let mut cluster = Cluster::of_brokers(1);
        cluster.create_on("t", &[1], &[("thalweg.durability", durability)]);
        let before = cluster.partition("t").clone();
        let previous = clean.then(|| cluster.epoch(NodeId(1)));
        cluster.register(&RegisterNode { previous_broker_epoch: previous, ..broker(1) }).unwrap();
        let fenced = cluster.partition("t");
        assert_eq!((fenced.leader, &*fenced.isr, &*fenced.elr), (None, &[][..], &nodes(&[1])[..]));

        cluster.unfence(NodeId(1));
        let after = cluster.partition("t");
        assert_eq!(after.leader, Some(NodeId(1)));
        assert_eq!((&*after.isr, &*after.elr), (&nodes(&[1])[..], &[][..]));
        assert!(after.leader_epoch > before.leader_epoch);
        assert!(after.partition_epoch > before.partition_epoch);
    }
}

#[test]
fn a_suspect_replica_is_never_elected() {
    let mut cluster = Cluster::of_brokers(1);
    let topic_id = cluster.create_on("t", &[1], &[]);
    let suspect = BTreeSet::from([TopicIdPartition { topic_id, partition: PartitionIndex(0) }]);
    cluster.register(&RegisterNode { suspect, ..broker(1) }).unwrap();
    cluster.unfence(NodeId(1));
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.elr), (None, &[][..]));
}

#[test]
fn another_in_sync_replica_takes_over_and_the_returning_one_is_out_of_sync() {
    let mut cluster = Cluster::of_brokers(3);
    cluster.create_on("t", &[2, 3, 1], &[]);
    cluster.register(&broker(2)).unwrap();
    let partition = cluster.partition("t");
    assert_eq!(partition.leader, Some(NodeId(3)));
    assert_eq!(&*partition.isr, &nodes(&[3, 1])[..]);
    assert!(partition.elr.is_empty(), "enough are in sync");
    let epoch = partition.leader_epoch;
    cluster.unfence(NodeId(2));
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(3)), epoch));
    assert_eq!(&*partition.isr, &nodes(&[3, 1])[..], "only the leader adds to it");
}

#[test]
fn who_leaves_below_the_minimum_stays_eligible_and_leads_when_nobody_else_can() {
    let mut cluster = Cluster::of_brokers(3);
    cluster.create_on("t", &[1, 2, 3], &[("min.insync.replicas", "2")]);
    cluster.fence(NodeId(3));
    assert!(cluster.partition("t").elr.is_empty());
    cluster.fence(NodeId(1));
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.isr), (Some(NodeId(2)), &nodes(&[2])[..]));
    assert_eq!(&*partition.elr, &nodes(&[1])[..], "3 left while there were enough");
    cluster.fence(NodeId(2));
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.elr), (None, &nodes(&[1, 2])[..]));

    // 3 may lack what 1 and 2 acknowledged after it left.
    cluster.unfence(NodeId(3));
    assert_eq!(cluster.partition("t").leader, None);
    cluster.unfence(NodeId(2));
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.isr), (Some(NodeId(2)), &nodes(&[2])[..]));
    assert_eq!(&*partition.elr, &nodes(&[1])[..]);
}

#[test]
fn what_an_unclean_restart_leaves_eligible_depends_on_durability() {
    for (durability, clean, eligible) in [
        ("fsync", false, true),
        ("fsync", true, true),
        ("replicated", false, false),
        ("replicated", true, true),
    ] {
        let mut cluster = Cluster::of_brokers(2);
        let configs = [("thalweg.durability", durability), ("min.insync.replicas", "2")];
        cluster.create_on("t", &[1, 2], &configs);
        let previous = clean.then(|| cluster.epoch(NodeId(1)));
        cluster.register(&RegisterNode { previous_broker_epoch: previous, ..broker(1) }).unwrap();
        let elr = &cluster.partition("t").elr;
        assert_eq!(elr.contains(&NodeId(1)), eligible, "{durability} {clean}");
    }
}

#[test]
fn a_marker_of_an_older_session_proves_nothing() {
    let mut cluster = Cluster::of_brokers(2);
    let configs = [("thalweg.durability", "replicated"), ("min.insync.replicas", "2")];
    cluster.create_on("t", &[1, 2], &configs);
    let first = cluster.epoch(NodeId(1));
    let marker = RegisterNode { previous_broker_epoch: Some(first), ..broker(1) };
    cluster.register(&marker).unwrap();
    assert_eq!(&*cluster.partition("t").elr, &nodes(&[1])[..]);
    cluster.register(&marker).unwrap();
    assert!(cluster.partition("t").elr.is_empty());
}

#[test]
fn a_node_that_wants_to_stop_leads_nothing_any_more() {
    let mut cluster = Cluster::of_brokers(2);
    cluster.create_on("t", &[1, 2], &[]);
    let answer = cluster.heartbeat(NodeId(1), true);
    assert!(answer.fenced && answer.may_shut_down);
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.isr), (Some(NodeId(2)), &nodes(&[2])[..]));
    let again = cluster.heartbeat(NodeId(1), true);
    assert!(again.may_shut_down);
}

#[test]
fn producer_ids_come_in_blocks_and_never_twice() {
    let mut cluster = Cluster::of_brokers(1);
    let epoch = cluster.epoch(NodeId(1));
    let mut allocate = |epoch| {
        let decision = cluster.image.decide_allocate_producer_ids(NodeId(1), epoch)?;
        cluster.commit(&decision.records);
        Ok::<_, Error>(decision.response.first)
    };
    assert_eq!(allocate(epoch), Ok(ProducerId(0)));
    assert_eq!(allocate(epoch), Ok(ProducerId(1000)));
    assert_eq!(allocate(BrokerEpoch(0)).unwrap_err().code(), ErrorCode::StaleBrokerEpoch);
}

#[test]
fn a_cluster_is_made_once() {
    let cluster = Cluster::new();
    let decision = cluster.image.decide_activate(ClusterId(uuid(9)), &cluster.policy);
    assert_eq!((decision.records.len(), decision.response), (0, ClusterId(uuid(0))));
    let refused = Image::default().decide_register_node(&broker(1)).unwrap_err();
    assert_eq!(refused, Error::NoCluster);
}
