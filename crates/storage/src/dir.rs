//! A log dir: one directory on one disk, its journal, its logs and its two threads.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use thalweg_env::fs::{self, DirLock, Fs, OpenMode};
use thalweg_env::{Clock, Random};
use thalweg_log_core::{LogConfig, PartitionLog};
use thalweg_types::{Offset, TopicId, TopicIdPartition, TopicPartition};

use crate::checkpoint::{self, LogCheckpoint, ProducersAt};
use crate::error::{AppendError, DirFailed, OpenError, StorageError};
use crate::journal::{Journal, Written};
use crate::layout::{self, StorageMeta};
use crate::log::{Log, LogParts, WriteBehindError, checkpoint_of};
use crate::segment::Segment;
use crate::tail::TailBudget;

mod recovery;

/// How long appends that nobody waits for may stay unflushed when nothing else causes a flush.
const LAZY_FLUSH: Duration = Duration::from_secs(1);

/// How long the segment writer rests after a full disk.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(200);

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
    logs: RwLock<HashMap<TopicIdPartition, Arc<Log>>>,
    /// Serialises creation and deletion of folders.
    folders: Mutex<()>,
    suspects: Vec<Suspect>,
    was_clean: bool,
    meta: Mutex<StorageMeta>,
    /// Held by whoever flushes, so that groups are reported in order.
    flushing: Mutex<()>,
    /// Held by whoever writes behind.
    writing: Mutex<()>,
    /// Folders of deleted partitions, to be removed.
    trash: Mutex<Vec<PathBuf>>,
}

/// What the logs of a dir share.
#[derive(Debug)]
pub(crate) struct Shared {
    path: PathBuf,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    observer: Arc<dyn LogObserver>,
    journal: OnceLock<Journal>,
    pub(crate) tail_budget: TailBudget,
    tail_bytes_max: u64,
    evict_below: AtomicU64,
    failed: OnceLock<DirFailed>,
    failure_reported: AtomicBool,
    room_wanted: AtomicBool,
    /// Segments that retention gave up; their files go when a checkpoint that does not need them is durable.
    doomed: Mutex<Vec<(TopicIdPartition, Arc<Segment>)>>,
    flush_wanted: AtomicBool,
    write_wanted: AtomicBool,
    stop: AtomicBool,
    signal: Mutex<()>,
    flusher: Condvar,
    writer: Condvar,
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
        let text = layout::with_checksum(format!("directory.id={}\n", inner.meta.lock().dir_id));
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

    /// Partitions that were found damaged and are not served.
    pub fn suspects(&self) -> &[Suspect] {
        &self.inner.suspects
    }

    /// All logs, in no particular order.
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
        create_folder(&*shared.fs, &shared.path, &folder, &metadata).map_err(
            |source| match source.kind() {
                io::ErrorKind::AlreadyExists => StorageError::FolderTaken(name.clone()),
                _ => StorageError::Io { path: folder.clone(), operation: "create a log", source },
            },
        )?;
        let core = PartitionLog::new(config, recovery::jitter_seed(id), shared.clock.now());
        let checkpoint = checkpoint_of(id, &core, created_position, ProducersAt::Empty);
        let parts = LogParts {
            id,
            name,
            folder,
            core,
            segments: std::collections::BTreeMap::new(),
            checkpoint,
            is_checkpointed: true,
            snapshots: Vec::new(),
        };
        let log = Arc::new(Log::new(Arc::clone(shared), parts));
        inner.logs.write().insert(id, Arc::clone(&log));
        Ok(log)
    }

    /// Deletes a log: nothing is appended to it any more, its folder gets another name, durably, and is removed later. Readers keep what
    /// they hold. Waits for the disk.
    pub fn delete(&self, id: &TopicIdPartition) -> Result<(), StorageError> {
        let inner = &self.inner;
        let shared = &inner.shared;
        let _folders = inner.folders.lock();
        // Nobody else renames or removes files of this log meanwhile, nor later: the folder's name may be taken by another one.
        let _writing = inner.writing.lock();
        let log = self.log(id).ok_or(StorageError::Unknown(*id))?;
        log.delete()?;
        shared.doomed.lock().retain(|(doomed, _)| doomed != id);
        inner.logs.write().remove(id);
        let target = shared.path.join(layout::deleted_folder(log.topic_partition(), id.topic_id));
        let renamed =
            shared.fs.rename(log.folder(), &target).and_then(|()| shared.fs.sync_dir(&shared.path));
        renamed.map_err(|source| StorageError::Io {
            path: log.folder().to_owned(),
            operation: "delete a log",
            source,
        })?;
        inner.trash.lock().push(target);
        shared.wake_writer();
        Ok(())
    }

    /// Whether appends find room now. When not, [`LogObserver::room_available`] will be called.
    pub fn room(&self) -> bool {
        self.inner.shared.room()
    }

    /// The failure that ended this dir's service, if it has.
    pub fn failure(&self) -> Option<&DirFailed> {
        self.inner.shared.failed.get()
    }

    /// Bytes of recent batches in memory.
    pub fn tail_bytes(&self) -> u64 {
        self.inner.shared.tail_budget.bytes()
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

/// Makes a partition's folder with its `partition.metadata`, durably.
fn create_folder(fs: &dyn Fs, parent: &Path, folder: &Path, metadata: &str) -> io::Result<()> {
    fs.create_dir(folder)?;
    let file = fs.open(&folder.join(layout::PARTITION_METADATA), OpenMode::CreateOrTruncate)?;
    file.write_all_at(metadata.as_bytes(), 0)?;
    file.sync_all()?;
    fs.sync_dir(folder)?;
    fs.sync_dir(parent)
}

// ---- Flushing ----

impl Inner {
    fn step_flush(&self, only_awaited: bool) -> Result<bool, DirFailed> {
        let flushed = self.flush_group(only_awaited);
        if flushed.is_err() {
            self.shared.report_failure();
        }
        flushed
    }

    fn flush_group(&self, only_awaited: bool) -> Result<bool, DirFailed> {
        let _flushing = self.flushing.lock();
        self.shared.check_health()?;
        let journal = self.shared.journal();
        let Some(group) = journal.begin_flush(only_awaited) else { return Ok(false) };
        if let Err(error) = journal.sync(&group) {
            return Err(self.shared.fail("flush the journal", error));
        }
        for (id, covered) in group.covered {
            // A writer may have failed while the flush ran: what it would cover is not certain any more.
            self.shared.check_health()?;
            let log = self.logs.read().get(&id).cloned();
            if let Some(log) = log
                && let Some(durable_end) = log.flushed(covered)
            {
                self.shared.observer.flushed(&log, durable_end);
            }
        }
        Ok(true)
    }

    fn flush_forever(&self) {
        let shared = &self.shared;
        while !shared.is_stopping() {
            shared.flush_wanted.store(false, Ordering::Release);
            match self.step_flush(true) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return,
            }
            let mut guard = shared.signal.lock();
            if shared.flush_wanted.load(Ordering::Acquire) || shared.is_stopping() {
                continue;
            }
            let waited = shared.flusher.wait_for(&mut guard, LAZY_FLUSH);
            drop(guard);
            if waited.timed_out() && self.step_flush(false).is_err() {
                return;
            }
        }
    }
}

// ---- Writing behind ----

impl Inner {
    fn step_write_behind(&self) -> Result<bool, StorageError> {
        let _writing = self.writing.lock();
        self.shared.check_health()?;
        let journal = self.shared.journal();
        let target = if self.shared.is_short() { u64::MAX } else { journal.write_behind_target() };
        let mut done = self.write_behind_below(target)?;
        done |= self.empty_trash()?;
        done |= journal.prepare_ahead().unwrap_or_else(|error| {
            // Not needed for anything acknowledged; appends create files or are throttled.
            tracing::warn!(%error, "cannot prepare a journal file");
            false
        });
        self.evict();
        self.shared.report_room();
        Ok(done)
    }

    fn write_all_behind(&self) -> Result<(), StorageError> {
        let _writing = self.writing.lock();
        self.write_behind_below(u64::MAX)?;
        self.shared.report_room();
        Ok(())
    }

    /// One pass: segments of every log with frames below `target`, the checkpoint, then journal space and files that are not needed
    /// any more.
    fn write_behind_below(&self, target: u64) -> Result<bool, StorageError> {
        let journal = self.shared.journal();
        // Frames that others write meanwhile are above this.
        let free_limit = journal.write_behind_target();
        let doomed = std::mem::take(&mut *self.shared.doomed.lock());
        let logs: Vec<Arc<Log>> = self.logs.read().values().cloned().collect();
        let mut written = HashMap::new();
        for log in &logs {
            let is_due = log.oldest_uncovered() < target;
            if is_due || doomed.iter().any(|(id, _)| *id == log.id()) {
                match log.write_behind() {
                    Ok(()) => drop(written.insert(log.id(), Arc::clone(log))),
                    Err(error) => {
                        self.shared.doomed.lock().extend(doomed);
                        return Err(self.shared.no_space_or_failed(error));
                    }
                }
            }
        }
        if !written.is_empty() || !doomed.is_empty() {
            let checkpoints = self.write_checkpoint(&logs)?;
            for checkpoint in &checkpoints {
                if let Some(log) = written.get(&checkpoint.id) {
                    log.covered(checkpoint)
                        .map_err(|error| self.shared.fail("remove a snapshot", error))?;
                }
            }
            self.remove_doomed(&doomed)?;
        }
        // A file that still waits for its flush is not freed; on `replicated` topics nobody else hurries.
        if journal.has_unflushed_below(free_limit) {
            self.step_flush(false)?;
        }
        let oldest_needed = logs.iter().map(|log| log.oldest_uncovered_settled()).min();
        let oldest_needed = oldest_needed.unwrap_or(u64::MAX).min(free_limit);
        journal
            .free_below(oldest_needed)
            .map_err(|error| self.shared.fail("free journal files", error))?;
        Ok(!written.is_empty() || !doomed.is_empty())
    }

    fn write_checkpoint(&self, logs: &[Arc<Log>]) -> Result<Vec<LogCheckpoint>, StorageError> {
        let present = logs.iter().filter(|log| !log.is_deleted());
        let logs: Vec<_> = present.filter_map(|log| log.checkpoint()).collect();
        let path = self.shared.path.join(layout::CHECKPOINT);
        let contents = checkpoint::encode(&logs);
        fs::replace_whole(&*self.shared.fs, &path, &contents).map_err(|error| {
            match error.kind() {
                io::ErrorKind::StorageFull => StorageError::Throttled,
                _ => StorageError::from(self.shared.fail("write the checkpoint", error)),
            }
        })?;
        Ok(logs)
    }

    fn remove_doomed(
        &self,
        doomed: &[(TopicIdPartition, Arc<Segment>)],
    ) -> Result<(), StorageError> {
        for (_, segment) in doomed {
            let removed = segment.mark_deleted().and_then(|paths| {
                paths.iter().try_for_each(|path| self.shared.fs.remove_file(path))
            });
            removed.map_err(|error| self.shared.fail("delete a segment", error))?;
        }
        Ok(())
    }

    /// Removes the folders of deleted partitions.
    fn empty_trash(&self) -> Result<bool, StorageError> {
        let trash = std::mem::take(&mut *self.trash.lock());
        for folder in &trash {
            fs::remove_dir_all(&*self.shared.fs, folder).map_err(|source| StorageError::Io {
                path: folder.clone(),
                operation: "remove a deleted log",
                source,
            })?;
        }
        Ok(!trash.is_empty())
    }

    fn evict(&self) {
        let shared = &self.shared;
        shared.move_eviction();
        if shared.tail_budget.bytes() > shared.tail_bytes_max {
            let below = shared.evict_below();
            self.logs.read().values().for_each(|log| log.evict(below));
        }
    }

    fn write_behind_forever(&self) {
        let shared = &self.shared;
        while !shared.is_stopping() {
            shared.write_wanted.store(false, Ordering::Release);
            let pause = match self.step_write_behind() {
                Ok(true) => continue,
                Ok(false) => LAZY_FLUSH,
                Err(StorageError::Failed(_)) => return,
                Err(error) => {
                    tracing::warn!(%error, "segments cannot be written now");
                    NO_SPACE_PAUSE
                }
            };
            let mut guard = shared.signal.lock();
            if !shared.write_wanted.load(Ordering::Acquire) && !shared.is_stopping() {
                shared.writer.wait_for(&mut guard, pause);
            }
        }
    }
}

// ---- Shared ----

impl Shared {
    pub(crate) fn journal(&self) -> &Journal {
        self.journal.get().expect("set before the dir is given to anybody")
    }

    /// Ends this dir's service; the first reason stays.
    pub(crate) fn fail(&self, operation: &'static str, error: io::Error) -> DirFailed {
        let failed = DirFailed { path: self.path.clone(), operation, source: Arc::new(error) };
        if self.failed.set(failed.clone()).is_ok() {
            tracing::error!(error = %failed, "a log dir failed: nothing in it is acknowledged any more");
            // Locks may be held here: the observer hears of it from the flushing thread.
            self.flush_wanted.store(true, Ordering::Release);
            let _guard = self.signal.lock();
            self.flusher.notify_one();
        }
        self.failed.get().cloned().unwrap_or(failed)
    }

    fn report_failure(&self) {
        if let Some(failed) = self.failed.get()
            && !self.failure_reported.swap(true, Ordering::AcqRel)
        {
            self.observer.failed(failed);
        }
    }

    pub(crate) fn check_health(&self) -> Result<(), DirFailed> {
        self.failed.get().map_or(Ok(()), |failed| Err(failed.clone()))
    }

    /// A frame was written: wakes whoever has to act on it.
    pub(crate) fn appended(&self, written: &Written, awaited: bool) {
        if awaited && !self.flush_wanted.swap(true, Ordering::AcqRel) {
            let _guard = self.signal.lock();
            self.flusher.notify_one();
        }
        let over = self.tail_budget.bytes() > self.tail_bytes_max;
        if over {
            self.move_eviction();
        }
        if over || written.switched || self.tail_budget.unwritten_bytes() > self.tail_bytes_max / 2
        {
            self.wake_writer();
        }
    }

    fn wake_writer(&self) {
        if !self.write_wanted.swap(true, Ordering::AcqRel) {
            let _guard = self.signal.lock();
            self.writer.notify_one();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _guard = self.signal.lock();
        self.flusher.notify_all();
        self.writer.notify_all();
    }

    /// Whether segments must be written now, not only what fills ended journal files.
    fn is_short(&self) -> bool {
        self.tail_budget.unwritten_bytes() > self.tail_bytes_max / 2 || !self.journal().has_room()
    }

    pub(crate) fn tail_has_space(&self, bytes: usize) -> bool {
        self.tail_budget.unwritten_bytes() + bytes as u64 <= self.tail_bytes_max
    }

    fn has_room(&self) -> bool {
        self.tail_budget.unwritten_bytes() <= self.tail_bytes_max / 4 * 3
            && self.journal().has_room()
    }

    fn room(&self) -> bool {
        let has_room = self.has_room();
        if !has_room {
            self.room_wanted.store(true, Ordering::Release);
            self.wake_writer();
            // The writer may have made room just before it was told that somebody waits.
            return self.has_room();
        }
        has_room
    }

    pub(crate) fn throttled(&self) -> AppendError {
        self.room_wanted.store(true, Ordering::Release);
        self.wake_writer();
        AppendError::Throttled
    }

    fn report_room(&self) {
        if self.room_wanted.load(Ordering::Acquire)
            && self.has_room()
            && self.room_wanted.swap(false, Ordering::AcqRel)
        {
            self.observer.room_available();
        }
    }

    /// Stream position below which written batches leave memory when there are too many.
    pub(crate) fn evict_below(&self) -> u64 {
        self.evict_below.load(Ordering::Relaxed)
    }

    /// Batches that were journaled within the last three quarters of the budget's bytes stay.
    fn move_eviction(&self) {
        let kept = self.tail_bytes_max / 4 * 3;
        let below = self.journal().position().saturating_sub(kept);
        if self.tail_budget.bytes() > self.tail_bytes_max {
            self.evict_below.fetch_max(below, Ordering::Relaxed);
        }
    }

    pub(crate) fn doom(&self, id: TopicIdPartition, segments: impl Iterator<Item = Arc<Segment>>) {
        self.doomed.lock().extend(segments.map(|segment| (id, segment)));
        self.wake_writer();
    }

    fn no_space_or_failed(&self, error: WriteBehindError) -> StorageError {
        match error {
            WriteBehindError::NoSpace => StorageError::Throttled,
            WriteBehindError::Failed(failed) => StorageError::Failed(failed),
        }
    }
}

#[cfg(test)]
mod tests;
