//! Applies committed entries: the state machine in memory first, its keys and values behind it.
//!
//! An answer goes out as soon as the state in memory has the entry: it is committed, and the stored copy can always be rebuilt.
//! Snapshots are taken from the stored copy, as it is after everything applied so far, so that building one does not stop applying.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;
use thalweg_env::fs::is_out_of_space;
use thalweg_types::LogIndex;

use crate::kv::{AppliedState, KvError, KvHandle, PendingEntries};
use crate::machine::{KvChange, Position, StateMachine};
use crate::snapshot::{SnapshotError, SnapshotFile, SnapshotStore};
use crate::types::{Entry, LeaderId, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// Changes gathered into one stored batch: enough to make the batch's own cost small, bounded so that memory is.
const BATCH_CHANGES_MAX: usize = 4096;

/// Between two attempts to write a snapshot on a full disk.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);

/// The library's view of state machine, stored copy and snapshots.
pub(crate) struct Applier<M> {
    machine: M,
    applied: AppliedState,
    kv: KvHandle,
    snapshots: Arc<SnapshotStore>,
    progress: Progress,
}

/// Whose entry was applied last, for those who look at it from outside. At least as new as what the library says it has applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Option<(LeaderId, LogIndex)>>>);

impl Progress {
    fn publish(&self, applied: &AppliedState) {
        *self.0.lock() = applied.last.map(|last| (last.leader_id, applied.epoch));
    }

    /// Index of the first entry of `leader`, if the last applied entry is one of its entries.
    pub(crate) fn epoch_of(&self, leader: LeaderId) -> Option<LogIndex> {
        self.0.lock().filter(|(last, _)| *last == leader).map(|(_, epoch)| epoch)
    }
}

/// A snapshot in the making. What it will contain is decided when it is asked for, not when it is written.
pub(crate) struct SnapshotBuilder {
    contents: Result<PendingEntries, KvError>,
    snapshots: Arc<SnapshotStore>,
}

impl<M: StateMachine> Applier<M> {
    /// `machine` was loaded with the entries that `kv` holds, which are those of `applied`.
    pub(crate) fn new(
        machine: M,
        applied: AppliedState,
        kv: KvHandle,
        snapshots: Arc<SnapshotStore>,
    ) -> Self {
        let progress = Progress::default();
        progress.publish(&applied);
        Self { machine, applied, kv, snapshots, progress }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn apply_entry(&mut self, entry: &Entry, changes: &mut Vec<KvChange>) {
        self.applied.advance(entry.log_id);
        self.progress.publish(&self.applied);
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(facts) => {
                let at =
                    Position { index: LogIndex(entry.log_id.index), epoch: self.applied.epoch };
                changes.extend(self.machine.apply(at, &facts.0));
            }
            EntryPayload::Membership(membership) => {
                self.applied.membership =
                    StoredMembership::new(Some(entry.log_id), membership.clone());
            }
        }
    }

    async fn store(&self, changes: &mut Vec<KvChange>) -> io::Result<()> {
        self.kv.write(std::mem::take(changes), self.applied.clone()).await.map_err(io::Error::other)
    }
}

impl<M: StateMachine> RaftStateMachine<TypeConfig> for Applier<M> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + openraft::OptionalSend,
    {
        let mut changes = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            self.apply_entry(&entry, &mut changes);
            if let Some(responder) = responder {
                responder.send(());
            }
            if changes.len() >= BATCH_CHANGES_MAX {
                self.store(&mut changes).await?;
            }
        }
        self.store(&mut changes).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            contents: self.kv.request_entries().await,
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        file: SnapshotFile,
    ) -> io::Result<()> {
        let snapshots = self.snapshots.clone();
        let expected = meta.clone();
        // Checked whole before anything is replaced; then the file, then memory, then the stored copy: a crash between two of them
        // leaves a stored copy older than the snapshot, and the next start installs it again.
        let (applied, entries) = on_blocking_thread(move || -> Result<_, SnapshotError> {
            let (found, entries) = file.read()?;
            file.expect_meta(&expected, &found)?;
            snapshots.install(file, &found, &entries)?;
            Ok((found, entries))
        })
        .await?;
        self.load(entries.clone())?;
        self.applied = applied;
        self.progress.publish(&self.applied);
        self.kv.replace_all(entries, self.applied.clone()).await.map_err(io::Error::other)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let current = self.snapshots.current();
        Ok(current.map(|(applied, snapshot)| Snapshot { meta: applied.to_meta(), snapshot }))
    }
}

impl<M: StateMachine> Applier<M> {
    fn load(&mut self, entries: Vec<(Bytes, Bytes)>) -> io::Result<()> {
        self.machine
            .load(entries)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let answer = std::mem::replace(&mut self.contents, Err(KvError::Stopped));
        let contents = answer.map_err(io::Error::other)?.await;
        let (entries, applied) =
            contents.map_err(|_| io::Error::other(KvError::Stopped))?.map_err(io::Error::other)?;
        let meta = applied.to_meta();
        let entries = Arc::new(entries);
        let mut waited = false;
        loop {
            let (snapshots, applied) = (self.snapshots.clone(), applied.clone());
            let entries = Arc::clone(&entries);
            match on_blocking_thread(move || snapshots.write(&applied, &entries)).await {
                Ok(snapshot) => return Ok(Snapshot { meta, snapshot }),
                // An error would end this member; the log holds everything meanwhile.
                Err(error) if is_out_of_space(&error) => {
                    if !waited {
                        tracing::warn!(%error, "the snapshot waits for space");
                    }
                    waited = true;
                    tokio::time::sleep(NO_SPACE_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Err(SnapshotError::Io { source, .. })) if is_out_of_space(&source) => Err(source),
        Ok(result) => result.map_err(io::Error::other),
        Err(error) => Err(io::Error::other(error)),
    }
}
