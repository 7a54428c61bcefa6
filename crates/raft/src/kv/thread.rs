//! The thread that owns the materialised state, so that no runtime thread ever waits for its disk.
//!
//! Batches are handed over in the order of the log and written in that order; who asks for the entries gets them as they were after
//! everything handed over before. A failed write is final: the state in memory and on disk have parted, so all that follows is
//! refused and the quorum stops. A restart then rebuilds.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::guarded::{AppliedState, Entries};
use super::{GuardedKv, KvError};
use crate::machine::KvChange;

/// Batches that may wait for the disk before applying waits too. A batch holds what one round of applying changed.
const BATCHES_WAITING_MAX: usize = 256;

/// Hands work to the thread. Clones share it.
#[derive(Clone)]
pub(crate) struct KvHandle {
    jobs: mpsc::Sender<Job>,
    failure: Arc<Mutex<Option<KvError>>>,
}

/// The thread itself, for whoever must see it end.
pub(crate) struct KvThread {
    jobs: mpsc::Sender<Job>,
    ends: Ends,
}

enum Ends {
    Thread(JoinHandle<()>),
    /// In a simulation, where no other thread may run.
    Task(tokio::task::JoinHandle<()>),
}

/// The entries as of a request, and how far they were brought.
pub(crate) type PendingEntries = oneshot::Receiver<Result<(Entries, AppliedState), KvError>>;

type Reply<T> = oneshot::Sender<Result<T, KvError>>;

enum Job {
    Write { changes: Vec<KvChange>, applied: AppliedState },
    Replace { entries: Entries, applied: AppliedState, reply: Reply<()> },
    Entries { reply: Reply<(Entries, AppliedState)> },
    Close,
}

/// Starts the thread, or a task for a store that never blocks. It ends when closed, or when every handle is gone.
pub(crate) fn start(kv: GuardedKv, is_simulated: bool) -> io::Result<(KvHandle, KvThread)> {
    let (jobs, mut waiting) = mpsc::channel(BATCHES_WAITING_MAX);
    let failure = Arc::new(Mutex::new(None));
    let handle = KvHandle { jobs: jobs.clone(), failure: failure.clone() };
    let mut owner = Owner { kv, failure };
    let ends = match is_simulated {
        true => Ends::Task(tokio::spawn(async move {
            while waiting.recv().await.is_some_and(|job| owner.carry_out(job)) {}
            owner.close();
        })),
        false => {
            let thread = std::thread::Builder::new().name("raft-state".to_owned());
            Ends::Thread(thread.spawn(move || {
                while waiting.blocking_recv().is_some_and(|job| owner.carry_out(job)) {}
                owner.close();
            })?)
        }
    };
    Ok((handle, KvThread { jobs, ends }))
}

impl KvHandle {
    /// Queues a batch that brings the state to `applied`. Waits only when the disk is far behind.
    pub(crate) async fn write(
        &self,
        changes: Vec<KvChange>,
        applied: AppliedState,
    ) -> Result<(), KvError> {
        if let Some(error) = self.failure.lock().clone() {
            return Err(error);
        }
        self.send(Job::Write { changes, applied }).await
    }

    /// Replaces everything and flushes it.
    pub(crate) async fn replace_all(
        &self,
        entries: Entries,
        applied: AppliedState,
    ) -> Result<(), KvError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Replace { entries, applied, reply }).await?;
        answer.await.map_err(|_| self.stopped())?
    }

    /// Asks for everything as of now; the answer may be awaited later.
    pub(crate) async fn request_entries(&self) -> Result<PendingEntries, KvError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Entries { reply }).await?;
        Ok(answer)
    }

    async fn send(&self, job: Job) -> Result<(), KvError> {
        self.jobs.send(job).await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> KvError {
        self.failure.lock().clone().unwrap_or(KvError::Stopped)
    }
}

impl KvThread {
    /// Waits until everything handed over is written and flushed and the store is closed.
    pub(crate) async fn close(self) {
        // A closed channel means that the thread has ended already.
        let _ = self.jobs.send(Job::Close).await;
        let is_well = match self.ends {
            Ends::Thread(thread) => {
                let joined = tokio::task::spawn_blocking(move || thread.join()).await;
                matches!(joined, Ok(Ok(())))
            }
            Ends::Task(task) => task.await.is_ok(),
        };
        if !is_well {
            tracing::error!("the thread of the materialised state ended in a panic");
        }
    }
}

struct Owner {
    kv: GuardedKv,
    failure: Arc<Mutex<Option<KvError>>>,
}

impl Owner {
    /// Says whether to go on.
    fn carry_out(&mut self, job: Job) -> bool {
        let Self { kv, failure } = self;
        let failed = failure.lock().clone();
        match job {
            Job::Write { changes, applied } => {
                if failed.is_none() {
                    remember(failure, kv.write(&changes, applied));
                }
            }
            Job::Replace { entries, applied, reply } => {
                let replaced = refuse(failed).and_then(|()| {
                    kv.replace_all(&entries, applied)?;
                    kv.flush()
                });
                remember(failure, replaced.clone());
                answer(reply, replaced);
            }
            Job::Entries { reply } => {
                let read = refuse(failed).and_then(|()| kv.entries());
                answer(reply, read.map(|entries| (entries, kv.applied().clone())));
                // A snapshot is in the making, whose entries will be purged from the log: after a power cut, what is flushed here need
                // not be loaded from it again.
                if let Err(error) = kv.flush() {
                    remember(failure, Err(error));
                }
            }
            Job::Close => return false,
        }
        true
    }

    fn close(self) {
        if self.failure.lock().is_none()
            && let Err(error) = self.kv.flush()
        {
            // Only costs time: the next start applies more of the log.
            tracing::warn!(%error, "materialised state was not flushed at the end");
        }
    }
}

fn refuse(failed: Option<KvError>) -> Result<(), KvError> {
    failed.map_or(Ok(()), Err)
}

fn remember(failure: &Mutex<Option<KvError>>, result: Result<(), KvError>) {
    if let Err(error) = result {
        tracing::error!(%error, "materialised state failed; the quorum member stops at its next entry");
        failure.lock().get_or_insert(error);
    }
}

/// The asker may have gone.
fn answer<T>(reply: Reply<T>, result: Result<T, KvError>) {
    let _ = reply.send(result);
}
