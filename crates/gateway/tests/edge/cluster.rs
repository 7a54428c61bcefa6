//! Moves under way and nodes, as the image has them; what of commands is refused before anybody is asked.

use thalweg_metadata_core::{Partition, Record};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId, PartitionIndex};

use crate::rig::{Rig, assert_refused};

fn partition(topic: &str, partition: i32) -> proto::TopicPartition {
    proto::TopicPartition { topic: topic.to_owned(), partition }
}

/// Publishes that a partition is being moved from node 1 to node 2.
fn begin_move(rig: &Rig, topic: &str, index: i32) {
    let image = rig.feed.image();
    let found = image.topic(topic).unwrap();
    let old = found.partitions[&PartitionIndex(index)].clone();
    let state = Partition {
        replicas: vec![NodeId(2), NodeId(1)],
        adding: vec![NodeId(2)],
        removing: vec![NodeId(1)],
        ..old
    };
    let (topic_id, partition) = (found.id, PartitionIndex(index));
    rig.controller.publish(vec![Record::PartitionChanged { topic_id, partition, state }]);
}

#[tokio::test]
async fn moves_under_way_are_listed_all_or_those_asked_for() {
    let rig = Rig::start(&[("b", 2), ("a", 1)]).await;
    begin_move(&rig, "b", 1);
    begin_move(&rig, "a", 0);
    let list = async |partitions| {
        let request = proto::ListReassignmentsRequest { partitions };
        rig.admin().list_reassignments(request).await.unwrap().into_inner().reassignments
    };
    let all = list(Vec::new()).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].partition, Some(partition("a", 0)));
    assert_eq!((&all[1].adding[..], &all[1].removing[..]), (&[2][..], &[1][..]));
    assert_eq!((&all[1].replicas[..], &all[1].in_sync_replicas[..]), (&[2, 1][..], &[1][..]));
    let some = list(vec![partition("b", 0), partition("a", 0), partition("unknown", 3)]).await;
    assert_eq!(some.len(), 1);

    let request = proto::DescribeClusterRequest {};
    let cluster = rig.admin().describe_cluster(request).await.unwrap().into_inner();
    let health = cluster.partitions.unwrap();
    assert_eq!((health.total, health.reassigning, health.under_replicated), (3, 2, 2));
    assert_eq!((health.without_leader, health.not_led_by_preferred), (0, 2));
    assert_eq!((cluster.nodes[0].leader_count, cluster.nodes[0].replica_count), (3, 3));
    assert_eq!(cluster.nodes[0].out_of_sync_count, 0);
}

#[tokio::test]
async fn commands_about_what_cannot_be_are_refused_as_a_whole() {
    let rig = Rig::start(&[]).await;
    let step = |partition| proto::Reassignment { partition, replicas: vec![1] };
    let moves = [
        vec![],
        vec![step(None)],
        vec![step(Some(partition("orders", -1)))],
        vec![step(Some(partition("orders", 0))); 10_001],
    ];
    for reassignments in moves {
        let request = proto::ReassignRequest { reassignments };
        let error = Error::from(rig.admin().reassign(request).await.unwrap_err());
        assert_refused(&error, ErrorCode::InvalidRequest);
    }
    let request = proto::ReassignRequest { reassignments: vec![step(Some(partition("a/b", 0)))] };
    let error = Error::from(rig.admin().reassign(request).await.unwrap_err());
    assert_refused(&error, ErrorCode::InvalidTopicException);
    for partitions in [vec![partition("orders", -5)], vec![partition("orders", 0); 10_001]] {
        let request = proto::ElectPreferredLeadersRequest { partitions: partitions.clone() };
        let error = Error::from(rig.admin().elect_preferred_leaders(request).await.unwrap_err());
        assert_refused(&error, ErrorCode::InvalidRequest);
        let request = proto::ListReassignmentsRequest { partitions };
        let error = Error::from(rig.admin().list_reassignments(request).await.unwrap_err());
        assert_refused(&error, ErrorCode::InvalidRequest);
    }
    let elect = |partitions, accept_data_loss| proto::ElectUncleanLeadersRequest {
        partitions,
        validate_only: false,
        accept_data_loss,
    };
    for request in [
        elect(vec![partition("orders", 0)], false),
        elect(Vec::new(), true),
        elect(vec![partition("orders", -1)], true),
        elect(vec![partition("orders", 0); 1_001], true),
    ] {
        let error = Error::from(rig.admin().elect_unclean_leaders(request).await.unwrap_err());
        assert_refused(&error, ErrorCode::InvalidRequest);
    }
    for count in [0, 1_001] {
        let updates = vec![proto::FeatureUpdate::default(); count];
        let request = proto::UpdateFeaturesRequest { updates, validate_only: false };
        let error = Error::from(rig.admin().update_features(request).await.unwrap_err());
        assert_refused(&error, ErrorCode::InvalidRequest);
    }
    let request = proto::PlanReassignmentRequest { leaving: Vec::new(), moves_max: 10_001 };
    let error = Error::from(rig.admin().plan_reassignment(request).await.unwrap_err());
    assert_refused(&error, ErrorCode::InvalidRequest);
    let request = proto::AddVoterRequest { controller_id: 0, endpoint: String::new() };
    let error = Error::from(rig.admin().add_voter(request).await.unwrap_err());
    assert_refused(&error, ErrorCode::InvalidRequest);
}
