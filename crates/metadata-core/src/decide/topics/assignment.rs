//! Replicas of new partitions: given by the client and checked, or placed.

use thalweg_types::{NodeId, PartitionIndex};

use crate::error::Error;
use crate::image::Image;
use crate::placement::Placement;
use crate::record::NodeRole;

/// Checks one partition's replicas as a client gave them. `replica_count` is what the topic's other partitions have, if any.
pub(in crate::decide) fn check(
    image: &Image,
    partition: PartitionIndex,
    replicas: &[NodeId],
    replica_count: Option<usize>,
) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::InvalidAssignment { partition, reason });
    if replicas.is_empty() {
        return refuse("it has no replicas".to_owned());
    }
    if let Some(count) = replica_count.filter(|count| *count != replicas.len()) {
        return refuse(format!("it has {} replicas, other partitions {count}", replicas.len()));
    }
    for (at, id) in replicas.iter().enumerate() {
        if replicas[..at].contains(id) {
            return refuse(format!("broker {id} is named more than once"));
        }
        if image.node(*id).is_none_or(|node| node.role != NodeRole::Broker) {
            return refuse(format!("there is no broker {id}"));
        }
    }
    if !replicas.iter().any(|id| image.is_live(*id)) {
        return refuse("all of its brokers are fenced".to_owned());
    }
    Ok(())
}

/// Places new partitions on live brokers.
pub(super) fn place(
    image: &Image,
    placement: &mut Placement,
    partition_count: usize,
    replication_factor: i16,
) -> Result<Vec<Vec<NodeId>>, Error> {
    let live = placement.broker_count();
    let factor = usize::try_from(replication_factor)
        .map_err(|_| Error::InvalidReplicationFactor(replication_factor))?;
    if factor > live {
        let registered = image.nodes().filter(|node| node.role == NodeRole::Broker).count();
        return Err(Error::TooFewBrokers { given: replication_factor, live, registered });
    }
    Ok(placement.place(partition_count, factor))
}
