//! From the image to what replication goes by.

use thalweg_log_core::LogConfig;
use thalweg_metadata_core::{Image, LeaderRecovery, Partition};
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

/// Its registered replicas.
pub(crate) fn peers(image: &Image, state: &Partition) -> Vec<Peer> {
    let registered = state.replicas.iter().filter_map(|id| image.node(*id));
    let peer = |node: &std::sync::Arc<thalweg_metadata_core::Node>| Peer {
        node: node.id,
        broker_epoch: node.broker_epoch,
        dir_id: node.dir_id,
        live: node.is_live(),
    };
    registered.map(peer).collect()
}

/// Small segments, so that rolling and retention happen; a run is over in minutes.
pub(crate) fn log_config(state: &Partition, retention_bytes: Option<u64>) -> LogConfig {
    LogConfig {
        segment_bytes: 4_000,
        retention_bytes,
        durability: state.durability,
        min_in_sync_replicas: state.min_isr,
        ..LogConfig::default()
    }
}
