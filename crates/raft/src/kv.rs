//! Where the materialised state lives: keys and values that a snapshot and the log behind it can always rebuild.
//!
//! Nothing here decides what is true. The log, the vote and the snapshot are; a store of this kind only saves a restart from applying
//! the whole log again. It may therefore lose its latest batches in a crash, as long as it loses them as a suffix: each batch names
//! the position it brings the state to, and both arrive together or not at all.

mod guarded;
mod memory;
mod sled_store;
mod thread;

#[cfg(test)]
mod conformance;

use std::path::PathBuf;

use bytes::Bytes;

pub(crate) use guarded::{AppliedState, Digest, Entries, GuardedKv};
pub use memory::MemoryKv;
pub use sled_store::SledKv;
pub(crate) use thread::{KvHandle, KvThread, PendingEntries, start};

use crate::machine::KvChange;

/// An ordered, rebuildable store of keys and values with one mark that says how far it was brought.
///
/// Calls may block on a disk: they belong on a thread that may wait, never on a runtime's.
pub trait MetaKv: Send + Sync + 'static {
    /// The mark of the last batch, or `None` when the store is empty or a replacement was cut short.
    fn mark(&self) -> Result<Option<Bytes>, KvError>;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// Applies the changes in order and moves the mark, atomically.
    fn write(&self, changes: &[KvChange], mark: &Bytes) -> Result<(), KvError>;

    /// Every key and value, in order of key. Not a snapshot in time: the caller keeps writers away.
    fn scan(&self) -> Result<Vec<(Bytes, Bytes)>, KvError>;

    /// Drops everything and takes this instead. Cut short, it leaves no mark.
    fn replace_all(&self, entries: &[(Bytes, Bytes)], mark: &Bytes) -> Result<(), KvError>;

    /// Returns when everything written before is on disk.
    fn flush(&self) -> Result<(), KvError>;
}

/// Which store to keep the materialised state in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvKind {
    /// On disk, beside the log.
    #[default]
    Sled,
    /// In memory: rebuilt from snapshot and log at every start. For simulation and tests.
    Memory,
}

/// Why the materialised state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The directory holds something that is not the state as written: set it aside and rebuild.
    #[error("stored state is damaged: {0}")]
    Damaged(String),
    #[error("cannot access {path}: {cause}")]
    Io { path: PathBuf, cause: String },
    /// The store was closed.
    #[error("the store of the materialised state has stopped")]
    Stopped,
}

/// Opens the store of that kind, in `dir` if it needs one.
pub(crate) fn open(kind: KvKind, dir: &std::path::Path) -> Result<Box<dyn MetaKv>, KvError> {
    Ok(match kind {
        KvKind::Sled => Box::new(SledKv::open(dir)?),
        KvKind::Memory => Box::new(MemoryKv::default()),
    })
}

/// Moves damaged state out of the way, for a person to look at; an earlier one makes room.
pub(crate) fn set_aside(kind: KvKind, dir: &std::path::Path) -> Result<(), KvError> {
    if kind == KvKind::Memory {
        return Ok(());
    }
    let target = dir.with_extension("damaged");
    let io_error =
        |error: std::io::Error| KvError::Io { path: target.clone(), cause: error.to_string() };
    match std::fs::remove_dir_all(&target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(error)),
        _ => {}
    }
    match std::fs::rename(dir, &target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error(error)),
        _ => Ok(()),
    }
}
