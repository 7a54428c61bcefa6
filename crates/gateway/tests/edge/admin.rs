//! Topics and the cluster.

use std::collections::HashMap;

use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;

use crate::controller::LEADER_ID;
use crate::rig::{Rig, assert_refused};

fn named(name: &str) -> proto::NewTopic {
    proto::NewTopic { name: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_topic_is_created_described_grown_and_deleted() {
    let rig = Rig::start(&[]).await;
    let topic = proto::NewTopic {
        partition_count: 3,
        configs: HashMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
        ..named("orders")
    };
    let request = proto::CreateTopicsRequest { topics: vec![topic], validate_only: false };
    let created = rig.admin().create_topics(request).await.unwrap().into_inner().topics.remove(0);
    assert_eq!((created.partition_count, created.error), (3, None));
    assert_eq!(created.topic_id.len(), 22);

    let by_id =
        proto::DescribeTopicsRequest { names: vec![], topic_ids: vec![created.topic_id.clone()] };
    let described = rig.admin().describe_topics(by_id).await.unwrap().into_inner().topics.remove(0);
    assert_eq!((described.name.as_str(), described.partitions.len()), ("orders", 3));
    assert_eq!(described.configs["retention.ms"], "1000");
    assert_eq!(described.partitions[2].partition, 2);
    assert_eq!(described.partitions[2].in_sync_replicas, [1]);

    let growth = proto::NewPartitions {
        topic: "orders".to_owned(),
        partition_count: 5,
        assignments: vec![],
    };
    let request = proto::CreatePartitionsRequest { topics: vec![growth], validate_only: false };
    let grown = rig.admin().create_partitions(request).await.unwrap().into_inner();
    assert_eq!(grown.topics[0].error, None);
    let listed = rig.admin().list_topics(proto::ListTopicsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().topics[0].partition_count, 5);

    let request = proto::DeleteTopicsRequest {
        names: vec!["nowhere".to_owned()],
        topic_ids: vec![created.topic_id.clone()],
    };
    let deleted = rig.admin().delete_topics(request).await.unwrap().into_inner().topics;
    assert_eq!(deleted[0].error.as_ref().unwrap().name, "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!((deleted[1].name.as_str(), &deleted[1].error), ("orders", &None));
    let listed = rig.admin().list_topics(proto::ListTopicsRequest::default()).await.unwrap();
    assert!(listed.into_inner().topics.is_empty());
}

#[tokio::test]
async fn each_topic_of_a_request_has_its_own_error() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let request = proto::CreateTopicsRequest {
        topics: vec![named("orders"), named("no/name"), named("new")],
        validate_only: false,
    };
    let created = rig.admin().create_topics(request).await.unwrap().into_inner().topics;
    let names: Vec<_> =
        created.iter().map(|topic| topic.error.as_ref().map(|error| error.name.as_str())).collect();
    assert_eq!(names, [Some("TOPIC_ALREADY_EXISTS"), Some("INVALID_TOPIC_EXCEPTION"), None]);

    let request = proto::DescribeTopicsRequest {
        names: vec!["nowhere".to_owned(), "no/name".to_owned()],
        topic_ids: vec!["short".to_owned(), "AAAAAAAAAAAAAAAAAAAAAQ".to_owned()],
    };
    let described = rig.admin().describe_topics(request).await.unwrap().into_inner().topics;
    let names: Vec<_> =
        described.iter().map(|topic| topic.error.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(
        names,
        [
            "UNKNOWN_TOPIC_OR_PARTITION",
            "INVALID_TOPIC_EXCEPTION",
            "INVALID_REQUEST",
            "UNKNOWN_TOPIC_ID"
        ]
    );
}

#[tokio::test]
async fn a_check_creates_nothing() {
    let rig = Rig::start(&[]).await;
    let request = proto::CreateTopicsRequest { topics: vec![named("orders")], validate_only: true };
    let checked = rig.admin().create_topics(request).await.unwrap().into_inner().topics.remove(0);
    assert_eq!((checked.error, checked.topic_id.as_str()), (None, ""));
    let listed = rig.admin().list_topics(proto::ListTopicsRequest::default()).await.unwrap();
    assert!(listed.into_inner().topics.is_empty());
}

#[tokio::test]
async fn topics_are_listed_page_by_page_in_order() {
    let rig = Rig::start(&[("c", 1), ("a", 2), ("b", 1), ("__consumer_offsets", 1)]).await;
    let page = async |page_token: &str, page_size| {
        let request = proto::ListTopicsRequest {
            include_internal: false,
            page_size,
            page_token: page_token.to_owned(),
        };
        let answer = rig.admin().list_topics(request).await.unwrap().into_inner();
        let names: Vec<String> = answer.topics.into_iter().map(|topic| topic.name).collect();
        (names.join(","), answer.next_page_token)
    };
    assert_eq!(page("", 2).await, ("a,b".to_owned(), "b".to_owned()));
    assert_eq!(page("b", 2).await, ("c".to_owned(), String::new()));
    assert_eq!(page("", 3).await, ("a,b,c".to_owned(), String::new()));
}

#[tokio::test]
async fn the_cluster_shows_its_nodes_and_its_controller() {
    let rig = Rig::start(&[]).await;
    let request = proto::DescribeClusterRequest {};
    let cluster = rig.admin().describe_cluster(request).await.unwrap().into_inner();
    assert_eq!((cluster.cluster_id.len(), cluster.controller_id), (22, Some(LEADER_ID)));
    let [node] = &cluster.nodes[..] else { panic!("{cluster:?}") };
    assert_eq!((node.node_id, node.role.as_str(), node.fenced), (1, "broker", false));
    assert_eq!((node.endpoints[0].listener.as_str(), node.endpoints[0].port), ("kafka", 9092));
}

#[tokio::test]
async fn requests_with_impossible_counts_are_refused_as_a_whole() {
    let rig = Rig::start(&[]).await;
    let assigned = |count: u32| proto::NewTopic {
        partition_count: count,
        assignments: vec![proto::ReplicaAssignment { partition: 0, replicas: vec![1] }],
        ..named("orders")
    };
    for topics in [
        vec![],
        vec![proto::NewTopic { partition_count: 10_001, ..named("orders") }],
        vec![proto::NewTopic { replication_factor: 40_000, ..named("orders") }],
        vec![assigned(2)],
    ] {
        let request = proto::CreateTopicsRequest { topics, validate_only: false };
        let error = Error::from(rig.admin().create_topics(request).await.unwrap_err());
        assert_refused(&error, ErrorCode::InvalidRequest);
    }
    let request = proto::CreateTopicsRequest { topics: vec![assigned(1)], validate_only: false };
    let created = rig.admin().create_topics(request).await.unwrap().into_inner().topics.remove(0);
    assert_eq!((created.error, created.partition_count), (None, 1));
}
