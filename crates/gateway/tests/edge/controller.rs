//! A controller that makes topics, deletes them and adds partitions, and publishes the facts like the real one.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::Stream;
use thalweg_metadata_core::{
    AlterConfigs, ConfigAlteration, ConfigChange, ConfigTarget, LeaderRecovery, Partition, Policy,
    Position, Record,
};
use thalweg_metadata_feed::Publisher;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{
    ControllerEpoch, Durability, ErrorCode, LeaderEpoch, LogIndex, NodeId, PartitionEpoch,
    PartitionIndex, TopicId, TopicName, Uuid,
};
use tonic::{Request, Response, Status};

pub(crate) const BROKER: NodeId = NodeId(1);
pub(crate) const LEADER_ID: u64 = 7;
const PARTITIONS_DEFAULT: i32 = 2;

#[derive(Clone)]
pub(crate) struct MemoryController(Arc<Mutex<Publisher>>);

impl MemoryController {
    pub(crate) fn new(publisher: Publisher) -> Self {
        Self(Arc::new(Mutex::new(publisher)))
    }

    /// Publishes facts, returns their log index.
    pub(crate) fn publish(&self, facts: Vec<Record>) -> u64 {
        let publisher = self.0.lock().unwrap();
        let index = LogIndex(publisher.image().position().index.0 + 1);
        publisher.apply(Position { index, controller_epoch: ControllerEpoch(1) }, facts);
        index.0
    }

    fn create(&self, topic: &proto::NewTopic, validate_only: bool) -> Result<TopicId, Error> {
        let name = TopicName::new(&topic.name)
            .map_err(|rule| Error::new(ErrorCode::InvalidTopicException, rule.to_string()))?;
        let image = self.0.lock().unwrap().image();
        if image.topic(name.as_str()).is_some() {
            return Err(Error::new(ErrorCode::TopicAlreadyExists, format!("{name} exists")));
        }
        let topic_id = TopicId(Uuid::from_bytes([image.topic_count() as u8 + 1; 16]));
        if !validate_only {
            let mut facts = vec![Record::TopicCreated { topic_id, name }];
            facts.extend((0..partition_count(topic)).map(|index| partition(topic_id, index)));
            for entry in &topic.configs {
                facts.push(Record::ConfigSet {
                    resource: thalweg_metadata_core::ConfigResource::Topic(topic_id),
                    name: entry.name.clone(),
                    value: entry.value.clone().unwrap(),
                });
            }
            self.publish(facts);
        }
        Ok(topic_id)
    }

    fn index(&self) -> u64 {
        self.0.lock().unwrap().image().position().index.0
    }
}

fn partition_count(topic: &proto::NewTopic) -> i32 {
    match (topic.partition_count, topic.assignments.len()) {
        (-1, 0) => PARTITIONS_DEFAULT,
        (-1, assigned) => i32::try_from(assigned).unwrap(),
        (count, _) => count,
    }
}

fn partition(topic_id: TopicId, index: i32) -> Record {
    Record::PartitionRegistered {
        topic_id,
        partition: PartitionIndex(index),
        state: Partition {
            replicas: vec![BROKER],
            adding: vec![],
            removing: vec![],
            isr: vec![BROKER],
            elr: vec![],
            leader: Some(BROKER),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            min_isr: 1,
            durability: Durability::Fsync,
            recovery: LeaderRecovery::Recovered,
            unclean_epoch: None,
            unproven: Vec::new(),
        },
    }
}

fn alteration(asked: proto::ConfigAlteration) -> ConfigAlteration {
    use proto::config_target::Target;
    let target = match asked.target.unwrap().target.unwrap() {
        Target::Topic(name) => ConfigTarget::Topic(name),
        Target::Broker(id) => ConfigTarget::Broker(NodeId(id)),
        Target::Cluster(_) => ConfigTarget::Cluster,
    };
    let change = |change: proto::ConfigChange| {
        let edit = change.edit();
        let name = change.name;
        match (edit, change.value) {
            (proto::ConfigEdit::Append, items) => {
                ConfigChange::Append { name, items: items.unwrap() }
            }
            (proto::ConfigEdit::Subtract, items) => {
                ConfigChange::Subtract { name, items: items.unwrap() }
            }
            (proto::ConfigEdit::Unspecified, Some(value)) => ConfigChange::Set { name, value },
            (proto::ConfigEdit::Unspecified, None) => ConfigChange::Delete { name },
        }
    };
    let changes = asked.changes.into_iter().map(change).collect();
    ConfigAlteration { target, changes, replace: asked.replace }
}

#[tonic::async_trait]
impl proto::controller_server::Controller for MemoryController {
    async fn create_topics(
        &self,
        request: Request<proto::CreateTopicsRequest>,
    ) -> Result<Response<proto::CreateTopicsResponse>, Status> {
        let proto::CreateTopicsRequest { topics, validate_only } = request.into_inner();
        let topics = topics
            .into_iter()
            .map(|topic| {
                let created = self.create(&topic, validate_only);
                proto::CreatedTopic {
                    partition_count: partition_count(&topic),
                    replication_factor: 1,
                    topic_id: match &created {
                        Ok(id) if !validate_only => Bytes::copy_from_slice(id.0.as_bytes()),
                        _ => Bytes::from_static(&[0; 16]),
                    },
                    error: created.err().map(|error| error.to_detail()),
                    name: topic.name,
                    configs: vec![],
                }
            })
            .collect();
        Ok(Response::new(proto::CreateTopicsResponse { topics, index: self.index() }))
    }

    async fn delete_topics(
        &self,
        request: Request<proto::DeleteTopicsRequest>,
    ) -> Result<Response<proto::DeleteTopicsResponse>, Status> {
        use proto::topic_reference::Reference;
        let mut topics = Vec::new();
        for reference in request.into_inner().topics {
            let image = self.0.lock().unwrap().image();
            let (name, found) = match reference.reference.unwrap() {
                Reference::Name(name) => (name.clone(), image.topic(&name).cloned()),
                Reference::TopicId(id) => {
                    let id = TopicId(Uuid::from_bytes(id[..].try_into().unwrap()));
                    (String::new(), image.topic_by_id(id).cloned())
                }
            };
            topics.push(match found {
                Some(topic) => {
                    self.publish(vec![Record::TopicDeleted { topic_id: topic.id }]);
                    proto::DeletedTopic {
                        name: topic.name.to_string(),
                        topic_id: Bytes::copy_from_slice(topic.id.0.as_bytes()),
                        error: None,
                    }
                }
                None => proto::DeletedTopic {
                    name,
                    topic_id: Bytes::new(),
                    error: Some(Error::from(ErrorCode::UnknownTopicOrPartition).to_detail()),
                },
            });
        }
        Ok(Response::new(proto::DeleteTopicsResponse { topics, index: self.index() }))
    }

    async fn create_partitions(
        &self,
        request: Request<proto::CreatePartitionsRequest>,
    ) -> Result<Response<proto::CreatePartitionsResponse>, Status> {
        let mut topics = Vec::new();
        for growth in request.into_inner().topics {
            let topic = self.0.lock().unwrap().image().topic(&growth.name).cloned();
            let error = match topic {
                Some(topic) if growth.partition_count > topic.partition_count() => {
                    let new = topic.partition_count()..growth.partition_count;
                    self.publish(new.map(|index| partition(topic.id, index)).collect());
                    None
                }
                Some(_) => Some(ErrorCode::InvalidPartitions),
                None => Some(ErrorCode::UnknownTopicOrPartition),
            };
            let error = error.map(|code| Error::from(code).to_detail());
            topics.push(proto::GrownTopic { name: growth.name, error });
        }
        Ok(Response::new(proto::CreatePartitionsResponse { topics, index: self.index() }))
    }

    async fn describe_quorum(
        &self,
        _: Request<proto::DescribeQuorumRequest>,
    ) -> Result<Response<proto::DescribeQuorumResponse>, Status> {
        Ok(Response::new(proto::DescribeQuorumResponse {
            leader_id: Some(LEADER_ID),
            controller_epoch: 1,
            applied_index: self.index(),
            ..Default::default()
        }))
    }

    async fn add_voter(
        &self,
        _: Request<proto::AddVoterRequest>,
    ) -> Result<Response<proto::AddVoterResponse>, Status> {
        Err(Status::unimplemented("the quorum is not what is tested here"))
    }

    async fn remove_voter(
        &self,
        _: Request<proto::RemoveVoterRequest>,
    ) -> Result<Response<proto::RemoveVoterResponse>, Status> {
        Err(Status::unimplemented("the quorum is not what is tested here"))
    }

    async fn transfer_leadership(
        &self,
        _: Request<proto::TransferLeadershipRequest>,
    ) -> Result<Response<proto::TransferLeadershipResponse>, Status> {
        Err(Status::unimplemented("the quorum is not what is tested here"))
    }

    type WatchMetadataStream =
        Pin<Box<dyn Stream<Item = Result<proto::WatchMetadataResponse, Status>> + Send>>;

    async fn watch_metadata(
        &self,
        _: Request<proto::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        Err(Status::unimplemented("the feed is published by hand"))
    }

    async fn register_node(
        &self,
        _: Request<proto::RegisterNodeRequest>,
    ) -> Result<Response<proto::RegisterNodeResponse>, Status> {
        Err(Status::unimplemented("a gateway does not register here"))
    }

    type HoldSessionStream =
        Pin<Box<dyn Stream<Item = Result<proto::HoldSessionResponse, Status>> + Send>>;

    async fn hold_session(
        &self,
        _: Request<proto::HoldSessionRequest>,
    ) -> Result<Response<Self::HoldSessionStream>, Status> {
        Err(Status::unimplemented("a gateway does not register here"))
    }

    async fn heartbeat(
        &self,
        _: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        Err(Status::unimplemented("a gateway does not register here"))
    }

    async fn request_shutdown(
        &self,
        _: Request<proto::RequestShutdownRequest>,
    ) -> Result<Response<proto::RequestShutdownResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn unregister_node(
        &self,
        _: Request<proto::UnregisterNodeRequest>,
    ) -> Result<Response<proto::UnregisterNodeResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn alter_partitions(
        &self,
        _: Request<proto::AlterPartitionsRequest>,
    ) -> Result<Response<proto::AlterPartitionsResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn report_unfit_replicas(
        &self,
        _: Request<proto::ReportUnfitReplicasRequest>,
    ) -> Result<Response<proto::ReportUnfitReplicasResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn reassign(
        &self,
        _: Request<proto::ReassignRequest>,
    ) -> Result<Response<proto::ReassignResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn plan_moves(
        &self,
        _: Request<proto::PlanMovesRequest>,
    ) -> Result<Response<proto::PlanMovesResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn elect_preferred_leaders(
        &self,
        _: Request<proto::ElectPreferredLeadersRequest>,
    ) -> Result<Response<proto::ElectPreferredLeadersResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn update_features(
        &self,
        _: Request<proto::UpdateFeaturesRequest>,
    ) -> Result<Response<proto::UpdateFeaturesResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn elect_unclean_leaders(
        &self,
        _: Request<proto::ElectUncleanLeadersRequest>,
    ) -> Result<Response<proto::ElectUncleanLeadersResponse>, Status> {
        Err(Status::unimplemented("there are no replicas here"))
    }

    async fn alter_configs(
        &self,
        request: Request<proto::AlterConfigsRequest>,
    ) -> Result<Response<proto::AlterConfigsResponse>, Status> {
        let proto::AlterConfigsRequest { resources, validate_only } = request.into_inner();
        let resources = resources.into_iter().map(alteration).collect();
        let image = self.0.lock().unwrap().image();
        let asked = AlterConfigs { resources, validate_only };
        let decision = image.decide_alter_configs(&asked, &Policy::default());
        if !decision.records.is_empty() {
            self.publish(decision.records);
        }
        let answered = decision.response.into_iter().map(|result| proto::AlteredResource {
            error: result
                .err()
                .map(|error| Error::new(error.code(), error.to_string()).to_detail()),
        });
        let resources = answered.collect();
        Ok(Response::new(proto::AlterConfigsResponse { resources, index: self.index() }))
    }

    async fn allocate_producer_ids(
        &self,
        _: Request<proto::AllocateProducerIdsRequest>,
    ) -> Result<Response<proto::AllocateProducerIdsResponse>, Status> {
        Err(Status::unimplemented("not called by a gateway"))
    }
}
