//! Giving up old records: retention, DeleteRecords, deletion of the whole log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use thalweg_env::fs::{is_out_of_space, remove_file_if_there};
use thalweg_types::{Offset, Timestamp};

use super::write_behind::WriteBehindError;
use super::{Log, State};
use crate::error::{AppendError, StorageError};
use crate::journal::EntryKind;
use crate::segment::Segment;

/// What retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    pub segments_deleted: usize,
    /// Producers forgotten because they were not heard of for `producer.id.expiration.ms`.
    pub producers_expired: usize,
}

impl Log {
    /// Deletes the segments that retention no longer keeps, and ends the active one when it is past its age. May wait for the disk. Their files go after the next checkpoint.
    pub fn apply_retention(&self, now: Timestamp) -> Result<Retained, StorageError> {
        self.usable()?;
        let mut files = self.files.lock();
        let mut done = Retained::default();
        {
            let mut state = self.state.lock();
            done.producers_expired = state.core.expire_producers(now);
            if state.core.plan_retention(now).is_empty() {
                return Ok(done);
            }
        }
        // Files are deleted and begun at the end of what is written, so that should be everything.
        let is_full = match self.write_behind_holding(&mut files) {
            Ok(()) => false,
            Err(WriteBehindError::NoSpace) => true,
            Err(WriteBehindError::Failed(failed)) => return Err(failed.into()),
        };
        let mut state = self.state.lock();
        let mut plan = state.core.plan_retention(now);
        if is_full {
            // What is in files may go all the same: that is what makes space.
            plan.delete.retain(|expired| expired.base_offset < files.durable_active_base);
            plan.roll_active = false;
        }
        if plan.roll_active {
            if state.tail.unwritten().next().is_some() {
                // Somebody appended in between: not so old after all, or next time.
                return Ok(done);
            }
            self.begin_empty_segment(&mut state)?;
        }
        let Some(last) = plan.delete.last() else {
            state.core.apply_retention(&plan, now);
            return Ok(done);
        };
        let after_last = Offset(last.base_offset.0 + 1);
        let before = state.core.offsets().log_start();
        state.core.apply_retention(&plan, now);
        let to = state.core.offsets().log_start();
        if to > before {
            let end_offset = state.core.offsets().log_end();
            let noted =
                self.write_journal(&mut state, EntryKind::LogStart { to }, end_offset, false);
            match noted {
                Ok(_) => state.noted_log_start = Some(to),
                Err(error @ AppendError::Failed(_)) => return Err(append_error(error)),
                Err(_) => {}
            }
            // Without room in the journal it goes without a note: the files stay until a checkpoint has the new log start.
        }
        let kept = state.segments.split_off(&after_last);
        let doomed = std::mem::replace(&mut state.segments, kept);
        files.doomed.retain(|segment| segment.strong_count() > 0);
        files.doomed.extend(doomed.values().map(Arc::downgrade));
        state.tail.evict_below_offset(to, &self.shared.tail_budget);
        drop(state);
        done.segments_deleted = doomed.len();
        self.shared.doom(self.id, doomed.into_values());
        Ok(done)
    }

    /// Moves the log start (Kafka's DeleteRecords); [`Offset::NONE`] asks for everything that is committed. Journaled; the segments below
    /// go with the next retention. Returns the new log start.
    pub fn delete_records(&self, to: Offset) -> Result<Offset, StorageError> {
        self.usable()?;
        let mut state = self.state.lock();
        let to = state.core.decide_log_start(to)?;
        if to > state.core.offsets().log_start() {
            let end_offset = state.core.offsets().log_end();
            self.write_journal(&mut state, EntryKind::LogStart { to }, end_offset, true)
                .map_err(append_error)?;
            state.noted_log_start = Some(to);
            state.core.move_log_start(to);
        }
        Ok(to)
    }

    /// Whether a deleted segment's files may go before a checkpoint says so: the journal remembers, durably, that the log begins behind
    /// it, and no start will look for it. The caller has flushed the journal.
    pub(crate) fn is_forgotten(&self, segment: &Segment) -> bool {
        let files = self.files.lock();
        let state = self.state.lock();
        segment.base_offset < files.durable_active_base
            && state.noted_log_start >= Some(state.core.offsets().log_start())
    }

    /// Removes the files of a segment that retention gave up, unless a new beginning has done so and may use their names again. Readers
    /// keep what they hold.
    pub(crate) fn remove_doomed(&self, segment: &Segment) -> io::Result<()> {
        let _files = self.files.lock();
        if segment.is_cut() {
            return Ok(());
        }
        let paths = segment.mark_deleted()?;
        paths.iter().try_for_each(|path| self.shared.fs.remove_file(path))
    }

    /// A file for the segment that begins at the log end, durable before the ones before it go: its name remembers the log end.
    fn begin_empty_segment(&self, state: &mut State) -> Result<(), StorageError> {
        let base_offset = state.core.offsets().log_end();
        let segment = self.new_segment(base_offset);
        let created = segment.create_log().and_then(|()| self.shared.fs.sync_dir(&self.folder));
        if let Err(source) = created {
            if !is_out_of_space(&source) {
                return Err(self.shared.fail("begin a segment", source).into());
            }
            // A file that stays would be taken for the next segment at a start, while records go on into the present one.
            let fs = &*self.shared.fs;
            let removed = ["log", "index", "timeindex"]
                .iter()
                .try_for_each(|extension| remove_file_if_there(fs, &segment.path(extension)))
                .and_then(|()| fs.sync_dir(&self.folder));
            removed.map_err(|error| self.shared.fail("take back a segment", error))?;
            return Err(StorageError::NoSpace);
        }
        state.segments.insert(base_offset, Arc::new(segment));
        Ok(())
    }

    /// From now on nothing is appended, and readers find nothing.
    pub(crate) fn delete(&self) -> Result<(), StorageError> {
        let _files = self.files.lock();
        let mut state = self.state.lock();
        if self.deleted.swap(true, Ordering::AcqRel) {
            return Err(StorageError::Unknown(self.id));
        }
        state.tail.clear(&self.shared.tail_budget);
        for segment in std::mem::take(&mut state.segments).into_values() {
            segment.abandon();
        }
        Ok(())
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Lets go of memory when the log object is given up in recovery.
    pub(crate) fn forget(&self) {
        self.state.lock().tail.clear(&self.shared.tail_budget);
    }

    pub(super) fn usable(&self) -> Result<(), StorageError> {
        if self.is_deleted() {
            return Err(StorageError::Unknown(self.id));
        }
        Ok(self.shared.check_health()?)
    }
}

pub(super) fn append_error(error: AppendError) -> StorageError {
    match error {
        AppendError::Failed(failed) => StorageError::Failed(failed),
        // The rules are not asked and the frame is small, so it can only be room.
        _ => StorageError::Throttled,
    }
}
