//! The hosts that call the controllers: a node that registers, lives and follows the metadata, and somebody who creates topics.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use thalweg_metadata_feed::{Feed, FeedOptions, controllers};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_client::ControllerClient;
use thalweg_proto::internal::metadata::v1 as metadata;
use thalweg_rpc::{Error, LeaderChannel};
use thalweg_types::{ErrorCode, Outcome};
use tokio::time::{Instant, sleep};

use crate::controllers::{Feeds, endpoints};
use crate::trace::Trace;

pub(crate) const NODE: &str = "node";

/// How long topics are created, and for how long after that one more must succeed.
pub(crate) const WORK_TIME: Duration = Duration::from_secs(30);
const LAST_TIME_MAX: Duration = Duration::from_secs(60);

/// What became of every topic that was asked for.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) created: Vec<String>,
    /// Refused for certain.
    pub(crate) refused: Vec<String>,
    pub(crate) unknown: Vec<String>,
    /// The metadata log index at which the last one was there.
    pub(crate) last_index: Option<u64>,
}

pub(crate) type Shared = Arc<Mutex<History>>;

fn client() -> turmoil::Result<ControllerClient<LeaderChannel>> {
    Ok(ControllerClient::new(controllers(endpoints())?))
}

/// Registers one broker, again when it is told to, and says that it is alive.
pub(crate) async fn live_as_node(feeds: Feeds, trace: Trace) -> turmoil::Result {
    let channel = controllers(endpoints())?;
    let feed = Feed::start(channel.clone(), FeedOptions::default());
    feeds.lock().insert(NODE.to_owned(), feed.clone());
    let mut client = ControllerClient::new(channel);
    let mut life = 0_u8;
    loop {
        life = life.wrapping_add(1);
        let Ok(registered) = client.register_node(registration(life)).await else {
            sleep(Duration::from_millis(300)).await;
            continue;
        };
        let registered = registered.into_inner();
        trace.note(format_args!("{NODE} is registered with epoch {}", registered.broker_epoch));
        while beat(&mut client, &registered, &feed, &trace).await {
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Says whether the session goes on.
async fn beat(
    client: &mut ControllerClient<LeaderChannel>,
    registered: &proto::RegisterNodeResponse,
    feed: &Feed,
    trace: &Trace,
) -> bool {
    let request = proto::HeartbeatRequest {
        node_id: registered.node_id,
        broker_epoch: registered.broker_epoch,
        applied_index: feed.image().position().index.0,
        ..Default::default()
    };
    match client.heartbeat(request).await {
        Ok(_) => true,
        Err(status) => {
            let error = Error::from(status);
            trace.note(format_args!("{NODE} is not heard: {:?}", error.code));
            !matches!(error.code, ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered)
        }
    }
}

fn registration(life: u8) -> proto::RegisterNodeRequest {
    proto::RegisterNodeRequest {
        role: metadata::NodeRole::Broker.into(),
        dir_id: Bytes::from(vec![1; 16]),
        incarnation: Bytes::from(vec![life.max(1); 16]),
        endpoints: vec![metadata::Endpoint {
            listener: "internal".to_owned(),
            host: NODE.to_owned(),
            port: 9092,
        }],
        ..Default::default()
    }
}

/// Creates topics for as long as faults go on, and one more after that.
pub(crate) async fn create_topics(history: Shared, trace: Trace) -> turmoil::Result {
    let mut client = client()?;
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < WORK_TIME {
        number += 1;
        create(&mut client, format!("topic-{number}"), &history, &trace).await;
        sleep(Duration::from_millis(200)).await;
    }
    let healed = Instant::now();
    while healed.elapsed() < LAST_TIME_MAX {
        number += 1;
        let name = format!("last-{number}");
        if let Some(index) = create(&mut client, name, &history, &trace).await {
            history.lock().last_index = Some(index);
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Its index, if it was created.
async fn create(
    client: &mut ControllerClient<LeaderChannel>,
    name: String,
    history: &Shared,
    trace: &Trace,
) -> Option<u64> {
    let topic = proto::NewTopic {
        name: name.clone(),
        partition_count: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = proto::CreateTopicsRequest { topics: vec![topic], validate_only: false };
    let answer = client.create_topics(request).await;
    let (index, error) = match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            let error = answer.topics.into_iter().find_map(|topic| topic.error);
            (Some(answer.index), error.map(Error::from_detail))
        }
        Err(status) => (None, Some(Error::from(status))),
    };
    let mut history = history.lock();
    match error {
        None => {
            trace.note(format_args!("{name} is created at {index:?}"));
            history.created.push(name);
            index
        }
        Some(error) => {
            trace.note(format_args!("{name}: {:?}, {:?}", error.code, error.outcome));
            match error.outcome {
                Outcome::NotApplied => history.refused.push(name),
                _ => history.unknown.push(name),
            }
            None
        }
    }
}
