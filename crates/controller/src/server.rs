//! The gRPC face: translate, call, translate.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod translate;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use thalweg_env::Random;
use thalweg_metadata_core::Policy;
use thalweg_metadata_feed::Feed;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_server::Controller;
use thalweg_raft::{Leadership, Quorum};
use thalweg_rpc::Error as RpcError;
use thalweg_types::{BrokerEpoch, LogIndex, NodeId, TopicId, Uuid};
use tokio::sync::watch as stop;
use tonic::{Request, Response, Status};

use crate::error::CallError;
use crate::machine::State;
use crate::task::Calls;
use translate::ToDetail as _;

/// Implements `thalweg.internal.controller.v1.Controller`. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    calls: Calls,
    quorum: Arc<Quorum>,
    state: State,
    random: Arc<dyn Random>,
    policy: Arc<Policy>,
    /// Brokers that said with their last heartbeat that their disk is full. Kept in memory: a broker says it again every few seconds.
    full: Arc<Mutex<BTreeSet<NodeId>>>,
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
        stop: stop::Receiver<bool>,
    ) -> Self {
        Self { calls, quorum, state, random, policy, full: Arc::default(), stop }
    }

    pub(crate) fn feed(&self) -> Feed {
        self.state.feed.clone()
    }

    /// Refuses what needs a new partition folder when no live broker has room for one.
    fn check_room(&self) -> Result<(), Status> {
        let image = self.state.feed.image();
        let full = self.full.lock();
        let mut live = image.nodes().filter(|node| image.is_live(node.id)).peekable();
        if live.peek().is_some() && live.all(|node| full.contains(&node.id)) {
            return Err(status(CallError::NoRoom));
        }
        Ok(())
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
        let decided = self.calls.decide(move |image| image.decide_register_node(&request)).await;
        let (index, registered) = decided.map_err(status)?;
        tracing::info!(node_id = %registered.node_id, broker_epoch = %index, "node registered");
        Ok(Response::new(translate::registered(index, registered)))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let (node_id, is_full) = (NodeId(request.node_id), request.disk_full);
        let heartbeat = translate::heartbeat(&request);
        let decided = self.calls.decide(move |image| image.decide_heartbeat(&heartbeat)).await;
        let (index, answer) = decided.map_err(status)?;
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
        }))
    }

    type WatchMetadataStream = watch::Watch;

    async fn watch_metadata(
        &self,
        request: Request<proto::WatchMetadataRequest>,
    ) -> Result<Response<watch::Watch>, Status> {
        let applied = request.into_inner().applied.unwrap_or_default();
        let from = LogIndex(applied.index);
        Ok(Response::new(watch::start(self.state.clone(), from, self.stop.clone())))
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
        let (index, results) = decided.map_err(status)?;
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
        let (index, results) = decided.map_err(status)?;
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
        let (index, results) = decided.map_err(status)?;
        let topics = names
            .into_iter()
            .zip(results)
            .map(|(name, result)| proto::GrownTopic { name, error: result.err().to_detail() })
            .collect();
        Ok(Response::new(proto::CreatePartitionsResponse { topics, index: index.0 }))
    }

    async fn alter_configs(
        &self,
        request: Request<proto::AlterConfigsRequest>,
    ) -> Result<Response<proto::AlterConfigsResponse>, Status> {
        let request = translate::alter_configs(request.into_inner())?;
        let policy = Arc::clone(&self.policy);
        let decided =
            self.calls.decide(move |image| Ok(image.decide_alter_configs(&request, &policy))).await;
        let (index, results) = decided.map_err(status)?;
        let resources = results
            .into_iter()
            .map(|result| proto::AlteredResource { error: result.err().to_detail() })
            .collect();
        Ok(Response::new(proto::AlterConfigsResponse { resources, index: index.0 }))
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
        let (_, block) = decided.map_err(status)?;
        Ok(Response::new(proto::AllocateProducerIdsResponse {
            first_producer_id: block.first.0,
            count: block.count,
        }))
    }

    async fn describe_quorum(
        &self,
        _: Request<proto::DescribeQuorumRequest>,
    ) -> Result<Response<proto::DescribeQuorumResponse>, Status> {
        let leadership = *self.quorum.leadership().borrow();
        let (leader, term) = match leadership {
            Leadership::Leading { term } => (Some(self.quorum.node_id()), term),
            Leadership::Following { leader, term } => (Some(leader), term),
            Leadership::Undecided | Leadership::Stopped => (None, 0),
        };
        Ok(Response::new(proto::DescribeQuorumResponse {
            leader_id: leader.and_then(|id| u64::try_from(id.0).ok()),
            controller_epoch: i64::try_from(term).unwrap_or(i64::MAX),
            applied_index: self.state.feed.image().position().index.0,
        }))
    }
}

fn status(error: CallError) -> Status {
    RpcError::from(error).into()
}
