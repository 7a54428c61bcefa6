//! Metadata and DescribeCluster: which nodes there are, and who leads what, as the image says.
//!
//! Every node a client may talk to is in the answer, and `controller_id` names one of them: clients send their admin calls there, and
//! every node accepts those. A topic that does not exist is created when both the client and the configuration allow it.

use std::sync::Arc;

use thalweg_controller_client::NewTopic;
use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::describe_cluster::DescribeClusterBroker;
use thalweg_kafka::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use thalweg_kafka::messages::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse,
};
use thalweg_metadata_core::{Image, Partition, Topic};
use thalweg_types::{ErrorCode, NodeId, PartitionIndex, TopicId, TopicName};

use crate::{Listed, Member, View};

/// The endpoint type that a client asks DescribeCluster for: brokers are 1, controllers 2 (KIP-919).
const ENDPOINT_BROKERS: i8 = 1;

pub(crate) async fn metadata<M: Member>(
    member: &M,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    let topics = match request.topics {
        // Version 0 could not say "all" in any other way.
        Some(topics) if topics.is_empty() && version == 0 => None,
        topics => topics,
    };
    if let Some(topics) = &topics
        && request.allow_auto_topic_creation
        && member.auto_create_topics()
    {
        create_missing(member, topics).await;
    }

    let image = member.image();
    let view = member.view(&image);
    let topics = match topics {
        None => image.topics().map(|topic| describe(&view, topic)).collect(),
        Some(topics) => topics.iter().map(|wanted| answer(&view, wanted)).collect(),
    };
    MetadataResponse {
        brokers: view.live_nodes().map(metadata_node).collect(),
        cluster_id: cluster_id(&image),
        controller_id: view.controller_id().0,
        topics,
        ..Default::default()
    }
}

pub(crate) fn describe_cluster<M: Member>(
    member: &M,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    if request.endpoint_type != ENDPOINT_BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType.code(),
            error_message: Some("this listener describes brokers only".into()),
            endpoint_type: ENDPOINT_BROKERS,
            ..Default::default()
        };
    }
    let image = member.image();
    let view = member.view(&image);
    let brokers = view
        .nodes()
        .filter(|node| request.include_fenced_brokers || !node.fenced)
        .map(|node| DescribeClusterBroker {
            broker_id: node.id.0,
            host: (&*node.host).into(),
            port: i32::from(node.port),
            rack: node.rack.as_deref().map(KafkaString::from),
            is_fenced: node.fenced,
        })
        .collect();
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: cluster_id(&image).unwrap_or_default(),
        controller_id: view.controller_id().0,
        brokers,
        ..Default::default()
    }
}

/// Creates the topics that are asked for by a valid name and do not exist. What fails is answered by the image afterwards: the topic
/// is simply not there.
async fn create_missing<M: Member>(member: &M, wanted: &[MetadataRequestTopic]) {
    let image = member.image();
    let missing: Vec<TopicName> = wanted
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| TopicName::new(topic.name.as_deref()?).ok())
        .filter(|name| !name.is_internal() && image.topic(name.as_str()).is_none())
        .collect();
    if missing.is_empty() {
        return;
    }
    let topics = missing.iter().map(|name| NewTopic::with_defaults(name.as_str())).collect();
    match member.controller().create_topics(topics, false).await {
        Ok(created) => member.served(created.index).await,
        Err(error) => {
            tracing::warn!(%error, ?missing, "topics asked for could not be created");
        }
    }
}

fn answer(view: &View<'_>, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
    let image = view.image();
    let refused = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        ..Default::default()
    };
    if !wanted.topic_id.is_zero() {
        return match image.topic_by_id(TopicId(wanted.topic_id)) {
            Some(topic) => describe(view, topic),
            None => refused(ErrorCode::UnknownTopicId),
        };
    }
    let Some(name) = wanted.name.as_deref() else { return refused(ErrorCode::InvalidRequest) };
    match image.topic(name) {
        Some(topic) => describe(view, topic),
        None if TopicName::new(name).is_err() => refused(ErrorCode::InvalidTopicException),
        None => refused(ErrorCode::UnknownTopicOrPartition),
    }
}

fn describe(view: &View<'_>, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partition = |(index, partition): (&PartitionIndex, &Partition)| {
        let leader = view.leader(topic.id, *index, partition);
        MetadataResponsePartition {
            error_code: match leader {
                Some(_) => ErrorCode::None.code(),
                None => ErrorCode::LeaderNotAvailable.code(),
            },
            partition_index: index.0,
            leader_id: leader.unwrap_or(NodeId::NONE).0,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: node_numbers(&partition.replicas),
            isr_nodes: node_numbers(&partition.isr),
            offline_replicas: offline_replicas(view.image(), partition),
        }
    };
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(KafkaString::from(&topic.name)),
        topic_id: topic.id.0,
        is_internal: topic.name.is_internal(),
        partitions: topic.partitions.iter().map(partition).collect(),
        ..Default::default()
    }
}

pub(crate) fn offline_replicas(image: &Image, partition: &Partition) -> Vec<i32> {
    let offline = partition.replicas.iter().filter(|node| !image.is_live(**node));
    offline.map(|node| node.0).collect()
}

pub(crate) fn node_numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn metadata_node(node: &Listed<'_>) -> MetadataResponseBroker {
    MetadataResponseBroker {
        node_id: node.id.0,
        host: (&*node.host).into(),
        port: i32::from(node.port),
        rack: node.rack.as_deref().map(KafkaString::from),
    }
}

fn cluster_id(image: &Image) -> Option<KafkaString> {
    image.cluster_id().map(|id| KafkaString::from(id.to_string()))
}
