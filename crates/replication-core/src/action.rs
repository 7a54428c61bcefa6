//! What follows from an input, as values.

use thalweg_log_core::EpochEnd;
use thalweg_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Outcome};

use crate::message::{Fitness, Handshake, Proposal};

/// Something to be done, in order, before the next input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    // As the leader.
    /// Make the epoch's start part of the log, before anything is appended in it.
    BeginEpoch(LeaderEpoch),
    /// Everything below is committed: tell the log, answer who waits up to here, let readers look.
    Commit(Offset),
    /// Nobody who waits for the high watermark will be answered with success.
    FailWaiting(AckFailure),
    /// Send it to the controller; its fate is always reported back.
    Propose(Proposal),

    // As a follower.
    /// Send it to the leader.
    Handshake { leader: NodeId, handshake: Handshake },
    /// Cut the log, flush the cut and the epoch index, then report it. `unclean` allows the cut to go below the high watermark.
    Truncate { to: Offset, unclean: bool },
    /// Drop every record and begin an empty log there, then report it.
    Restart { at: Offset },
    /// Everything below is committed, and in the local log.
    FollowHighWatermark(Offset),
    /// The leader's log starts here; not above the local high watermark.
    MoveLogStart(Offset),
    /// Stop, raise an alarm, report it to the controller.
    Halt(Halt),

    // As either.
    /// The controller wants a replica to lead, or keeps one in sync, whose data may be incomplete: report it.
    ReportUnfit(Fitness),
}

/// Why producers who wait are not told success. What was appended stays in the log and may yet be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AckFailure {
    #[error("this broker stopped leading the partition before the records were committed")]
    LeadershipLost,
    #[error("the records were appended, but fewer replicas than min.insync.replicas are in sync")]
    NotEnoughReplicas,
}

/// G-HW: the leader's history contradicts what this replica knows to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Halt {
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    /// Where the leader says the histories part; `None` when it has nothing in common.
    pub diverging: Option<EpochEnd>,
    /// Where the cut would have been.
    pub cut: Offset,
    pub high_watermark: Offset,
}

impl AckFailure {
    pub fn code(self) -> ErrorCode {
        match self {
            Self::LeadershipLost => ErrorCode::RequestTimedOut,
            Self::NotEnoughReplicas => ErrorCode::NotEnoughReplicasAfterAppend,
        }
    }

    /// Always unknown.
    pub fn outcome(self) -> Outcome {
        Outcome::Unknown
    }
}
