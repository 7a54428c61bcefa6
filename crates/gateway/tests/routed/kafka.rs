//! The Kafka calls through a gateway, to scripted brokers: split, put together, and told as Kafka tells it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thalweg_controller_client::{ControllerClient, Registered, Standing};
use thalweg_env::{OsRandom, SystemClock};
use thalweg_gateway::port::NoCoordinators;
use thalweg_gateway::{Advertised, KafkaBackend, KafkaOptions, KafkaParts};
use thalweg_kafka::messages::{
    FetchRequest, FetchResponse, HeartbeatRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, fetch, list_offsets, offset_for_leader_epoch,
    produce,
};
use thalweg_kafka::{ApiKey, Backend as _, Reply, Request, RequestContext, Response};
use thalweg_rpc::channel;
use thalweg_types::{BrokerEpoch, ClusterId, ErrorCode, NodeId};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, numbered};

const ME: i32 = 40;
const PRODUCE: i16 = 9;
const FETCH: i16 = 11;

fn backend(cluster: &Cluster) -> Arc<KafkaBackend> {
    let registered = Registered {
        cluster_id: ClusterId::default(),
        node_id: NodeId(ME),
        broker_epoch: BrokerEpoch(1),
    };
    let parts = KafkaParts {
        brokers: Arc::clone(&cluster.routed),
        coordinators: Arc::new(NoCoordinators),
        feed: cluster.feed(),
        // Nothing here asks it anything.
        controller: ControllerClient::new(channel("127.0.0.1:1").unwrap()),
        standing: watch::channel(Standing::Held(registered)).1,
        advertised: Advertised { host: "gateway".to_owned(), port: 9092, rack: None },
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
    };
    let options = KafkaOptions {
        auto_create_topics: false,
        fetch_bytes_max: 1 << 20,
        fetch_memory_bytes_max: 1 << 22,
        fetch_sessions_max: 10,
    };
    Arc::new(KafkaBackend::new(parts, options))
}

async fn ask(backend: &Arc<KafkaBackend>, version: i16, request: impl Into<Request>) -> Reply {
    let request = request.into();
    let context = RequestContext {
        api_key: request.api_key(),
        api_version: version,
        correlation_id: 1,
        client_id: None,
        client_software: None,
        peer: "127.0.0.1:1".parse().unwrap(),
        listener: "127.0.0.1:2".parse().unwrap(),
        connection: 1,
        received_at: Instant::now(),
    };
    timeout(PATIENCE, backend.handle(context, request)).await.expect("it takes less")
}

/// One batch for each of the partitions.
fn produce_request(
    acks: i16,
    batches: impl IntoIterator<Item = (i32, bytes::BytesMut)>,
) -> Request {
    let data = |(index, records)| produce::PartitionProduceData { index, records: Some(records) };
    let topic = produce::TopicProduceData {
        name: "orders".into(),
        partition_data: batches.into_iter().map(data).collect(),
        ..Default::default()
    };
    let request =
        ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    request.into()
}

async fn produced(backend: &Arc<KafkaBackend>, request: Request) -> Vec<(i16, i64)> {
    let Reply::Response(Response::Produce(answer)) = ask(backend, PRODUCE, request).await else {
        panic!("an answer to Produce")
    };
    let partitions = answer.responses.into_iter().flat_map(|topic| topic.partition_responses);
    partitions.map(|one| (one.error_code, one.base_offset)).collect()
}

fn fetch_request(session: (i32, i32), offsets: &[(i32, i64)]) -> FetchRequest {
    let partition = |(partition, fetch_offset): &(i32, i64)| fetch::FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = fetch::FetchTopic {
        topic: "orders".into(),
        partitions: offsets.iter().map(partition).collect(),
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 50,
        min_bytes: 1,
        session_id: session.0,
        session_epoch: session.1,
        topics: if offsets.is_empty() { Vec::new() } else { vec![topic] },
        ..Default::default()
    }
}

async fn fetched(backend: &Arc<KafkaBackend>, request: FetchRequest) -> FetchResponse {
    match ask(backend, FETCH, request).await {
        Reply::Response(Response::Fetch(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// Of each partition in an answer: its number, error, and how many bytes of records.
fn told(answer: &FetchResponse) -> Vec<(i32, i16, usize)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let bytes = |records: &[Bytes]| records.iter().map(Bytes::len).sum();
    partitions.map(|one| (one.partition_index, one.error_code, bytes(&one.records))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_several_leaders_is_split_and_answered_as_one() {
    let cluster = Cluster::start(3, "orders").await;
    let backend = backend(&cluster);
    let batches = (0..3).rev().map(|index| (index, numbered("orders", index).batch));
    assert_eq!(produced(&backend, produce_request(-1, batches)).await, [(0, 0), (0, 0), (0, 0)]);
    let unknown = produce_request(1, [(7, numbered("orders", 1).batch)]);
    let refused = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(produced(&backend, unknown).await, [(refused, -1)]);

    let answer = fetched(&backend, fetch_request((0, -1), &[(2, 0), (0, 0), (1, 1), (9, 0)])).await;
    let size = cluster.logs.of("orders", 0)[0].len();
    let expected = [(2, 0, size), (0, 0, size), (1, 0, 0), (9, refused, 0)];
    assert_eq!(told(&answer), expected);
    let bytes = answer.responses[0].partitions[0].records.concat();
    assert_eq!(bytes, cluster.logs.of("orders", 2)[0], "as the broker has them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_no_answer_gets_none_and_hears_of_a_refusal_by_the_end_of_the_connection() {
    let cluster = Cluster::start(1, "orders").await;
    let backend = backend(&cluster);
    let request = produce_request(0, [(0, numbered("orders", 1).batch)]);
    assert!(matches!(ask(&backend, PRODUCE, request).await, Reply::None));
    assert_eq!(cluster.numbers("orders", 0), [1]);
    let request = produce_request(0, [(5, numbered("orders", 1).batch)]);
    assert!(matches!(ask(&backend, PRODUCE, request).await, Reply::Close));
    let request = produce_request(2, [(0, numbered("orders", 1).batch)]);
    let refused = ErrorCode::InvalidRequiredAcks.code();
    assert_eq!(produced(&backend, request).await, [(refused, -1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_is_hidden_and_a_lost_answer_is_not() {
    let mut cluster = Cluster::start(2, "orders").await;
    let backend = backend(&cluster);
    cluster.script(1).resign("orders", 0);
    let waiting = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { produced(&backend, produce_request(-1, [(0, numbered("orders", 0).batch)])).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    cluster.script(2).lead("orders", 0, 2);
    cluster.announce("orders", 0, Some(2));
    assert_eq!(waiting.await.unwrap(), [(0, 0)]);

    // Appended, and never answered.
    cluster.script(2).answer(false);
    let plain = tokio::spawn({
        let backend = Arc::clone(&backend);
        let request = produce_request(-1, [(0, numbered("orders", 1).batch)]);
        async move { produced(&backend, request).await }
    });
    while cluster.logs.of("orders", 0).len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _dead = cluster.kill(2);
    let code = ErrorCode::from_code(plain.await.unwrap()[0].0).unwrap();
    assert!(
        matches!(code, ErrorCode::NetworkException | ErrorCode::RequestTimedOut),
        "it may be there: {code:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_told_what_is_news_from_all_brokers() {
    let cluster = Cluster::start(2, "orders").await;
    let backend = backend(&cluster);
    let first = fetched(&backend, fetch_request((0, 0), &[(0, 0), (1, 0)])).await;
    assert_eq!(told(&first), [(0, 0, 0), (1, 0, 0)]);
    let id = first.session_id;
    assert!(id > 0);
    let nothing = fetched(&backend, fetch_request((id, 1), &[])).await;
    assert_eq!((nothing.session_id, told(&nothing)), (id, Vec::new()));

    let request = produce_request(-1, [(1, numbered("orders", 5).batch)]);
    produced(&backend, request).await;
    let news = fetched(&backend, fetch_request((id, 2), &[])).await;
    let size = cluster.logs.of("orders", 1)[0].len();
    assert_eq!(told(&news), [(1, 0, size)]);
    let again = fetched(&backend, fetch_request((id, 2), &[])).await;
    assert_eq!(again.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_and_epochs_are_asked_for_at_the_leaders() {
    let cluster = Cluster::start(2, "orders").await;
    let backend = backend(&cluster);
    for number in 0..3 {
        produced(&backend, produce_request(-1, [(1, numbered("orders", number).batch)])).await;
    }
    let partitions = [0, 1, 4].map(|partition_index| list_offsets::ListOffsetsPartition {
        partition_index,
        timestamp: -1,
        ..Default::default()
    });
    let topic =
        list_offsets::ListOffsetsTopic { name: "orders".into(), partitions: partitions.into() };
    let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
    let Reply::Response(Response::ListOffsets(answer)) = ask(&backend, 5, request).await else {
        panic!("an answer to ListOffsets")
    };
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let listed: Vec<_> =
        answer.topics[0].partitions.iter().map(|one| (one.error_code, one.offset)).collect();
    assert_eq!(listed, [(0, 0), (0, 3), (unknown, -1)]);

    let partition = offset_for_leader_epoch::OffsetForLeaderPartition {
        partition: 1,
        current_leader_epoch: 1,
        leader_epoch: 1,
    };
    let topic = offset_for_leader_epoch::OffsetForLeaderTopic {
        topic: "orders".into(),
        partitions: vec![partition],
    };
    let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
    let Reply::Response(Response::OffsetForLeaderEpoch(answer)) = ask(&backend, 3, request).await
    else {
        panic!("an answer to OffsetForLeaderEpoch")
    };
    let end = &answer.topics[0].partitions[0];
    assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, 1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_shows_itself_as_the_leader_and_true_replicas() {
    let cluster = Cluster::start(2, "orders").await;
    let backend = backend(&cluster);
    let request = MetadataRequest { topics: None, ..Default::default() };
    let Reply::Response(Response::Metadata(answer)) = ask(&backend, 9, request).await else {
        panic!("an answer to Metadata")
    };
    let nodes: Vec<_> =
        answer.brokers.iter().map(|node| (node.node_id, &*node.host, node.port)).collect();
    assert_eq!(nodes, [(ME, "gateway", 9092)]);
    assert_eq!(answer.controller_id, ME);
    for partition in &answer.topics[0].partitions {
        assert_eq!(partition.leader_id, ME);
        assert_eq!((&*partition.replica_nodes, &*partition.isr_nodes), (&[1, 2][..], &[1, 2][..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_groups_are_told_to_look_for_their_coordinator() {
    let cluster = Cluster::start(1, "orders").await;
    let backend = backend(&cluster);
    assert!(backend.apis().get(ApiKey::Heartbeat).is_some());
    let request = HeartbeatRequest { group_id: "g".into(), ..Default::default() };
    let Reply::Response(Response::Heartbeat(answer)) = ask(&backend, 4, request).await else {
        panic!("an answer to Heartbeat")
    };
    assert_eq!(answer.error_code, ErrorCode::CoordinatorNotAvailable.code());
}
