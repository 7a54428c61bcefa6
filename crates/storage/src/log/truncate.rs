//! Taking back the log's end (R2), beginning anew elsewhere, and following the leader's log start: what a follower needs.
//!
//! A truncation is one critical section: everything up to the log end is brought to segments first, then, under the log's lock, the cut is
//! decided and carried out (`cut.rs`). So the journal has nothing below the cut that the folder lacks, and no append or read meets
//! half a cut. Slices that readers hold stay what they are; places on disk that they hold turn empty where they were cut.

use std::sync::Weak;

use thalweg_env::fs::{is_out_of_space, remove_file_if_there};
use thalweg_invariants::{TRUNCATION, check};
use thalweg_log_core::{PartitionLog, ProducerStates, SegmentFacts, TruncationPlan};
use thalweg_types::Offset;

use super::maintain::append_error;
use super::write_behind::{checkpoint_of, read_snapshot};
use super::{Files, Log, State};
use crate::checkpoint::ProducersAt;
use crate::cut;
use crate::error::{ReadError, StorageError};
use crate::journal::EntryKind;
use crate::layout;
use crate::segment::{Miss, Patience, Segment};

impl Log {
    /// Takes back everything from `to` on, and the batch that `to` lies in: records, indexes, epochs, producer states, durable end.
    /// Durable on return, with all that is left. Returns the new log end; a log that ends at or before `to` is left as it is. `unclean`
    /// says that an unclean election allows to lose what was committed (R2).
    ///
    /// Fails without having changed anything with [`StorageError::Truncate`] where the guard forbids it, [`StorageError::Read`] when the
    /// place of the cut is damaged, [`StorageError::Throttled`] while the journal is full or others append, and
    /// [`StorageError::NoSpace`]. Waits for the disk, and holds up appends and reads of this log meanwhile.
    pub fn truncate(&self, to: Offset, unclean: bool) -> Result<Offset, StorageError> {
        self.usable()?;
        let mut files = self.files.lock();
        let planned = {
            let state = self.state.lock();
            let plan = state.core.plan_truncation(to, &files.snapshots, unclean)?;
            plan.ok_or_else(|| state.core.offsets().log_end())
        };
        if let Err(log_end) = planned {
            return Ok(log_end);
        }
        self.write_behind_holding(&mut files)?;
        let mut state = self.state.lock();
        if state.tail.unwritten().next().is_some() {
            return Err(StorageError::Throttled);
        }
        let Some(place) = find_cut(&state, &files, to, unclean)? else {
            return Ok(state.core.offsets().log_end());
        };
        let log_start = state.core.offsets().log_start();
        if place.offset <= log_start {
            // Below it when the log start lies in a batch. Nothing that can be read is left.
            let mut core = state.core.clone();
            core.restart(log_start, self.shared.clock.now());
            self.cut(&mut files, &mut state, core)?;
            return Ok(log_start);
        }
        let core = self.core_after(&state, &mut files, &place, unclean)?;
        self.cut(&mut files, &mut state, core)?;
        Ok(place.offset)
    }

    /// Drops every record: the log is empty and begins at `at`, durably on return. For a follower whose log ends before the leader's
    /// begins; also for one whose first batch from the leader begins below its own empty log, because the leader's log start lies in that
    /// batch: begin where the batch begins, append it, and move the log start. What was committed is not asked about. Errors and
    /// waiting as for [`Log::truncate`].
    pub fn restart(&self, at: Offset) -> Result<(), StorageError> {
        check!(TRUNCATION, at >= Offset::ZERO, "a log beginning at {at}");
        self.usable()?;
        let mut files = self.files.lock();
        let mut state = self.state.lock();
        let mut core = state.core.clone();
        core.restart(at, self.shared.clock.now());
        self.cut(&mut files, &mut state, core)
    }

    /// The leader's log begins at `to`: so does this one, as far as it reaches. Everything below is committed, or the leader could not
    /// have given it up. Journaled; the segments below go with the next retention. Returns the log start. Fails with
    /// [`StorageError::Throttled`] while the journal is full.
    pub fn move_log_start(&self, to: Offset) -> Result<Offset, StorageError> {
        self.usable()?;
        let mut state = self.state.lock();
        let offsets = state.core.offsets();
        let to = to.min(offsets.log_end());
        if to <= offsets.log_start() {
            return Ok(offsets.log_start());
        }
        self.write_journal(&mut state, EntryKind::LogStart { to }, offsets.log_end(), false)
            .map_err(append_error)?;
        state.noted_log_start = Some(to);
        state.core.follow_high_watermark(to);
        let to = to.min(state.core.offsets().last_stable());
        state.core.move_log_start(to);
        Ok(to)
    }
}

// ---- Finding the cut ----

/// Where the log will end.
struct CutPlace {
    offset: Offset,
    /// In the file of the segment that the cut falls into.
    position: u64,
    plan: TruncationPlan,
}

/// The batch that `to` lies in or at; `None` when there is none.
fn find_cut(
    state: &State,
    files: &Files,
    to: Offset,
    unclean: bool,
) -> Result<Option<CutPlace>, StorageError> {
    let core = &state.core;
    let Some(plan) = core.plan_truncation(to, &files.snapshots, unclean)? else { return Ok(None) };
    let (segment, facts) = cut_segment(state, plan.cut.segment_base_offset);
    let located = segment.locate(to, Patience::Wait).map_err(Miss::into_error)?;
    let (position, offset) = located.map_or_else(
        || (segment.written_bytes(), facts.next_offset),
        |found| (found.position, found.header.base_offset),
    );
    if offset == to || offset <= core.offsets().log_start() {
        return Ok(Some(CutPlace { offset, position, plan }));
    }
    // The guard holds for what really goes.
    let plan = core.plan_truncation(offset, &files.snapshots, unclean)?;
    Ok(plan.map(|plan| CutPlace { offset, position, plan }))
}

/// The segment that a cut falls into, and its facts.
fn cut_segment(state: &State, base_offset: Offset) -> (&Segment, &SegmentFacts) {
    let facts = state.core.segments().iter().find(|facts| facts.base_offset == base_offset);
    let facts = facts.expect("the plan is about this log's segments");
    let segment = state.segments.get(&base_offset);
    (segment.expect("everything up to the log end is written behind"), facts)
}

impl Log {
    /// The log's rules and state as they will be.
    fn core_after(
        &self,
        state: &State,
        files: &mut Files,
        place: &CutPlace,
        unclean: bool,
    ) -> Result<PartitionLog, StorageError> {
        let (segment, known) = cut_segment(state, place.plan.cut.segment_base_offset);
        let facts = segment.facts_at(known, place.position, place.offset)?;
        let (producers, snapshot) = self.producers_at(state, files, place)?;
        let mut core = state.core.clone();
        core.truncate(&TruncationPlan { unclean, ..place.plan.clone() }, facts, producers);
        // All of it is in segments, synced.
        core.flushed(place.offset);
        if !core.producers().is_empty() && snapshot != Some(place.offset) {
            let states = core.producers().snapshot(place.offset);
            self.write_snapshot(place.offset, &states).map_err(|error| self.classify(error))?;
        }
        Ok(core)
    }

    /// Producer states at the cut, and the snapshot they come from if one was read.
    fn producers_at(
        &self,
        state: &State,
        files: &Files,
        place: &CutPlace,
    ) -> Result<(ProducerStates, Option<Offset>), ReadError> {
        let now = state.core.producers();
        let last_offset = |states: &thalweg_log_core::ProducerState| {
            states.batches.back().map(|batch| batch.last_offset)
        };
        if now.iter().all(|(_, states)| last_offset(states) < Some(place.offset)) {
            return Ok((now.clone(), None));
        }
        let mut usable: Vec<_> =
            files.snapshots.iter().copied().filter(|snapshot| *snapshot <= place.offset).collect();
        usable.sort_unstable();
        let read = usable.into_iter().rev().find_map(|offset| {
            Some((read_snapshot(&*self.shared.fs, &self.folder, offset)?, offset))
        });
        let snapshot = read.as_ref().map(|(_, offset)| *offset);
        let (mut states, from) = read.unwrap_or_default();
        let first = state.segments.range(..=from).next_back().map_or(from, |(base, _)| *base);
        for segment in state.segments.range(first..).map(|(_, segment)| segment) {
            if segment.base_offset >= place.offset {
                break;
            }
            self.replay_producers(&mut states, segment, from, place.offset)?;
        }
        Ok((states, snapshot))
    }

    /// Applies the batches of a segment from `from` up to `to`.
    fn replay_producers(
        &self,
        states: &mut ProducerStates,
        segment: &Segment,
        from: Offset,
        to: Offset,
    ) -> Result<(), ReadError> {
        let now = self.shared.clock.now();
        let begin = segment.locate(from, Patience::Wait).map_err(Miss::into_error)?;
        let Some(begin) = begin else { return Ok(()) };
        segment.walk_from(begin.position, |located| {
            let header = &located.header;
            if header.next_offset() > to {
                return true;
            }
            if header.base_offset >= from {
                states.apply(header, now);
            }
            false
        })?;
        Ok(())
    }
}

// ---- Cutting ----

impl Log {
    /// Makes the log what `core` says, on disk and then in memory.
    fn cut(
        &self,
        files: &mut Files,
        state: &mut State,
        core: PartitionLog,
    ) -> Result<(), StorageError> {
        let (log_end, before) = (core.offsets().log_end(), state.core.offsets().log_end());
        // From here on the group that is gathering covers the new end.
        let written = self
            .write_journal(state, EntryKind::Truncation { to: log_end }, log_end, false)
            .map_err(append_error)?;
        let producers = match core.producers().is_empty() {
            true => ProducersAt::Empty,
            false => ProducersAt::Snapshot(log_end),
        };
        let checkpoint = checkpoint_of(self.id, &core, written.end_position, producers);
        let place = cut::Place {
            fs: &self.shared.fs,
            open_files: &self.shared.open_files,
            folder: &self.folder,
        };
        if let Err(error) = cut::decide(place, &checkpoint) {
            return Err(self.not_decided(state, before, error));
        }
        let active_base = checkpoint.active.base_offset;
        let mut gone = state.segments.split_off(&active_base);
        if core.offsets().log_start() == log_end {
            gone.append(&mut state.segments);
            let doomed = std::mem::take(&mut files.doomed);
            doomed.iter().filter_map(Weak::upgrade).for_each(|segment| segment.cut_off());
            state.tail.clear(&self.shared.tail_budget);
        }
        for segment in gone.values() {
            segment.cut_off();
            self.shared.open_files.damages.forget(&segment.path("log"));
        }
        let segment = cut::carry_out(place, &checkpoint)
            .map_err(|error| self.shared.fail("cut a log", error))?;
        if let Some(segment) = segment {
            state.segments.insert(active_base, segment);
        }
        self.note_epochs(&checkpoint)?;
        state.tail.truncate(log_end, &self.shared.tail_budget);
        state.core = core;
        state.begun_with.clear();
        state.truncated_at = written.end_position;
        files.snapshots.retain(|snapshot| cut::keeps_snapshot(&checkpoint, *snapshot));
        files.sound_snapshot = None;
        if let ProducersAt::Snapshot(at) = producers {
            files.snapshots.retain(|snapshot| *snapshot != at);
            files.snapshots.push(at);
            files.sound_snapshot = Some(at);
        }
        files.durable_active_base = active_base;
        files.checkpoint = checkpoint;
        files.is_checkpointed = true;
        self.oldest_uncovered.store(u64::MAX, std::sync::atomic::Ordering::Release);
        Ok(())
    }

    /// The cut was not decided, if for want of space; else nobody knows. The log stays what it is, and the group that is gathering covers
    /// its end again.
    fn not_decided(
        &self,
        state: &mut State,
        log_end: Offset,
        error: std::io::Error,
    ) -> StorageError {
        if !is_out_of_space(&error) {
            return self.shared.fail("decide a truncation", error).into();
        }
        let kind = EntryKind::Truncation { to: log_end };
        match self.write_journal(state, kind, log_end, true) {
            Ok(_) => StorageError::NoSpace,
            Err(error) => append_error(error),
        }
    }

    /// Kafka's own file must not tell of epochs that are gone; without space it goes itself.
    fn note_epochs(
        &self,
        checkpoint: &crate::checkpoint::LogCheckpoint,
    ) -> Result<(), StorageError> {
        let fs = &*self.shared.fs;
        let written = match self.write_epochs(checkpoint) {
            Err(error) if is_out_of_space(&error) => {
                remove_file_if_there(fs, &self.folder.join(layout::EPOCH_CHECKPOINT))
            }
            written => written,
        };
        written
            .and_then(|()| fs.sync_dir(&self.folder))
            .map_err(|error| self.shared.fail("write the leader epochs", error).into())
    }
}
