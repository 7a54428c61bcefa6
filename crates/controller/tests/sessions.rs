//! Sessions of nodes that keep no data, with the real controller.

use std::sync::Arc;
use std::time::Duration;

use thalweg_controller::{Controller, ControllerOptions};
use thalweg_controller_client::{
    ControllerClient, NewTopic, NodeSession, SessionOptions, Standing,
};
use thalweg_env::{OsRandom, SystemClock, fs::RealFs};
use thalweg_metadata_core::{Endpoint, Image, NodeRole};
use thalweg_metadata_feed::{Feed, FeedOptions};
use thalweg_rpc::{Routes, ServerOptions, channel_in_memory};
use thalweg_types::{DirId, IncarnationId, NodeId, Uuid};

const PATIENCE: Duration = Duration::from_secs(30);
const SESSION_TIMEOUT: Duration = Duration::from_secs(3);

async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes far less than this")
}

/// The image, once it is as wanted.
async fn image(feed: &Feed, wanted: impl Fn(&Image) -> bool) -> Arc<Image> {
    within(async {
        loop {
            let image = feed.image();
            if wanted(&image) {
                return image;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

fn options(role: NodeRole, identity: u8, process: u8) -> SessionOptions {
    SessionOptions {
        role,
        identity: DirId(Uuid::from_bytes([identity; 16])),
        incarnation: IncarnationId(Uuid::from_bytes([process; 16])),
        endpoints: vec![Endpoint {
            listener: Endpoint::INTERNAL.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9095,
        }],
        rack: None,
        heartbeat_interval: Duration::from_millis(100),
        session_timeout: SESSION_TIMEOUT,
        clock: Arc::new(SystemClock::new()),
    }
}

fn share(image: &Image, node: NodeId) -> usize {
    image.coordinated_by(node).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_come_leave_die_and_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut controller = ControllerOptions::new(dir.path(), Arc::new(RealFs), Arc::new(OsRandom));
    controller.session_timeout = SESSION_TIMEOUT;
    let controller = Controller::start(controller).await.unwrap();
    let routes = Routes::new().with(controller.service());
    let (server, connector) =
        thalweg_rpc::Server::new(ServerOptions::default()).serve_in_memory(routes);
    let channel = channel_in_memory(connector);
    let feed = Feed::start(channel.clone(), FeedOptions::default());
    let client = ControllerClient::new(channel);
    let start = |options: SessionOptions| NodeSession::start(client.clone(), feed.clone(), options);

    // A session knows no difference between the roles; a broker is needed to hold the topic.
    let _broker = start(options(NodeRole::Broker, 1, 1));
    let first = start(options(NodeRole::Coordinator, 2, 2));
    let gateway = start(options(NodeRole::Gateway, 4, 4));
    let first_id = within(first.registered()).await.unwrap().node_id;
    image(&feed, |image| image.live_brokers().count() == 1).await;
    let topics = vec![NewTopic::with_defaults("__consumer_offsets")];
    let created = client.create_topics(topics, false).await.unwrap();
    assert!(created.items.iter().all(Result::is_ok), "{created:?}");
    image(&feed, |image| share(image, first_id) == 50).await;
    within(async {
        while first.lease_until().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let second = start(options(NodeRole::Coordinator, 3, 3));
    let second_id = within(second.registered()).await.unwrap().node_id;
    image(&feed, |image| share(image, second_id) == 25).await;

    // In order: what it has is given away first, then it is forgotten.
    within(second.leave()).await;
    assert_eq!(*second.standing().borrow(), Standing::Left);
    let left = image(&feed, |image| image.node(second_id).is_none()).await;
    assert_eq!(share(&left, first_id), 50);

    // As if its process had died: nobody is told.
    let second = start(options(NodeRole::Coordinator, 3, 4));
    image(&feed, |image| share(image, second_id) == 25).await;
    drop(second);
    image(&feed, |image| image.node(second_id).is_none() && share(image, first_id) == 50).await;

    // A gateway coordinates nothing, and is forgotten all the same.
    let gateway_id = within(gateway.registered()).await.unwrap().node_id;
    image(&feed, |image| image.is_live(gateway_id)).await;
    drop(gateway);
    image(&feed, |image| image.node(gateway_id).is_none()).await;
    drop((first, feed));
    controller.shutdown().await;
    server.shutdown().await;
}
