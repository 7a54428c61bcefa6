//! The gateway behind its Kafka listener: a client that knows gateways only can do everything a client of the brokers can.
//!
//! ```text
//!  Produce, Fetch, ListOffsets, ... ──► RoutedBrokers ──────► the leaders
//!  JoinGroup, OffsetCommit, ...     ──► CoordinatorPort ────► the group's coordinator
//!  Metadata, CreateTopics, ...      ──► kafka_cluster ──────► image and controller; the nodes shown are gateways
//! ```
//!
//! Batches pass as they are, in both directions. Changes of leader are hidden as long as the outcome is known; when it is not, the client is
//! told what a Kafka broker would tell it, and does what it does with Kafka. Nothing a client sends is bound to this gateway: another
//! one goes on where this one ended, but for fetch sessions, which clients begin anew.

mod fetch;
mod groups;
mod member;
mod offsets;
mod produce;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use thalweg_controller_client::{ControllerClient, Standing};
use thalweg_env::{Clock, Random};
use thalweg_kafka::fetch::{BYTES_MAX, FetchMemory, Sessions};
use thalweg_kafka::{ApiKey, ApiTable, Backend, Features, Reply, Request, RequestContext};
use thalweg_kafka_cluster as kafka_cluster;
use thalweg_metadata_feed::Feed;
use thalweg_types::NodeId;
use tokio::sync::watch;

use crate::port::CoordinatorPort;
use crate::routed::RoutedBrokers;

/// The calls that go to the leaders of partitions, each in every version the protocol crate knows.
const APIS: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::ApiVersions,
    ApiKey::DeleteRecords,
    ApiKey::OffsetForLeaderEpoch,
];

/// What this listener allows itself and its clients.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Whether asking for the metadata of a topic may create it.
    pub auto_create_topics: bool,
    /// Bound of one fetch answer.
    pub fetch_bytes_max: usize,
    /// Bytes of records in answers that consumers have not taken yet.
    pub fetch_memory_bytes_max: usize,
    /// Fetch sessions kept at a time.
    pub fetch_sessions_max: usize,
}

/// Where Kafka clients reach this gateway, as it has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// What the listener's backend is made of.
pub struct KafkaParts {
    pub brokers: Arc<RoutedBrokers>,
    pub coordinators: Arc<dyn CoordinatorPort>,
    /// The metadata this node follows.
    pub feed: Feed,
    pub controller: ControllerClient,
    /// Of this gateway's session, which gives it its number.
    pub standing: watch::Receiver<Standing>,
    pub advertised: Advertised,
    pub clock: Arc<dyn Clock>,
    /// For ids of fetch sessions.
    pub random: Arc<dyn Random>,
}

/// A gateway as the Kafka listener sees it.
pub struct KafkaBackend {
    parts: KafkaParts,
    options: KafkaOptions,
    apis: ApiTable,
    sessions: Sessions<fetch::Reading>,
    memory: FetchMemory,
    /// The number it had last: it is the same gateway to its clients while it registers anew.
    last_node_id: AtomicI32,
}

impl KafkaBackend {
    pub fn new(parts: KafkaParts, options: KafkaOptions) -> Self {
        let sessions =
            Sessions::new(options.fetch_sessions_max, BYTES_MAX, Arc::clone(&parts.random));
        let memory = FetchMemory::new(options.fetch_memory_bytes_max);
        let apis = ApiTable::of(&[APIS, groups::APIS, kafka_cluster::APIS].concat());
        let last_node_id = AtomicI32::new(NodeId::NONE.0);
        Self { parts, options, apis, sessions, memory, last_node_id }
    }

    fn node_id(&self) -> NodeId {
        if let Standing::Held(registered) = &*self.parts.standing.borrow() {
            self.last_node_id.store(registered.node_id.0, Ordering::Relaxed);
        }
        NodeId(self.last_node_id.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for KafkaBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBackend").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Backend for KafkaBackend {
    fn apis(&self) -> &ApiTable {
        &self.apis
    }

    fn features(&self) -> Features {
        kafka_cluster::features(&self.parts.feed.image())
    }

    fn is_short_of_memory(&self) -> bool {
        self.memory.is_short()
    }

    async fn handle(self: &Arc<Self>, context: RequestContext, request: Request) -> Reply {
        let version = context.api_version;
        match request {
            Request::Produce(request) => produce::produce(self, version, request).await,
            Request::Fetch(request) => fetch::fetch(self, version, request).await.into(),
            Request::ListOffsets(request) => {
                offsets::list_offsets(self, version, request).await.into()
            }
            Request::OffsetForLeaderEpoch(request) => {
                offsets::offset_for_leader_epoch(self, request).await.into()
            }
            Request::DeleteRecords(request) => offsets::delete_records(self, request).await.into(),
            request if groups::APIS.contains(&context.api_key) => {
                groups::answer(self, &context, request).await
            }
            // The listener answers ApiVersions itself and passes on nothing that is not in the table.
            request => kafka_cluster::answer(&**self, version, request).await,
        }
    }
}
