//! Who coordinates which partition of an internal topic.

use thalweg_types::CoordinatorEpoch;

use super::*;

/// One live broker, node 1, and live coordinators from node 2 on.
fn cluster_of(coordinators: u32) -> Cluster {
    let mut cluster = Cluster::of_brokers(1);
    for number in 0..coordinators {
        join(&mut cluster, number);
    }
    cluster
}

fn coordinator(number: u32) -> RegisterNode {
    RegisterNode { role: NodeRole::Coordinator, ..broker(100 + number) }
}

fn join(cluster: &mut Cluster, number: u32) -> NodeId {
    let node = cluster.register(&coordinator(number)).unwrap().node_id;
    cluster.unfence(node);
    node
}

fn create_offsets(cluster: &mut Cluster, partition_count: i32) -> TopicId {
    let topic = CreateTopic { partition_count, ..cluster.topic("__consumer_offsets") };
    cluster.create_one(topic).unwrap().topic_id
}

/// Node and epoch of each partition of the offsets' topic.
fn assigned(cluster: &Cluster) -> Vec<(Option<i32>, i32)> {
    let topic = cluster.image.topic("__consumer_offsets").unwrap();
    let of = |partition: &PartitionIndex| {
        let id = TopicIdPartition { topic_id: topic.id, partition: *partition };
        cluster.image.coordinator_of(id).map_or((None, 0), |c| (c.node.map(|n| n.0), c.epoch.0))
    };
    topic.partitions.keys().map(of).collect()
}

#[test]
fn an_internal_topic_is_shared_by_the_live_coordinators_as_soon_as_it_is_made() {
    let mut cluster = cluster_of(2);
    let id = create_offsets(&mut cluster, 4);
    let nodes: Vec<_> = assigned(&cluster).iter().map(|(node, _)| *node).collect();
    assert_eq!(nodes.iter().filter(|node| **node == Some(2)).count(), 2);
    assert_eq!(nodes.iter().filter(|node| **node == Some(3)).count(), 2);
    assert!(assigned(&cluster).iter().all(|(_, epoch)| *epoch == 1));
    let of_second: Vec<_> = cluster.image.coordinated_by(NodeId(3)).collect();
    assert!(of_second.iter().all(|(at, e)| at.topic_id == id && *e == CoordinatorEpoch(1)));
    assert_eq!(of_second.len(), 2);
}

#[test]
fn a_coordinator_that_comes_later_gets_its_share_and_the_others_keep_theirs() {
    let mut cluster = cluster_of(1);
    create_offsets(&mut cluster, 5);
    assert_eq!(assigned(&cluster), [(Some(2), 1); 5]);
    assert_eq!(join(&mut cluster, 7), NodeId(3));
    let moved: Vec<_> = assigned(&cluster).into_iter().filter(|now| *now == (Some(3), 2)).collect();
    let kept: Vec<_> = assigned(&cluster).into_iter().filter(|now| *now == (Some(2), 1)).collect();
    assert_eq!((moved.len(), kept.len()), (2, 3));
}

#[test]
fn a_silent_coordinator_is_forgotten_and_what_it_had_goes_to_others_at_once() {
    let mut cluster = cluster_of(2);
    create_offsets(&mut cluster, 4);
    cluster.fence(NodeId(2));
    assert!(cluster.image.node(NodeId(2)).is_none());
    assert!(assigned(&cluster).iter().all(|(node, _)| *node == Some(3)));
    cluster.fence(NodeId(3));
    assert!(assigned(&cluster).iter().all(|(node, epoch)| node.is_none() && *epoch >= 2));
    // The same identity comes back as the same node, with higher epochs.
    assert_eq!(join(&mut cluster, 0), NodeId(2));
    assert!(assigned(&cluster).iter().all(|(node, epoch)| *node == Some(2) && *epoch >= 3));
}

#[test]
fn a_new_session_of_a_coordinator_begins_with_nothing() {
    let mut cluster = cluster_of(2);
    create_offsets(&mut cluster, 4);
    cluster.register(&coordinator(0)).unwrap();
    assert!(assigned(&cluster).iter().all(|(node, _)| *node == Some(3)), "its memory is another");
    cluster.unfence(NodeId(2));
    assert_eq!(cluster.image.coordinated_by(NodeId(2)).count(), 2);
}

/// R12.
#[test]
fn a_coordinator_that_stops_hands_over_before_it_may_go() {
    let mut cluster = cluster_of(2);
    create_offsets(&mut cluster, 4);
    let stop = |cluster: &Cluster, others_applied| Heartbeat {
        node_id: NodeId(2),
        broker_epoch: cluster.epoch(NodeId(2)),
        applied: cluster.image.position().index,
        want_shutdown: true,
        others_applied: Some(others_applied),
    };
    let first = cluster.image.decide_heartbeat(&stop(&cluster, LogIndex(0))).unwrap();
    assert!(!first.response.may_shut_down, "the brokers still send clients to it");
    cluster.commit(&first.records);
    assert!(assigned(&cluster).iter().all(|(node, _)| *node == Some(3)));
    let applied = cluster.image.position().index;
    let second = cluster.image.decide_heartbeat(&stop(&cluster, applied)).unwrap();
    assert!(second.response.may_shut_down);
    assert_eq!(second.records, [Record::NodeUnregistered { node_id: NodeId(2) }]);
}

#[test]
fn gateways_and_brokers_coordinate_nothing() {
    let mut cluster = Cluster::of_brokers(1);
    let gateway = RegisterNode { role: NodeRole::Gateway, ..broker(100) };
    let node = cluster.register(&gateway).unwrap().node_id;
    cluster.unfence(node);
    create_offsets(&mut cluster, 2);
    assert_eq!(assigned(&cluster), [(None, 0); 2]);
    cluster.fence(node);
    assert!(cluster.image.node(node).is_none());
}

#[test]
fn coordinators_of_a_deleted_topic_are_forgotten_with_it() {
    let mut cluster = cluster_of(1);
    let id = create_offsets(&mut cluster, 2);
    let reference = TopicReference::Id(id);
    let deleted = cluster.image.decide_delete_topics(&[reference], &cluster.policy);
    let keys = cluster.image.keys_changed_by(&deleted.records[0]);
    let of_coordinators = keys.iter().filter(|key| matches!(key, Key::Coordinator(_)));
    assert_eq!(of_coordinators.count(), 2);
    cluster.commit(&deleted.records);
    assert_eq!(cluster.image.coordinated_by(NodeId(2)).count(), 0);
}

#[test]
fn internal_topics_are_compacted_flushed_and_replicated_as_far_as_brokers_reach() {
    for (brokers, factor) in [(1, 1), (2, 2), (5, 3)] {
        let mut cluster = Cluster::of_brokers(brokers);
        let created = cluster.topic("__consumer_offsets");
        let created = cluster.create_one(created).unwrap();
        assert_eq!((created.partition_count, created.replication_factor), (50, factor));
        let resource = ConfigResource::Topic(created.topic_id);
        assert_eq!(cluster.image.config(&resource, "cleanup.policy"), Some("compact"));
        assert_eq!(cluster.partition("__consumer_offsets").durability, Durability::Fsync);
    }
    let mut cluster =
        Cluster::of_brokers(2).with_settings(&[("offsets.topic.num.partitions", "7")]);
    let created = cluster.topic("__consumer_offsets");
    assert_eq!(cluster.create_one(created).unwrap().partition_count, 7);
}

#[test]
fn an_internal_topic_keeps_its_partitions_and_is_always_flushed() {
    let mut cluster = cluster_of(1);
    create_offsets(&mut cluster, 4);
    let growth = GrowTopic {
        name: "__consumer_offsets".to_owned(),
        partition_count: 8,
        assignments: Vec::new(),
    };
    let request = CreatePartitions { topics: vec![growth], validate_only: false };
    let grown = cluster.image.decide_create_partitions(&request, 1, &cluster.policy);
    assert!(grown.records.is_empty());
    assert_eq!(grown.response[0].as_ref().unwrap_err().code(), ErrorCode::InvalidTopicException);

    for target in [ConfigTarget::Topic("__consumer_offsets".to_owned()), ConfigTarget::Cluster] {
        let change = ConfigChange::Set {
            name: "thalweg.durability".to_owned(),
            value: "replicated".to_owned(),
        };
        let alteration = ConfigAlteration { target, changes: vec![change], replace: true };
        let request = AlterConfigs { resources: vec![alteration], validate_only: false };
        let decision = cluster.image.decide_alter_configs(&request, &cluster.policy);
        cluster.commit(&decision.records);
        assert_eq!(cluster.partition("__consumer_offsets").durability, Durability::Fsync);
    }
}
