//! From the metadata image to what the rules of replication go by.

use std::sync::Arc;

use thalweg_metadata_core::{Image, LeaderRecovery, Node, Partition};
use thalweg_replication_core::{self as replication, Peer};

/// The registration of a partition.
pub(crate) fn of_image(state: &Partition) -> replication::Partition {
    replication::Partition {
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        replicas: state.replicas.clone(),
        isr: state.isr.clone(),
        min_isr: state.min_isr,
        durability: state.durability,
        unproven: state.unproven.clone(),
        recovering: state.recovery == LeaderRecovery::Recovering,
        unclean_epoch: state.unclean_epoch,
    }
}

/// Those of its replicas that are registered.
pub(crate) fn peers(image: &Image, state: &Partition) -> Vec<Peer> {
    let peer = |node: &Arc<Node>| Peer {
        node: node.id,
        broker_epoch: node.broker_epoch,
        dir_id: node.dir_id,
        live: node.is_live(),
    };
    state.replicas.iter().filter_map(|id| image.node(*id).map(peer)).collect()
}
