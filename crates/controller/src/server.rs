//! The gRPC face: translate, call, translate.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hold;
mod peers;
mod quorum;
mod replicas;
mod translate;
mod unclean;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use thalweg_env::Random;
use thalweg_metadata_core::{Decision, Error as Refusal, Heartbeat, Image, Policy};
use thalweg_metadata_feed::Feed;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_server::Controller;
use thalweg_raft::{ChangeError, Leadership, Quorum};
use thalweg_rpc::Error as RpcError;
use thalweg_rpc::LeaderHint;
use thalweg_types::{
    BrokerEpoch, ErrorCode, LeaderEpoch, LogIndex, NodeId, PartitionIndex, TopicId, TopicName,
    TopicPartition, Uuid,
};
use tokio::sync::watch as stop;
use tonic::{Request, Response, Status};

use crate::error::CallError;
use crate::machine::State;
use crate::task::Calls;
use translate::ToDetail as _;

/// Kafka's name for the quorum's log, in hints about who leads it.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Implements `thalweg.internal.controller.v1.Controller`, and `thalweg.internal.raft.v1.Raft` for the other voters. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    calls: Calls,
    quorum: Arc<Quorum>,
    state: State,
    random: Arc<dyn Random>,
    policy: Arc<Policy>,
    /// Brokers that said with their last heartbeat that their disk is full. Kept in memory: a broker says it again every few seconds.
    full: Arc<Mutex<BTreeSet<NodeId>>>,
    /// Sessions whose nodes were asked to stop. Kept in memory: who asks does so until the node is gone.
    stop_requests: Arc<Mutex<BTreeMap<NodeId, BrokerEpoch>>>,
    /// Numbers the streams that hold sessions.
    holds: Arc<AtomicU64>,
    /// Whether what this controller knows can be taken for current.
    in_touch: stop::Receiver<bool>,
    /// Says when the watchers' streams must end.
    stop: stop::Receiver<bool>,
}

impl Server {
    pub(crate) fn new(
        calls: Calls,
        quorum: Arc<Quorum>,
        state: State,
        random: Arc<dyn Random>,
        policy: Arc<Policy>,
        in_touch: stop::Receiver<bool>,
        stop: stop::Receiver<bool>,
    ) -> Self {
        Self {
            calls,
            quorum,
            state,
            random,
            policy,
            full: Arc::default(),
            stop_requests: Arc::default(),
            holds: Arc::default(),
            in_touch,
            stop,
        }
    }

    pub(crate) fn feed(&self) -> Feed {
        self.state.feed.clone()
    }

    /// Refuses what needs a new partition folder when no live broker has room for one.
    fn check_room(&self) -> Result<(), Status> {
        let image = self.state.feed.image();
        let full = self.full.lock();
        let mut live = image.live_brokers().peekable();
        if live.peek().is_some() && live.all(|node| full.contains(&node.id)) {
            return Err(self.status(CallError::NoRoom));
        }
        Ok(())
    }

    fn status(&self, error: CallError) -> Status {
        self.with_hint(RpcError::from(error))
    }

    /// Says where the active controller is, to those who should have asked there.
    fn with_hint(&self, error: RpcError) -> Status {
        let leader = match *self.quorum.leadership().borrow() {
            Leadership::Following { leader } if error.code == ErrorCode::NotController => leader,
            _ => return error.into(),
        };
        let Ok(topic) = TopicName::new(METADATA_TOPIC) else { return error.into() };
        let hint = LeaderHint {
            partition: TopicPartition { topic, partition: PartitionIndex(0) },
            node_id: leader,
            leader_epoch: LeaderEpoch::NONE,
            endpoint: self.quorum.endpoint_of(leader),
        };
        error.with_leader(hint).into()
    }

    /// Whether the node's present session was asked to stop.
    fn is_asked_to_stop(&self, node_id: NodeId, broker_epoch: BrokerEpoch) -> bool {
        let mut requests = self.stop_requests.lock();
        let is_asked = requests.get(&node_id) == Some(&broker_epoch);
        if !is_asked {
            requests.remove(&node_id);
        }
        is_asked
    }

    /// Whether the controller is a voter, or follows to become one.
    fn is_member(&self, voter_id: u64) -> bool {
        self.quorum.describe().members.iter().any(|known| known.member.node_id == voter_id)
    }

    fn new_topic_id(&self) -> TopicId {
        TopicId(Uuid::from_random_bits(self.random.next_u128()))
    }
}

#[tonic::async_trait]
impl Controller for Server {
    async fn register_node(
        &self,
        request: Request<proto::RegisterNodeRequest>,
    ) -> Result<Response<proto::RegisterNodeResponse>, Status> {
        let request = translate::register_node(request.into_inner())?;
        let decided = self.calls.decide_in_session(move |image, sessions, now| {
            sessions.check_registration(image, &request, now)?;
            let decision = image.decide_register_node(&request)?;
            sessions.expect(image, &request, now);
            let response = (decision.response, image.predecessor(&request));
            Ok(Decision { records: decision.records, response })
        });
        let decided = decided.await;
        let (index, (registered, predecessor)) = decided.map_err(|error| self.status(error))?;
        tracing::info!(node_id = %registered.node_id, broker_epoch = %index, "node registered");
        if let Some(predecessor) = predecessor {
            tracing::warn!(
                node_id = %registered.node_id, %predecessor,
                "a new disk came to the address of a node that is not live: if that node's disk is lost, move its replicas away and unregister \
                 it; if the wrong disk is mounted, stop this node and mount the right one"
            );
        }
        Ok(Response::new(translate::registered(index, registered)))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let (node_id, is_full) = (NodeId(request.node_id), request.disk_full);
        let broker_epoch = BrokerEpoch(request.broker_epoch);
        let heartbeat = translate::heartbeat(&request);
        let decided = self.calls.decide_in_session(move |image, sessions, now| {
            let others_applied = sessions.others_applied(image, heartbeat.node_id);
            let heartbeat = Heartbeat { others_applied, ..heartbeat };
            let decision = image.decide_heartbeat(&heartbeat)?;
            sessions.heard(heartbeat.node_id, heartbeat.broker_epoch, heartbeat.applied, now);
            Ok(decision)
        });
        let decided = decided.await;
        let (index, answer) = decided.map_err(|error| self.status(error))?;
        // Only of a broker that is who it says: the decision has checked its epoch.
        if is_full {
            self.full.lock().insert(node_id);
        } else {
            self.full.lock().remove(&node_id);
        }
        Ok(Response::new(proto::HeartbeatResponse {
            fenced: answer.fenced,
            may_shut_down: answer.may_shut_down,
            index: index.0,
            shutdown_requested: self.is_asked_to_stop(node_id, broker_epoch),
        }))
    }

    type HoldSessionStream = hold::Hold;

    async fn hold_session(
        &self,
        request: Request<proto::HoldSessionRequest>,
    ) -> Result<Response<hold::Hold>, Status> {
        hold::start(self, &request.into_inner()).await.map(Response::new)
    }

    async fn request_shutdown(
        &self,
        request: Request<proto::RequestShutdownRequest>,
    ) -> Result<Response<proto::RequestShutdownResponse>, Status> {
        let node_id = NodeId(request.into_inner().node_id);
        let session = move |image: &Image| {
            let node = image.node(node_id).ok_or(Refusal::UnknownNode(node_id))?;
            Ok(Decision { records: Vec::new(), response: node.broker_epoch })
        };
        let decided = self.calls.decide(session).await;
        let (_, broker_epoch) = decided.map_err(|error| self.status(error))?;
        self.stop_requests.lock().insert(node_id, broker_epoch);
        tracing::info!(%node_id, "the node is asked to stop");
        Ok(Response::new(proto::RequestShutdownResponse { broker_epoch: broker_epoch.0 }))
    }

    async fn unregister_node(
        &self,
        request: Request<proto::UnregisterNodeRequest>,
    ) -> Result<Response<proto::UnregisterNodeResponse>, Status> {
        let node_id = NodeId(request.into_inner().node_id);
        let decided = self.calls.decide(move |image| image.decide_unregister_node(node_id)).await;
        let (index, ()) = decided.map_err(|error| self.status(error))?;
        tracing::info!(%node_id, "node unregistered");
        Ok(Response::new(proto::UnregisterNodeResponse { index: index.0 }))
    }

    type WatchMetadataStream = watch::Watch;

    async fn watch_metadata(
        &self,
        request: Request<proto::WatchMetadataRequest>,
    ) -> Result<Response<watch::Watch>, Status> {
        let applied = request.into_inner().applied.unwrap_or_default();
        let from = LogIndex(applied.index);
        if self.state.history.lock().is_behind(from) {
            // Another controller may have it.
            return Err(self.with_hint(watch::ahead(from)));
        }
        if !*self.in_touch.borrow() {
            return Err(watch::alone().into());
        }
        let until = (self.in_touch.clone(), self.stop.clone());
        Ok(Response::new(watch::start(self.state.clone(), from, until)))
    }

    async fn create_topics(
        &self,
        request: Request<proto::CreateTopicsRequest>,
    ) -> Result<Response<proto::CreateTopicsResponse>, Status> {
        self.check_room()?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let topics = translate::new_topics(request.topics, || self.new_topic_id())?;
        let (seed, policy) = (self.random.next_u64(), Arc::clone(&self.policy));
        let decided = self
            .calls
            .decide(move |image| {
                Ok(image.decide_create_topics(&topics, validate_only, seed, &policy))
            })
            .await;
        let (index, results) = decided.map_err(|error| self.status(error))?;
        let topics = names.into_iter().zip(results).map(translate::created).collect();
        Ok(Response::new(proto::CreateTopicsResponse { topics, index: index.0 }))
    }

    async fn delete_topics(
        &self,
        request: Request<proto::DeleteTopicsRequest>,
    ) -> Result<Response<proto::DeleteTopicsResponse>, Status> {
        let asked = translate::topic_references(request.into_inner().topics)?;
        let (topics, policy) = (asked.clone(), Arc::clone(&self.policy));
        let decided =
            self.calls.decide(move |image| Ok(image.decide_delete_topics(&topics, &policy))).await;
        let (index, results) = decided.map_err(|error| self.status(error))?;
        let topics = asked.into_iter().zip(results).map(translate::deleted).collect();
        Ok(Response::new(proto::DeleteTopicsResponse { topics, index: index.0 }))
    }

    async fn create_partitions(
        &self,
        request: Request<proto::CreatePartitionsRequest>,
    ) -> Result<Response<proto::CreatePartitionsResponse>, Status> {
        self.check_room()?;
        let request = translate::create_partitions(request.into_inner());
        let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let (seed, policy) = (self.random.next_u64(), Arc::clone(&self.policy));
        let decided = self
            .calls
            .decide(move |image| Ok(image.decide_create_partitions(&request, seed, &policy)))
            .await;
        let (index, results) = decided.map_err(|error| self.status(error))?;
        let topics = names
            .into_iter()
            .zip(results)
            .map(|(name, result)| proto::GrownTopic { name, error: result.err().to_detail() })
            .collect();
        Ok(Response::new(proto::CreatePartitionsResponse { topics, index: index.0 }))
    }

    async fn alter_partitions(
        &self,
        request: Request<proto::AlterPartitionsRequest>,
    ) -> Result<Response<proto::AlterPartitionsResponse>, Status> {
        replicas::alter_partitions(self, request.into_inner()).await.map(Response::new)
    }

    async fn report_unfit_replicas(
        &self,
        request: Request<proto::ReportUnfitReplicasRequest>,
    ) -> Result<Response<proto::ReportUnfitReplicasResponse>, Status> {
        replicas::report_unfit(self, request.into_inner()).await.map(Response::new)
    }

    async fn reassign(
        &self,
        request: Request<proto::ReassignRequest>,
    ) -> Result<Response<proto::ReassignResponse>, Status> {
        replicas::reassign(self, request.into_inner()).await.map(Response::new)
    }

    async fn plan_moves(
        &self,
        request: Request<proto::PlanMovesRequest>,
    ) -> Result<Response<proto::PlanMovesResponse>, Status> {
        replicas::plan_moves(self, request.into_inner()).await.map(Response::new)
    }

    async fn elect_preferred_leaders(
        &self,
        request: Request<proto::ElectPreferredLeadersRequest>,
    ) -> Result<Response<proto::ElectPreferredLeadersResponse>, Status> {
        replicas::elect_preferred(self, request.into_inner()).await.map(Response::new)
    }

    async fn elect_unclean_leaders(
        &self,
        request: Request<proto::ElectUncleanLeadersRequest>,
    ) -> Result<Response<proto::ElectUncleanLeadersResponse>, Status> {
        unclean::elect(self, request.into_inner()).await.map(Response::new)
    }

    async fn alter_configs(
        &self,
        request: Request<proto::AlterConfigsRequest>,
    ) -> Result<Response<proto::AlterConfigsResponse>, Status> {
        let request = translate::alter_configs(request.into_inner())?;
        let policy = Arc::clone(&self.policy);
        let decided =
            self.calls.decide(move |image| Ok(image.decide_alter_configs(&request, &policy))).await;
        let (index, results) = decided.map_err(|error| self.status(error))?;
        let resources = results
            .into_iter()
            .map(|result| proto::AlteredResource { error: result.err().to_detail() })
            .collect();
        Ok(Response::new(proto::AlterConfigsResponse { resources, index: index.0 }))
    }

    async fn update_features(
        &self,
        request: Request<proto::UpdateFeaturesRequest>,
    ) -> Result<Response<proto::UpdateFeaturesResponse>, Status> {
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let updates = translate::feature_updates(request.updates)?;
        let told = updates.clone();
        let decide = move |image: &Image| image.decide_update_features(&updates, validate_only);
        let decided = self.calls.decide(decide).await;
        let (index, ()) = decided.map_err(|error| self.status(error))?;
        if !validate_only {
            tracing::info!(updates = ?told, "the levels of features were set");
        }
        Ok(Response::new(proto::UpdateFeaturesResponse { index: index.0 }))
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<proto::AllocateProducerIdsRequest>,
    ) -> Result<Response<proto::AllocateProducerIdsResponse>, Status> {
        let request = request.into_inner();
        let (node_id, epoch) = (NodeId(request.node_id), BrokerEpoch(request.broker_epoch));
        let decided = self
            .calls
            .decide(move |image| image.decide_allocate_producer_ids(node_id, epoch))
            .await;
        let (_, block) = decided.map_err(|error| self.status(error))?;
        Ok(Response::new(proto::AllocateProducerIdsResponse {
            first_producer_id: block.first.0,
            count: block.count,
        }))
    }

    async fn describe_quorum(
        &self,
        _: Request<proto::DescribeQuorumRequest>,
    ) -> Result<Response<proto::DescribeQuorumResponse>, Status> {
        let state = self.quorum.describe();
        Ok(Response::new(quorum::described(self.quorum.own().node_id, state)))
    }

    async fn add_voter(
        &self,
        request: Request<proto::AddVoterRequest>,
    ) -> Result<Response<proto::AddVoterResponse>, Status> {
        let proto::AddVoterRequest { node_id, endpoint } = request.into_inner();
        if !self.is_member(node_id) {
            let is_free = move |image: &Image| {
                image.check_new_voter(node_id)?;
                Ok(Decision { records: Vec::new(), response: () })
            };
            self.calls.decide(is_free).await.map_err(|error| self.status(error))?;
        }
        let changing = self.quorum.clone();
        let added = in_full(async move { changing.add_voter(node_id, &endpoint).await }).await;
        added.map_err(|error| self.with_hint(quorum::refused(error)))?;
        tracing::info!(node_id, "a controller was made a voter");
        Ok(Response::new(proto::AddVoterResponse {}))
    }

    async fn remove_voter(
        &self,
        request: Request<proto::RemoveVoterRequest>,
    ) -> Result<Response<proto::RemoveVoterResponse>, Status> {
        let node_id = request.into_inner().node_id;
        if self.is_member(node_id) {
            // Remembered first: its id must not be free again because this controller dies in between.
            let retire = move |image: &Image| Ok(image.decide_retire_voter(node_id));
            self.calls.decide(retire).await.map_err(|error| self.status(error))?;
        }
        let changing = self.quorum.clone();
        let removed = in_full(async move { changing.remove_voter(node_id).await }).await;
        removed.map_err(|error| self.with_hint(quorum::refused(error)))?;
        tracing::info!(node_id, "a controller was removed from the quorum");
        Ok(Response::new(proto::RemoveVoterResponse {}))
    }

    async fn transfer_leadership(
        &self,
        request: Request<proto::TransferLeadershipRequest>,
    ) -> Result<Response<proto::TransferLeadershipResponse>, Status> {
        let target = request.into_inner().node_id;
        let transferred = self.quorum.transfer_leadership(target).await;
        transferred.map_err(|error| self.with_hint(quorum::refused(error)))?;
        Ok(Response::new(proto::TransferLeadershipResponse {}))
    }
}

/// Carries a change through although its caller may go away: half a change of the quorum is nothing anybody asked for.
async fn in_full(
    change: impl Future<Output = Result<(), ChangeError>> + Send + 'static,
) -> Result<(), ChangeError> {
    tokio::spawn(change)
        .await
        .unwrap_or_else(|error| Err(ChangeError::OutcomeUnknown { cause: error.to_string() }))
}
