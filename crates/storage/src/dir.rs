//! A log dir: one directory on one disk, its journal, its logs and its two threads.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use thalweg_env::fs::{self, DirLock, Fs, OpenMode};
use thalweg_env::{Clock, Random};
use thalweg_log_core::{LogConfig, PartitionLog};
use thalweg_types::{BrokerEpoch, Offset, TopicId, TopicIdPartition, TopicPartition};

use crate::checkpoint::ProducersAt;
use crate::damage::Damage;
use crate::error::{DirFailed, OpenError, StorageError};
use crate::layout::{self, StorageMeta};
use crate::log::{Log, LogParts, checkpoint_of};

mod recovery;
mod shared;
mod space;
mod work;

pub(crate) use shared::Shared;
pub use space::{DiskSpace, Reserve};

/// How to open a log dir.
#[derive(Debug, Clone)]
pub struct LogDirOptions {
    /// Created, with the directories above it, if missing.
    pub path: PathBuf,
    pub fs: Arc<dyn Fs>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub observer: Arc<dyn LogObserver>,
    /// Size of one journal file; bounds the largest batch. Default 32 MiB.
    pub journal_file_bytes: u64,
    /// Bound of all journal files together. Default 512 MiB.
    pub journal_bytes_max: u64,
    /// Memory for the newest batches of all logs. Default 256 MiB.
    pub tail_bytes_max: u64,
    /// Segment files open at a time, besides those that readers keep from deletion. One that is written past the page cache takes two
    /// descriptors. Default 256: at worst half of the 1024 that a process may usually have.
    pub segment_files_max: usize,
    /// What is left free of the file system. Default: automatic, with two segments of a GiB and the journal as the least.
    pub reserve: Reserve,
    /// Whether the dir flushes and writes behind by itself; tests may rather call the steps.
    pub threads: bool,
}

/// Who hears of progress. Called without the lock of any log held; must not create or delete logs.
pub trait LogObserver: std::fmt::Debug + Send + Sync + 'static {
    /// A flush made everything of this log below `durable_end` durable. Called once per log and flush, from the thread that flushed:
    /// keep it short.
    fn flushed(&self, log: &Arc<Log>, durable_end: Offset);

    /// The dir failed. Called once; nothing is flushed any more.
    fn failed(&self, error: &DirFailed);

    /// The disk has less left than the reserve, or more again. Called at each change.
    fn disk_space_changed(&self, _is_low: bool) {}

    /// There is room again after [`LogDir::room`] said no or an append was throttled.
    fn room_available(&self) {}
}

/// For tools and tests that look for themselves.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoObserver;

impl LogObserver for NoObserver {
    fn flushed(&self, _log: &Arc<Log>, _durable_end: Offset) {}
    fn failed(&self, _error: &DirFailed) {}
}

/// A partition whose files are damaged below what was durable. Its folder is left as it is; it has no [`Log`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub name: TopicPartition,
    /// Unknown when the damage is in `partition.metadata`.
    pub id: Option<TopicIdPartition>,
    pub reason: String,
}

/// An open log dir. Dropping it stops its threads without writing anything more, as if the process had died; call
/// [`LogDir::shutdown`] for a clean end.
#[derive(Debug)]
pub struct LogDir {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Box<dyn DirLock>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// Ordered, so that one seed is one run.
    logs: RwLock<BTreeMap<TopicIdPartition, Arc<Log>>>,
    /// Serialises creation and deletion of folders.
    folders: Mutex<()>,
    suspects: Vec<Suspect>,
    was_clean: bool,
    /// In the mark that the last owner left.
    clean_session: Option<BrokerEpoch>,
    /// The present owner's.
    session: Mutex<Option<BrokerEpoch>>,
    meta: Mutex<StorageMeta>,
    /// Held by whoever flushes, so that groups are reported in order.
    flushing: Mutex<()>,
    /// Held by whoever writes behind.
    writing: Mutex<()>,
    /// Folders of deleted partitions, to be removed.
    trash: Mutex<Vec<PathBuf>>,
}

impl LogDirOptions {
    /// Kafka-sized defaults.
    pub fn new(
        path: PathBuf,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        observer: Arc<dyn LogObserver>,
    ) -> Self {
        Self {
            path,
            fs,
            clock,
            random,
            observer,
            journal_file_bytes: 32 << 20,
            journal_bytes_max: 512 << 20,
            tail_bytes_max: 256 << 20,
            segment_files_max: 256,
            reserve: Reserve::Automatic { bytes_min: (2 << 30) + (512 << 20) },
            threads: true,
        }
    }
}

// ---- Opening and closing ----

impl LogDir {
    /// Opens a log dir and all its logs: reads the checkpoint, replays what the journal has beyond it. Everything found is durable on
    /// return. The time it takes is bounded by the size of the journal in use, not by the logs.
    pub fn open(options: LogDirOptions) -> Result<Self, OpenError> {
        let with_threads = options.threads;
        let (inner, lock) = recovery::open(options)?;
        let inner = Arc::new(inner);
        let dir = Self { inner, threads: Mutex::new(Vec::new()), _lock: lock };
        if with_threads {
            dir.start_threads()?;
        }
        Ok(dir)
    }

    fn start_threads(&self) -> Result<(), OpenError> {
        type Loop = fn(&Inner);
        let loops: [(&str, Loop); 2] =
            [("log-flush", Inner::flush_forever), ("log-write", Inner::write_behind_forever)];
        for (name, run) in loops {
            let inner = Arc::clone(&self.inner);
            let thread = std::thread::Builder::new().name(name.to_owned());
            let started = thread.spawn(move || run(&inner));
            let started = started.map_err(|source| OpenError::Io {
                path: self.inner.shared.path.clone(),
                operation: "start a thread",
                source,
            })?;
            self.threads.lock().push(started);
        }
        Ok(())
    }

    /// Flushes, writes all segments and the checkpoint, and leaves the mark of a clean stop. Nothing may be appended any more.
    pub fn shutdown(&self) -> Result<(), StorageError> {
        self.stop_threads();
        let inner = &self.inner;
        inner.shared.check_health()?;
        while inner.step_flush(false)? {}
        inner.write_all_behind()?;
        let text = layout::clean_mark(inner.meta.lock().dir_id, *inner.session.lock());
        let path = inner.shared.path.join(layout::CLEAN_SHUTDOWN);
        fs::replace_whole(&*inner.shared.fs, &path, text.as_bytes())
            .map_err(|error| inner.shared.fail("write the clean-shutdown mark", error))?;
        Ok(())
    }

    fn stop_threads(&self) {
        self.inner.shared.stop();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a log dir's thread had panicked");
            }
        }
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

// ---- The dir and its logs ----

impl LogDir {
    pub fn path(&self) -> &Path {
        &self.inner.shared.path
    }

    /// Whose dir is at `path`, without opening it or changing anything: `None` where there is no dir, or a new one. Waits for the disk.
    pub fn meta_at(fs: &dyn Fs, path: &Path) -> Result<Option<StorageMeta>, OpenError> {
        recovery::read_meta(fs, path)
    }

    /// Whose dir this is. A new dir has an id from its first opening on; cluster and node follow by [`LogDir::write_meta`].
    pub fn meta(&self) -> StorageMeta {
        *self.inner.meta.lock()
    }

    /// Replaces `storage.meta`; durable on return. The dir id should be the one [`LogDir::meta`] gave.
    pub fn write_meta(&self, meta: StorageMeta) -> Result<(), StorageError> {
        let shared = &self.inner.shared;
        let mut current = self.inner.meta.lock();
        let path = shared.path.join(layout::STORAGE_META);
        fs::replace_whole(&*shared.fs, &path, meta.to_text().as_bytes())
            .map_err(|source| StorageError::Io { path, operation: "write storage.meta", source })?;
        *current = meta;
        Ok(())
    }

    /// Whether the last user of this dir stopped cleanly.
    pub fn was_clean(&self) -> bool {
        self.inner.was_clean
    }

    /// The session in which the last user had this dir, if it stopped cleanly: what proves that nothing of that session was lost.
    pub fn clean_session(&self) -> Option<BrokerEpoch> {
        self.inner.clean_session
    }

    /// The session in which this dir is had from now on, for the mark of a clean stop.
    pub fn begin_session(&self, session: BrokerEpoch) {
        *self.inner.session.lock() = Some(session);
    }

    /// Partitions that were found damaged and are not served.
    pub fn suspects(&self) -> &[Suspect] {
        &self.inner.suspects
    }

    /// All logs, by topic id and partition.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.inner.logs.read().values().cloned().collect()
    }

    pub fn log(&self, id: &TopicIdPartition) -> Option<Arc<Log>> {
        self.inner.logs.read().get(id).cloned()
    }

    /// Creates an empty log; its folder is durable on return. Waits for the disk.
    pub fn create(
        &self,
        name: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Arc<Log>, StorageError> {
        let inner = &self.inner;
        let shared = &inner.shared;
        shared.check_health()?;
        let id = TopicIdPartition { topic_id, partition: name.partition };
        let _folders = inner.folders.lock();
        if inner.logs.read().contains_key(&id) {
            return Err(StorageError::Exists(id));
        }
        let folder = shared.path.join(name.to_string());
        let created_position = shared.journal().position();
        let metadata = layout::partition_metadata(topic_id, created_position);
        let making = layout::unserved_folder(&name, topic_id, layout::NEW_FOLDER_SUFFIX);
        let making = shared.path.join(making);
        create_folder(&*shared.fs, &making, &folder, &metadata).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                return StorageError::FolderTaken(name.clone());
            }
            // What stays of it would be in the way of the next attempt; if it cannot go either, that one will say so.
            let _ = fs::remove_dir_all(&*shared.fs, &making);
            if fs::is_out_of_space(&source) {
                return StorageError::NoSpace;
            }
            StorageError::Io { path: folder.clone(), operation: "create a log", source }
        })?;
        let core = PartitionLog::new(config, recovery::jitter_seed(id), shared.clock.now());
        let checkpoint = checkpoint_of(id, &core, created_position, ProducersAt::Empty);
        let parts = LogParts {
            id,
            name,
            folder,
            core,
            segments: BTreeMap::new(),
            checkpoint,
            is_checkpointed: true,
            snapshots: Vec::new(),
            sound_snapshot: None,
        };
        let log = Arc::new(Log::new(Arc::clone(shared), parts));
        inner.logs.write().insert(id, Arc::clone(&log));
        Ok(log)
    }

    /// Deletes a log: nothing is appended to it any more, its folder gets another name, durably, and is removed later. Readers keep what
    /// they hold. Waits for the disk.
    pub fn delete(&self, id: &TopicIdPartition) -> Result<(), StorageError> {
        let retired = self.retire(id, layout::DELETED_FOLDER_SUFFIX)?;
        self.inner.trash.lock().push(retired);
        self.inner.shared.wake_writer();
        Ok(())
    }

    /// Sets a log aside of which the cluster does not know: as [`LogDir::delete`], but its folder, brought up to date, stays, under a
    /// name that ends in `-stray`. Returns where. Waits for the disk.
    pub fn set_aside(&self, id: &TopicIdPartition) -> Result<PathBuf, StorageError> {
        // What only the journal has would be lost with the log's place in it.
        self.inner.write_all_behind()?;
        let log = self.log(id).ok_or(StorageError::Unknown(*id))?;
        let suffix = self.free_stray_suffix(log.topic_partition(), id.topic_id)?;
        self.retire(id, &suffix)
    }

    /// A suffix under which nothing was set aside yet: a partition's files may be damaged more than once.
    fn free_stray_suffix(
        &self,
        name: &TopicPartition,
        topic_id: TopicId,
    ) -> Result<String, StorageError> {
        let shared = &self.inner.shared;
        let mut number = 1_u64;
        loop {
            let suffix = match number {
                1 => layout::STRAY_FOLDER_SUFFIX.to_owned(),
                _ => format!("-{number}{}", layout::STRAY_FOLDER_SUFFIX),
            };
            let folder = shared.path.join(layout::unserved_folder(name, topic_id, &suffix));
            match shared.fs.kind(&folder) {
                Ok(None) => return Ok(suffix),
                Ok(Some(_)) => number += 1,
                Err(source) => {
                    let operation = "look for what was set aside before";
                    return Err(StorageError::Io { path: folder, operation, source });
                }
            }
        }
    }

    /// Sets the folder of a damaged partition aside, like [`LogDir::set_aside`], so that its replica can begin anew. Returns where it is;
    /// `None` when no folder of that partition was found damaged, or it is set aside already. Waits for the disk.
    pub fn set_suspect_aside(
        &self,
        id: &TopicIdPartition,
    ) -> Result<Option<PathBuf>, StorageError> {
        let inner = &self.inner;
        let shared = &inner.shared;
        let _folders = inner.folders.lock();
        let suspect = inner.suspects.iter().find(|suspect| suspect.id == Some(*id));
        let Some(suspect) = suspect.filter(|_| self.log(id).is_none()) else { return Ok(None) };
        let folder = shared.path.join(suspect.name.to_string());
        let suffix = self.free_stray_suffix(&suspect.name, id.topic_id)?;
        let aside = layout::unserved_folder(&suspect.name, id.topic_id, &suffix);
        let aside = shared.path.join(aside);
        let moved = match shared.fs.kind(&folder) {
            Ok(None) => return Ok(None),
            Ok(Some(_)) => {
                shared.fs.rename(&folder, &aside).and_then(|()| shared.fs.sync_dir(&shared.path))
            }
            Err(error) => Err(error),
        };
        let operation = "set a damaged log aside";
        moved.map_err(|source| StorageError::Io { path: folder, operation, source })?;
        Ok(Some(aside))
    }

    /// Takes a log out of service and gives its folder a name that says why; returns the new path.
    fn retire(&self, id: &TopicIdPartition, suffix: &str) -> Result<PathBuf, StorageError> {
        let inner = &self.inner;
        let shared = &inner.shared;
        let _folders = inner.folders.lock();
        // Nobody else renames or removes files of this log meanwhile, nor later: the folder's name may be taken by another one.
        let _writing = inner.writing.lock();
        let log = self.log(id).ok_or(StorageError::Unknown(*id))?;
        log.delete()?;
        shared.doomed.lock().retain(|(doomed, _)| doomed != id);
        inner.logs.write().remove(id);
        let retired = layout::unserved_folder(log.topic_partition(), id.topic_id, suffix);
        let target = shared.path.join(retired);
        shared.open_files.damages.forget_folder(log.folder());
        let renamed =
            shared.fs.rename(log.folder(), &target).and_then(|()| shared.fs.sync_dir(&shared.path));
        renamed.map_err(|source| StorageError::Io {
            path: log.folder().to_owned(),
            operation: "retire a log",
            source,
        })?;
        Ok(target)
    }

    /// Whether appends find room now. When not, [`LogObserver::room_available`] will be called.
    pub fn room(&self) -> bool {
        self.inner.shared.room()
    }

    /// The room on the disk as last measured, at most a second ago or so.
    pub fn disk_space(&self) -> DiskSpace {
        self.inner.shared.room.space()
    }

    /// Places in segments that readers found damaged in this process life, and that are still there.
    pub fn damages(&self) -> Vec<Damage> {
        self.inner.shared.open_files.damages.all()
    }

    /// The failure that ended this dir's service, if it has.
    pub fn failure(&self) -> Option<&DirFailed> {
        self.inner.shared.failed.get()
    }

    /// Bytes of recent batches in memory.
    pub fn tail_bytes(&self) -> u64 {
        self.inner.shared.tail_budget.bytes()
    }

    /// Segment files open now, besides those kept for readers of deleted segments.
    pub fn open_segment_files(&self) -> usize {
        self.inner.shared.open_files.count()
    }

    /// Flushes what has gathered, once, and reports it; says whether there was anything. What the flushing thread does.
    pub fn step_flush(&self) -> Result<bool, DirFailed> {
        self.inner.step_flush(false)
    }

    /// Writes segments, checkpoint and journal space once, as far as there is need; says whether anything was done. What the writing
    /// thread does.
    pub fn step_write_behind(&self) -> Result<bool, StorageError> {
        self.inner.step_write_behind()
    }

    /// Brings all segments up to date, whether there is need or not.
    pub fn write_all_behind(&self) -> Result<(), StorageError> {
        self.inner.write_all_behind()
    }
}

/// Makes a partition's folder with its `partition.metadata`, durably. It gets its name when it is whole: one that has a name and no
/// sound metadata was damaged, not cut short.
fn create_folder(fs: &dyn Fs, making: &Path, folder: &Path, metadata: &str) -> io::Result<()> {
    if fs.kind(folder)?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if fs.kind(making)?.is_some() {
        fs::remove_dir_all(fs, making)?;
    }
    fs.create_dir(making)?;
    let file = fs.open(&making.join(layout::PARTITION_METADATA), OpenMode::CreateOrTruncate)?;
    file.write_all_at(metadata.as_bytes(), 0)?;
    file.sync_all()?;
    fs.sync_dir(making)?;
    fs.rename(making, folder)?;
    fs.sync_dir(folder.parent().unwrap_or(folder))
}

#[cfg(test)]
pub(crate) mod tests;
