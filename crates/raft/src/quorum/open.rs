//! Opens a member's directory and checks that what is in it belongs together, before the consensus library trusts it.
//!
//! ```text
//! <dir>/quorum.meta   whose disk this is
//! <dir>/log/          votes and entries: the truth
//! <dir>/snapshots/    the newest snapshot: the truth up to its position
//! <dir>/state/        materialised keys and values: rebuildable from the two above
//! ```
//!
//! The library would fill gaps between them by forgetting: it takes a log that ends before the applied state for one that a snapshot has
//! overtaken, and an absent snapshot for an empty one. Both are refused here.

use std::path::Path;
use std::sync::Arc;

use thalweg_env::fs::{DirLock, create_dir_all};
use thalweg_types::DirId;

use super::{QuorumOptions, Threads};
use crate::apply::Applier;
use crate::error::StartError;
use crate::identity::{self, Identity};
use crate::kv::{self, AppliedState, Entries, GuardedKv, KvError, KvKind};
use crate::log::{LogCounters, LogExtent, LogStore, OpenedLog};
use crate::machine::StateMachine;
use crate::snapshot::{SnapshotError, SnapshotStore};
use crate::types::LogId;

/// Everything a member runs on.
pub(crate) struct Opened<M> {
    pub(crate) log: LogStore,
    pub(crate) applier: Applier<M>,
    pub(crate) counters: Arc<LogCounters>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Zero for the voter of a quorum of one that was made before disks had identities.
    pub(crate) dir_id: DirId,
    pub(super) threads: Threads,
}

/// Blocks on the disk.
pub(crate) fn open<M: StateMachine>(
    options: &QuorumOptions,
    mut machine: M,
) -> Result<Opened<M>, StartError> {
    let log_dir = options.dir.join("log");
    let snapshot_dir = options.dir.join("snapshots");
    create_dirs(options, &log_dir, &snapshot_dir)?;
    let lock = lock(options)?;
    let identity = read_identity(options, &log_dir)?;
    let (fs, bytes_max) = (options.fs.clone(), options.log_file_bytes_max);
    let OpenedLog { store, writer, counters } =
        LogStore::open(fs, &log_dir, bytes_max, lock, options.is_simulated)?;
    let snapshots = SnapshotStore::open(options.fs.clone(), &snapshot_dir)?;

    let state_dir = options.dir.join("state");
    let (kv, applied) = load_state(options.kv, &state_dir, &mut machine)?;
    let snapshot = snapshots.current().and_then(|(applied, _)| applied.last);
    check_consistent(&options.dir, &store.extent(), applied.last, snapshot)?;
    let extent = store.extent();
    let is_new = extent.vote.is_none() && extent.last.is_none() && snapshot.is_none();
    let dir_id = match identity {
        Some(identity) => identity.dir_id,
        None if is_new => give_identity(options)?,
        None => DirId::ZERO,
    };

    let (kv, kv_thread) = kv::start(kv, options.is_simulated)
        .map_err(StartError::io("start the thread that writes", &state_dir))?;
    let snapshots = Arc::new(snapshots);
    let applier = Applier::new(machine, applied, kv.clone(), Arc::clone(&snapshots));
    Ok(Opened {
        log: store,
        applier,
        counters,
        snapshots,
        dir_id,
        threads: Threads { kv, kv_thread, log_writer: writer },
    })
}

/// Durably. A directory that is there may have been made by a life that ended before its name was flushed: as long as the log is empty,
/// nothing has been promised and the names are flushed (again).
fn create_dirs(options: &QuorumOptions, log: &Path, snapshots: &Path) -> Result<(), StartError> {
    let fs = options.fs.as_ref();
    create_dir_all(fs, &options.dir).map_err(StartError::io("create", &options.dir))?;
    for dir in [log, snapshots] {
        match fs.create_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StartError::io("create", dir)(error));
            }
            _ => {}
        }
    }
    if fs.list(log).map_err(StartError::io("list", log))?.is_empty() {
        let parent = options.dir.parent().unwrap_or(&options.dir);
        fs.sync_dir(parent).map_err(StartError::io("sync", parent))?;
        fs.sync_dir(&options.dir).map_err(StartError::io("sync", &options.dir))?;
    }
    Ok(())
}

fn lock(options: &QuorumOptions) -> Result<Box<dyn DirLock>, StartError> {
    options.fs.lock_dir(&options.dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => StartError::InUse { dir: options.dir.clone() },
        _ => StartError::io("lock", &options.dir)(error),
    })
}

/// Loads the machine from the stored state. State that is damaged, or that its owner cannot read, is set aside: the machine starts
/// empty and snapshot and log bring it back.
fn load_state<M: StateMachine>(
    kind: KvKind,
    dir: &Path,
    machine: &mut M,
) -> Result<(GuardedKv, AppliedState), StartError> {
    let cause = match open_state(kind, dir) {
        Ok((kv, entries)) => match machine.load(entries) {
            Ok(()) => {
                let applied = kv.applied().clone();
                return Ok((kv, applied));
            }
            Err(error) => error.to_string(),
        },
        Err(KvError::Damaged(cause)) => cause,
        Err(error) => return Err(error.into()),
    };
    tracing::error!(%cause, dir = %dir.display(), "setting the stored state aside; it is rebuilt from snapshot and log");
    kv::set_aside(kind, dir)?;
    let (kv, entries) = open_state(kind, dir)?;
    machine.load(entries)?;
    Ok((kv, AppliedState::default()))
}

fn open_state(kind: KvKind, dir: &Path) -> Result<(GuardedKv, Entries), KvError> {
    GuardedKv::load(kv::open(kind, dir)?)
}

/// Whose disk this is. An identity is written after the log's first file, so that one without the other means a lost log.
fn read_identity(options: &QuorumOptions, log: &Path) -> Result<Option<Identity>, StartError> {
    let identity = identity::read(options.fs.as_ref(), &options.dir)?;
    let Some(found) = identity else { return Ok(None) };
    if found.node_id != options.voter_id()? {
        return Err(StartError::NotAMember {
            dir: options.dir.clone(),
            node_id: options.node_id,
            found: format!("it belongs to node {}", found.node_id),
        });
    }
    if options.fs.list(log).map_err(StartError::io("list", log))?.is_empty() {
        return Err(StartError::VoteLost { dir: options.dir.clone() });
    }
    Ok(identity)
}

/// Before the disk holds anything, and never afterwards.
fn give_identity(options: &QuorumOptions) -> Result<DirId, StartError> {
    let identity = Identity { node_id: options.voter_id()?, dir_id: options.new_dir_id };
    if identity.dir_id.is_zero() {
        return Err(StartError::NoIdentity);
    }
    identity::write(options.fs.as_ref(), &options.dir, identity)?;
    Ok(identity.dir_id)
}

/// Refuses what cannot come from this member's own life.
fn check_consistent(
    dir: &Path,
    log: &LogExtent,
    applied: Option<LogId>,
    snapshot: Option<LogId>,
) -> Result<(), StartError> {
    let reached = applied.max(snapshot);
    if let Some(purged) = log.purged
        && reached < Some(purged)
    {
        return Err(StartError::StateLost {
            dir: dir.to_owned(),
            purged: purged.index,
            found: format!(
                "snapshot up to {}, stored state up to {}",
                shown(snapshot),
                shown(applied)
            ),
        });
    }
    // A snapshot may be ahead of the log, when a crash hit between installing it and purging what it covers. But a member that has
    // either has voted.
    let accounted_for = log.last.max(snapshot);
    if let Some(reached) = reached
        && (applied > accounted_for || log.vote.is_none())
    {
        return Err(StartError::LogLost {
            dir: dir.to_owned(),
            applied: reached.index,
            last: shown(log.last),
        });
    }
    Ok(())
}

fn shown(id: Option<LogId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| format!("index {}", id.index))
}

impl From<SnapshotError> for StartError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Io { action, path, source } => Self::Io { action, path, source },
            SnapshotError::Damaged { path, cause } => {
                Self::Engine(format!("{} is damaged: {cause}", path.display()))
            }
        }
    }
}
