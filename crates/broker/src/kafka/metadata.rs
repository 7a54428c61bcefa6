//! Metadata and DescribeCluster: which nodes there are, and who leads what, as the image says.
//!
//! Every node a client may talk to is in the answer, and `controller_id` names one of them: clients send their admin calls there, and
//! every node accepts those. A topic that does not exist is created when both the client and the configuration allow it.

use std::sync::Arc;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::describe_cluster::DescribeClusterBroker;
use thalweg_kafka::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use thalweg_kafka::messages::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse,
};
use thalweg_metadata_core::{Endpoint, Image, Node, Partition, Topic};
use thalweg_types::{ErrorCode, NodeId, PartitionIndex, TopicId, TopicName};

use crate::broker::Broker;

/// The endpoint type that a client asks DescribeCluster for: brokers are 1, controllers 2 (KIP-919).
const ENDPOINT_BROKERS: i8 = 1;

pub(super) async fn metadata(
    broker: &Broker,
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
        && broker.options().auto_create_topics
    {
        create_missing(broker, topics).await;
    }

    let image = broker.image();
    let topics = match topics {
        None => image.topics().map(|topic| describe(&image, topic)).collect(),
        Some(topics) => topics.iter().map(|wanted| answer(&image, wanted)).collect(),
    };
    MetadataResponse {
        brokers: listed_nodes(&image)
            .map(|(node, endpoint)| metadata_node(node, endpoint))
            .collect(),
        cluster_id: cluster_id(&image),
        controller_id: controller_id(broker, &image).0,
        topics,
        ..Default::default()
    }
}

pub(super) fn describe_cluster(
    broker: &Broker,
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
    let image = broker.image();
    let brokers = image
        .nodes()
        .filter(|node| request.include_fenced_brokers || !node.fenced)
        .filter_map(|node| Some((node, node.endpoint(Endpoint::KAFKA)?)))
        .map(|(node, endpoint)| DescribeClusterBroker {
            broker_id: node.id.0,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack: node.rack.as_deref().map(KafkaString::from),
            is_fenced: node.fenced,
        })
        .collect();
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: cluster_id(&image).unwrap_or_default(),
        controller_id: controller_id(broker, &image).0,
        brokers,
        ..Default::default()
    }
}

/// Creates the topics that are asked for by a valid name and do not exist. What fails is answered by the image afterwards: the topic
/// is simply not there.
async fn create_missing(broker: &Broker, wanted: &[MetadataRequestTopic]) {
    let image = broker.image();
    let missing: Vec<TopicName> = wanted
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| TopicName::new(topic.name.as_deref()?).ok())
        .filter(|name| !name.is_internal() && image.topic(name.as_str()).is_none())
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Err(error) = broker.create_missing_topics(&missing).await {
        tracing::warn!(%error, ?missing, "topics asked for could not be created");
    }
}

fn answer(image: &Image, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
    let refused = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        ..Default::default()
    };
    if !wanted.topic_id.is_zero() {
        return match image.topic_by_id(TopicId(wanted.topic_id)) {
            Some(topic) => describe(image, topic),
            None => refused(ErrorCode::UnknownTopicId),
        };
    }
    let Some(name) = wanted.name.as_deref() else { return refused(ErrorCode::InvalidRequest) };
    match image.topic(name) {
        Some(topic) => describe(image, topic),
        None if TopicName::new(name).is_err() => refused(ErrorCode::InvalidTopicException),
        None => refused(ErrorCode::UnknownTopicOrPartition),
    }
}

fn describe(image: &Image, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partition = |(index, partition): (&PartitionIndex, &Partition)| {
        let leader = live_leader(image, partition);
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
            offline_replicas: offline_replicas(image, partition),
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

pub(super) fn live_leader(image: &Image, partition: &Partition) -> Option<NodeId> {
    partition.leader.filter(|leader| image.is_live(*leader))
}

pub(super) fn offline_replicas(image: &Image, partition: &Partition) -> Vec<i32> {
    let offline = partition.replicas.iter().filter(|node| !image.is_live(**node));
    offline.map(|node| node.0).collect()
}

pub(super) fn node_numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn metadata_node(node: &Node, endpoint: &Endpoint) -> MetadataResponseBroker {
    MetadataResponseBroker {
        node_id: node.id.0,
        host: endpoint.host.as_str().into(),
        port: i32::from(endpoint.port),
        rack: node.rack.as_deref().map(KafkaString::from),
    }
}

/// The nodes clients may talk to: every live one that speaks Kafka.
fn listed_nodes(image: &Image) -> impl Iterator<Item = (&Node, &Endpoint)> {
    image
        .nodes()
        .filter(|node| !node.fenced)
        .filter_map(|node| Some((&**node, node.endpoint(Endpoint::KAFKA)?)))
}

/// Any listed node will do; this one is the closest. Before it is listed itself, there is none.
fn controller_id(broker: &Broker, image: &Image) -> NodeId {
    if image.is_live(broker.node_id()) { broker.node_id() } else { NodeId::NONE }
}

fn cluster_id(image: &Image) -> Option<KafkaString> {
    image.cluster_id().map(|id| KafkaString::from(id.to_string()))
}
