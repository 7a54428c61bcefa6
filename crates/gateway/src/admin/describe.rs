//! Questions, answered from one consistent image.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_metadata_core::{ConfigResource, Image, Node, NodeRole, Partition, Topic};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId, PartitionIndex};

use super::TOPICS_MAX;
use crate::shared::unknown_topic;
use crate::words;

const PAGE_SIZE_DEFAULT: u32 = 1_000;
const PAGE_SIZE_MAX: u32 = 10_000;

/// Partitions as one node has them.
#[derive(Debug, Clone, Copy, Default)]
struct Shares {
    leaders: u32,
    replicas: u32,
    out_of_sync: u32,
}

/// A page is named by the last topic before it.
pub(super) fn list_topics(
    image: &Image,
    request: &proto::ListTopicsRequest,
) -> Result<proto::ListTopicsResponse, Error> {
    let page_size = match words::at_most("page_size", request.page_size, PAGE_SIZE_MAX)? {
        0 => PAGE_SIZE_DEFAULT,
        size => size,
    };
    let mut rest = image
        .topics()
        .filter(|topic| request.include_internal || !topic.name.is_internal())
        .skip_while(|topic| topic.name.as_str() <= request.page_token.as_str());
    let topics: Vec<_> =
        rest.by_ref().take(page_size as usize).map(|topic| listing(topic)).collect();
    let next_page_token = match (rest.next(), topics.last()) {
        (Some(_), Some(last)) => last.name.clone(),
        _ => String::new(),
    };
    Ok(proto::ListTopicsResponse { topics, next_page_token })
}

pub(super) fn describe_topics(
    image: &Image,
    request: &proto::DescribeTopicsRequest,
) -> Result<proto::DescribeTopicsResponse, Error> {
    let count = request.names.len() + request.topic_ids.len();
    words::some_but_at_most("names and topic_ids", count, TOPICS_MAX)?;
    let by_name = request.names.iter().map(|name| match topic_by_name(image, name) {
        Ok(topic) => description(image, topic),
        Err(error) => proto::TopicDescription {
            name: name.clone(),
            error: Some(error.to_detail()),
            ..Default::default()
        },
    });
    let by_id = request.topic_ids.iter().map(|id| match topic_by_id(image, id) {
        Ok(topic) => description(image, topic),
        Err(error) => proto::TopicDescription {
            topic_id: id.clone(),
            error: Some(error.to_detail()),
            ..Default::default()
        },
    });
    Ok(proto::DescribeTopicsResponse { topics: by_name.chain(by_id).collect() })
}

pub(super) fn describe_cluster(
    image: &Image,
    controller_id: Option<u64>,
) -> proto::DescribeClusterResponse {
    let (health, shares) = count_partitions(image);
    let share = |node: &Node| shares.get(&node.id).copied().unwrap_or_default();
    let nodes = image
        .nodes()
        .map(|node| described_node(node, share(node), image.is_cordoned(node.id)))
        .collect();
    proto::DescribeClusterResponse {
        cluster_id: image.cluster_id().map(|id| id.to_string()).unwrap_or_default(),
        controller_id,
        nodes,
        metadata_index: image.position().index.0,
        partitions: Some(health),
    }
}

/// Counts the partitions of all topics, in all and for each node.
fn count_partitions(image: &Image) -> (proto::PartitionHealth, BTreeMap<NodeId, Shares>) {
    let mut health = proto::PartitionHealth::default();
    let mut shares: BTreeMap<NodeId, Shares> = BTreeMap::new();
    for partition in image.topics().flat_map(|topic| topic.partitions.values()) {
        let in_sync = partition.isr.len();
        health.total += 1;
        health.without_leader += u32::from(partition.leader.is_none());
        health.below_minimum += u32::from(in_sync < partition.min_isr as usize);
        health.under_replicated += u32::from(in_sync < partition.replicas.len());
        health.reassigning += u32::from(partition.is_reassigning());
        let preferred = partition.replicas.first().copied();
        health.not_led_by_preferred += u32::from(partition.leader != preferred);
        if let Some(leader) = partition.leader {
            shares.entry(leader).or_default().leaders += 1;
        }
        for replica in &partition.replicas {
            let share = shares.entry(*replica).or_default();
            share.replicas += 1;
            share.out_of_sync += u32::from(!partition.isr.contains(replica));
        }
    }
    (health, shares)
}

fn topic_by_name<'a>(image: &'a Image, name: &str) -> Result<&'a Arc<Topic>, Error> {
    let name = words::topic_name(name)?;
    image.topic(name.as_str()).ok_or_else(|| unknown_topic(&name))
}

fn topic_by_id<'a>(image: &'a Image, text: &str) -> Result<&'a Arc<Topic>, Error> {
    let id = words::topic_id(text)?;
    image
        .topic_by_id(id)
        .ok_or_else(|| Error::new(ErrorCode::UnknownTopicId, format!("there is no topic {id}")))
}

fn listing(topic: &Topic) -> proto::TopicListing {
    proto::TopicListing {
        name: topic.name.to_string(),
        topic_id: topic.id.to_string(),
        partition_count: topic.partition_count().unsigned_abs(),
        replication_factor: topic.replication_factor().unsigned_abs().into(),
        internal: topic.name.is_internal(),
    }
}

fn description(image: &Image, topic: &Topic) -> proto::TopicDescription {
    let resource = ConfigResource::Topic(topic.id);
    let configs = image.configs(&resource);
    proto::TopicDescription {
        name: topic.name.to_string(),
        topic_id: topic.id.to_string(),
        internal: topic.name.is_internal(),
        partitions: topic
            .partitions
            .iter()
            .map(|(index, partition)| described_partition(*index, partition))
            .collect(),
        configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        error: None,
    }
}

fn described_partition(
    index: PartitionIndex,
    partition: &Partition,
) -> proto::PartitionDescription {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    proto::PartitionDescription {
        partition: index.0,
        leader: partition.leader.unwrap_or(NodeId::NONE).0,
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch.0,
        replicas: ids(&partition.replicas),
        in_sync_replicas: ids(&partition.isr),
        eligible_leader_replicas: ids(&partition.elr),
    }
}

fn described_node(node: &Node, share: Shares, cordoned: bool) -> proto::Node {
    proto::Node {
        node_id: node.id.0,
        role: match node.role {
            NodeRole::Broker => "broker",
            NodeRole::Coordinator => "coordinator",
            NodeRole::Gateway => "gateway",
        }
        .to_owned(),
        endpoints: node
            .endpoints
            .iter()
            .map(|endpoint| proto::Endpoint {
                listener: endpoint.listener.clone(),
                host: endpoint.host.clone(),
                port: endpoint.port.into(),
            })
            .collect(),
        fenced: node.fenced,
        shutting_down: node.shutting_down_at.is_some(),
        rack: node.rack.clone().unwrap_or_default(),
        broker_epoch: node.broker_epoch.0,
        leader_count: share.leaders,
        replica_count: share.replicas,
        out_of_sync_count: share.out_of_sync,
        cordoned,
    }
}
