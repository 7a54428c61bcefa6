//! Topics that coordinators write to: who may append, where and when, at a real broker over gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thalweg_broker::Broker;
use thalweg_controller_client::{ControllerClient, NewTopic, NodeSession, SessionOptions};
use thalweg_env::SystemClock;
use thalweg_metadata_core::{Endpoint, NodeRole};
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_proto::internal::broker::v1::append_request::Condition;
use thalweg_proto::internal::broker::v1::broker_client::BrokerClient;
use thalweg_record::BatchBuilder;
use thalweg_rpc::Error;
use thalweg_types::{
    CompressionType, DirId, ErrorCode, IncarnationId, NodeId, Outcome, PartitionIndex, Timestamp,
    TopicIdPartition, Uuid,
};
use tokio::time::timeout;
use tonic::transport::Channel;

use super::cluster::{Cluster, PATIENCE};

const TOPIC: &str = "__consumer_offsets";

/// A cluster with one broker, the topic, and whoever coordinates it.
struct Rig {
    cluster: Cluster,
    controller: ControllerClient,
    client: BrokerClient<Channel>,
}

impl Rig {
    async fn start() -> Self {
        let cluster = Cluster::start(1).await;
        let controller = ControllerClient::new(cluster.channel());
        let created =
            controller.create_topics(vec![NewTopic::with_defaults(TOPIC)], false).await.unwrap();
        assert!(created.items.iter().all(Result::is_ok), "{created:?}");
        let broker = cluster.broker(0);
        broker.served(created.index).await;
        let image = broker.image();
        let node = image.node(broker.node_id()).unwrap();
        let at = node.endpoint(Endpoint::INTERNAL).unwrap();
        let channel = thalweg_rpc::channel(&format!("{}:{}", at.host, at.port)).unwrap();
        Self { cluster, controller, client: BrokerClient::new(channel) }
    }

    fn broker(&self) -> Arc<Broker> {
        self.cluster.broker(0)
    }

    /// A coordinator joins; returns when the broker knows.
    async fn coordinator(&self, number: u8) -> (NodeSession, NodeId) {
        let options = SessionOptions {
            role: NodeRole::Coordinator,
            identity: DirId(Uuid::from_bytes([number; 16])),
            incarnation: IncarnationId(Uuid::from_bytes([number; 16])),
            endpoints: Vec::new(),
            rack: None,
            heartbeat_interval: Duration::from_millis(100),
            session_timeout: Duration::from_secs(9),
            clock: Arc::new(SystemClock::new()),
        };
        let feed = self.cluster.feed().await;
        let session = NodeSession::start(self.controller.clone(), feed, options);
        let node = timeout(PATIENCE, session.registered()).await.unwrap().unwrap().node_id;
        self.until(|image| image.is_live(node)).await;
        (session, node)
    }

    async fn until(&self, is_so: impl Fn(&thalweg_metadata_core::Image) -> bool) {
        let waiting = async {
            while !is_so(&self.broker().image()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("it takes far less than this");
    }

    fn coordinator_epoch(&self) -> i32 {
        let image = self.broker().image();
        let topic_id = image.topic(TOPIC).unwrap().id;
        let id = TopicIdPartition { topic_id, partition: PartitionIndex(0) };
        image.coordinator_of(id).unwrap().epoch.0
    }

    async fn standing(&self) -> proto::DescribeLogResponse {
        let request = proto::DescribeLogRequest { topic: TOPIC.to_owned(), partition: 0 };
        self.client.clone().describe_log(request).await.unwrap().into_inner()
    }

    /// What is to be written next, as the first of a chain.
    async fn opening(&self, chain: u64) -> proto::CoordinatorCondition {
        let standing = self.standing().await;
        proto::CoordinatorCondition {
            leader_epoch: standing.leader_epoch,
            expected_end: standing.log_end_offset,
            coordinator_epoch: self.coordinator_epoch(),
            chain,
            opens_chain: true,
        }
    }

    /// The requests down one stream, and the answers in order of the requests.
    async fn send(&self, requests: Vec<proto::AppendRequest>) -> Vec<Result<i64, Error>> {
        let count = requests.len();
        let requests = tokio_stream::iter(requests);
        let mut answers = self.client.clone().append(requests).await.unwrap().into_inner();
        let mut results = vec![None; count];
        let reading = async {
            while let Some(answer) = answers.message().await.unwrap() {
                for result in answer.results {
                    let number = usize::try_from(result.number).unwrap();
                    results[number] = Some(match result.refusal {
                        Some(refusal) => Err(Error::from_detail(refusal.detail.unwrap())),
                        None => Ok(result.base_offset),
                    });
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("it takes far less than this");
        results.into_iter().map(|result| result.expect("each is answered")).collect()
    }

    async fn refused(&self, request: proto::AppendRequest) -> ErrorCode {
        let error = self.send(vec![request]).await.remove(0).unwrap_err();
        assert_eq!(error.outcome, Outcome::NotApplied, "{error}");
        error.code
    }
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(CompressionType::None);
    builder.push(Timestamp(1), Some(b"key"), Some(b"value"), &[]).unwrap();
    builder.finish().unwrap().freeze()
}

fn append(condition: Option<Condition>) -> proto::AppendRequest {
    proto::AppendRequest {
        topic: TOPIC.to_owned(),
        partition: 0,
        batch: batch(),
        acks: proto::AppendAcks::All.into(),
        timeout_ms: 30_000,
        round: 0,
        condition,
    }
}

fn write(condition: proto::CoordinatorCondition) -> proto::AppendRequest {
    append(Some(Condition::Coordinator(condition)))
}

fn check(condition: proto::CoordinatorCondition) -> proto::AppendRequest {
    let condition = proto::CoordinatorCondition { opens_chain: false, ..condition };
    proto::AppendRequest { batch: Bytes::new(), ..write(condition) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_writes_without_waiting_and_whoever_takes_over_ends_its_chain() {
    let rig = Rig::start().await;
    let (first, _) = rig.coordinator(1).await;
    let opening = rig.opening(11).await;
    let following = |offset| proto::CoordinatorCondition {
        expected_end: offset,
        opens_chain: false,
        ..opening
    };
    // A refusal in the middle, and everything behind it.
    let ends: Vec<i64> = (1..100).collect();
    let mut requests = vec![write(opening)];
    requests.extend(ends.iter().map(|end| write(following(*end))));
    requests.push(check(following(100)));
    requests.push(write(following(70)));
    requests.push(write(following(101)));
    let results = rig.send(requests).await;
    for (offset, result) in (0..).zip(&results[..100]) {
        assert_eq!(result.as_ref().ok(), Some(&offset));
    }
    assert_eq!(results[100].as_ref().ok(), Some(&100), "the check appends nothing");
    for late in &results[101..] {
        assert_eq!(late.as_ref().unwrap_err().code, ErrorCode::InvalidUpdateVersion);
    }
    let standing = rig.standing().await;
    assert_eq!((standing.high_watermark, standing.log_end_offset), (100, 100));
    assert!(standing.epoch_start_offset <= 100 && standing.log_start_offset == 0);

    // The same partition in other hands: what the first one sends late is refused, by epoch and by chain.
    let (second, second_id) = rig.coordinator(2).await;
    timeout(PATIENCE, first.leave()).await.unwrap();
    rig.until(|image| image.coordinated_by(second_id).count() == 50).await;
    assert!(rig.coordinator_epoch() > opening.coordinator_epoch);
    assert_eq!(rig.refused(write(following(100))).await, ErrorCode::NotCoordinator);
    let taking_over = rig.opening(12).await;
    assert_eq!(rig.send(vec![write(taking_over)]).await.remove(0).ok(), Some(100));
    let old_chain = proto::CoordinatorCondition {
        coordinator_epoch: taking_over.coordinator_epoch,
        ..following(101)
    };
    assert_eq!(rig.refused(write(old_chain)).await, ErrorCode::InvalidUpdateVersion);
    assert_eq!(rig.refused(check(old_chain)).await, ErrorCode::InvalidUpdateVersion);
    drop(second);
    rig.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_that_make_no_sense_or_are_somebody_elses_append_nothing() {
    let rig = Rig::start().await;
    let (_session, _) = rig.coordinator(1).await;
    let good = rig.opening(1).await;
    let with = |change: &dyn Fn(&mut proto::CoordinatorCondition)| {
        let mut condition = good;
        change(&mut condition);
        write(condition)
    };
    let invalid = ErrorCode::InvalidRequest;
    let cases = [
        // Whoever names no condition, or one of users, is no coordinator.
        (append(None), ErrorCode::InvalidTopicException),
        (append(Some(Condition::ExpectedOffset(0))), ErrorCode::InvalidTopicException),
        (append(Some(Condition::ExpectedOffset(-1))), invalid),
        (with(&|c| c.leader_epoch = -1), invalid),
        (with(&|c| c.leader_epoch += 1), ErrorCode::UnknownLeaderEpoch),
        (with(&|c| c.leader_epoch = i32::MAX), ErrorCode::UnknownLeaderEpoch),
        (with(&|c| c.expected_end = -1), invalid),
        (with(&|c| c.expected_end = 1), ErrorCode::InvalidUpdateVersion),
        (with(&|c| c.expected_end = i64::MAX), ErrorCode::InvalidUpdateVersion),
        // B36.
        (with(&|c| c.coordinator_epoch = 0), invalid),
        (with(&|c| c.coordinator_epoch = -1), invalid),
        (with(&|c| c.coordinator_epoch += 1), ErrorCode::UnknownLeaderEpoch),
        (with(&|c| c.coordinator_epoch = i32::MAX), ErrorCode::UnknownLeaderEpoch),
        (with(&|c| c.chain = 0), invalid),
        (with(&|c| c.opens_chain = false), ErrorCode::InvalidUpdateVersion),
        (proto::AppendRequest { batch: Bytes::new(), ..write(good) }, invalid),
        (
            proto::AppendRequest { acks: proto::AppendAcks::Leader.into(), ..write(good) },
            ErrorCode::InvalidRequiredAcks,
        ),
        (
            proto::AppendRequest { batch: Bytes::from_static(b"not a batch"), ..write(good) },
            ErrorCode::CorruptMessage,
        ),
        (
            proto::AppendRequest { batch: Bytes::new(), ..append(None) },
            ErrorCode::InvalidTopicException,
        ),
        (proto::AppendRequest { partition: 50, ..write(good) }, ErrorCode::UnknownTopicOrPartition),
    ];
    for (request, code) in cases {
        let name = format!("{:?}", request.condition);
        assert_eq!(rig.refused(request).await, code, "{name}");
    }
    assert_eq!(rig.standing().await.log_end_offset, 0);
    // After all of these, the good one.
    assert_eq!(rig.send(vec![write(good)]).await.remove(0).ok(), Some(0));

    rig.cluster.create("orders", 1).await;
    let elsewhere = proto::AppendRequest { topic: "orders".to_owned(), ..write(good) };
    assert_eq!(rig.refused(elsewhere).await, invalid);
    let unknown = proto::DescribeLogRequest { topic: TOPIC.to_owned(), partition: 50 };
    let error = Error::from(rig.client.clone().describe_log(unknown).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::UnknownTopicOrPartition);
    rig.cluster.stop().await;
}
