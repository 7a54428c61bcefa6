//! What the logs of a dir share: its health, its memory, its journal, and the signals to its threads.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};
use thalweg_env::Clock;
use thalweg_env::fs::Fs;
use thalweg_types::TopicIdPartition;

use super::LogObserver;
use super::space::{DiskSpace, Room};
use crate::error::{AppendError, DirFailed};
use crate::journal::{Journal, Written};
use crate::open_files::OpenFiles;
use crate::read_buffers::ReadBuffers;
use crate::segment::Segment;
use crate::tail::TailBudget;

/// What the logs of a dir share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) path: PathBuf,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) room: Room,
    pub(crate) open_files: Arc<OpenFiles>,
    pub(crate) read_buffers: Arc<ReadBuffers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn LogObserver>,
    pub(super) journal: OnceLock<Journal>,
    pub(crate) tail_budget: TailBudget,
    pub(super) tail_bytes_max: u64,
    pub(super) evict_below: AtomicU64,
    pub(super) failed: OnceLock<DirFailed>,
    pub(super) failure_reported: AtomicBool,
    pub(super) room_wanted: AtomicBool,
    /// Segments that retention gave up; their files go when a checkpoint that does not need them is durable.
    pub(super) doomed: Mutex<Vec<(TopicIdPartition, Arc<Segment>)>>,
    pub(super) flush_wanted: AtomicBool,
    pub(super) write_wanted: AtomicBool,
    pub(super) stop: AtomicBool,
    /// Threads that share work on very many logs; one where a test does the steps itself.
    pub(super) workers: usize,
    pub(super) signal: Mutex<()>,
    pub(super) flusher: Condvar,
    pub(super) writer: Condvar,
}

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

    pub(super) fn report_failure(&self) {
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

    pub(super) fn wake_writer(&self) {
        if !self.write_wanted.swap(true, Ordering::AcqRel) {
            let _guard = self.signal.lock();
            self.writer.notify_one();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _guard = self.signal.lock();
        self.flusher.notify_all();
        self.writer.notify_all();
    }

    /// Whether segments must be written now, not only what fills ended journal files.
    pub(super) fn is_short(&self) -> bool {
        self.tail_budget.unwritten_bytes() > self.tail_bytes_max / 2 || !self.journal().has_room()
    }

    pub(crate) fn tail_has_space(&self, bytes: usize) -> bool {
        self.tail_budget.unwritten_bytes() + bytes as u64 <= self.tail_bytes_max
    }

    pub(super) fn has_room(&self) -> bool {
        self.tail_budget.unwritten_bytes() <= self.tail_bytes_max / 4 * 3
            && self.journal().has_room()
    }

    pub(super) fn room(&self) -> bool {
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

    /// Refuses what would be written below the reserve.
    pub(crate) fn check_space(&self, is_internal: bool) -> Result<(), AppendError> {
        if self.room.admits(is_internal) {
            return Ok(());
        }
        Err(self.no_space())
    }

    pub(crate) fn no_space(&self) -> AppendError {
        let DiskSpace { available_bytes, reserve_bytes, .. } = self.room.space();
        AppendError::NoSpace { available_bytes, reserve_bytes }
    }

    /// Looks how much of the disk is left, and tells when that makes a difference.
    pub(super) fn measure_space(&self) {
        self.room.measure(&*self.fs, &self.path);
        let Some(is_low) = self.room.take_change() else { return };
        let DiskSpace { available_bytes, reserve_bytes, .. } = self.room.space();
        let path = self.path.display();
        if is_low {
            tracing::warn!(
                %path, available_bytes, reserve_bytes,
                "the disk is full: records and new topics are refused until space is freed; reads and deletions go on"
            );
        } else {
            tracing::info!(%path, available_bytes, reserve_bytes, "the disk has room again");
        }
        self.observer.disk_space_changed(is_low);
    }

    pub(super) fn report_room(&self) {
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
    pub(super) fn move_eviction(&self) {
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
}
