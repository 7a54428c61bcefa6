//! Opening a log dir: what the segments hold, then what the journal holds beyond them.
//!
//! The order matters. The mark of a clean stop is read and durably removed before any log is opened, so that it can never lie later.
//! Logs are brought to what their checkpoint and segments show; then the journal's entries are replayed above that; and before
//! anybody sees the result, all of it is durable. Everything is decided by content (offsets, epochs, checksums): the checkpoint only
//! says where looking may begin.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex, RwLock};
use thalweg_env::fs::{self, DirLock, EntryKind as FsEntry, Fs};
use thalweg_record::BatchHeader;
use thalweg_types::{
    BrokerEpoch, DirId, Offset, Timestamp, TopicIdPartition, TopicPartition, Uuid,
};

use super::space::Room;
use super::{Inner, LogDirOptions, Shared, Suspect};
use crate::checkpoint::{self, LogCheckpoint};
use crate::error::OpenError;
use crate::journal::{self, Entry, EntryKind, FoundEntry, Journal, JournalLimits};
use crate::layout::{self, StorageMeta};
use crate::log::Log;
use crate::open_files::OpenFiles;
use crate::parallel::{self, in_parallel};
use crate::tail::TailBudget;

mod folder;

/// The checkpoint of a dir with very many logs; larger is damage.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 30;

/// Sets a log's jitter apart from others'.
pub(super) fn jitter_seed(id: TopicIdPartition) -> u64 {
    let bytes = id.topic_id.0.as_bytes();
    let half = u64::from_be_bytes(bytes[8..].try_into().expect("half of 16 bytes"));
    half ^ u64::from(id.partition.0.cast_unsigned())
}

pub(super) fn open(options: LogDirOptions) -> Result<(Inner, Box<dyn DirLock>), OpenError> {
    let fs = Arc::clone(&options.fs);
    let path = options.path.clone();
    let at = |operation| {
        let path = path.clone();
        move |source| OpenError::Io { path, operation, source }
    };
    fs::create_dir_all(&*fs, &path).map_err(at("create"))?;
    let lock = fs.lock_dir(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { path: path.clone() },
        _ => at("lock")(source),
    })?;
    let meta = open_meta(&*fs, &options)?;
    let clean_mark =
        take_clean_mark(&*fs, &path, meta).map_err(at("read the clean-shutdown mark"))?;
    let was_clean = clean_mark.is_some();
    let checkpoints = read_checkpoint(&*fs, &path).map_err(at("read the checkpoint"))?;
    let covered = checkpoints.iter().flatten().map(|(_, log)| log.covered_position);
    let position_min = covered.max().unwrap_or(0);

    let shared = Arc::new(shared(&options));
    let mut replay = Replay {
        shared,
        checkpoints,
        was_clean,
        logs: BTreeMap::new(),
        missing: BTreeMap::new(),
        undecided: BTreeMap::new(),
        suspects: Vec::new(),
    };
    let trash = replay.open_folders().map_err(at("list"))?;

    let journal_dir = path.join(layout::JOURNAL_DIR);
    fs::create_dir_all(&*fs, &journal_dir).map_err(at("create the journal"))?;
    let found = journal::scan(&*fs, &journal_dir, position_min, |entry| {
        replay.apply(entry);
        Ok(())
    })?;
    replay.judge_missing();
    let limits = JournalLimits {
        file_bytes: options.journal_file_bytes,
        bytes_max: options.journal_bytes_max,
    };
    let journal =
        Journal::start(fs, journal_dir, limits, found).map_err(at("start the journal"))?;
    let Replay { shared, logs, suspects, .. } = replay;
    for log in logs.values() {
        log.recovered().map_err(at("finish a log"))?;
    }
    shared.journal.set(journal).expect("a new dir has no journal yet");
    shared.measure_space();
    let inner = Inner {
        shared,
        logs: RwLock::new(logs.into_iter().map(|(id, log)| (id, Arc::new(log))).collect()),
        folders: Mutex::new(()),
        suspects,
        was_clean,
        clean_session: clean_mark.flatten(),
        session: Mutex::new(None),
        meta: Mutex::new(meta),
        flushing: Mutex::new(()),
        writing: Mutex::new(()),
        trash: Mutex::new(trash),
    };
    Ok((inner, lock))
}

fn shared(options: &LogDirOptions) -> Shared {
    Shared {
        path: options.path.clone(),
        fs: Arc::clone(&options.fs),
        room: Room::new(options.reserve),
        open_files: Arc::new(OpenFiles::new(options.segment_files_max)),
        read_buffers: Arc::default(),
        clock: Arc::clone(&options.clock),
        observer: Arc::clone(&options.observer),
        journal: OnceLock::new(),
        tail_budget: TailBudget::default(),
        tail_bytes_max: options.tail_bytes_max,
        evict_below: AtomicU64::new(0),
        failed: OnceLock::new(),
        failure_reported: AtomicBool::new(false),
        room_wanted: AtomicBool::new(false),
        doomed: Mutex::new(Vec::new()),
        flush_wanted: AtomicBool::new(false),
        write_wanted: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        workers: if options.threads { parallel::workers() } else { 1 },
        signal: Mutex::new(()),
        flusher: Condvar::new(),
        writer: Condvar::new(),
    }
}

/// Reads `storage.meta`, if it is there.
pub(super) fn read_meta(fs: &dyn Fs, dir: &Path) -> Result<Option<StorageMeta>, OpenError> {
    let path = dir.join(layout::STORAGE_META);
    let text = match fs::read_whole(fs, &path, layout::TEXT_BYTES_MAX) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, operation: "read", source }),
    };
    let meta = String::from_utf8(text).ok().and_then(|text| StorageMeta::from_text(&text));
    let reason =
        "damaged, so it is not known whose disk this is. Restore it from a copy of this very disk";
    meta.map(Some).ok_or_else(|| OpenError::Corrupt { path, reason: reason.to_owned() })
}

/// Reads `storage.meta`, or gives a new dir its identity. A dir that holds partitions but no `storage.meta` is somebody's data with a
/// piece missing, not a new dir.
fn open_meta(fs: &dyn Fs, options: &LogDirOptions) -> Result<StorageMeta, OpenError> {
    let path = options.path.join(layout::STORAGE_META);
    let at = |operation| {
        let path = path.clone();
        move |source| OpenError::Io { path, operation, source }
    };
    if let Some(meta) = read_meta(fs, &options.path)? {
        return Ok(meta);
    }
    let used = fs.list(&options.path).map_err(at("list"))?.into_iter().any(|entry| {
        entry.kind == FsEntry::Directory && layout::parse_folder(&entry.name).is_some()
    });
    if used {
        let reason = "missing from a directory that holds partitions, so it is not known whose they are. Restore it from a copy of \
                      this very disk"
            .to_owned();
        return Err(OpenError::Corrupt { path, reason });
    }
    // It is there from now on: a missing one was lost.
    fs::replace_whole(fs, &options.path.join(layout::CHECKPOINT), &checkpoint::encode(&[]))
        .map_err(at("write a checkpoint beside"))?;
    let dir_id = DirId(Uuid::from_random_bits(options.random.next_u128()));
    let meta = StorageMeta { cluster_id: None, node_id: None, dir_id };
    fs::replace_whole(fs, &path, meta.to_text().as_bytes()).map_err(at("write"))?;
    Ok(meta)
}

/// The session in the mark of a clean stop, if that is there and of this dir. It is durably gone on return (R13).
fn take_clean_mark(
    fs: &dyn Fs,
    dir: &Path,
    meta: StorageMeta,
) -> io::Result<Option<Option<BrokerEpoch>>> {
    let path = dir.join(layout::CLEAN_SHUTDOWN);
    let Some(text) = fs::read_whole(fs, &path, layout::TEXT_BYTES_MAX)? else { return Ok(None) };
    fs.remove_file(&path)?;
    fs.sync_dir(dir)?;
    let text = std::str::from_utf8(&text).ok();
    Ok(text.and_then(|text| layout::session_in_clean_mark(text, meta.dir_id)))
}

fn read_checkpoint(
    fs: &dyn Fs,
    dir: &Path,
) -> io::Result<Option<HashMap<TopicIdPartition, LogCheckpoint>>> {
    let path = dir.join(layout::CHECKPOINT);
    let Some(bytes) = fs::read_whole(fs, &path, CHECKPOINT_BYTES_MAX)? else { return Ok(None) };
    let logs = checkpoint::decode(&bytes);
    if logs.is_none() {
        tracing::warn!(path = %path.display(), "the checkpoint is damaged: all logs are scanned");
    }
    Ok(logs.map(|logs| logs.into_iter().map(|log| (log.id, log)).collect()))
}

/// The state of a dir that is being put together.
struct Replay {
    shared: Arc<Shared>,
    /// `None` when there is no checkpoint file, or a damaged one.
    checkpoints: Option<HashMap<TopicIdPartition, LogCheckpoint>>,
    was_clean: bool,
    logs: BTreeMap<TopicIdPartition, Log>,
    /// First segments that are not there, and of which the journal has not yet told that they need not be.
    missing: BTreeMap<TopicIdPartition, folder::Missing>,
    /// Log ends that the journal says were taken back, and of which the folder does not know.
    undecided: BTreeMap<TopicIdPartition, Offset>,
    suspects: Vec<Suspect>,
}

impl Replay {
    /// Opens every partition's folder. Returns the folders of deleted ones and of those never finished.
    fn open_folders(&mut self) -> io::Result<Vec<PathBuf>> {
        let (mut trash, mut folders) = (Vec::new(), Vec::new());
        let dir = self.shared.path.clone();
        for entry in self.shared.fs.list(&dir)? {
            if entry.kind != FsEntry::Directory {
                continue;
            }
            let path = dir.join(&entry.name);
            let unwanted = [layout::DELETED_FOLDER_SUFFIX, layout::NEW_FOLDER_SUFFIX];
            if unwanted.iter().any(|suffix| entry.name.ends_with(suffix)) {
                trash.push(path);
            } else if let Some(name) = layout::parse_folder(&entry.name) {
                folders.push((name, path));
            }
        }
        let open = |(name, path): &(TopicPartition, PathBuf)| {
            folder::open(&self.shared, self.checkpoints.as_ref(), name, path, self.was_clean)
        };
        let opened = in_parallel(&folders, self.shared.workers, open)?;
        for ((name, _), opened) in folders.into_iter().zip(opened) {
            self.take_folder(name, opened)?;
        }
        Ok(trash)
    }

    fn take_folder(
        &mut self,
        name: TopicPartition,
        opened: Result<folder::Opened, folder::FolderError>,
    ) -> io::Result<()> {
        match opened {
            Ok(folder::Opened { log, missing }) => match self.logs.get(&log.id()) {
                None => {
                    self.missing.extend(missing.map(|missing| (log.id(), missing)));
                    self.logs.insert(log.id(), log);
                }
                Some(other) => {
                    let reason = format!("{} has the same topic id", other.topic_partition());
                    self.set_aside(name, Some(log.id()), reason);
                }
            },
            Err(folder::FolderError::Damaged { id, reason }) => self.set_aside(name, id, reason),
            Err(folder::FolderError::Io(error)) => return Err(error),
        }
        Ok(())
    }

    fn set_aside(&mut self, name: TopicPartition, id: Option<TopicIdPartition>, reason: String) {
        tracing::error!(partition = %name, %reason, "a damaged partition is not served");
        self.suspects.push(Suspect { name, id, reason });
    }

    /// Applies a journal entry to its log, unless the log's folder has it.
    fn apply(&mut self, found: &FoundEntry<'_>) {
        let id = found.entry.id;
        let Some(log) = self.logs.get(&id) else {
            // Deleted since, or set aside.
            return;
        };
        if found.position < log.covered_position() {
            return;
        }
        if let EntryKind::LogStart { to } = found.entry.kind
            && self.missing.get(&id).is_some_and(|missing| missing.first <= to)
        {
            self.missing.remove(&id);
        }
        let replayed = note_undecided(&mut self.undecided, log, &found.entry)
            .and_then(|()| replay_entry(log, found, self.shared.clock.now()));
        if let Err(reason) = replayed
            && let Some(log) = self.logs.remove(&id)
        {
            log.forget();
            self.set_aside(log.topic_partition().clone(), Some(id), reason);
        }
    }

    /// Sets aside the logs whose first segments nobody gave up.
    fn judge_missing(&mut self) {
        for (id, folder::Missing { log_start, first }) in std::mem::take(&mut self.missing) {
            let Some(log) = self.logs.remove(&id) else { continue };
            log.forget();
            let reason = format!(
                "the log begins at {log_start}, but the first segment is {first}: the one before it is missing"
            );
            self.set_aside(log.topic_partition().clone(), Some(id), reason);
        }
    }
}

/// After a truncation that was never decided, the log goes on where it ended. If it goes on below, its folder has lost what it knew.
fn note_undecided(
    undecided: &mut BTreeMap<TopicIdPartition, Offset>,
    log: &Log,
    entry: &Entry<'_>,
) -> Result<(), String> {
    match entry.kind {
        EntryKind::Truncation { to } => drop(undecided.insert(entry.id, to)),
        EntryKind::Batch { base_offset, .. } => {
            let to = undecided.remove(&entry.id);
            if to == Some(base_offset) && base_offset < log.offsets().log_end() {
                return Err(format!("its truncation to {base_offset} is not remembered"));
            }
        }
        EntryKind::EpochStart { .. } | EntryKind::LogStart { .. } => {}
    }
    Ok(())
}

/// Brings one entry's effect into a log. An error says what contradicts the log.
fn replay_entry(log: &Log, found: &FoundEntry<'_>, now: Timestamp) -> Result<(), String> {
    let (position, end_position) = (found.position, found.end_position);
    let offsets = log.offsets();
    let log_end = offsets.log_end();
    match found.entry.kind {
        EntryKind::Batch { rolled, batch, .. } => {
            let header = BatchHeader::parse(batch).map_err(|error| error.to_string())?;
            if header.next_offset() <= log_end {
                log.note_replayed(position, end_position);
                return Ok(());
            }
            // A buffer of its own: a slice would keep a whole read of the journal in memory.
            let bytes = bytes::Bytes::copy_from_slice(&found.frame.attachment);
            log.reappend(bytes, &header, rolled, position, end_position, now).map_err(|error| {
                format!("the journal has a batch at {}: {error}", header.base_offset)
            })
        }
        EntryKind::EpochStart { epoch, start_offset } => {
            // Below the log end, the batches themselves have told.
            if start_offset == log_end && epoch > log.leader_epoch() {
                log.replay_epoch(epoch);
            }
            log.note_replayed(position, end_position);
            Ok(())
        }
        // The folder does not say so: it was never decided.
        EntryKind::Truncation { .. } => {
            log.note_replayed(position, end_position);
            Ok(())
        }
        EntryKind::LogStart { to } => {
            log.replay_log_start(to);
            log.note_replayed(position, end_position);
            Ok(())
        }
    }
}
