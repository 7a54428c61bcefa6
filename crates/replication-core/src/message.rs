//! What replicas say to each other and to the controller.

use thalweg_log_core::EpochEnd;
use thalweg_types::{BrokerEpoch, DirId, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch};

use crate::leader::HandshakeRefusal;
use crate::partition::Partition;

// ---- Follower to leader ----

/// A follower asks to be pushed to from the end of its log (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handshake {
    pub node: NodeId,
    pub broker_epoch: BrokerEpoch,
    pub dir_id: DirId,
    pub leader_epoch: LeaderEpoch,
    pub log_end: Offset,
    /// Epoch of the last batch; [`LeaderEpoch::NONE`] for a log that never had one.
    pub last_epoch: LeaderEpoch,
    pub flushed_end: Offset,
    pub fitness: Fitness,
    /// Of the follower's own counting; the answer repeats it.
    pub attempt: u32,
}

/// Progress of a follower whose handshake was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Report {
    /// From the acceptance.
    pub session: u32,
    pub leader_epoch: LeaderEpoch,
    pub log_end: Offset,
    pub flushed_end: Offset,
    pub fitness: Fitness,
}

/// Whether a replica's data can be trusted to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Fitness {
    #[default]
    Fit,
    /// Damage was found below what was flushed.
    Suspect,
    /// Its leader wanted it to cut what it knows to be committed.
    HaltedDiverged,
}

// ---- Leader to follower ----

/// The leader's answer to a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    pub leader_epoch: LeaderEpoch,
    /// The handshake's.
    pub attempt: u32,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The follower's log is a prefix of the leader's; batches follow.
    Accepted {
        session: u32,
        high_watermark: Offset,
        log_start: Offset,
    },
    /// The histories part here: cut and ask again (R2).
    Diverging {
        end: EpochEnd,
        log_start: Offset,
    },
    /// Nothing the follower has is of use: begin an empty log at the leader's log start.
    OutOfRange {
        log_start: Offset,
    },
    Refused(HandshakeRefusal),
}

/// What a leader sends along with, or without, batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Push<'a> {
    pub session: u32,
    pub leader_epoch: LeaderEpoch,
    /// In the order of the log; may be empty.
    pub batches: &'a [BatchSpan],
    /// The leader's.
    pub high_watermark: Offset,
    /// The leader's.
    pub log_start: Offset,
    /// The leader's.
    pub log_end: Offset,
}

/// One batch as its checked header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchSpan {
    pub base_offset: Offset,
    /// After its last record.
    pub end_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub size_bytes: usize,
}

/// What there is to send to one follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PushCursor {
    pub session: u32,
    pub leader_epoch: LeaderEpoch,
    /// Batches from here; none when this is the log end.
    pub from: Offset,
    pub log_end: Offset,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

// ---- Leader and controller ----

/// AlterPartition: the in-sync replicas as the leader wants them (R5, R6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Of the leader's own counting within its epoch; the outcome names it.
    pub attempt: u32,
    pub leader: NodeId,
    /// The leader's session.
    pub broker_epoch: BrokerEpoch,
    pub leader_epoch: LeaderEpoch,
    /// What the registration must still have.
    pub partition_epoch: PartitionEpoch,
    /// Each with the session in which it was heard of.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
    /// The leader has not recovered from an unclean election.
    pub recovering: bool,
    /// Replicas that have said that their data may be incomplete.
    pub unfit: Vec<NodeId>,
    /// R19: replicas that have flushed up to the high watermark.
    pub proven: Vec<NodeId>,
}

/// What became of a proposal (R8).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AlterOutcome {
    /// Committed. The registration as it is now, whole: the minimum must not be taken from anywhere else.
    Committed(Partition),
    /// The controller answered with an error.
    Refused(ErrorCode),
    /// No answer: it may be committed, now or later.
    Lost,
}
