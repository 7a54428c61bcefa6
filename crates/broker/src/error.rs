//! What can go wrong with a request at a broker: one type per condition, one enum per operation, and the error code of each.

use thalweg_record::BatchError;
use thalweg_replication_core::AppendRefusal;
use thalweg_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Outcome};

use crate::partition::{AckError, ConditionError};

/// This broker cannot serve the partition as its leader in the epoch the caller means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotLeading {
    #[error("not the leader: node {leader} leads in epoch {epoch}")]
    NotLeader { leader: NodeId, epoch: LeaderEpoch },
    #[error("leader epoch {given} is older than the current {current}")]
    FencedEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("leader epoch {given} is newer than {current}, the newest known here")]
    UnknownEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("this broker has lost its controller and may have been replaced as the leader")]
    SelfFenced,
    #[error("this broker is shutting down")]
    ShuttingDown,
}

/// A new leader does not know yet how far its predecessors had committed (R3): what it would say of the end may be behind what they said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the new leader does not know yet up to where the partition is committed")]
pub struct NotCurrent;

/// The partition a request names is not to be found here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("no topic or partition of this name exists")]
    TopicOrPartition,
    #[error("no topic with this id exists")]
    TopicId,
    #[error("the partition is led elsewhere: by node {leader} in epoch {epoch}")]
    Elsewhere { leader: NodeId, epoch: LeaderEpoch },
}

/// Nothing was appended; but for a log directory that failed in the middle of it, of which nobody knows ([`ProduceError::outcome`]).
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    #[error("{in_sync} replicas are in sync, min.insync.replicas asks for {required}")]
    NotEnoughReplicas { in_sync: usize, required: usize },
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the topic {0} is written by the system only")]
    InternalTopic(String),
    #[error("a record of a compacted topic needs a key")]
    KeylessRecord,
    #[error("the batch is compressed with {0}, which this request version cannot carry")]
    CompressionNotCarried(thalweg_types::CompressionType),
    #[error(
        "compressed with the topic's {codec} the batch has {bytes} bytes, {bytes_max} are allowed"
    )]
    TooLargeRecompressed { codec: thalweg_types::CompressionType, bytes: usize, bytes_max: usize },
    #[error(transparent)]
    Condition(#[from] ConditionError),
    #[error("there is no room in the journal; the writer behind it is not keeping up")]
    NoRoom,
    #[error(transparent)]
    Log(#[from] thalweg_storage::AppendError),
}

/// A produce that did not end in an acknowledgement.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// Refused: definitely nothing was appended.
    #[error(transparent)]
    Refused(#[from] AppendError),
    /// Appended, but not acknowledged: it may be committed later or lost.
    #[error(transparent)]
    Unacknowledged(#[from] AckError),
}

/// Nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },
    #[error(transparent)]
    NotCurrent(#[from] NotCurrent),
    /// Only the leader knows whether there is such an offset.
    #[error("this follower's log ends at {end}, before {offset}: ask the leader")]
    AheadOfFollower { offset: Offset, end: Offset },
    #[error(transparent)]
    Log(#[from] thalweg_storage::ReadError),
}

/// The log start did not move.
#[derive(Debug, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    #[error(transparent)]
    NotCurrent(#[from] NotCurrent),
    #[error("the records of {0} are the system's")]
    InternalTopic(String),
    #[error("the topic is compacted, not deleted from: its cleanup.policy does not contain delete")]
    CompactedOnly,
    #[error(transparent)]
    Log(#[from] thalweg_storage::StorageError),
}

impl NotLeading {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader { .. } | Self::SelfFenced | Self::ShuttingDown => {
                ErrorCode::NotLeaderOrFollower
            }
            Self::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        }
    }
}

impl From<AppendRefusal> for AppendError {
    fn from(refusal: AppendRefusal) -> Self {
        match refusal {
            AppendRefusal::NotLeader { leader, epoch } => {
                NotLeading::NotLeader { leader: leader.unwrap_or(NodeId::NONE), epoch }.into()
            }
            AppendRefusal::SelfFenced => NotLeading::SelfFenced.into(),
            AppendRefusal::ShuttingDown => NotLeading::ShuttingDown.into(),
            AppendRefusal::NotEnoughReplicas { in_sync, required } => {
                let required = usize::try_from(required).unwrap_or(usize::MAX);
                Self::NotEnoughReplicas { in_sync, required }
            }
        }
    }
}

impl Unknown {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TopicOrPartition => ErrorCode::UnknownTopicOrPartition,
            Self::TopicId => ErrorCode::UnknownTopicId,
            Self::Elsewhere { .. } => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl AppendError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(error) => error.code(),
            Self::NotLeading(error) => error.code(),
            Self::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
            Self::Batch(error) => error.code(),
            Self::InternalTopic(_) => ErrorCode::InvalidTopicException,
            Self::KeylessRecord => ErrorCode::InvalidRecord,
            Self::TooLargeRecompressed { .. } => ErrorCode::MessageTooLarge,
            Self::CompressionNotCarried(_) => ErrorCode::UnsupportedCompressionType,
            Self::Condition(error) => error.code(),
            Self::NoRoom => ErrorCode::KafkaStorageError,
            Self::Log(error) => error.code(),
        }
    }
}

impl ProduceError {
    /// Whether it was refused because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        use thalweg_storage::AppendError as Log;
        matches!(self, Self::Refused(AppendError::Log(Log::NoSpace { .. })))
    }

    /// The Kafka wire code. After an append only codes that clients treat as "may have happened" are used.
    pub fn code(&self) -> ErrorCode {
        match self {
            // The journal's write failed half-way: the batch may be found after a restart.
            Self::Refused(AppendError::Log(error)) if error.outcome() == Outcome::Unknown => {
                ErrorCode::RequestTimedOut
            }
            Self::Refused(error) => error.code(),
            Self::Unacknowledged(AckError::NotEnoughReplicas) => {
                ErrorCode::NotEnoughReplicasAfterAppend
            }
            Self::Unacknowledged(_) => ErrorCode::RequestTimedOut,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(AppendError::Log(error)) => error.outcome(),
            Self::Refused(_) => Outcome::NotApplied,
            Self::Unacknowledged(error) => error.outcome(),
        }
    }
}

impl FetchError {
    /// Whether what was to be read is damaged.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Log(thalweg_storage::ReadError::Corrupt { .. }))
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(error) => error.code(),
            Self::NotLeading(error) => error.code(),
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::NotCurrent(_) | Self::AheadOfFollower { .. } => ErrorCode::OffsetNotAvailable,
            Self::Log(error) => error.code(),
        }
    }
}

impl DeleteRecordsError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(error) => error.code(),
            Self::NotLeading(error) => error.code(),
            Self::NotCurrent(_) => ErrorCode::OffsetNotAvailable,
            Self::InternalTopic(_) => ErrorCode::InvalidTopicException,
            Self::CompactedOnly => ErrorCode::PolicyViolation,
            Self::Log(error) => error.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::sync::Arc;

    use thalweg_storage::DirFailed;

    use super::*;

    #[test]
    fn a_write_that_failed_half_way_is_not_called_undone_in_either_protocol() {
        let failed = DirFailed {
            path: PathBuf::from("logs"),
            operation: "write to the journal",
            source: Arc::new(io::ErrorKind::Other.into()),
        };
        let error =
            ProduceError::from(AppendError::from(thalweg_storage::AppendError::from(failed)));

        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(error.code().outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_refusal_before_the_append_is_definite() {
        let error = ProduceError::from(AppendError::NoRoom);

        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert_eq!(error.code().outcome(), Outcome::NotApplied);
    }
}
