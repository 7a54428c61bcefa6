//! DescribeQuorum and UnregisterBroker: questions and commands about nodes, handed to the controller.

use thalweg_kafka::messages::describe_quorum::{
    Listener, Node, PartitionData, QuorumTopic, ReplicaState, TopicData,
};
use thalweg_kafka::messages::{
    DescribeQuorumRequest, DescribeQuorumResponse, UnregisterBrokerRequest,
    UnregisterBrokerResponse,
};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_types::{ErrorCode, NodeId, Uuid};

use crate::Member;

/// Kafka's name for the quorum's log, which has one partition.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Name of the listener of controllers, as Kafka's own configurations have it.
const CONTROLLER_LISTENER: &str = "CONTROLLER";

pub(crate) async fn describe_quorum<M: Member>(
    member: &M,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if !asks_for_metadata(&request.topics) {
        return unknown(request);
    }
    match member.controller().describe_quorum().await {
        Ok(quorum) => described(&quorum, member.now_ms()),
        Err(error) => DescribeQuorumResponse {
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..Default::default()
        },
    }
}

fn asks_for_metadata(topics: &[QuorumTopic]) -> bool {
    match topics {
        [topic] => {
            &*topic.topic_name == METADATA_TOPIC
                && topic.partitions.len() == 1
                && topic.partitions[0].partition_index == 0
        }
        _ => false,
    }
}

fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let refused = |partition_index| PartitionData {
        partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        error_message: Some("the quorum has one log, partition 0 of __cluster_metadata".into()),
        ..Default::default()
    };
    let topics = request.topics.into_iter().map(|topic| TopicData {
        partitions: topic.partitions.iter().map(|one| refused(one.partition_index)).collect(),
        topic_name: topic.topic_name,
    });
    DescribeQuorumResponse { error_message: None, topics: topics.collect(), ..Default::default() }
}

fn described(quorum: &proto::DescribeQuorumResponse, now_ms: i64) -> DescribeQuorumResponse {
    let (voters, observers): (Vec<_>, Vec<_>) =
        quorum.members.iter().partition(|member| member.voter);
    let state = |member: &&proto::QuorumMember| replica_state(quorum, member, now_ms);
    let partition = PartitionData {
        partition_index: 0,
        error_code: ErrorCode::None.code(),
        error_message: None,
        leader_id: quorum.leader_id.map_or(-1, number),
        leader_epoch: i32::try_from(quorum.controller_epoch).unwrap_or(i32::MAX),
        high_watermark: end(quorum.committed_index),
        current_voters: voters.iter().map(state).collect(),
        observers: observers.iter().map(state).collect(),
    };
    let topic = TopicData { topic_name: METADATA_TOPIC.into(), partitions: vec![partition] };
    DescribeQuorumResponse {
        error_code: ErrorCode::None.code(),
        error_message: None,
        topics: vec![topic],
        nodes: quorum.members.iter().filter_map(node).collect(),
    }
}

/// Only the active controller knows of the others; -1 is for what nobody told.
fn replica_state(
    quorum: &proto::DescribeQuorumResponse,
    member: &proto::QuorumMember,
    now_ms: i64,
) -> ReplicaState {
    let leads = quorum.leader_id == Some(member.node_id);
    let log_end = match member.matched_index {
        Some(index) => end(index),
        None if member.node_id == quorum.answering_id => end(quorum.last_index),
        None => -1,
    };
    let heard = match member.last_heard_ms {
        _ if leads => Some(now_ms),
        Some(ago) => Some(now_ms.saturating_sub(ago)),
        None => None,
    };
    let is_level = leads || log_end >= end(quorum.committed_index);
    ReplicaState {
        replica_id: number(member.node_id),
        replica_directory_id: uuid(&member.dir_id),
        log_end_offset: log_end,
        last_fetch_timestamp: heard.unwrap_or(-1),
        last_caught_up_timestamp: heard.filter(|_| is_level).unwrap_or(-1),
    }
}

/// A quorum of one that nobody else has to reach has no address.
fn node(member: &proto::QuorumMember) -> Option<Node> {
    let (host, port) = member.endpoint.rsplit_once(':')?;
    let listener = Listener {
        name: CONTROLLER_LISTENER.into(),
        host: host.trim_matches(['[', ']']).into(),
        port: port.parse().ok()?,
    };
    Some(Node { node_id: number(member.node_id), listeners: vec![listener] })
}

/// The offset behind the entry: entries count from 1.
fn end(index: u64) -> i64 {
    i64::try_from(index.saturating_add(1)).unwrap_or(i64::MAX)
}

fn number(node_id: u64) -> i32 {
    i32::try_from(node_id).unwrap_or(i32::MAX)
}

fn uuid(bytes: &[u8]) -> Uuid {
    bytes.try_into().map(Uuid::from_bytes).unwrap_or_default()
}

pub(crate) async fn unregister_broker<M: Member>(
    member: &M,
    request: &UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    match member.controller().unregister_node(NodeId(request.broker_id)).await {
        Ok(index) => {
            member.served(index).await;
            UnregisterBrokerResponse { error_message: None, ..Default::default() }
        }
        Err(error) => UnregisterBrokerResponse {
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..Default::default()
        },
    }
}
