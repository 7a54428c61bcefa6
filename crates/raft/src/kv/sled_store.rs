//! The store on disk: one sled tree, keys behind a prefix byte, the mark beside them so that both move in one atomic batch.
//!
//! ```text
//! 0x00            -> mark
//! 0x01 <key>      -> value
//! ```
//!
//! sled's own `flush` hands the pages to the kernel but does not wait for the disk; [`MetaKv::flush`] therefore syncs the file `db`
//! itself. A damaged directory can make sled return an error or panic; both are reported as damage, for the caller to set it aside.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{KvError, MetaKv};
use crate::machine::KvChange;

const MARK_KEY: &[u8] = &[0x00];
const ENTRY_PREFIX: u8 = 0x01;
/// sled's page cache. The state is also in memory, in the state machine: reads here are rare.
const CACHE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Entries written at a time by a replacement: bounds sled's batch, which it holds in memory.
const REPLACE_BATCH_ENTRIES: usize = 1024;

/// A sled database in a directory of its own.
pub struct SledKv {
    db: sled::Db,
    path: PathBuf,
}

impl SledKv {
    /// Opens or creates the database in `path`.
    pub fn open(path: &Path) -> Result<Self, KvError> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES_MAX);
        let db = guard(path, || config.open())?;
        Ok(Self { db, path: path.to_owned() })
    }

    #[cfg(test)]
    pub(super) fn forget_mark_for_test(&self) {
        self.db.remove(MARK_KEY).expect("the test's own store");
    }

    fn apply(&self, batch: sled::Batch) -> Result<(), KvError> {
        guard(&self.path, || self.db.apply_batch(batch))
    }

    /// In batches, because sled keeps a batch in memory until it is written.
    fn remove_all(&self) -> Result<(), KvError> {
        let mut batch = sled::Batch::default();
        // The mark first: what is cut short after this has none.
        batch.remove(MARK_KEY);
        self.apply(batch)?;
        loop {
            let keys: Vec<sled::IVec> = guard(&self.path, || {
                self.db.iter().keys().take(REPLACE_BATCH_ENTRIES).collect::<sled::Result<_>>()
            })?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut batch = sled::Batch::default();
            for key in keys {
                batch.remove(key);
            }
            self.apply(batch)?;
        }
    }
}

impl MetaKv for SledKv {
    fn mark(&self) -> Result<Option<Bytes>, KvError> {
        let mark = guard(&self.path, || self.db.get(MARK_KEY))?;
        Ok(mark.map(|mark| Bytes::copy_from_slice(&mark)))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = guard(&self.path, || self.db.get(prefixed(key)))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn write(&self, changes: &[KvChange], mark: &Bytes) -> Result<(), KvError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                KvChange::Put { key, value } => batch.insert(prefixed(key), value.as_ref()),
                KvChange::Delete { key } => batch.remove(prefixed(key)),
            }
        }
        batch.insert(MARK_KEY, mark.as_ref());
        self.apply(batch)
    }

    fn scan(&self) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        guard(&self.path, || {
            self.db
                .scan_prefix([ENTRY_PREFIX])
                .map(|entry| {
                    let (key, value) = entry?;
                    let key = key.get(1..).unwrap_or_default();
                    Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(&value)))
                })
                .collect()
        })
    }

    fn replace_all(&self, entries: &[(Bytes, Bytes)], mark: &Bytes) -> Result<(), KvError> {
        self.remove_all()?;
        for chunk in entries.chunks(REPLACE_BATCH_ENTRIES) {
            let mut batch = sled::Batch::default();
            for (key, value) in chunk {
                batch.insert(prefixed(key), value.as_ref());
            }
            self.apply(batch)?;
        }
        self.write(&[], mark)
    }

    fn flush(&self) -> Result<(), KvError> {
        guard(&self.path, || self.db.flush())?;
        let db_file = self.path.join("db");
        File::open(&db_file)
            .and_then(|file| file.sync_data())
            .map_err(|error| KvError::Io { path: db_file, cause: error.to_string() })
    }
}

fn prefixed(key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(ENTRY_PREFIX);
    prefixed.extend_from_slice(key);
    prefixed
}

/// Runs one sled call; what it reports or panics with about its own files is damage, the rest is the disk's answer.
fn guard<T>(path: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, KvError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if !reports_damage(&error) => {
            Err(KvError::Io { path: path.to_owned(), cause: error.to_string() })
        }
        Ok(Err(error)) => Err(KvError::Damaged(error.to_string())),
        Err(_) => Err(KvError::Damaged("the store panicked while reading its files".to_owned())),
    }
}

/// sled reports files it cannot make sense of as I/O errors of these kinds; a database that is open elsewhere is not damaged.
fn reports_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
        && !error.to_string().contains("could not acquire lock")
}
