//! A coordinator as a part of any process, and the Kafka backend of a process that is broker and coordinator at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use thalweg_broker as broker;
use thalweg_controller_client::{ControllerClient, NodeSession, SessionOptions};
use thalweg_coordinator::{
    Brokers, Coordinator, CoordinatorOptions, GROUP_APIS, KafkaBackend, Metrics, Parts,
};
use thalweg_gateway::port::{ClientRef, CoordinatorPort};
use thalweg_group_core::{Client, GroupConfig};
use thalweg_kafka::{
    ApiKey, ApiTable, Backend, Features, Reply, Request, RequestContext, Response,
};
use thalweg_metadata_core::{Endpoint, NodeRole};
use thalweg_metadata_feed::Feed;
use thalweg_rpc::Error;
use thalweg_settings::{Groups, Settings};
use thalweg_types::{DirId, IncarnationId, NodeId, Uuid};

use super::machine::Machine;

/// The node that a coordinator registers as.
pub(super) struct Node {
    /// The same in every life, or one for this life.
    pub(super) identity: DirId,
    pub(super) endpoints: Vec<Endpoint>,
}

/// Registers a node that coordinates, and serves what it is given.
pub(super) fn start(
    settings: &Settings,
    machine: &Machine,
    feed: &Feed,
    controller: &ControllerClient,
    brokers: Brokers,
    node: Node,
) -> (Arc<Coordinator>, Arc<NodeSession>) {
    let own = &settings.coordinator;
    let options = SessionOptions {
        role: NodeRole::Coordinator,
        identity: node.identity,
        incarnation: IncarnationId(Uuid::from_random_bits(machine.random.next_u128())),
        endpoints: node.endpoints,
        rack: Some(own.rack.clone()).filter(|rack| !rack.is_empty()),
        heartbeat_interval: Duration::from_millis(own.heartbeat_interval_ms),
        session_timeout: Duration::from_millis(own.session_timeout_ms),
        clock: Arc::clone(&machine.clock),
    };
    let session = NodeSession::start(controller.clone(), feed.clone(), options);
    let session = Arc::new(session);
    let coordinator = Coordinator::start(Parts {
        options: CoordinatorOptions {
            groups: group_config(&own.groups),
            auto_create_topics: own.auto_create_topics,
        },
        feed: feed.clone(),
        controller: controller.clone(),
        session: Arc::clone(&session),
        brokers,
        clock: Arc::clone(&machine.clock),
        random: Arc::clone(&machine.random),
    });
    let metrics = Metrics::new(&coordinator);
    machine.registry.register(|registry| registry.register_collector(Box::new(metrics)));
    (coordinator, session)
}

/// The identity of the coordinator beside a broker: the same as long as the broker's disk is, and no disk's.
pub(super) fn identity_beside(broker: DirId) -> DirId {
    let mut bytes = *broker.0.as_bytes();
    for byte in &mut bytes {
        *byte = !*byte;
    }
    DirId(Uuid::from_bytes(bytes))
}

fn group_config(groups: &Groups) -> GroupConfig {
    GroupConfig {
        group_members_max: groups.members_max,
        consumer_members_max: groups.members_max,
        initial_rebalance_delay_ms: groups.initial_rebalance_delay_ms,
        session_timeout_min_ms: groups.session_timeout_min_ms,
        session_timeout_max_ms: groups.session_timeout_max_ms,
        consumer_heartbeat_interval_ms: groups.consumer_heartbeat_interval_ms,
        consumer_session_timeout_ms: groups.consumer_session_timeout_ms,
        offsets_retention_ms: groups.offsets_retention_ms,
        offset_metadata_bytes_max: groups.offset_metadata_bytes_max,
        ..GroupConfig::default()
    }
}

/// One listener for both: what is about groups goes to the coordinator, everything else to the broker.
#[derive(Debug)]
pub(super) struct BothBackends {
    broker: Arc<broker::KafkaBackend>,
    coordinator: Arc<KafkaBackend>,
    apis: ApiTable,
}

impl BothBackends {
    pub(super) fn new(broker: broker::KafkaBackend, coordinator: KafkaBackend) -> Self {
        let ranges = broker.apis().ranges().iter().chain(coordinator.apis().ranges());
        let mut keys: Vec<ApiKey> = ranges.map(|range| range.key).collect();
        keys.sort_unstable();
        keys.dedup();
        Self {
            broker: Arc::new(broker),
            coordinator: Arc::new(coordinator),
            apis: ApiTable::of(&keys),
        }
    }
}

impl Backend for BothBackends {
    fn apis(&self) -> &ApiTable {
        &self.apis
    }

    fn features(&self) -> Features {
        self.broker.features()
    }

    fn is_short_of_memory(&self) -> bool {
        self.broker.is_short_of_memory()
    }

    async fn handle(self: &Arc<Self>, context: RequestContext, request: Request) -> Reply {
        if GROUP_APIS.contains(&context.api_key) {
            self.coordinator.handle(context, request).await
        } else {
            self.broker.handle(context, request).await
        }
    }
}

/// The coordinator of this process, as the gateway beside it sees it: it has all groups.
pub(super) struct LocalCoordinator(pub(super) Arc<Coordinator>);

impl LocalCoordinator {
    async fn answer(
        &self,
        client: ClientRef,
        request: Request,
        version: i16,
    ) -> Result<Response, Error> {
        let key = request.api_key();
        let client = Client { id: client.id.as_str().into(), host: client.host.as_str().into() };
        let answer = self.0.answer(&client, version, request).await;
        answer.ok_or_else(|| Error::invalid_request(format!("{key:?} is not about groups")))
    }
}

impl CoordinatorPort for LocalCoordinator {
    fn call(
        &self,
        group: &str,
        client: ClientRef,
        request: Request,
        version: i16,
    ) -> BoxFuture<'_, Result<Response, Error>> {
        let group = group.to_owned();
        Box::pin(async move {
            self.0.ready(&group).await;
            self.answer(client, request, version).await
        })
    }

    fn call_each(
        &self,
        client: ClientRef,
        request: Request,
        version: i16,
    ) -> BoxFuture<'_, Vec<(NodeId, Result<Response, Error>)>> {
        Box::pin(
            async move { vec![(self.0.node_id(), self.answer(client, request, version).await)] },
        )
    }
}
