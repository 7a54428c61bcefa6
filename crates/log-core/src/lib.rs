//! The rules of one partition log, as a deterministic core.
//!
//! Which offset a batch gets, whether it is a repetition, when a segment ends, what retention may take, where a log is cut: all of it
//! is decided here, and none of it is done here. The crate reads no clock, touches no file and starts no thread; time arrives as an
//! argument, and what must happen on disk is returned as a value. `storage` executes it.
//!
//! [`PartitionLog`] ties the parts together in the two-step shape of every core: `decide_*` and `plan_*` read the state and refuse bad
//! input with typed errors; `apply_*` and the other mutators repeat what was decided and cannot fail. Recovery replays the same
//! mutators, so that a restarted log and one that never stopped are the same.
//!
//! ```text
//! log_start <= last_stable <= high_watermark <= log_end        offsets.rs   positions, and who may move them
//! epoch -> start offset                                        epochs.rs    which leader wrote what (KIP-101, KIP-279)
//! producer id -> epoch, last five batches                      producers.rs what is a repetition (KIP-98)
//! [segment][segment][active segment]                           segment.rs   where the files end
//! leader epoch, end, chain                                     chain.rs     what an append continues
//! ```
//!
//! What this crate does not know: the bytes of records (`record`), files and journals (`storage`), replicas (`replication-core`).
//! Transactions are not tracked yet; transactional and control batches are refused with a typed error rather than half understood.

mod append;
mod chain;
mod config;
mod epochs;
mod index;
mod offsets;
mod partition_log;
mod producers;
pub mod retention;
mod segment;
#[cfg(test)]
mod test_batch;
mod truncation;

pub use append::{AppendDecision, AppendError, Origin};
pub use chain::{Chain, Continuation, ContinuationError};
pub use config::{CleanupPolicy, LogConfig};
pub use epochs::{EpochEnd, EpochEntry, EpochIndex, InvalidEpochs};
pub use index::{IndexEntry, TimeIndexEntry, entry_for, position_of, scan_start_for_timestamp};
pub use offsets::LogOffsets;
pub use partition_log::{LogStartError, PartitionLog, RecoveredLog};
pub use producers::{
    BATCHES_KEPT, CorruptSnapshot, ProducerBatch, ProducerError, ProducerState, ProducerStates,
    SequenceCheck,
};
pub use segment::{
    Placement, RollReason, SegmentFacts, holding, jitter_ms, roll_reason, with_timestamp_from,
};
pub use truncation::{Cut, TruncateError, TruncationPlan};
