//! R4 and R11: when a leader takes records, and when it may speak for the partition.

use thalweg_types::{Acks, ErrorCode, LeaderEpoch, NodeId, Outcome};

use super::Leader;

/// Why nothing was appended. Always definite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefusal {
    #[error("this broker does not lead the partition in epoch {epoch}")]
    NotLeader { leader: Option<NodeId>, epoch: LeaderEpoch },
    #[error("this broker has lost its controller and may not lead any more")]
    SelfFenced,
    #[error("this broker is shutting down")]
    ShuttingDown,
    #[error("{in_sync} replicas are in sync, {required} are required")]
    NotEnoughReplicas { in_sync: usize, required: u32 },
}

impl AppendRefusal {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader { .. } | Self::SelfFenced | Self::ShuttingDown => {
                ErrorCode::NotLeaderOrFollower
            }
            Self::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        }
    }

    pub fn outcome(&self) -> Outcome {
        Outcome::NotApplied
    }
}

impl Leader {
    /// The epoch to append in. With `acks=all` the producer is answered when the high watermark has passed its records, in the same epoch;
    /// a repeated batch waits for the original's.
    pub(crate) fn admit_append(&self, acks: Acks) -> Result<LeaderEpoch, AppendRefusal> {
        if self.is_stopping {
            return Err(AppendRefusal::ShuttingDown);
        }
        if !self.lease_is_valid {
            return Err(AppendRefusal::SelfFenced);
        }
        if acks == Acks::All && !self.partition.has_enough_in_sync() {
            let in_sync = self.partition.isr.len();
            return Err(AppendRefusal::NotEnoughReplicas {
                in_sync,
                required: self.partition.min_isr,
            });
        }
        Ok(self.epoch)
    }

    /// Whether readers may be answered as by the leader.
    pub(crate) fn may_serve_readers(&self) -> bool {
        self.lease_is_valid
    }
}
