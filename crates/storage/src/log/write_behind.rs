//! Writing behind: what the tail has and the segments lack goes to the segment files, in large writes, and is synced.
//!
//! The rules have already said where each batch belongs ([`Placement`]); this executes it. Everything that a checkpoint of the log must
//! say is taken in the same moment as the batches, so that the two agree. The journal may forget the frames only after that checkpoint
//! is durable, which the dir tells by [`Log::covered`].
//!
//! [`Placement`]: thalweg_log_core::Placement

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use thalweg_env::fs::{Fs, OpenMode, is_out_of_space, read_whole, remove_file_if_there};
use thalweg_log_core::{PartitionLog, ProducerStates, SegmentFacts};
use thalweg_types::Offset;

use super::{Files, Log, State};
use crate::checkpoint::{LogCheckpoint, ProducersAt};
use crate::error::{DirFailed, StorageError};
use crate::layout;
use crate::segment::Segment;
use crate::tail::TailBatch;

/// How much is handed to the kernel at a time.
const WRITE_BYTES: usize = 4 << 20;

/// Producer snapshots kept besides the one that the checkpoint names, should that be damaged.
const OLDER_SNAPSHOTS_KEPT: usize = 1;

/// Producer snapshots larger than this are damage.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// Why writing behind stopped. Nothing is lost: the batches stay in the tail and the journal.
#[derive(Debug)]
pub(crate) enum WriteBehindError {
    /// The disk is full; works again when there is space.
    NoSpace,
    Failed(DirFailed),
}

impl From<WriteBehindError> for StorageError {
    fn from(error: WriteBehindError) -> Self {
        match error {
            WriteBehindError::NoSpace => Self::NoSpace,
            WriteBehindError::Failed(failed) => Self::Failed(failed),
        }
    }
}

/// What is to be written, as it was at one moment.
struct Work {
    batches: Vec<TailBatch>,
    /// Facts of the segment that the batches before these ended in, and of the ones these go to.
    segments: Vec<SegmentFacts>,
    /// What the folder will hold then.
    checkpoint: LogCheckpoint,
    /// Producer states at the log end, if there are any and they are not on disk.
    snapshot: Option<(Offset, Vec<u8>)>,
    /// Those where the segments to be created begin.
    begun_with: Vec<(Offset, Vec<u8>)>,
    epochs_changed: bool,
}

impl Log {
    /// Brings the folder up to the log end. Waits for the disk. Counts for the journal when the checkpoint that says so is durable, see
    /// [`Log::covered`].
    pub(crate) fn write_behind(&self) -> Result<(), WriteBehindError> {
        let mut files = self.files.lock();
        self.write_behind_holding(&mut files)
    }

    pub(super) fn write_behind_holding(&self, files: &mut Files) -> Result<(), WriteBehindError> {
        let work = self.collect(&self.state.lock(), files);
        let written = self.execute(&work, files);
        let created = written.map_err(|error| self.classify(error))?;
        let mut state = self.state.lock();
        for segment in created {
            state.segments.insert(segment.base_offset, segment);
        }
        // Readers turn to the file for evicted batches: it must be listed before they are evictable.
        state.tail.mark_written(work.batches.len(), &self.shared.tail_budget);
        state.begun_with.drain(..work.begun_with.len());
        drop(state);
        files.checkpoint = work.checkpoint;
        files.is_checkpointed = true;
        Ok(())
    }

    /// The checkpoint is durable: the journal may forget what it covers, and older producer snapshots may go.
    pub(crate) fn covered(&self, checkpoint: &LogCheckpoint) -> io::Result<()> {
        let mut files = self.files.lock();
        if checkpoint.covered_position < self.state.lock().truncated_at {
            // The log's end was taken back meanwhile, durably: this tells of what is gone.
            return Ok(());
        }
        if let ProducersAt::Snapshot(at) = checkpoint.producers {
            self.remove_snapshots_before(at, &mut files)?;
        }
        files.durable_active_base = checkpoint.active.base_offset;
        let position = checkpoint.covered_position;
        let state = self.state.lock();
        let oldest = if state.journal_end <= position { u64::MAX } else { position };
        self.oldest_uncovered.store(oldest, std::sync::atomic::Ordering::Release);
        Ok(())
    }

    /// Like [`Log::oldest_uncovered`], after any append that is under way.
    pub(crate) fn oldest_uncovered_settled(&self) -> u64 {
        let _state = self.state.lock();
        self.oldest_uncovered()
    }

    /// What the dir's checkpoint may say of this log now; `None` before the first writing behind after a start without one.
    pub(crate) fn checkpoint(&self) -> Option<LogCheckpoint> {
        let files = self.files.lock();
        files.is_checkpointed.then(|| files.checkpoint.clone())
    }

    fn collect(&self, state: &State, files: &Files) -> Work {
        let core = &state.core;
        let offsets = core.offsets();
        let batches: Vec<TailBatch> = state.tail.unwritten().cloned().collect();
        let first_segment = files.checkpoint.active.base_offset;
        let segments = core.segments().iter().filter(|s| s.base_offset >= first_segment);
        let log_end = offsets.log_end();
        let producers = if core.producers().is_empty() {
            ProducersAt::Empty
        } else {
            ProducersAt::Snapshot(log_end)
        };
        let snapshot_due = producers != ProducersAt::Empty && files.sound_snapshot != Some(log_end);
        Work {
            segments: segments.copied().collect(),
            snapshot: snapshot_due.then(|| (log_end, core.producers().snapshot(log_end))),
            begun_with: state.begun_with.clone(),
            epochs_changed: *core.epochs() != files.checkpoint.epochs,
            checkpoint: checkpoint_of(self.id, core, state.journal_end, producers),
            batches,
        }
    }

    fn execute(&self, work: &Work, files: &mut Files) -> io::Result<Vec<Arc<Segment>>> {
        let mut created = Vec::new();
        let mut sync_folder = false;
        self.write_beginnings(&work.begun_with, files)?;
        let mut previous = files.checkpoint.active.base_offset;
        let chunks = work
            .batches
            .chunk_by(|a, b| a.placement.segment_base_offset == b.placement.segment_base_offset);
        for batches in chunks {
            let base_offset = batches[0].placement.segment_base_offset;
            if base_offset != previous {
                self.end_segment(previous, &work.segments, &created)?;
                previous = base_offset;
            }
            let segment = match self.find_segment(base_offset, &created) {
                Some(segment) => segment,
                None => {
                    // A later segment's name is never durable before the one before it is complete, name and all.
                    if sync_folder {
                        self.shared.fs.sync_dir(&self.folder)?;
                    }
                    let segment = Arc::new(self.new_segment(base_offset));
                    segment.create_log()?;
                    sync_folder = true;
                    created.push(Arc::clone(&segment));
                    segment
                }
            };
            write_batches(&segment, batches)?;
        }
        if let Some((offset, states)) = &work.snapshot {
            self.write_snapshot(*offset, states)?;
            sync_folder = true;
        }
        if sync_folder {
            self.shared.fs.sync_dir(&self.folder)?;
        }
        if let Some((offset, _)) = &work.snapshot {
            files.snapshots.retain(|known| known != offset);
            files.snapshots.push(*offset);
            files.sound_snapshot = Some(*offset);
        }
        if work.epochs_changed {
            self.write_epochs(&work.checkpoint)?;
        }
        Ok(created)
    }

    pub(super) fn new_segment(&self, base_offset: Offset) -> Segment {
        let open_files = Arc::clone(&self.shared.open_files);
        Segment::new(Arc::clone(&self.shared.fs), open_files, self.folder.clone(), base_offset, 0)
    }

    fn find_segment(&self, base_offset: Offset, created: &[Arc<Segment>]) -> Option<Arc<Segment>> {
        let known = created.iter().find(|segment| segment.base_offset == base_offset).cloned();
        known.or_else(|| self.state.lock().segments.get(&base_offset).cloned())
    }

    /// A segment gets no more batches: its time index ends with its largest timestamp.
    fn end_segment(
        &self,
        base_offset: Offset,
        facts: &[SegmentFacts],
        created: &[Arc<Segment>],
    ) -> io::Result<()> {
        let facts = facts.iter().find(|facts| facts.base_offset == base_offset);
        let entry = facts.and_then(|facts| { *facts }.index_time());
        let Some(segment) = self.find_segment(base_offset, created) else { return Ok(()) };
        segment.extend_indexes(&[], entry.as_slice())?;
        // Retention and look-ups by time trust the last entry of a complete segment.
        segment.sync_indexes()
    }

    /// Producer states where segments begin are there before the segments are.
    fn write_beginnings(
        &self,
        begun_with: &[(Offset, Vec<u8>)],
        files: &mut Files,
    ) -> io::Result<()> {
        for (offset, states) in begun_with {
            self.write_snapshot(*offset, states)?;
            files.snapshots.retain(|known| known != offset);
            files.snapshots.push(*offset);
        }
        if begun_with.is_empty() { Ok(()) } else { self.shared.fs.sync_dir(&self.folder) }
    }

    pub(super) fn write_snapshot(&self, offset: Offset, states: &[u8]) -> io::Result<()> {
        let path = self.folder.join(layout::file_name(offset, "snapshot"));
        let file = self.shared.fs.open(&path, OpenMode::CreateOrTruncate)?;
        file.write_all_at(&with_checksum(states), 0)?;
        file.sync_all().map_err(failed_sync)
    }

    /// Removes the snapshots before the one that the durable checkpoint names, but for the last of them and those where segments begin.
    fn remove_snapshots_before(&self, at: Offset, files: &mut Files) -> io::Result<()> {
        files.snapshots.sort_unstable();
        let older = files.snapshots.partition_point(|snapshot| *snapshot < at);
        let excess = older.saturating_sub(OLDER_SNAPSHOTS_KEPT);
        let begins: BTreeSet<Offset> =
            self.state.lock().core.segments().iter().map(|segment| segment.base_offset).collect();
        let (kept, gone): (Vec<_>, Vec<_>) =
            files.snapshots.drain(..excess).partition(|snapshot| begins.contains(snapshot));
        files.snapshots.splice(..0, kept);
        for oldest in gone {
            let path = self.folder.join(layout::file_name(oldest, "snapshot"));
            remove_file_if_there(&*self.shared.fs, &path)?;
        }
        Ok(())
    }

    /// Removes, durably, the snapshots of a log end that a crash took back: the log will get there again with other batches.
    pub(super) fn remove_snapshots_after(
        &self,
        log_end: Offset,
        files: &mut Files,
    ) -> io::Result<()> {
        let (kept, gone): (Vec<_>, Vec<_>) =
            files.snapshots.iter().copied().partition(|snapshot| *snapshot <= log_end);
        files.snapshots = kept;
        for snapshot in &gone {
            let path = self.folder.join(layout::file_name(*snapshot, "snapshot"));
            remove_file_if_there(&*self.shared.fs, &path)?;
        }
        if gone.is_empty() { Ok(()) } else { self.shared.fs.sync_dir(&self.folder) }
    }

    /// Kafka's own file, for its tools and for operators; recovery has the epochs from the dir's checkpoint, so it is not synced.
    pub(super) fn write_epochs(&self, checkpoint: &LogCheckpoint) -> io::Result<()> {
        let fs = &self.shared.fs;
        let path = self.folder.join(layout::EPOCH_CHECKPOINT);
        let temporary = self.folder.join("leader-epoch-checkpoint.tmp");
        let file = fs.open(&temporary, OpenMode::CreateOrTruncate)?;
        file.write_all_at(layout::epoch_checkpoint(checkpoint.epochs.entries()).as_bytes(), 0)?;
        fs.rename(&temporary, &path)
    }

    pub(super) fn classify(&self, error: io::Error) -> WriteBehindError {
        // A write that found no space changed nothing that counts; a sync that fails is another matter, see `sync`.
        if is_out_of_space(&error) {
            return WriteBehindError::NoSpace;
        }
        WriteBehindError::Failed(self.shared.fail("write segments", error))
    }
}

/// Writes batches of one segment where they belong, with their index entries, and syncs the file.
fn write_batches(segment: &Segment, batches: &[TailBatch]) -> io::Result<()> {
    let file = segment.log_file()?;
    let mut position = batches[0].placement.position;
    let mut rest = batches;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|batch| {
            bytes += batch.bytes.len();
            bytes <= WRITE_BYTES
        });
        let count = fitting.count().max(1);
        let (now, later) = rest.split_at(count);
        let mut slices: Vec<IoSlice<'_>> = now.iter().map(|b| IoSlice::new(&b.bytes)).collect();
        file.write_all_uncached_at(&mut slices, position)?;
        position += now.iter().map(|batch| batch.bytes.len() as u64).sum::<u64>();
        rest = later;
    }
    file.sync_data().map_err(failed_sync)?;
    let entries: Vec<_> = batches.iter().filter_map(|b| b.placement.index_entry).collect();
    let time_entries: Vec<_> =
        batches.iter().filter_map(|b| b.placement.time_index_entry).collect();
    segment.extend_indexes(&entries, &time_entries)?;
    segment.set_written_bytes(position);
    Ok(())
}

/// After a failed sync nobody knows what is on the disk, whatever the reason: it must not be taken for a write that found no space.
pub(crate) fn failed_sync(error: io::Error) -> io::Error {
    if is_out_of_space(&error) { io::Error::other(format!("sync: {error}")) } else { error }
}

/// What a checkpoint says of a log in this state.
pub(crate) fn checkpoint_of(
    id: thalweg_types::TopicIdPartition,
    core: &PartitionLog,
    covered_position: u64,
    producers: ProducersAt,
) -> LogCheckpoint {
    LogCheckpoint {
        id,
        covered_position,
        log_start: core.offsets().log_start(),
        high_watermark: core.offsets().high_watermark(),
        leader_epoch: core.leader_epoch(),
        producers,
        epochs: core.epochs().clone(),
        active: *core.active_segment(),
    }
}

/// A snapshot file: the states and their CRC-32C.
fn with_checksum(states: &[u8]) -> Vec<u8> {
    let mut bytes = states.to_vec();
    bytes.extend_from_slice(&crc_fast::crc32_iscsi(states).to_be_bytes());
    bytes
}

/// The producer states in the snapshot of this offset, if it is whole.
pub(crate) fn read_snapshot(fs: &dyn Fs, folder: &Path, offset: Offset) -> Option<ProducerStates> {
    let path = folder.join(layout::file_name(offset, "snapshot"));
    let bytes = read_whole(fs, &path, SNAPSHOT_BYTES_MAX).ok()??;
    let (states, log_end) = ProducerStates::restore(without_checksum(&bytes)?).ok()?;
    (log_end == offset).then_some(states)
}

/// The states in a snapshot file, if it is whole.
fn without_checksum(bytes: &[u8]) -> Option<&[u8]> {
    let (states, stored) = bytes.split_last_chunk::<4>()?;
    (u32::from_be_bytes(*stored) == crc_fast::crc32_iscsi(states)).then_some(states)
}
