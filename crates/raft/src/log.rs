//! The Raft log and vote: our own checksummed, flushed files under the consensus library.
//!
//! Safety rests on three promises (C1 of the reliability rules): a vote is on disk before it is spoken, an entry is on disk before it
//! counts, and nothing overtakes. One thread writes everything in order ([`flusher`]); the files tell a torn tail from damage
//! ([`files`]); a purge is on disk before a file is deleted. Entries are also kept in memory, where all reads come from ([`contents`]).

mod contents;
mod files;
mod flusher;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod record;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use openraft::LogState;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use parking_lot::RwLock;
use prost::Message;
use thalweg_env::fs::{DirLock, Fs};
use tokio::sync::oneshot;

use self::contents::Contents;
use self::files::{Files, Recovered};
pub use self::flusher::LogCounters;
pub(crate) use self::flusher::LogWriter;
use self::flusher::{Done, Flusher, Job, Jobs};
use self::record::{Record, Summary};
use crate::codec::entry_to_proto;
use crate::error::StartError;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// The library's view of the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    contents: Arc<RwLock<Contents>>,
    jobs: Jobs,
}

/// An opened log and what writes it.
pub(crate) struct OpenedLog {
    pub(crate) store: LogStore,
    pub(crate) writer: LogWriter,
    pub(crate) counters: Arc<LogCounters>,
}

/// What a start must know about the log before it trusts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogExtent {
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) vote: Option<Vote>,
}

impl LogStore {
    /// Opens the log in `dir`, which exists, and recovers it. `file_bytes_max` is where a file is closed and another begun; the lock
    /// is held until the last byte is written. Inline, everything is written in the caller's thread, for simulations.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        file_bytes_max: u64,
        lock: Box<dyn DirLock>,
        is_inline: bool,
    ) -> Result<OpenedLog, StartError> {
        let Recovered { files, contents } = Files::open(fs, dir)?;
        let counters = Arc::new(LogCounters::default());
        let summary = Summary::of(&contents);
        let flusher = Flusher::new(files, summary, file_bytes_max, counters.clone());
        let (jobs, writer) = match is_inline {
            true => flusher.inline(lock),
            false => {
                flusher.start(lock).map_err(StartError::io("start the thread that writes", dir))?
            }
        };
        let store = Self { contents: Arc::new(RwLock::new(contents)), jobs };
        Ok(OpenedLog { store, writer, counters })
    }

    pub(crate) fn extent(&self) -> LogExtent {
        let contents = self.contents.read();
        LogExtent { purged: contents.purged(), last: contents.last(), vote: contents.vote() }
    }

    /// Hands over records to be made durable after everything handed over before.
    fn hand_over(&self, records: Vec<Record>, done: Done) {
        if let Err(refused) = self.jobs.hand_over(Job { records, done }) {
            (refused.done)(Err(stopped()));
        }
    }

    async fn make_durable(&self, record: Record) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        self.hand_over(
            vec![record],
            Box::new(move |result| {
                // The waiter may have been dropped; the record is written nevertheless.
                let _ = done.send(result);
            }),
        );
        durable.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the thread that writes the Raft log has ended")
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let extent = self.extent();
        Ok(LogState { last_purged_log_id: extent.purged, last_log_id: extent.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.make_durable(Record::Vote(*vote)).await?;
        self.contents.write().save_vote(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + openraft::OptionalSend,
        I::IntoIter: openraft::OptionalSend,
    {
        let mut records = Vec::new();
        {
            // Readable on return, durable when the callback is called.
            let mut contents = self.contents.write();
            for entry in entries {
                let encoded = entry_to_proto(&entry).encode_to_vec();
                records.push(Record::Entry { log_id: entry.log_id, encoded });
                contents.append(entry).map_err(io::Error::other)?;
            }
        }
        self.hand_over(records, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.contents.write().truncate(last);
        self.make_durable(Record::Truncated(last)).await
    }

    async fn purge(&mut self, last: LogId) -> io::Result<()> {
        self.make_durable(Record::Purged(last)).await?;
        self.contents.write().purge(last);
        Ok(())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + openraft::OptionalSend,
    {
        Ok(self.contents.read().read(range))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.contents.read().vote())
    }
}
