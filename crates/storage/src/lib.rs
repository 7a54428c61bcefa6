//! Partition logs on disk: journal, tail, segments, indexes, recovery.
//!
//! A [`LogDir`] is one directory on one disk with any number of partition [`Log`]s. Durable before acknowledged costs one sequential
//! write here: every append goes to the dir's shared journal, whose flush covers all partitions at once, and to memory; segment files are
//! written behind, in large pieces, and only then is the journal's space used again.
//!
//! ```text
//!  append ──► journal (every batch of every log, one stream) ──► flush ──► LogObserver::flushed
//!     │
//!     └─────► tail (newest batches, in memory) ──► write behind ──► segments ──► checkpoint ──► journal space is freed
//!                                    ▲                                ▲
//!  read ─────────────────────────────┴── else ────────────────────────┘
//! ```
//!
//! This crate executes; what may be appended, where a segment ends and what retention may take is decided in `log-core`. Two threads
//! belong to an open dir, one that flushes and one that writes behind; both only loop over [`LogDir::step_flush`] and
//! [`LogDir::step_write_behind`], which tests call themselves.
//!
//! Faults: a failed write or flush fails the whole dir for good ([`DirFailed`], D1). A writer that does not keep up ends in
//! [`AppendError::Throttled`], and in time [`LogObserver::room_available`]; a disk with less left than the [`Reserve`] in
//! [`AppendError::NoSpace`] until space is freed (D5). A log whose files are damaged below what was durable is
//! not cut but set aside ([`Suspect`]); one in which a reader meets damage goes on but for that place ([`Damage`]).

mod checkpoint;
mod chunk;
mod cut;
mod damage;
mod dir;
mod error;
pub mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod inspect;
mod journal;
mod layout;
mod log;
mod open_files;
mod parallel;
mod read_buffers;
mod segment;
mod tail;

pub use chunk::{Chunk, FileRange, FileSlice, ReadSlice};
pub use damage::Damage;
pub use dir::{DiskSpace, LogDir, LogDirOptions, LogObserver, NoObserver, Reserve, Suspect};
pub use error::{AppendError, DirFailed, OpenError, ReadError, StorageError};
pub use layout::StorageMeta;
pub use log::{Appended, Log, Retained, TimedOffset};
