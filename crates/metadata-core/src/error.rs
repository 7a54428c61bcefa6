//! Why a request was refused. Nothing of a refused request is in effect.

use thalweg_types::{
    BrokerEpoch, ClusterId, ErrorCode, InvalidTopicName, LeaderEpoch, NodeId, PartitionEpoch,
    PartitionIndex, TopicId, TopicName,
};

use crate::config::InvalidConfig;
use crate::decide::ConfigTarget;

/// Refusal of one request, or of one item of a request with several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    // Nodes
    #[error("the node's disk belongs to cluster {given}, this is cluster {own}")]
    ForeignCluster { given: ClusterId, own: ClusterId },
    #[error("the cluster does not exist yet: its first controller has not written its first fact")]
    NoCluster,
    #[error("invalid registration: {0}")]
    InvalidRegistration(String),
    #[error("node {0} is not registered")]
    UnknownNode(NodeId),
    #[error("node {node_id} is registered with broker epoch {current}, not {given}")]
    StaleBrokerEpoch { node_id: NodeId, given: BrokerEpoch, current: BrokerEpoch },
    #[error("another process holds a session of node {0}")]
    SessionHeld(NodeId),
    #[error("node {0} is live: only a node that is gone can be unregistered")]
    NodeIsLive(NodeId),
    #[error("every node id has been given out")]
    NodeIdsExhausted,
    #[error("every producer id has been given out")]
    ProducerIdsExhausted,

    // Topics
    #[error("invalid topic name {name:?}: {reason}")]
    InvalidTopicName { name: String, reason: InvalidTopicName },
    #[error(
        "topic name {name:?} collides with topic {existing}: names may not differ in '.' and '_' only"
    )]
    CollidingTopicName { name: TopicName, existing: TopicName },
    #[error("topic {0} exists already")]
    TopicExists(TopicName),
    #[error("topic {0:?} is named more than once in the request")]
    DuplicateTopic(String),
    #[error("there is no topic {0:?}")]
    UnknownTopicName(String),
    #[error("there is no topic with id {0}")]
    UnknownTopicId(TopicId),
    #[error("topics cannot be deleted: delete.topic.enable is false")]
    TopicDeletionDisabled,
    #[error("the new topic's identity is used already")]
    TopicIdTaken,

    // Partitions and replicas
    #[error(
        "invalid number of partitions {given}: it must be from 1 to {max}, or -1 for the default"
    )]
    InvalidPartitionCount { given: i32, max: i32 },
    #[error(
        "the topic has {current} partitions, {given} is not more; partitions can only be added"
    )]
    PartitionCountNotIncreased { current: i32, given: i32 },
    #[error(
        "the number of partitions of {0} cannot be changed: groups would be looked for elsewhere"
    )]
    FixedPartitionCount(TopicName),
    #[error("the request asks for {given} partitions in all, at most {max} are made at once")]
    TooManyPartitions { given: usize, max: usize },
    #[error("invalid replication factor {0}: it must be at least 1, or -1 for the default")]
    InvalidReplicationFactor(i16),
    #[error(
        "replication factor {given} cannot be reached: {live} of {registered} registered brokers are live"
    )]
    TooFewBrokers { given: i16, live: usize, registered: usize },
    #[error("a request with manual assignments must leave partitions and replication factor at -1")]
    AssignmentAndCount,
    #[error("invalid assignment of partition {partition}: {reason}")]
    InvalidAssignment { partition: PartitionIndex, reason: String },
    #[error("the assignments must be of partitions {expected}, one each")]
    AssignedPartitionsNotDense { expected: String },

    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition { topic: TopicName, partition: PartitionIndex },
    #[error("no reassignment of the partition is in progress")]
    NoReassignmentInProgress,
    #[error("the partition has the leader it should have")]
    ElectionNotNeeded,
    #[error("the preferred leader is not in sync")]
    PreferredLeaderNotAvailable,
    #[error("none of the replicas can lead")]
    EligibleLeadersNotAvailable,

    // Proposals of leaders
    #[error("the proposal is about a state that this controller does not know yet")]
    ControllerBehind,
    #[error("leader epoch {given} is over, the partition is in {current}")]
    FencedLeaderEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("partition epoch {given} is over, the partition is in {current}")]
    StalePartitionEpoch { given: PartitionEpoch, current: PartitionEpoch },
    #[error("invalid proposal: {0}")]
    InvalidProposal(&'static str),
    #[error("node {0} cannot be in sync now")]
    IneligibleReplica(NodeId),

    // Quorum
    #[error(
        "controller id {0} was taken out of the quorum and is not used again: give the controller an id that was never used, and an empty \
         data directory"
    )]
    VoterRetired(u64),

    // Features
    #[error("feature {name:?}: {reason}")]
    InvalidFeature { name: String, reason: FeatureRefusal },

    // Configs
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    #[error("config {0} is named more than once")]
    DuplicateConfig(String),
    #[error("the request alters {0} more than once")]
    DuplicateConfigTarget(ConfigTarget),
}

/// What is wrong with the level wanted for a feature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureRefusal {
    #[error("this cluster has no such feature")]
    Unknown,
    #[error("level {level} is not one of {min} to {max}")]
    Unsupported { level: i16, min: i16, max: i16 },
    #[error("it is at level {current}; to lower it to {level} has to be asked for as a downgrade")]
    Lower { level: i16, current: i16 },
    #[error("it is at level {current}; {level} is no downgrade")]
    Higher { level: i16, current: i16 },
    #[error("it is named more than once")]
    Repeated,
}

impl Error {
    /// Kafka's code for the condition.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::ForeignCluster { .. } => ErrorCode::InconsistentClusterId,
            Self::NoCluster => ErrorCode::NotController,
            Self::InvalidRegistration(_) => ErrorCode::InvalidRegistration,
            Self::UnknownNode(_) => ErrorCode::BrokerIdNotRegistered,
            Self::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            Self::NodeIdsExhausted => ErrorCode::InvalidRegistration,
            Self::SessionHeld(_) => ErrorCode::DuplicateBrokerRegistration,
            Self::NodeIsLive(_) | Self::InvalidProposal(_) => ErrorCode::InvalidRequest,
            Self::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::NoReassignmentInProgress => ErrorCode::NoReassignmentInProgress,
            Self::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
            Self::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
            Self::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
            Self::ControllerBehind => ErrorCode::NotController,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::StalePartitionEpoch { .. } => ErrorCode::InvalidUpdateVersion,
            Self::IneligibleReplica(_) => ErrorCode::IneligibleReplica,
            Self::ProducerIdsExhausted | Self::TopicIdTaken => ErrorCode::UnknownServerError,
            Self::InvalidTopicName { .. } | Self::CollidingTopicName { .. } => {
                ErrorCode::InvalidTopicException
            }
            Self::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            Self::DuplicateTopic(_) | Self::AssignmentAndCount | Self::DuplicateConfigTarget(_) => {
                ErrorCode::InvalidRequest
            }
            Self::UnknownTopicName(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            Self::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::FixedPartitionCount(_) => ErrorCode::InvalidTopicException,
            Self::InvalidPartitionCount { .. } | Self::PartitionCountNotIncreased { .. } => {
                ErrorCode::InvalidPartitions
            }
            Self::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
            Self::InvalidReplicationFactor(_) | Self::TooFewBrokers { .. } => {
                ErrorCode::InvalidReplicationFactor
            }
            Self::InvalidAssignment { .. } | Self::AssignedPartitionsNotDense { .. } => {
                ErrorCode::InvalidReplicaAssignment
            }
            Self::VoterRetired(_) => ErrorCode::InvalidVoterKey,
            Self::InvalidFeature { reason: FeatureRefusal::Repeated, .. } => {
                ErrorCode::InvalidRequest
            }
            Self::InvalidFeature { .. } => ErrorCode::InvalidUpdateVersion,
            Self::InvalidConfig(_) | Self::DuplicateConfig(_) => ErrorCode::InvalidConfig,
        }
    }
}
