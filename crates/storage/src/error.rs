//! What can go wrong on a disk, by operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thalweg_log_core as core;
use thalweg_record::BatchError;
use thalweg_types::{ErrorCode, Offset, Outcome, TopicIdPartition, TopicPartition};

/// A log dir failed: a write or a flush did not succeed, so nobody knows what is on the disk. Nothing in it is acknowledged any
/// more in this process life (D1); only a new start, which reads everything again, can take it back into use.
#[derive(Debug, Clone, thiserror::Error)]
#[error("log dir {path} failed: {operation}: {source}")]
pub struct DirFailed {
    pub path: PathBuf,
    /// What was being done.
    pub operation: &'static str,
    pub source: Arc<io::Error>,
}

/// Why a log dir does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("log dir {path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("log dir {path}: {operation}: {source}")]
    Io { path: PathBuf, operation: &'static str, source: io::Error },
    /// A file that must be right is not: damage, or another program's file.
    #[error("{path}: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    #[error("two folders hold partition {id}: {first} and {second}")]
    DuplicatePartition { id: TopicIdPartition, first: TopicPartition, second: TopicPartition },
}

/// Why a batch was not appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The log's rules refuse it. Definite.
    #[error(transparent)]
    Refused(#[from] core::AppendError),
    /// What a leader sent is no whole, undamaged batch. Definite.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The journal or the memory for recent batches is full until segments are written. Definite; try again when
    /// [`LogObserver::room_available`](crate::LogObserver::room_available) says so.
    #[error("no room until earlier batches are written to their segments")]
    Throttled,
    /// The disk has less left than the reserve, or nothing at all. Definite; try again when space was freed.
    #[error(
        "the disk is full: {available_bytes} bytes are left, and {reserve_bytes} are kept in reserve"
    )]
    NoSpace { available_bytes: u64, reserve_bytes: u64 },
    /// The batch does not fit into one journal file. Definite.
    #[error("a batch of {size_bytes} bytes does not fit into a journal file")]
    TooLarge { size_bytes: usize },
    #[error("the log is deleted")]
    Deleted,
    #[error(transparent)]
    Failed(#[from] DirFailed),
}

/// Why records could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside the log, which goes from {log_start} to {log_end}")]
    OutOfRange { offset: Offset, log_start: Offset, log_end: Offset },
    /// Bytes on disk are not what was written there. The batch is not given out.
    #[error("{path} is damaged at byte {position}: {reason}")]
    Corrupt { path: PathBuf, position: u64, reason: String },
    #[error("reading {path}: {source}")]
    Io { path: PathBuf, source: Arc<io::Error> },
}

/// Why a log was not created, deleted or maintained.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("partition {0} exists already")]
    Exists(TopicIdPartition),
    #[error("folder {0} exists already, for another topic id")]
    FolderTaken(TopicPartition),
    #[error("there is no partition {0} here")]
    Unknown(TopicIdPartition),
    #[error(transparent)]
    LogStart(#[from] core::LogStartError),
    #[error(transparent)]
    Truncate(#[from] core::TruncateError),
    #[error("no room until earlier batches are written to their segments")]
    Throttled,
    /// Definite; works again when space was freed.
    #[error("the disk is full")]
    NoSpace,
    /// The attempt failed, and may be repeated; nothing acknowledged is at stake.
    #[error("{path}: {operation}: {source}")]
    Io { path: PathBuf, operation: &'static str, source: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Failed(#[from] DirFailed),
}

impl AppendError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(error) => error.code(),
            Self::Batch(error) => error.code(),
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Deleted => ErrorCode::UnknownTopicOrPartition,
            Self::Throttled | Self::NoSpace { .. } | Self::Failed(_) => {
                ErrorCode::KafkaStorageError
            }
        }
    }

    /// Whether the batch may be found in the log after a restart.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(_) => Outcome::Unknown,
            Self::Refused(_)
            | Self::Batch(_)
            | Self::Throttled
            | Self::NoSpace { .. }
            | Self::TooLarge { .. }
            | Self::Deleted => Outcome::NotApplied,
        }
    }
}

impl ReadError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            // Kafka's clients tell their callers of this one; they would try again for ever after a storage error.
            Self::Corrupt { .. } => ErrorCode::CorruptMessage,
            Self::Io { .. } => ErrorCode::KafkaStorageError,
        }
    }
}

impl StorageError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Exists(_) | Self::FolderTaken(_) => ErrorCode::TopicAlreadyExists,
            Self::Unknown(_) => ErrorCode::UnknownTopicOrPartition,
            Self::LogStart(error) => error.code(),
            Self::Truncate(_) => ErrorCode::OffsetOutOfRange,
            Self::Read(error) => error.code(),
            Self::Throttled | Self::NoSpace | Self::Io { .. } | Self::Failed(_) => {
                ErrorCode::KafkaStorageError
            }
        }
    }
}
