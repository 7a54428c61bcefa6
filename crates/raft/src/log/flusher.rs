//! The one thread that writes the log. Votes, entries, truncations and purges reach the disk in the order they were handed over.
//!
//! While one flush runs, jobs gather; the next write takes them all and one flush covers them (group commit). No timer: a lone vote or
//! entry is flushed at once, load makes groups by itself. A job is answered after the flush that covers it, in order.
//!
//! When nothing has come for a while, a seal is written: a frame that says that everything before it is durable. Without it, damage to
//! the very last group could be taken for a torn tail, and an acknowledged vote would be cut off.
//!
//! A write that finds no space is tried again until it does: an entry that was taken over cannot be given back, and a full disk is no
//! damage. The first write or flush that fails otherwise is final. What is on disk is not known after it, and trying again would prove nothing; every job
//! from then on is refused, until a restart reads the files again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_env::fs::{DirLock, is_out_of_space};

use super::files::Files;
use super::record::{Record, Summary};

/// A group is closed at this size, so that a flush stays short and the group's buffer small.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long nothing must come before the log is sealed: long enough that a busy log never pays for seals.
const SEAL_AFTER: Duration = Duration::from_millis(50);

/// Between two attempts to write on a full disk.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(100);

/// Answers a job once it is durable, or never will be. Called on the flusher's thread: it must not block.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What is to be made durable together.
pub(crate) struct Job {
    pub(super) records: Vec<Record>,
    pub(super) done: Done,
}

pub(crate) enum Order {
    Job(Job),
    /// Finish what was handed over before, then end. Jobs behind it are refused.
    Close,
}

/// What the flusher has done in this life.
#[derive(Debug, Default)]
pub struct LogCounters {
    flush_count: AtomicU64,
    record_count: AtomicU64,
    seal_count: AtomicU64,
}

impl LogCounters {
    /// Flushes of groups; each covers at least one vote, entry, truncation or purge.
    pub fn flush_count(&self) -> u64 {
        self.flush_count.load(Ordering::Relaxed)
    }

    /// Votes, entries, truncations and purges made durable.
    pub fn record_count(&self) -> u64 {
        self.record_count.load(Ordering::Relaxed)
    }

    /// Flushes of seals.
    pub fn seal_count(&self) -> u64 {
        self.seal_count.load(Ordering::Relaxed)
    }
}

/// Where jobs are handed over. Clones share it.
///
/// It has no bound of its own: whoever hands over an entry waits for it, and their number is bounded.
#[derive(Clone)]
pub(super) enum Jobs {
    Thread(Sender<Order>),
    /// `None` once closed.
    Inline(Arc<Mutex<Option<Inline>>>),
}

/// A log that is written in the thread of whoever hands over: in a simulation, where no other may run. It is sealed at its end only.
pub(crate) struct Inline {
    flusher: Flusher,
    _guard: Box<dyn DirLock>,
}

/// What writes, for whoever must see it end.
pub(crate) enum LogWriter {
    Thread {
        messages: Sender<Order>,
        /// Nobody waits for a full disk any more.
        closing: Arc<AtomicBool>,
        thread: JoinHandle<()>,
    },
    Inline(Arc<Mutex<Option<Inline>>>),
}

impl Jobs {
    /// Gives the job back when nothing is written any more.
    pub(super) fn hand_over(&self, job: Job) -> Result<(), Job> {
        match self {
            Self::Thread(messages) => match messages.send(Order::Job(job)) {
                Err(SendError(Order::Job(job))) => Err(job),
                _ => Ok(()),
            },
            Self::Inline(writer) => match &mut *writer.lock() {
                Some(Inline { flusher, .. }) => {
                    flusher.commit(vec![job]);
                    Ok(())
                }
                None => Err(job),
            },
        }
    }
}

impl LogWriter {
    /// Waits until everything handed over is durable and the files are closed.
    pub(crate) async fn close(self) {
        match self {
            Self::Thread { messages, closing, thread } => {
                closing.store(true, Ordering::Release);
                // A closed channel means that the thread has ended already.
                let _ = messages.send(Order::Close);
                let joined = tokio::task::spawn_blocking(move || thread.join()).await;
                if !matches!(joined, Ok(Ok(()))) {
                    tracing::error!("the thread of the Raft log ended in a panic");
                }
            }
            Self::Inline(writer) => {
                if let Some(Inline { mut flusher, .. }) = writer.lock().take()
                    && !flusher.sealed
                {
                    flusher.seal();
                }
            }
        }
    }
}

/// Writes groups of jobs; see the module.
pub(super) struct Flusher {
    files: Files,
    /// The log as written, for the header of the next file.
    summary: Summary,
    file_bytes_max: u64,
    counters: Arc<LogCounters>,
    closing: Arc<AtomicBool>,
    failed: Option<Arc<io::Error>>,
    /// Nothing was written since the last seal.
    sealed: bool,
}

impl Flusher {
    pub(super) fn new(
        files: Files,
        summary: Summary,
        file_bytes_max: u64,
        counters: Arc<LogCounters>,
    ) -> Self {
        let closing = Arc::default();
        Self { files, summary, file_bytes_max, counters, closing, failed: None, sealed: true }
    }

    /// Starts the thread; it ends when closed or when the last sender is dropped, and only then drops `guard`.
    pub(super) fn start(self, guard: Box<dyn DirLock>) -> io::Result<(Jobs, LogWriter)> {
        let (messages, waiting) = channel();
        let closing = Arc::clone(&self.closing);
        let thread = std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || {
            self.run(&waiting);
            drop(guard);
        })?;
        let jobs = Jobs::Thread(messages.clone());
        Ok((jobs, LogWriter::Thread { messages, closing, thread }))
    }

    /// Without a thread.
    pub(super) fn inline(self, guard: Box<dyn DirLock>) -> (Jobs, LogWriter) {
        let writer = Arc::new(Mutex::new(Some(Inline { flusher: self, _guard: guard })));
        (Jobs::Inline(Arc::clone(&writer)), LogWriter::Inline(writer))
    }

    fn run(mut self, waiting: &Receiver<Order>) {
        let mut closing = false;
        while !closing {
            let first = if self.sealed {
                waiting.recv().map_err(RecvTimeoutError::from)
            } else {
                waiting.recv_timeout(SEAL_AFTER)
            };
            match first {
                Ok(Order::Job(first)) => {
                    let (group, close) = gather(first, waiting);
                    self.commit(group);
                    closing = close;
                }
                Err(RecvTimeoutError::Timeout) => self.seal(),
                Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => closing = true,
            }
        }
        if !self.sealed {
            self.seal();
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let result = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.write(&group).map_err(|error| self.fail(error)),
        };
        for job in group {
            (job.done)(result.as_ref().copied().map_err(refusal));
        }
    }

    fn write(&mut self, group: &[Job]) -> io::Result<()> {
        if self.files.active_bytes() >= self.file_bytes_max {
            self.files.roll(&self.summary)?;
        }
        let records = || group.iter().flat_map(|job| &job.records);
        self.write_patiently(group)?;
        self.sealed = false;
        let mut purged = None;
        for record in records() {
            self.summary.follow(record);
            if let Record::Purged(last) = record {
                purged = Some(*last);
            }
        }
        self.counters.flush_count.fetch_add(1, Ordering::Relaxed);
        self.counters.record_count.fetch_add(records().count() as u64, Ordering::Relaxed);
        // The marker is durable: now the files may go.
        if let Some(purged) = purged
            && let Err(error) = self.files.delete_purged(purged)
        {
            tracing::warn!(%error, "purged files of the Raft log were not deleted; the next purge tries again");
        }
        Ok(())
    }

    fn write_patiently(&mut self, group: &[Job]) -> io::Result<()> {
        let mut waited = false;
        loop {
            let written = self.files.write(group.iter().flat_map(|job| &job.records));
            match written {
                Err(error) if is_out_of_space(&error) && !self.closing.load(Ordering::Acquire) => {
                    if !waited {
                        tracing::warn!(%error, "the Raft log waits for space: nothing is decided meanwhile");
                    }
                    waited = true;
                    std::thread::sleep(NO_SPACE_PAUSE);
                }
                written => {
                    if waited && written.is_ok() {
                        tracing::info!("the Raft log found space again");
                    }
                    return written;
                }
            }
        }
    }

    fn seal(&mut self) {
        self.sealed = true;
        if self.failed.is_some() {
            return;
        }
        match self.files.write(std::iter::once(&Record::Seal)) {
            Ok(()) => {
                self.counters.seal_count.fetch_add(1, Ordering::Relaxed);
            }
            // A little later, then.
            Err(error) if is_out_of_space(&error) => self.sealed = false,
            Err(error) => {
                self.fail(error);
            }
        }
    }

    fn fail(&mut self, error: io::Error) -> Arc<io::Error> {
        tracing::error!(%error, "the Raft log failed; this node takes no further part until it is restarted");
        let error = Arc::new(error);
        self.failed = Some(error.clone());
        error
    }
}

/// Takes what is waiting, up to the size of a group. Also says whether the thread is to end after it.
fn gather(first: Job, waiting: &Receiver<Order>) -> (Vec<Job>, bool) {
    let mut size_bytes = job_bytes(&first);
    let mut group = vec![first];
    while size_bytes < GROUP_BYTES_MAX {
        match waiting.try_recv() {
            Ok(Order::Job(job)) => {
                size_bytes += job_bytes(&job);
                group.push(job);
            }
            Ok(Order::Close) => return (group, true),
            Err(_) => break,
        }
    }
    (group, false)
}

fn job_bytes(job: &Job) -> usize {
    job.records.iter().map(Record::size_bytes).sum()
}

fn refusal(error: &Arc<io::Error>) -> io::Error {
    io::Error::new(error.kind(), format!("the Raft log failed: {error}"))
}
