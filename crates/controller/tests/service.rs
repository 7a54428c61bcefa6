//! The whole controller in a temporary directory, called over gRPC as its nodes call it.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thalweg_controller::{Controller, ControllerOptions, Handle};
use thalweg_env::{OsRandom, fs::RealFs};
use thalweg_metadata_core::{Image, StaticConfigs};
use thalweg_metadata_feed::{Change, Feed, FeedOptions};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_client::ControllerClient;
use thalweg_proto::internal::controller::v1::watch_metadata_response::Event;
use thalweg_proto::internal::metadata::v1 as metadata;
use thalweg_rpc::{Error, Routes, ServerHandle, ServerOptions, channel_in_memory};
use thalweg_types::{ErrorCode, LogIndex, NodeId, Outcome, PartitionIndex};
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(20);

/// One life of a controller, with its server.
struct Life {
    handle: Handle,
    server: ServerHandle,
    channel: Channel,
    client: ControllerClient<Channel>,
}

impl Life {
    async fn start(dir: &Path) -> Self {
        let mut options = ControllerOptions::new(dir, Arc::new(RealFs), Arc::new(OsRandom));
        options.configs = StaticConfigs::new([("num.partitions", "3")]).unwrap();
        Self::start_with(options).await
    }

    async fn start_with(options: ControllerOptions) -> Self {
        let handle = Controller::start(options).await.unwrap();
        let routes = Routes::new().with(handle.service());
        let server = thalweg_rpc::Server::new(ServerOptions::default());
        let (server, connector) = server.serve_in_memory(routes);
        let channel = channel_in_memory(connector);
        let client = ControllerClient::new(channel.clone());
        Self { handle, server, channel, client }
    }

    async fn stop(self) {
        self.handle.shutdown().await;
        self.server.shutdown().await;
    }

    fn feed(&self) -> Feed {
        Feed::start(self.channel.clone(), FeedOptions::default())
    }

    /// Registers the node of a disk and lets it catch up.
    async fn join(&mut self, disk: u8) -> proto::RegisterNodeResponse {
        let registered = self.client.register_node(node(disk)).await.unwrap().into_inner();
        let answer = self.beat(&registered, false).await;
        assert!(!answer.fenced);
        registered
    }

    async fn beat(
        &mut self,
        node: &proto::RegisterNodeResponse,
        disk_full: bool,
    ) -> proto::HeartbeatResponse {
        let heartbeat = proto::HeartbeatRequest {
            node_id: node.node_id,
            broker_epoch: node.broker_epoch,
            applied_index: u64::try_from(node.broker_epoch).unwrap(),
            want_shutdown: false,
            disk_full,
        };
        self.client.heartbeat(heartbeat).await.unwrap().into_inner()
    }

    async fn create(&mut self, names: &[&str]) -> proto::CreateTopicsResponse {
        let topics = names.iter().map(|name| proto::NewTopic {
            name: (*name).to_owned(),
            partition_count: -1,
            replication_factor: -1,
            ..Default::default()
        });
        let request = proto::CreateTopicsRequest { topics: topics.collect(), validate_only: false };
        self.client.create_topics(request).await.unwrap().into_inner()
    }
}

fn node(disk: u8) -> proto::RegisterNodeRequest {
    proto::RegisterNodeRequest {
        role: metadata::NodeRole::Broker.into(),
        dir_id: Bytes::from(vec![disk; 16]),
        incarnation: Bytes::from(vec![200; 16]),
        endpoints: vec![metadata::Endpoint {
            listener: "kafka".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }],
        ..Default::default()
    }
}

async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes far less than this")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_topics_ids_and_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    let cluster_id = life.handle.cluster_id();
    let first = life.join(1).await;
    let created = life.create(&["orders", "bad/name"]).await;
    assert!(created.topics[0].error.is_none());
    assert_eq!(created.topics[0].partition_count, 3);
    let refused = Error::from_detail(created.topics[1].error.clone().unwrap());
    assert_eq!(
        (refused.code, refused.outcome),
        (ErrorCode::InvalidTopicException, Outcome::NotApplied)
    );
    let allocate = proto::AllocateProducerIdsRequest {
        node_id: first.node_id,
        broker_epoch: first.broker_epoch,
    };
    let block = life.client.allocate_producer_ids(allocate).await.unwrap().into_inner();
    assert_eq!((block.first_producer_id, block.count), (0, 1000));
    let before = life.handle.feed().image();
    life.stop().await;

    let mut life = Life::start(dir.path()).await;
    assert_eq!(life.handle.cluster_id(), cluster_id);
    assert_eq!(life.handle.feed().image().to_records(), before.to_records());

    let again = life.join(1).await;
    assert_eq!(again.node_id, first.node_id, "the disk is the same");
    assert!(again.broker_epoch > first.broker_epoch);
    let other = life.join(2).await;
    assert_eq!(other.node_id, first.node_id + 1);
    let image = life.handle.feed().image();
    let partition = image.partition("orders", PartitionIndex(0)).unwrap();
    let old = before.partition("orders", PartitionIndex(0)).unwrap();
    assert_eq!(partition.leader, Some(NodeId(first.node_id)));
    assert!(partition.leader_epoch > old.leader_epoch);

    let stale = life.client.allocate_producer_ids(allocate).await.unwrap_err();
    assert_eq!(Error::from(stale).code, ErrorCode::StaleBrokerEpoch);
    let allocate =
        proto::AllocateProducerIdsRequest { broker_epoch: again.broker_epoch, ..allocate };
    let block = life.client.allocate_producer_ids(allocate).await.unwrap().into_inner();
    assert_eq!(block.first_producer_id, 1000);
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_follows_every_change_of_topics() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    let feed = life.feed();
    life.join(1).await;
    let created = life.create(&["a", "b"]).await;
    let image = within(feed.wait_for(LogIndex(created.index))).await.unwrap();
    assert_eq!(image.topic_count(), 2);
    assert_eq!(image, life.handle.feed().image());

    let mut changes = feed.subscribe();
    changes.next().await.unwrap();
    let growth = proto::CreatePartitionsRequest {
        topics: vec![proto::TopicGrowth {
            name: "a".to_owned(),
            partition_count: 5,
            assignments: Vec::new(),
        }],
        validate_only: false,
    };
    life.client.create_partitions(growth).await.unwrap();
    let Change::Applied { image, records } = within(changes.next()).await.unwrap() else {
        panic!("one entry after the image that was seen")
    };
    assert_eq!((records.len(), image.topic("a").unwrap().partition_count()), (2, 5));

    let alteration = proto::AlterConfigsRequest {
        resources: vec![proto::ConfigAlteration {
            target: Some(proto::ConfigTarget {
                target: Some(proto::config_target::Target::Topic("b".to_owned())),
            }),
            changes: vec![proto::ConfigChange {
                name: "retention.ms".to_owned(),
                value: Some("7".to_owned()),
                edit: proto::ConfigEdit::Unspecified.into(),
            }],
            replace: false,
        }],
        validate_only: false,
    };
    let altered = life.client.alter_configs(alteration).await.unwrap().into_inner();
    assert!(altered.resources[0].error.is_none());
    let names = ["a", "missing"].map(|name| proto::TopicReference {
        reference: Some(proto::topic_reference::Reference::Name(name.to_owned())),
    });
    let request = proto::DeleteTopicsRequest { topics: names.into() };
    let deleted = life.client.delete_topics(request).await.unwrap().into_inner();
    assert!(deleted.topics[0].error.is_none());
    let refused = Error::from_detail(deleted.topics[1].error.clone().unwrap());
    assert_eq!(refused.code, ErrorCode::UnknownTopicOrPartition);
    let image = within(feed.wait_for(LogIndex(deleted.index))).await.unwrap();
    assert!(image.topic("a").is_none() && image.topic("b").is_some());
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_resumes_behind_what_was_seen_and_begins_with_a_snapshot_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    life.join(1).await;
    let seen = life.create(&["a"]).await.index;
    let last = life.create(&["b"]).await.index;
    assert!(last > seen);

    let event = first_event(&mut life.client, seen).await;
    let Event::Entries(entries) = event else { panic!("the history has what follows: {event:?}") };
    let positions: Vec<_> =
        entries.entries.iter().map(|entry| entry.position.unwrap().index).collect();
    assert_eq!(positions, [last]);
    assert_eq!(entries.entries[0].previous_index, seen);

    let refused = life.client.watch_metadata(watch_from(last + 100)).await.unwrap_err();
    assert_eq!(Error::from(refused).code, ErrorCode::NotController);
    life.stop().await;

    let mut life = Life::start(dir.path()).await;
    let event = first_event(&mut life.client, seen).await;
    let Event::Snapshot(piece) = event else { panic!("the history began anew: {event:?}") };
    assert!(piece.last && piece.position.unwrap().index >= last);
    assert_eq!(piece.records.len(), life.handle.feed().image().to_records().len());
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_the_streams_and_refuses_calls() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    life.join(1).await;
    let watching = life.client.watch_metadata(watch_from(0)).await.unwrap();
    let mut stream = watching.into_inner();
    stream.message().await.unwrap();
    let Life { handle, server, mut client, .. } = life;
    handle.shutdown().await;
    let ended = within(async { while let Ok(Some(_)) = stream.message().await {} });
    ended.await;
    let refused = client.register_node(node(3)).await.unwrap_err();
    let refused = Error::from(refused);
    assert_eq!((refused.code, refused.outcome), (ErrorCode::NotController, Outcome::NotApplied));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_the_same_time_are_decided_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    life.join(1).await;
    let calls = (0..20_u8).map(|disk| {
        let mut client = life.client.clone();
        // Each disk registers twice at the same time.
        tokio::spawn(async move {
            client.register_node(node(100 + disk / 2)).await.unwrap().into_inner()
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut ids = std::collections::BTreeSet::new();
    let mut epochs = std::collections::BTreeSet::new();
    for call in calls {
        let registered = within(call).await.unwrap();
        ids.insert(registered.node_id);
        epochs.insert(registered.broker_epoch);
    }
    assert_eq!((ids.len(), epochs.len()), (10, 20));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cannot_be_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    let bad_ids = [
        proto::RegisterNodeRequest { dir_id: Bytes::from_static(b"short"), ..node(1) },
        proto::RegisterNodeRequest { role: 99, ..node(1) },
        proto::RegisterNodeRequest { cluster_id: Some(Bytes::new()), ..node(1) },
    ];
    for request in bad_ids {
        let refused = Error::from(life.client.register_node(request).await.unwrap_err());
        assert_eq!(
            (refused.code, refused.outcome),
            (ErrorCode::InvalidRequest, Outcome::NotApplied)
        );
    }
    let assignment = proto::Assignment { partition: 0, replicas: vec![1] };
    let topic = proto::NewTopic {
        name: "t".to_owned(),
        partition_count: -1,
        replication_factor: -1,
        assignments: vec![assignment.clone(), assignment],
        ..Default::default()
    };
    let request = proto::CreateTopicsRequest { topics: vec![topic], validate_only: false };
    let refused = Error::from(life.client.create_topics(request).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::InvalidReplicaAssignment);
    let quorum = life.client.describe_quorum(proto::DescribeQuorumRequest {}).await.unwrap();
    assert_eq!(quorum.into_inner().leader_id, Some(1));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_outlives_the_controller_and_goes_on_with_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    let serve = |life: &Life, address: &str| {
        let routes = Routes::new().with(life.handle.service());
        let server = thalweg_rpc::Server::new(ServerOptions::default());
        server.serve(address.parse().unwrap(), routes).unwrap()
    };
    let listener = serve(&life, "127.0.0.1:0");
    let address = listener.local_addr().unwrap().to_string();
    let feed = Feed::start(thalweg_rpc::channel(&address).unwrap(), FeedOptions::default());
    life.join(1).await;
    let before = life.create(&["a"]).await.index;
    within(feed.wait_for(LogIndex(before))).await.unwrap();
    life.stop().await;
    listener.shutdown().await;

    let mut life = Life::start(dir.path()).await;
    let _listener = serve(&life, &address);
    life.join(1).await;
    let after = life.create(&["b"]).await.index;
    let image = within(feed.wait_for(LogIndex(after))).await.unwrap();
    assert_eq!(image, life.handle.feed().image());
    assert!(image.topic("a").is_some() && image.topic("b").is_some());
    life.stop().await;
}

fn watch_from(index: u64) -> proto::WatchMetadataRequest {
    let applied = metadata::Position { index, controller_epoch: 1 };
    proto::WatchMetadataRequest { applied: Some(applied) }
}

async fn first_event(client: &mut ControllerClient<Channel>, from: u64) -> Event {
    let mut stream = client.watch_metadata(watch_from(from)).await.unwrap().into_inner();
    within(stream.message()).await.unwrap().unwrap().event.unwrap()
}

#[tokio::test]
async fn new_topics_are_refused_while_the_disk_of_every_broker_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::start(dir.path()).await;
    let (first, second) = (life.join(1).await, life.join(2).await);
    life.create(&["before"]).await;

    life.beat(&first, true).await;
    life.create(&["on-the-second"]).await;
    life.beat(&second, true).await;
    let request = proto::CreateTopicsRequest::default();
    let refused = Error::from(life.client.create_topics(request).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.outcome, refused.retriable),
        (ErrorCode::KafkaStorageError, Outcome::NotApplied, true)
    );
    assert_eq!(refused.status, Some(tonic::Code::ResourceExhausted));

    life.beat(&first, false).await;
    let created = life.create(&["after"]).await;
    assert!(created.topics.iter().all(|topic| topic.error.is_none()));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_silent_coordinator_had_goes_to_another_within_a_session_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ControllerOptions::new(dir.path(), Arc::new(RealFs), Arc::new(OsRandom));
    options.session_timeout = Duration::from_secs(2);
    let mut life = Life::start_with(options).await;
    let feed = life.feed();
    let broker = life.join(1).await;
    let coordinator = |disk| proto::RegisterNodeRequest {
        role: metadata::NodeRole::Coordinator.into(),
        ..node(disk)
    };
    let mut beats = Vec::new();
    for disk in [2, 3] {
        let joined = life.client.register_node(coordinator(disk)).await.unwrap().into_inner();
        life.beat(&joined, false).await;
        beats.push(joined);
    }
    let created = life.create(&["__consumer_offsets"]).await;
    assert!(created.topics.iter().all(|topic| topic.error.is_none()), "{created:?}");
    let image = within(feed.wait_for(LogIndex(created.index))).await.unwrap();
    let share = |image: &Image, node: &proto::RegisterNodeResponse| {
        image.coordinated_by(NodeId(node.node_id)).count()
    };
    assert_eq!((share(&image, &beats[0]), share(&image, &beats[1])), (25, 25));

    // From here on, the second is silent.
    let image = within(async {
        loop {
            life.beat(&broker, false).await;
            life.beat(&beats[0], false).await;
            let image = feed.image();
            if image.node(NodeId(beats[1].node_id)).is_none() {
                return image;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let image = image.await;
    assert_eq!(share(&image, &beats[0]), 50);
    let late = proto::HeartbeatRequest {
        node_id: beats[1].node_id,
        broker_epoch: beats[1].broker_epoch,
        ..Default::default()
    };
    let refused = Error::from(life.client.heartbeat(late).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::BrokerIdNotRegistered);
    life.stop().await;
}
