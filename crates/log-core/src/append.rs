//! What may be appended, and as what: the decision and its refusals.

use thalweg_record::BatchHeader;
use thalweg_types::{ErrorCode, LeaderEpoch, Offset, Timestamp, TimestampType};

use crate::config::LogConfig;
use crate::producers::ProducerError;
use crate::segment::RollReason;

/// Where a batch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A producer, through the leader of `leader_epoch`: the log gives the offset, and every rule applies.
    Client { leader_epoch: LeaderEpoch },
    /// A leader's log, or this log's own journal: the batch was accepted once and has its offset and leader epoch.
    Replica,
}

/// What to do with a batch that may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendDecision {
    Append {
        /// Offsets of the batch's first and last record.
        base_offset: Offset,
        last_offset: Offset,
        /// What to stamp the batch with.
        leader_epoch: LeaderEpoch,
        /// The timestamp to stamp the batch with, on a LogAppendTime topic.
        log_append_time: Option<Timestamp>,
        /// Whether a new segment begins with this batch, and why.
        roll: Option<RollReason>,
    },
    /// The log has this batch; answer as for the first time, under the same conditions (R4).
    Duplicate { base_offset: Offset, last_offset: Offset, timestamp: Timestamp },
}

/// Why a batch is not appended. Nothing has changed: every one of these is definite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("leader epoch {given} is over, the log is in {current}")]
    FencedLeaderEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("leader epoch {given} has not begun here, the log is in {current}")]
    UnknownLeaderEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("the batch has {size_bytes} bytes, max.message.bytes is {limit_bytes}")]
    BatchTooLarge { size_bytes: u64, limit_bytes: u64 },
    #[error("the batch has {size_bytes} bytes, segment.bytes is {limit_bytes}")]
    LargerThanSegment { size_bytes: u64, limit_bytes: u64 },
    #[error("control batches are written by the cluster only")]
    ControlBatch,
    #[error("transactional batches are not accepted")]
    Transactional,
    #[error("timestamp {timestamp} is more than {limit_ms} ms from the broker's {now}")]
    TimestampOutOfRange { timestamp: Timestamp, now: Timestamp, limit_ms: i64 },
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error("a log that ends at {log_end} has no offsets for this batch")]
    OffsetsExhausted { log_end: Offset },
    #[error("the batch begins at {base_offset}, the log ends at {log_end}")]
    NotAtLogEnd { base_offset: Offset, log_end: Offset },
    #[error("the batch is of leader epoch {given}, the log is in {latest}")]
    EpochWentBack { given: LeaderEpoch, latest: LeaderEpoch },
}

impl AppendError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::FencedLeaderEpoch { .. } | Self::EpochWentBack { .. } => {
                ErrorCode::FencedLeaderEpoch
            }
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::BatchTooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            Self::ControlBatch => ErrorCode::InvalidRecord,
            Self::Transactional => ErrorCode::InvalidTxnState,
            Self::TimestampOutOfRange { .. } => ErrorCode::InvalidTimestamp,
            Self::Producer(error) => error.code(),
            Self::OffsetsExhausted { .. } | Self::NotAtLogEnd { .. } => ErrorCode::OffsetOutOfRange,
        }
    }
}

/// The kinds of batch that nobody may append yet.
pub(crate) fn check_kind(header: &BatchHeader) -> Result<(), AppendError> {
    if header.attributes.is_control() {
        return Err(AppendError::ControlBatch);
    }
    if header.attributes.is_transactional() {
        return Err(AppendError::Transactional);
    }
    Ok(())
}

pub(crate) fn check_size(header: &BatchHeader, config: &LogConfig) -> Result<(), AppendError> {
    let size_bytes = header.size_bytes() as u64;
    if size_bytes > config.max_message_bytes {
        let limit_bytes = config.max_message_bytes;
        return Err(AppendError::BatchTooLarge { size_bytes, limit_bytes });
    }
    if size_bytes > config.segment_bytes {
        let limit_bytes = config.segment_bytes;
        return Err(AppendError::LargerThanSegment { size_bytes, limit_bytes });
    }
    Ok(())
}

/// Producers' timestamps must lie within the configured distance of the broker's clock. Only the header is read: its first and its
/// largest timestamp. A record between them that lies further back than the first is not found, which costs nothing: only the
/// largest moves retention, rolling and the time index.
pub(crate) fn check_timestamps(
    header: &BatchHeader,
    config: &LogConfig,
    now: Timestamp,
) -> Result<(), AppendError> {
    if config.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    for timestamp in [header.base_timestamp, header.max_timestamp] {
        if timestamp == Timestamp::NONE {
            continue;
        }
        let behind_ms = now.ms_since(timestamp);
        let limit_ms = if behind_ms > config.timestamp_before_max_ms {
            config.timestamp_before_max_ms
        } else if timestamp.ms_since(now) > config.timestamp_after_max_ms {
            config.timestamp_after_max_ms
        } else {
            continue;
        };
        return Err(AppendError::TimestampOutOfRange { timestamp, now, limit_ms });
    }
    Ok(())
}
