//! Leader hints: who leads instead, and where that node is (KIP-951), so that a client need not ask for all metadata first.

use std::collections::BTreeSet;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::{fetch, produce};
use thalweg_metadata_core::{Endpoint, Image};
use thalweg_types::{LeaderEpoch, NodeId};

use crate::broker::Broker;
use crate::error::{NotLeading, Unknown};

/// A leader and its epoch.
type Leader = (NodeId, LeaderEpoch);

/// The leader that an answer with this error names: a caller of an older epoch is told the one that holds.
pub(super) fn of_not_leading(broker: NodeId, error: NotLeading) -> Option<Leader> {
    match error {
        NotLeading::NotLeader { leader, epoch } => Some((leader, epoch)),
        NotLeading::FencedEpoch { current, .. } => Some((broker, current)),
        NotLeading::UnknownEpoch { .. } | NotLeading::SelfFenced | NotLeading::ShuttingDown => None,
    }
}

pub(super) fn of_unknown(error: &Unknown) -> Option<Leader> {
    match error {
        Unknown::Elsewhere { leader, epoch } => Some((*leader, *epoch)),
        Unknown::TopicOrPartition | Unknown::TopicId => None,
    }
}

/// Where the leaders are that the answers name; none, as good as always, costs nothing.
pub(super) fn produce_endpoints(
    broker: &Broker,
    responses: &[produce::TopicProduceResponse],
) -> Vec<produce::NodeEndpoint> {
    let partitions = responses.iter().flat_map(|topic| &topic.partition_responses);
    let named = partitions.map(|partition| partition.current_leader.leader_id);
    endpoints(broker, named, |node_id, host, port, rack| produce::NodeEndpoint {
        node_id,
        host,
        port,
        rack,
    })
}

pub(super) fn fetch_endpoints(
    broker: &Broker,
    responses: &[fetch::FetchableTopicResponse],
) -> Vec<fetch::NodeEndpoint> {
    let partitions = responses.iter().flat_map(|topic| &topic.partitions);
    let named = partitions.map(|partition| partition.current_leader.leader_id);
    endpoints(broker, named, |node_id, host, port, rack| fetch::NodeEndpoint {
        node_id,
        host,
        port,
        rack,
    })
}

fn endpoints<N>(
    broker: &Broker,
    named: impl Iterator<Item = i32>,
    make: impl Fn(i32, KafkaString, i32, Option<KafkaString>) -> N,
) -> Vec<N> {
    let named: BTreeSet<_> = named.filter(|id| *id >= 0).map(NodeId).collect();
    if named.is_empty() {
        return Vec::new();
    }
    let image: &Image = &broker.image();
    let endpoint = |id: NodeId| {
        let node = image.node(id)?;
        let endpoint = node.endpoint(Endpoint::KAFKA)?;
        let rack = node.rack.as_deref().map(KafkaString::from);
        Some(make(id.0, endpoint.host.as_str().into(), i32::from(endpoint.port), rack))
    };
    named.into_iter().filter_map(endpoint).collect()
}
