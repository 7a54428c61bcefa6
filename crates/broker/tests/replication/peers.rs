//! Followers that no broker of ours would be (B52): each is told what is wrong, its stream ends, and nothing else is disturbed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use thalweg_proto::internal::broker::v1 as broker;
use thalweg_proto::internal::broker::v1::broker_client::BrokerClient;
use thalweg_proto::internal::replication::v1 as proto;
use thalweg_proto::internal::replication::v1::replication_client::ReplicationClient;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;
use tonic::transport::Channel;

use crate::rig::{PATIENCE, Rig, node_id};

/// What the leader says first, or why the stream ended.
async fn say(
    client: &ReplicationClient<Channel>,
    requests: Vec<proto::ReplicateRequest>,
) -> Result<Option<proto::ReplicateResponse>, Error> {
    let mut client = client.clone();
    let conversation = async move {
        // The stream stays open: it is the leader who ends it.
        let said = futures_util::StreamExt::chain(stream::iter(requests), stream::pending());
        let mut told = client.replicate(said).await?.into_inner();
        Ok(told.message().await?)
    };
    tokio::time::timeout(PATIENCE, conversation).await.expect("it is told much sooner")
}

/// As the third broker would say it, if it were not dead. Its epoch is one that the leader does not know yet.
fn hello(rig: &Rig) -> proto::Hello {
    proto::Hello {
        node_id: rig.state("orders").replicas[2].0,
        broker_epoch: i64::MAX - 1,
        stream: 1,
        leader_id: node_id(rig, 1).0,
        window_bytes: 1 << 20,
        partition_window_bytes: 1 << 20,
        cluster_id: Bytes::copy_from_slice(rig.image().cluster_id().unwrap().0.as_bytes()),
    }
}

fn request(hello: Option<proto::Hello>) -> proto::ReplicateRequest {
    proto::ReplicateRequest { hello, ..Default::default() }
}

fn partition_of(rig: &Rig, topic: &str) -> proto::TopicIdPartition {
    let topic_id = rig.image().topic(topic).unwrap().id;
    proto::TopicIdPartition {
        topic_id: Bytes::copy_from_slice(topic_id.0.as_bytes()),
        partition: 0,
    }
}

fn handshake(rig: &Rig) -> proto::Handshake {
    proto::Handshake {
        partition: Some(partition_of(rig, "orders")),
        dir_id: Bytes::from_static(&[7; 16]),
        leader_epoch: rig.state("orders").leader_epoch.0,
        log_end: 0,
        last_epoch: -1,
        flushed_end: 0,
        fitness: proto::Fitness::Fit.into(),
        attempt: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_that_say_what_cannot_be_are_refused_and_disturb_nobody() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    // Its place is taken by somebody who is not it.
    rig.kill(3).await;
    rig.in_sync("orders", 2).await;
    let hello = hello(&rig);
    let client = ReplicationClient::new(thalweg_rpc::channel(&rig.internal(1)).unwrap());

    let bad = |change: fn(&mut proto::Hello)| {
        let mut hello = hello.clone();
        change(&mut hello);
        vec![request(Some(hello))]
    };
    let cases = [
        (vec![request(None)], ErrorCode::InvalidRequest),
        (bad(|hello| hello.leader_id += 1), ErrorCode::InvalidRequest),
        (bad(|hello| hello.node_id = hello.leader_id), ErrorCode::InvalidRequest),
        (bad(|hello| hello.cluster_id = Bytes::from_static(b"x")), ErrorCode::InvalidRequest),
        (
            bad(|hello| hello.cluster_id = Bytes::from_static(&[9; 16])),
            ErrorCode::InconsistentClusterId,
        ),
        (bad(|hello| hello.broker_epoch = 0), ErrorCode::StaleBrokerEpoch),
        ([bad(|hello| hello.stream = 1), bad(|_| {})].concat(), ErrorCode::InvalidRequest),
    ];
    for (said, code) in cases {
        let told = say(&client, said.clone()).await;
        assert_eq!(told.map_err(|error| error.code), Err(code), "{said:?}");
    }

    let on_a_stream = |number: u64, rest: proto::ReplicateRequest| {
        let hello = proto::Hello { stream: number, ..hello.clone() };
        vec![request(Some(hello)), rest]
    };
    let malformed = proto::Handshake { fitness: 77, ..handshake(&rig) };
    let unsent = proto::ReplicateRequest { taken_count: 5, ..Default::default() };
    let rests = [
        proto::ReplicateRequest { handshakes: vec![malformed], ..Default::default() },
        unsent,
        proto::ReplicateRequest {
            reports: vec![proto::Report { fitness: 1, ..Default::default() }],
            ..Default::default()
        },
    ];
    for (number, rest) in (10..).zip(rests) {
        let told = say(&client, on_a_stream(number, rest.clone())).await;
        assert_eq!(told.map_err(|error| error.code), Err(ErrorCode::InvalidRequest), "{rest:?}");
    }

    // Positions that no log has are refused per partition; nothing of them is believed.
    let impossible = proto::Handshake { log_end: 5, flushed_end: 9, ..handshake(&rig) };
    let rest = proto::ReplicateRequest { handshakes: vec![impossible], ..Default::default() };
    let told = say(&client, on_a_stream(20, rest)).await.unwrap().unwrap();
    assert!(matches!(told.answers[0].verdict, Some(proto::answer::Verdict::Refused(_))));

    // An older stream than one that was seen is not listened to.
    let held = tokio::spawn({
        let (client, said) = (client.clone(), on_a_stream(30, request(None)));
        async move { say(&client, said).await }
    });
    let older = async {
        loop {
            let rest =
                proto::ReplicateRequest { handshakes: vec![handshake(&rig)], ..Default::default() };
            match say(&client, on_a_stream(29, rest)).await {
                Err(error) if error.code == ErrorCode::StaleBrokerEpoch => break,
                // The newer one has not begun yet.
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, older).await.expect("a newer stream is open");
    // It is held open to the end, and gives way to the true one all the same.
    for number in 0..5 {
        rig.produce("orders", format!("value {number}").as_bytes()).await;
    }
    rig.start(3).await;
    rig.in_sync("orders", 3).await;
    assert_eq!(rig.converged("orders", &[1, 2, 3]).await.len(), 5);
    held.abort();
    rig.stop().await;
}

/// B36: what no controller of ours would ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_replicas_that_make_no_sense_are_refused() {
    let rig = Rig::new(1).await;
    rig.create("orders", &[1], 1).await;
    let channel = thalweg_rpc::channel(&rig.internal(1)).unwrap();
    let client = BrokerClient::new(channel);
    let describe = async |replicas: Vec<broker::ReplicaName>, index| {
        let request = broker::DescribeReplicasRequest { replicas, index };
        let mut client = client.clone();
        client.describe_replicas(request).await.map_err(Error::from).map(|it| it.into_inner())
    };
    let of = |topic_id: &[u8], partition| broker::ReplicaName {
        topic_id: Bytes::copy_from_slice(topic_id),
        partition,
    };
    let known = rig.image().topic("orders").unwrap().id;
    let known = known.0.as_bytes();
    let cases = [
        (vec![of(&known[..15], 0)], 0, ErrorCode::InvalidRequest),
        (vec![of(known, 0); 1_001], 0, ErrorCode::InvalidRequest),
        (vec![of(known, 0)], u64::MAX, ErrorCode::ReplicaNotAvailable),
    ];
    for (replicas, index, expected) in cases {
        assert_eq!(describe(replicas, index).await.unwrap_err().code, expected);
    }
    let answer = describe(vec![of(known, 0), of(known, -1), of(&[9; 16], 0)], 0).await.unwrap();
    let refused: Vec<_> = answer.replicas.iter().map(|state| state.refusal.is_some()).collect();
    assert_eq!(refused, [false, true, true]);
    rig.stop().await;
}
