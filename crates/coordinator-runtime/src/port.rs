//! The way to the partition's log, at whichever broker leads it.

use std::future::Future;

use bytes::Bytes;
use thalweg_types::{CoordinatorEpoch, LeaderEpoch, Offset};

/// Where the log stands, as its leader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    pub leader_epoch: LeaderEpoch,
    /// Where the log ended when that leader began.
    pub epoch_start_offset: Offset,
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
    pub log_end_offset: Offset,
}

/// What must be true at the leader for an append, or a check, to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The broker leads in exactly this epoch.
    pub leader_epoch: LeaderEpoch,
    /// The log ends exactly here.
    pub expected_end: Offset,
    /// No higher one is known to the broker for the partition.
    pub coordinator_epoch: CoordinatorEpoch,
    /// What was appended last belongs to this chain: offsets are only counts, and an append that was delayed may find its end right by
    /// chance.
    pub chain: u64,
    /// The append follows upon anything, and begins the chain.
    pub opens_chain: bool,
}

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Surely nothing was appended.
    #[error("refused: {0}")]
    Refused(String),
    /// Surely nothing was appended, because a later coordinator is known.
    #[error("the partition was given to another coordinator: {0}")]
    Deposed(String),
    /// It may have been appended, now or later.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The log of one partition. Futures end in bounded time, whatever the network does, and may be dropped.
pub trait LogPort: Send + Sync + 'static {
    /// Asks the leader where the log stands.
    fn locate(&self) -> impl Future<Output = Result<LogEnds, PortError>> + Send + 'static;

    /// Committed batches from `from` on, back to back, at most a few MiB; the first may begin before. Nothing if there are none.
    fn read(
        &self,
        from: Offset,
    ) -> impl Future<Output = Result<Vec<Bytes>, PortError>> + Send + 'static;

    /// Appends one batch on a condition, or checks the condition if it is empty, and waits until everything below the resulting end is
    /// committed. Is on its way, behind those called before, when the call returns; the future is for the answer.
    fn append(
        &self,
        condition: Condition,
        batch: Bytes,
    ) -> impl Future<Output = Result<(), PortError>> + Send + 'static;
}
