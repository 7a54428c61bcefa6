//! What a dir's two threads do: flush, and write behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thalweg_env::fs;
use thalweg_types::TopicIdPartition;

use super::Inner;
use crate::checkpoint::{self, LogCheckpoint};
use crate::error::{DirFailed, StorageError};
use crate::layout;
use crate::log::Log;
use crate::parallel::in_parallel;
use crate::segment::Segment;

/// How long appends that nobody waits for may stay unflushed when nothing else causes a flush.
const LAZY_FLUSH: Duration = Duration::from_secs(1);

/// How long the segment writer rests after a full disk.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(200);

// ---- Flushing ----

impl Inner {
    pub(super) fn step_flush(&self, only_awaited: bool) -> Result<bool, DirFailed> {
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
        let Some(mut group) = journal.begin_flush(only_awaited) else { return Ok(false) };
        if let Err(error) = journal.sync(&mut group) {
            return Err(self.shared.fail("flush the journal", error));
        }
        let position = group.position;
        for (id, covered) in group.covered {
            // A writer may have failed while the flush ran: what it would cover is not certain any more.
            self.shared.check_health()?;
            let log = self.logs.read().get(&id).cloned();
            if let Some(log) = log
                && let Some(durable_end) = log.flushed(covered, position)
            {
                self.shared.observer.flushed(&log, durable_end);
            }
        }
        // What was staged for this flush is not any more.
        self.shared.report_room();
        Ok(true)
    }

    pub(super) fn flush_forever(&self) {
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
    pub(super) fn step_write_behind(&self) -> Result<bool, StorageError> {
        let _writing = self.writing.lock();
        self.shared.check_health()?;
        // First, because it makes space for the rest.
        let mut done = self.empty_trash();
        self.shared.measure_space();
        let journal = self.shared.journal();
        let target = if self.shared.is_short() { u64::MAX } else { journal.write_behind_target() };
        done |= self.write_behind_noting_space(target)?;
        if !self.shared.room.is_low() {
            done |= journal.prepare_ahead().unwrap_or_else(|error| {
                // Not needed for anything acknowledged; appends create files or are throttled.
                tracing::warn!(%error, "cannot prepare a journal file");
                false
            });
        }
        self.evict();
        self.shared.report_room();
        Ok(done)
    }

    /// A pass that finds no space makes the dir refuse records; one that succeeds ends that.
    fn write_behind_noting_space(&self, target: u64) -> Result<bool, StorageError> {
        let written = self.write_behind_below(target);
        match &written {
            Ok(_) => self.shared.room.wrote(true),
            Err(StorageError::NoSpace) => self.shared.room.wrote(false),
            Err(_) => {}
        }
        self.shared.measure_space();
        written
    }

    pub(super) fn write_all_behind(&self) -> Result<(), StorageError> {
        let _writing = self.writing.lock();
        self.write_behind_noting_space(u64::MAX)?;
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
        let has_doomed = !doomed.is_empty();
        let doomed_logs: HashSet<_> = doomed.iter().map(|(id, _)| *id).collect();
        let is_due =
            |log: &&Arc<Log>| log.oldest_uncovered() < target || doomed_logs.contains(&log.id());
        let due: Vec<Arc<Log>> = logs.iter().filter(is_due).cloned().collect();
        let outcomes = in_parallel(&due, self.shared.workers, |log| log.write_behind())
            .map_err(|error| self.shared.fail("write segments", error))?;
        let mut written = HashMap::new();
        for (log, outcome) in due.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => drop(written.insert(log.id(), log)),
                Err(error) => return self.give_up_pass(error.into(), doomed),
            }
        }
        if !written.is_empty() || has_doomed {
            let checkpoints = match self.write_checkpoint(&logs) {
                Ok(checkpoints) => checkpoints,
                Err(error) => return self.give_up_pass(error, doomed),
            };
            for checkpoint in &checkpoints {
                if let Some(log) = written.get(&checkpoint.id) {
                    log.covered(checkpoint)
                        .map_err(|error| self.shared.fail("remove a snapshot", error))?;
                }
            }
            self.remove_doomed(doomed)?;
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
        Ok(!written.is_empty() || has_doomed)
    }

    /// Without space for segments or the checkpoint, deleted segments may still go where the journal alone remembers their deletion.
    /// Nothing else of the pass is lost: the next one does it again.
    fn give_up_pass(
        &self,
        error: StorageError,
        doomed: Vec<(TopicIdPartition, Arc<Segment>)>,
    ) -> Result<bool, StorageError> {
        if !matches!(error, StorageError::NoSpace) || doomed.is_empty() {
            self.shared.doomed.lock().extend(doomed);
            return Err(error);
        }
        self.step_flush(false)?;
        let is_forgotten = |id: &TopicIdPartition, segment: &Arc<Segment>| {
            self.logs.read().get(id).is_some_and(|log| log.is_forgotten(segment))
        };
        let (gone, kept): (Vec<_>, Vec<_>) =
            doomed.into_iter().partition(|(id, segment)| is_forgotten(id, segment));
        self.shared.doomed.lock().extend(kept);
        self.remove_doomed(gone)?;
        Err(error)
    }

    fn write_checkpoint(&self, logs: &[Arc<Log>]) -> Result<Vec<LogCheckpoint>, StorageError> {
        let present = logs.iter().filter(|log| !log.is_deleted());
        let logs: Vec<_> = present.filter_map(|log| log.checkpoint()).collect();
        let path = self.shared.path.join(layout::CHECKPOINT);
        let contents = checkpoint::encode(&logs);
        fs::replace_whole(&*self.shared.fs, &path, &contents).map_err(|error| {
            // Whatever of it was done: old or new, what is there is whole and true.
            if fs::is_out_of_space(&error) {
                return StorageError::NoSpace;
            }
            StorageError::from(self.shared.fail("write the checkpoint", error))
        })?;
        Ok(logs)
    }

    fn remove_doomed(
        &self,
        doomed: Vec<(TopicIdPartition, Arc<Segment>)>,
    ) -> Result<(), StorageError> {
        // One after the other let go of: deleting thousands keeps open only what readers hold.
        for (id, segment) in doomed {
            let log = self.logs.read().get(&id).cloned();
            let removed = log.map_or(Ok(()), |log| log.remove_doomed(&segment));
            match removed {
                Ok(()) => self.shared.open_files.damages.forget(&segment.path("log")),
                Err(error) if fs::is_out_of_space(&error) => {
                    self.shared.doomed.lock().push((id, segment));
                }
                Err(error) => return Err(self.shared.fail("delete a segment", error).into()),
            }
        }
        Ok(())
    }

    /// Removes the folders of deleted partitions. What cannot be removed is tried again at the next start.
    fn empty_trash(&self) -> bool {
        let trash = std::mem::take(&mut *self.trash.lock());
        for folder in &trash {
            if let Err(error) = fs::remove_dir_all(&*self.shared.fs, folder) {
                tracing::error!(path = %folder.display(), %error, "a deleted log cannot be removed");
            }
        }
        !trash.is_empty()
    }

    fn evict(&self) {
        let shared = &self.shared;
        shared.move_eviction();
        if shared.tail_budget.bytes() > shared.tail_bytes_max {
            let below = shared.evict_below();
            self.logs.read().values().for_each(|log| log.evict(below));
        }
    }

    pub(super) fn write_behind_forever(&self) {
        let shared = &self.shared;
        while !shared.is_stopping() {
            shared.write_wanted.store(false, Ordering::Release);
            let pause = match self.step_write_behind() {
                Ok(true) => continue,
                Ok(false) => LAZY_FLUSH,
                Err(StorageError::Failed(_)) => return,
                // Said when it began.
                Err(StorageError::NoSpace) => NO_SPACE_PAUSE,
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
