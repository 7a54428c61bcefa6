//! What the metadata says of a partition and its replicas, as far as replication goes by it.

use thalweg_types::{
    BrokerEpoch, DirId, Durability, LeaderEpoch, LogIndex, NodeId, PartitionEpoch,
};

/// The partition's registration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Partition {
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    /// Assigned replicas.
    pub replicas: Vec<NodeId>,
    /// Committed in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Effective `min.insync.replicas`; never worked out here.
    pub min_isr: u32,
    pub durability: Durability,
    /// R19: replicas not yet known to have flushed up to the high watermark since durability became `fsync`.
    pub unproven: Vec<NodeId>,
    /// The leader came from an unclean election and has not reported that it has recovered.
    pub recovering: bool,
    /// Epoch of the last unclean election.
    pub unclean_epoch: Option<LeaderEpoch>,
}

/// A registered replica of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    pub node: NodeId,
    pub broker_epoch: BrokerEpoch,
    /// The directory the replica is assigned to.
    pub dir_id: DirId,
    /// Neither fenced nor shutting down, and its directory is online.
    pub live: bool,
}

/// The metadata as of one position.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Metadata<'a> {
    /// Last entry of the metadata log that is in it.
    pub applied: LogIndex,
    pub partition: &'a Partition,
    /// The assigned replicas that are registered, this one included or not.
    pub peers: &'a [Peer],
}

/// Who this replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pub node: NodeId,
    /// This uptime session.
    pub broker_epoch: BrokerEpoch,
    pub dir_id: DirId,
}

/// How long to wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// `replica.lag.time.max.ms`: an in-sync replica that has not reached the leader's log end for this long is proposed for removal.
    pub lag_ms_max: u64,
    /// Until something that failed, or was not answered, is tried again.
    pub retry_ms: u64,
}

impl Timing {
    /// Kafka's default lag, and a retry that a controller fail-over does not have to wait for.
    pub const DEFAULT: Self = Self { lag_ms_max: 30_000, retry_ms: 100 };
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Partition {
    pub(crate) fn has_enough_in_sync(&self) -> bool {
        self.isr.len() >= self.min_isr as usize
    }
}
