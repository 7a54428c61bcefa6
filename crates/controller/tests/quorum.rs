//! Three controllers on loopback, as their nodes see them: one decides, the others say who, and a watcher misses nothing when it goes.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thalweg_controller::{Controller, ControllerOptions, Handle, Voter};
use thalweg_env::{OsRandom, fs::RealFs};
use thalweg_metadata_feed::{Change, Feed, FeedOptions, controllers};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_client::ControllerClient;
use thalweg_proto::internal::metadata::v1 as metadata;
use thalweg_rpc::{Error, LeaderChannel, Routes, Server, ServerHandle, ServerOptions};
use thalweg_types::{ErrorCode, LogIndex, NodeId, Outcome};

/// Far more than anything takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than a busy machine keeps a heartbeat waiting.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// After so long a stream is opened and let go of once more: a controller that took over meanwhile knows nothing of the last one.
const AGAIN: Duration = Duration::from_secs(15);

/// One controller that runs.
struct Member {
    handle: Handle,
    server: ServerHandle,
}

struct Cluster {
    dir: tempfile::TempDir,
    voters: Vec<Voter>,
    members: BTreeMap<u64, Member>,
    session_timeout: Duration,
}

impl Cluster {
    /// Three addresses that are free, and one more for a voter that comes later.
    fn new() -> Self {
        let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let voter = |(listener, node_id): (&TcpListener, u64)| Voter {
            node_id,
            endpoint: listener.local_addr().unwrap().to_string(),
        };
        let voters = listeners.iter().zip(1..).map(voter).collect();
        Self {
            dir: tempfile::tempdir().unwrap(),
            voters,
            members: BTreeMap::new(),
            session_timeout: Duration::from_secs(9),
        }
    }

    fn endpoint(&self, id: u64) -> String {
        let voter = self.voters.iter().find(|voter| voter.node_id == id);
        voter.unwrap().endpoint.clone()
    }

    async fn start(&mut self, id: u64) {
        let dir = self.dir.path().join(id.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let member = self.try_start(id, &dir).await;
        self.members.insert(id, member);
    }

    async fn try_start(&self, id: u64, dir: &Path) -> Member {
        let node_id = NodeId(i32::try_from(id).unwrap());
        let mut options = ControllerOptions::new(dir, Arc::new(RealFs), Arc::new(OsRandom)).one_of(
            node_id,
            self.endpoint(id),
            self.voters[..3].to_vec(),
        );
        options.session_timeout = self.session_timeout;
        options.return_timeout = RETURN_TIMEOUT.min(self.session_timeout);
        let handle = Controller::start(options).await.unwrap();
        let routes = Routes::new().with(handle.service()).with(handle.peer_service());
        let options = ServerOptions {
            drain_time_max: Duration::from_millis(200),
            ..ServerOptions::default()
        };
        let address = self.endpoint(id).parse().unwrap();
        let server = Server::new(options).serve(address, routes).unwrap();
        Member { handle, server }
    }

    /// Three that have found each other.
    async fn formed(session_timeout: Duration) -> Self {
        let mut cluster = Self { session_timeout, ..Self::new() };
        for id in 1..=3 {
            cluster.start(id).await;
        }
        cluster.join().await;
        cluster
    }

    async fn join(&self) {
        for member in self.members.values() {
            within(member.handle.join()).await.unwrap();
        }
    }

    fn channel(&self) -> LeaderChannel {
        controllers(self.voters[..3].iter().map(|voter| voter.endpoint.clone()).collect()).unwrap()
    }

    async fn active(&self) -> u64 {
        let waiting = tokio::time::Instant::now();
        loop {
            let active = self.members.iter().filter(|(_, member)| member.handle.is_active());
            if let Some((id, _)) = active.max_by_key(|(id, _)| **id) {
                return *id;
            }
            assert!(waiting.elapsed() < PATIENCE, "no controller is active");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nobody is told, and nothing is finished.
    async fn kill(&mut self, id: u64) {
        let Member { handle, server } = self.members.remove(&id).unwrap();
        drop(server);
        drop(handle);
    }

    async fn stop(self) {
        for Member { handle, server } in self.members.into_values() {
            handle.shutdown().await;
            server.shutdown().await;
        }
    }
}

async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes far less than this")
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

fn heartbeat(node: &proto::RegisterNodeResponse) -> proto::HeartbeatRequest {
    proto::HeartbeatRequest {
        node_id: node.node_id,
        broker_epoch: node.broker_epoch,
        applied_index: u64::try_from(node.broker_epoch).unwrap(),
        ..Default::default()
    }
}

fn topic(name: String) -> proto::CreateTopicsRequest {
    let topic =
        proto::NewTopic { name, partition_count: 1, replication_factor: 1, ..Default::default() };
    proto::CreateTopicsRequest { topics: vec![topic], validate_only: false }
}

/// Creates a topic, whatever becomes of the first tries. Returns the index at which it is there.
async fn create(client: &mut ControllerClient<LeaderChannel>, name: &str) -> u64 {
    let waiting = tokio::time::Instant::now();
    loop {
        let error = match client.create_topics(topic(name.to_owned())).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                match answer.topics[0].error.clone().map(Error::from_detail) {
                    // A try whose outcome was unknown had created it.
                    None => return answer.index,
                    Some(error) if error.code == ErrorCode::TopicAlreadyExists => {
                        return answer.index;
                    }
                    Some(error) => error,
                }
            }
            Err(status) => Error::from(status),
        };
        assert!(waiting.elapsed() < PATIENCE, "{name} was not created: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_watchers_go_on_when_the_active_controller_dies() {
    let mut cluster = Cluster::formed(Duration::from_secs(9)).await;
    let channel = cluster.channel();
    let mut client = ControllerClient::new(channel.clone());
    let feed = Feed::start(channel, FeedOptions::default());
    let mut changes = feed.subscribe();
    let registered = within(client.register_node(node(1))).await.unwrap().into_inner();
    within(client.heartbeat(heartbeat(&registered))).await.unwrap();
    let cluster_id = cluster.members[&1].handle.cluster_id();

    let mut names = Vec::new();
    let mut newest = 0;
    for round in 0..3 {
        for number in 0..5 {
            let name = format!("topic-{round}-{number}");
            newest = newest.max(create(&mut client, &name).await);
            names.push(name);
        }
        if round < 2 {
            let active = cluster.active().await;
            cluster.kill(active).await;
            let name = format!("topic-{round}-after");
            let began = tokio::time::Instant::now();
            newest = newest.max(create(&mut client, &name).await);
            println!("round {round}: the next call was answered after {:?}", began.elapsed());
            names.push(name);
            // A killed process is gone for good only when its files are closed.
            tokio::time::sleep(Duration::from_millis(500)).await;
            cluster.restart(active).await;
        }
    }

    let image = within(feed.wait_for(LogIndex(newest))).await.unwrap();
    for name in &names {
        assert!(image.topic(name).is_some(), "{name} is lost");
    }
    assert_eq!(image.topics().count(), names.len());
    assert_eq!(image.cluster_id(), Some(cluster_id), "there is one cluster");
    // The watcher saw one entry after the other; what it was perhaps given as a whole between two of them was not older.
    let mut seen = LogIndex::ZERO;
    let mut created = 0;
    while seen < image.position().index || seen == LogIndex::ZERO {
        match within(changes.next()).await.unwrap() {
            Change::Replaced { image, .. } => {
                assert!(image.position().index >= seen, "the watcher went back from {seen}");
                seen = image.position().index;
                created = image.topics().count();
            }
            Change::Applied { image, records, .. } => {
                assert!(image.position().index > seen);
                seen = image.position().index;
                let is_topic = |record: &&_| {
                    matches!(record, thalweg_metadata_core::Record::TopicCreated { .. })
                };
                created += records.iter().filter(is_topic).count();
            }
        }
    }
    assert_eq!(created, names.len(), "a change passed the watcher by");
    drop(feed);
    cluster.stop().await;
}

impl Cluster {
    /// As soon as the last life has let go of the disk and the address.
    async fn restart(&mut self, id: u64) {
        let waiting = tokio::time::Instant::now();
        let dir = self.dir.path().join(id.to_string());
        let lock_is_free = || {
            let fs: Arc<dyn thalweg_env::fs::Fs> = Arc::new(RealFs);
            fs.lock_dir(&dir).is_ok()
        };
        while !lock_is_free() || TcpListener::bind(self.endpoint(id)).is_err() {
            assert!(waiting.elapsed() < PATIENCE, "the last life of {id} does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.start(id).await;
        within(self.members[&id].handle.join()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_active_controller_decides_and_the_others_say_who_it_is() {
    let cluster = Cluster::formed(Duration::from_secs(9)).await;
    let active = cluster.active().await;
    let other = (1..=3).find(|id| *id != active).unwrap();
    let direct = thalweg_rpc::channel(&cluster.endpoint(other)).unwrap();
    let mut direct = ControllerClient::new(direct);

    let refused = Error::from(direct.register_node(node(1)).await.unwrap_err());
    assert_eq!((refused.code, refused.outcome), (ErrorCode::NotController, Outcome::NotApplied));
    if cluster.active().await == active {
        let hint = refused.leader.unwrap();
        assert_eq!(hint.endpoint, Some(cluster.endpoint(active)));
    }
    let refused = direct.remove_voter(proto::RemoveVoterRequest { node_id: active }).await;
    assert_eq!(Error::from(refused.unwrap_err()).code, ErrorCode::NotController);

    // Everybody may watch a follower, and ask it about the quorum.
    let mut client = ControllerClient::new(cluster.channel());
    let registered = within(client.register_node(node(1))).await.unwrap().into_inner();
    let follower = thalweg_rpc::channel(&cluster.endpoint(other)).unwrap();
    let feed = Feed::start(follower, FeedOptions::default());
    let applied = LogIndex(u64::try_from(registered.broker_epoch).unwrap());
    let image = within(feed.wait_for(applied)).await.unwrap();
    assert!(image.node(NodeId(registered.node_id)).is_some());
    let quorum =
        direct.describe_quorum(proto::DescribeQuorumRequest {}).await.unwrap().into_inner();
    assert_eq!((quorum.answering_id, quorum.members.len()), (other, 3));
    assert!(quorum.members.iter().all(|member| member.voter && member.dir_id.len() == 16));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_comes_and_another_goes() {
    let mut cluster = Cluster::formed(Duration::from_secs(9)).await;
    let mut client = ControllerClient::new(cluster.channel());
    cluster.start(4).await;
    let add = proto::AddVoterRequest { node_id: 4, endpoint: cluster.endpoint(4) };
    within(client.add_voter(add.clone())).await.unwrap();
    within(cluster.members[&4].handle.join()).await.unwrap();
    let again = Error::from(client.add_voter(add).await.unwrap_err());
    assert_eq!((again.code, again.outcome), (ErrorCode::DuplicateVoter, Outcome::NotApplied));
    let unknown = client.remove_voter(proto::RemoveVoterRequest { node_id: 9 }).await;
    assert_eq!(Error::from(unknown.unwrap_err()).code, ErrorCode::VoterNotFound);
    within(client.remove_voter(proto::RemoveVoterRequest { node_id: 1 })).await.unwrap();
    let quorum = within(client.describe_quorum(proto::DescribeQuorumRequest {})).await.unwrap();
    let ids: Vec<_> = quorum.into_inner().members.into_iter().map(|it| it.node_id).collect();
    // The removed one may be the one that answered, and not know yet.
    assert!(ids == [2, 3, 4] || ids == [1, 2, 3, 4], "{ids:?}");
    cluster.kill(1).await;
    create_node(&mut client).await;
    // Whoever decides now remembers the id.
    let back = proto::AddVoterRequest { node_id: 1, endpoint: cluster.endpoint(1) };
    let waiting = tokio::time::Instant::now();
    loop {
        let refused = Error::from(client.add_voter(back.clone()).await.unwrap_err());
        if refused.code == ErrorCode::InvalidVoterKey {
            assert!(refused.message.contains("not used again"), "{}", refused.message);
            break;
        }
        assert!(refused.retriable && waiting.elapsed() < PATIENCE, "{refused}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.stop().await;
}

async fn create_node(client: &mut ControllerClient<LeaderChannel>) {
    let waiting = tokio::time::Instant::now();
    while let Err(error) = client.register_node(node(1)).await {
        assert!(waiting.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_fenced_and_a_beating_one_is_not() {
    let cluster = Cluster::formed(Duration::from_secs(2)).await;
    let mut client = ControllerClient::new(cluster.channel());
    let silent = within(client.register_node(node(1))).await.unwrap().into_inner();
    let beating = within(client.register_node(node(2))).await.unwrap().into_inner();
    within(client.heartbeat(heartbeat(&silent))).await.unwrap();
    let feed = Feed::start(cluster.channel(), FeedOptions::default());
    let is_fenced = |node: &proto::RegisterNodeResponse| {
        feed.image().node(NodeId(node.node_id)).is_none_or(|node| node.fenced)
    };
    let waiting = tokio::time::Instant::now();
    let mut was_live = false;
    loop {
        within(client.heartbeat(heartbeat(&beating))).await.unwrap();
        was_live |= !is_fenced(&silent);
        if was_live && is_fenced(&silent) {
            break;
        }
        assert!(waiting.elapsed() < PATIENCE, "a silent broker goes on for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A sign of life brings it back.
    let answer = within(client.heartbeat(heartbeat(&silent))).await.unwrap().into_inner();
    assert!(!answer.fenced);
    let stale = proto::HeartbeatRequest { broker_epoch: 1, ..heartbeat(&silent) };
    let refused = Error::from(client.heartbeat(stale).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch);
    drop(feed);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_has_lost_the_quorum_sends_its_watchers_away() {
    let mut cluster = Cluster::formed(Duration::from_secs(9)).await;
    let active = cluster.active().await;
    let others: Vec<_> = (1..=3).filter(|id| *id != active).collect();
    let channel = thalweg_rpc::channel(&cluster.endpoint(others[0])).unwrap();
    let mut client = ControllerClient::new(channel);
    let request = proto::WatchMetadataRequest::default();
    let watching = within(client.watch_metadata(request)).await.unwrap();
    let mut stream = watching.into_inner();
    within(stream.message()).await.unwrap();

    cluster.kill(active).await;
    cluster.kill(others[1]).await;
    let ended = within(async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it must say why"),
                Err(status) => return Error::from(status),
            }
        }
    });
    assert_eq!(ended.await.code, ErrorCode::NotController);
    let refused = Error::from(within(client.watch_metadata(request)).await.unwrap_err());
    assert_eq!((refused.code, refused.outcome), (ErrorCode::NotController, Outcome::NotApplied));

    // With a majority it serves again.
    cluster.start(active).await;
    let waiting = tokio::time::Instant::now();
    while let Err(status) = client.watch_metadata(request).await {
        assert!(waiting.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.stop().await;
}

fn hold(node: &proto::RegisterNodeResponse) -> proto::HoldSessionRequest {
    proto::HoldSessionRequest { node_id: node.node_id, broker_epoch: node.broker_epoch }
}

/// The session's own timeout is longer than anybody waits here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lets_go_of_its_session_is_fenced_soon_unless_it_is_heard_of() {
    let cluster = Cluster::formed(PATIENCE * 10).await;
    let mut client = ControllerClient::new(cluster.channel());
    let dying = within(client.register_node(node(1))).await.unwrap().into_inner();
    let alive = within(client.register_node(node(2))).await.unwrap().into_inner();
    within(client.heartbeat(heartbeat(&dying))).await.unwrap();
    within(client.heartbeat(heartbeat(&alive))).await.unwrap();
    let stale = proto::HoldSessionRequest { broker_epoch: 1, ..hold(&alive) };
    let refused = Error::from(within(client.hold_session(stale)).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch);

    let feed = Feed::start(cluster.channel(), FeedOptions::default());
    let is_fenced = |node: &proto::RegisterNodeResponse| {
        feed.image().node(NodeId(node.node_id)).is_none_or(|node| node.fenced)
    };
    let waiting = tokio::time::Instant::now();
    while is_fenced(&dying) || is_fenced(&alive) {
        assert!(waiting.elapsed() < PATIENCE, "the metadata says something else");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for lost in [&alive, &dying] {
        let stream = within(client.hold_session(hold(lost))).await.unwrap();
        drop(stream);
    }
    let mut let_go_at = tokio::time::Instant::now();
    while !is_fenced(&dying) {
        if let_go_at.elapsed() >= AGAIN {
            drop(within(client.hold_session(hold(&dying))).await);
            let_go_at = tokio::time::Instant::now();
        }
        within(client.heartbeat(heartbeat(&alive))).await.unwrap();
        assert!(waiting.elapsed() < PATIENCE, "nobody misses the one that let go");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!is_fenced(&alive), "it was heard of all the time");
    drop(feed);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_held_with_the_next_active_controller_when_one_dies() {
    let mut cluster = Cluster::formed(PATIENCE * 10).await;
    let mut client = ControllerClient::new(cluster.channel());
    let node = within(client.register_node(node(1))).await.unwrap().into_inner();
    within(client.heartbeat(heartbeat(&node))).await.unwrap();
    let mut held = within(client.hold_session(hold(&node))).await.unwrap().into_inner();
    let active = cluster.active().await;
    cluster.kill(active).await;
    let ended = within(held.message()).await;
    assert!(!matches!(ended, Ok(Some(_))), "it ends with the controller");

    let waiting = tokio::time::Instant::now();
    let held = loop {
        match within(client.hold_session(hold(&node))).await {
            Ok(held) => break held,
            Err(error) => assert!(waiting.elapsed() < PATIENCE, "{error}"),
        }
    };
    let feed = Feed::start(cluster.channel(), FeedOptions::default());
    let is_fenced = || feed.image().node(NodeId(node.node_id)).is_none_or(|node| node.fenced);
    while is_fenced() {
        assert!(waiting.elapsed() < 2 * PATIENCE, "it is blamed for the controller's death");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(held);
    let mut let_go_at = tokio::time::Instant::now();
    while !is_fenced() {
        if let_go_at.elapsed() >= AGAIN {
            drop(within(client.hold_session(hold(&node))).await);
            let_go_at = tokio::time::Instant::now();
        }
        assert!(waiting.elapsed() < 2 * PATIENCE, "the next controller does not see the end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(feed);
    cluster.stop().await;
}
