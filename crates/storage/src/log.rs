//! One partition's log: appends, reads, positions.
//!
//! Three places hold a log's batches, each covering for the next one's slowness: the journal has everything at once, the tail has the
//! newest in memory, the segments have everything but the newest, later. An append decides under the log's lock, writes one journal
//! frame, and keeps the bytes; it never waits for a disk flush.
//!
//! Lock order: `files` (held while segments are written, cut or deleted) before `state` (held for microseconds) before the journal's
//! own. A reader takes `state` only to learn where to read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::BytesMut;
use parking_lot::Mutex;
use thalweg_env::fs::is_out_of_space;
use thalweg_invariants::{FAILED_FLUSH, check};
use thalweg_log_core::{
    AppendDecision, EpochEnd, LogConfig, LogOffsets, Origin, PartitionLog, RollReason,
};
use thalweg_record::{BatchHeader, Batches, stamp, stamp_log_append_time, verify_crc};
use thalweg_types::{Durability, LeaderEpoch, Offset, Timestamp, TopicIdPartition, TopicPartition};

use crate::checkpoint::LogCheckpoint;
use crate::chunk::{Chunk, FileRange, ReadSlice};
use crate::dir::Shared;
use crate::error::{AppendError, ReadError};
use crate::journal::{Entry, EntryKind, JournalError, WRITE_OPERATION, Written};
use crate::segment::Segment;
use crate::tail::{self, Tail, TailBatch};

mod maintain;
mod time;
mod truncate;
mod write_behind;

pub use maintain::Retained;
pub use time::TimedOffset;
pub(crate) use write_behind::{checkpoint_of, failed_sync, read_snapshot};

/// One partition's log. Every method is safe to call from any thread; those that may wait for a disk say so.
#[derive(Debug)]
pub struct Log {
    id: TopicIdPartition,
    name: TopicPartition,
    folder: PathBuf,
    shared: Arc<Shared>,
    state: Mutex<State>,
    files: Mutex<Files>,
    /// Stream position of the oldest journal frame that the folder and the checkpoint do not cover; `u64::MAX` when they cover all.
    oldest_uncovered: AtomicU64,
    deleted: AtomicBool,
}

#[derive(Debug)]
struct State {
    core: PartitionLog,
    tail: Tail,
    /// By base offset; those whose files exist.
    segments: BTreeMap<Offset, Arc<Segment>>,
    /// Producer states where segments begin whose files do not exist yet: a later cut in such a segment starts from them.
    begun_with: Vec<(Offset, Vec<u8>)>,
    /// Stream position after this log's newest frame.
    journal_end: u64,
    /// The newest log start that the journal has noted.
    noted_log_start: Option<Offset>,
    /// Stream position after the newest truncation: a flush that reaches no further covers nothing of what the log is now.
    truncated_at: u64,
}

/// What only the holder of the `files` lock changes: what is on disk, beside the segments themselves.
#[derive(Debug)]
struct Files {
    checkpoint: LogCheckpoint,
    /// Whether the checkpoint is true in all parts and may be written to the dir's file.
    is_checkpointed: bool,
    /// Offsets of the producer snapshots in the folder.
    snapshots: Vec<Offset>,
    /// The newest that is known to be whole and durable: written, or read back, in this process life.
    sound_snapshot: Option<Offset>,
    /// Base offset of the active segment by the last checkpoint that is durable: that one and later ones are looked for at a start.
    durable_active_base: Offset,
    /// Segments that retention gave up and whose files may still be there.
    doomed: Vec<Weak<Segment>>,
}

/// What became of an accepted batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offsets of the batch's first and last record; of the original, if this is a duplicate.
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The time given to every record of the batch, on a LogAppendTime topic.
    pub log_append_time: Option<Timestamp>,
    pub log_start_offset: Offset,
    /// The log had this batch already; the answer waits for the same things as the first one did (R4).
    pub duplicate: bool,
}

/// What a log is opened or created with.
#[derive(Debug)]
pub(crate) struct LogParts {
    pub(crate) id: TopicIdPartition,
    pub(crate) name: TopicPartition,
    pub(crate) folder: PathBuf,
    pub(crate) core: PartitionLog,
    pub(crate) segments: BTreeMap<Offset, Arc<Segment>>,
    pub(crate) checkpoint: LogCheckpoint,
    /// Whether `checkpoint` was found, or is of a new log; else it was made up from a scan and must be replaced soon.
    pub(crate) is_checkpointed: bool,
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) sound_snapshot: Option<Offset>,
}

impl State {
    /// A segment begins at the log end.
    fn note_beginning(&mut self) {
        let log_end = self.core.offsets().log_end();
        if !self.core.producers().is_empty() {
            self.begun_with.push((log_end, self.core.producers().snapshot(log_end)));
        }
    }
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>, parts: LogParts) -> Self {
        Self {
            id: parts.id,
            name: parts.name,
            folder: parts.folder,
            shared,
            state: Mutex::new(State {
                core: parts.core,
                tail: Tail::default(),
                segments: parts.segments,
                begun_with: Vec::new(),
                journal_end: parts.checkpoint.covered_position,
                noted_log_start: None,
                truncated_at: 0,
            }),
            files: Mutex::new(Files {
                durable_active_base: match parts.is_checkpointed {
                    true => parts.checkpoint.active.base_offset,
                    false => Offset::ZERO,
                },
                checkpoint: parts.checkpoint,
                is_checkpointed: parts.is_checkpointed,
                snapshots: parts.snapshots,
                sound_snapshot: parts.sound_snapshot,
                doomed: Vec::new(),
            }),
            // Without a checkpoint, due at once.
            oldest_uncovered: AtomicU64::new(if parts.is_checkpointed { u64::MAX } else { 0 }),
            deleted: AtomicBool::new(false),
        }
    }
}

// ---- Appending ----

impl Log {
    /// Appends one batch from a producer as the leader of `epoch`. `header` is the batch's, as
    /// [`thalweg_record::check_produced`] returned it.
    ///
    /// The batch is stamped in place and kept without a copy, written to the journal, and readable at once up to the log end. It is
    /// durable when [`LogObserver::flushed`](crate::LogObserver::flushed) reports an end past `last_offset`, or, on a `replicated`
    /// topic, counts as such now (see [`LogOffsets::durable_end`]). Never waits for a flush. Every error but
    /// [`AppendError::Failed`] is definite: nothing was appended.
    pub fn append_as_leader(
        &self,
        mut batch: BytesMut,
        header: &BatchHeader,
        epoch: LeaderEpoch,
    ) -> Result<Appended, AppendError> {
        self.check_usable()?;
        let now = self.shared.clock.now();
        let mut state = self.state.lock();
        let origin = Origin::Client { leader_epoch: epoch };
        let decision = state.core.decide_append(header, origin, now)?;
        let log_start_offset = state.core.offsets().log_start();
        let (base_offset, last_offset, leader_epoch, log_append_time, roll) = match decision {
            AppendDecision::Append {
                base_offset,
                last_offset,
                leader_epoch,
                log_append_time,
                roll,
            } => (base_offset, last_offset, leader_epoch, log_append_time, roll),
            AppendDecision::Duplicate { base_offset, last_offset, timestamp } => {
                let stamped = state.core.config().timestamp_type
                    == thalweg_types::TimestampType::LogAppendTime;
                return Ok(Appended {
                    base_offset,
                    last_offset,
                    log_append_time: stamped.then_some(timestamp),
                    log_start_offset,
                    duplicate: true,
                });
            }
        };
        stamp(&mut batch, base_offset, leader_epoch);
        if let Some(now) = log_append_time {
            stamp_log_append_time(&mut batch, now);
        }
        let stamped = BatchHeader::parse(&batch).expect("a stamped batch is as whole as before");
        self.append_decided(&mut state, batch, &stamped, roll, now)?;
        Ok(Appended {
            base_offset,
            last_offset,
            log_append_time,
            log_start_offset,
            duplicate: false,
        })
    }

    /// Appends batches of the leader's log, with the offsets and epochs they have there, and returns the new log end. Each is checked
    /// against its checksum (D2) and must begin at the log end, in no older epoch than the one before. They are copied, once, so that what
    /// they came in need not be kept. Durable and readable as after [`Log::append_as_leader`].
    ///
    /// At the first batch that is not accepted this ends: those before it are appended, as the log end shows. Every error but
    /// [`AppendError::Failed`] is definite for the others.
    pub fn append_as_follower(&self, batches: &[u8]) -> Result<Offset, AppendError> {
        self.check_usable()?;
        let now = self.shared.clock.now();
        let mut state = self.state.lock();
        for batch in Batches::new(batches) {
            let (header, batch) = batch?;
            verify_crc(batch, &header)?;
            let AppendDecision::Append { roll, .. } =
                state.core.decide_append(&header, Origin::Replica, now)?
            else {
                unreachable!("the log's rules know duplicates from clients only");
            };
            self.append_decided(&mut state, BytesMut::from(batch), &header, roll, now)?;
        }
        Ok(state.core.offsets().log_end())
    }

    /// Journal, rules, tail: in this order, so that a failed write leaves the log as it was.
    fn append_decided(
        &self,
        state: &mut State,
        batch: BytesMut,
        stamped: &BatchHeader,
        roll: Option<RollReason>,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        self.shared.check_space(self.name.topic.is_internal())?;
        if !self.shared.tail_has_space(batch.len()) {
            return Err(self.shared.throttled());
        }
        let kind = EntryKind::Batch {
            base_offset: stamped.base_offset,
            leader_epoch: stamped.leader_epoch,
            rolled: roll.is_some(),
            batch: &batch,
        };
        let awaited = state.core.config().durability == Durability::Fsync;
        let written = self.write_journal(state, kind, stamped.next_offset(), awaited)?;
        if roll.is_some() {
            state.note_beginning();
        }
        let placement = state.core.apply_append(stamped, roll, now);
        let kept = tail::into_kept(batch);
        let entry = TailBatch::new(kept, stamped, placement, written.position);
        state.tail.push(entry, &self.shared.tail_budget);
        state.tail.evict_below(self.shared.evict_below(), &self.shared.tail_budget);
        Ok(())
    }

    /// Writes one frame about this log. `end_offset` is the log end that a flush of it covers.
    fn write_journal(
        &self,
        state: &mut State,
        kind: EntryKind<'_>,
        end_offset: Offset,
        awaited: bool,
    ) -> Result<Written, AppendError> {
        let entry = Entry { id: self.id, kind };
        match self.shared.journal().append(&entry, end_offset, awaited) {
            Ok(written) => {
                state.journal_end = written.end_position;
                self.oldest_uncovered.fetch_min(written.position, Ordering::AcqRel);
                self.shared.appended(&written, awaited);
                Ok(written)
            }
            Err(JournalError::NoRoom) => Err(self.shared.throttled()),
            Err(JournalError::TooLarge) => {
                let size_bytes = match kind {
                    EntryKind::Batch { batch, .. } => batch.len(),
                    _ => 0,
                };
                Err(AppendError::TooLarge { size_bytes })
            }
            // Its blocks are allocated; a file system that needs others to write them again may not have them. Nothing counts of it.
            Err(JournalError::Io(WRITE_OPERATION, error)) if is_out_of_space(&error) => {
                Err(self.shared.no_space())
            }
            Err(JournalError::Io(operation, error)) => {
                Err(self.shared.fail(operation, error).into())
            }
        }
    }

    /// A batch from the journal, found by recovery: as appended before, frame and all.
    pub(crate) fn reappend(
        &self,
        batch: bytes::Bytes,
        header: &BatchHeader,
        rolled: bool,
        position: u64,
        end_position: u64,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let mut state = self.state.lock();
        state.core.decide_append(header, Origin::Replica, now)?;
        // The reason is not remembered, nor does anything depend on it.
        let roll = rolled.then_some(RollReason::Bytes);
        if rolled {
            state.note_beginning();
        }
        let placement = state.core.apply_append(header, roll, now);
        let entry = TailBatch::new(batch, header, placement, position);
        state.tail.push(entry, &self.shared.tail_budget);
        state.journal_end = end_position;
        self.oldest_uncovered.fetch_min(position, Ordering::AcqRel);
        Ok(())
    }

    /// Notes in recovery that a journal entry was taken over.
    pub(crate) fn note_replayed(&self, position: u64, end_position: u64) {
        self.state.lock().journal_end = end_position;
        self.oldest_uncovered.fetch_min(position, Ordering::AcqRel);
    }

    pub(crate) fn replay_epoch(&self, epoch: LeaderEpoch) {
        self.state.lock().core.begin_leader_epoch(epoch).expect("newer than the log's");
    }

    /// A log start from the journal. Records were committed up to there when it was set.
    pub(crate) fn replay_log_start(&self, to: Offset) {
        let mut state = self.state.lock();
        state.core.follow_high_watermark(to);
        let to = to.min(state.core.offsets().last_stable());
        state.core.move_log_start(to);
    }

    /// Recovery ends: the journal is synced, so all that was replayed is durable.
    pub(crate) fn recovered(&self) -> std::io::Result<()> {
        let mut files = self.files.lock();
        let log_end = {
            let mut state = self.state.lock();
            let log_end = state.core.offsets().log_end();
            state.core.flushed(log_end);
            log_end
        };
        self.remove_snapshots_after(log_end, &mut files)
    }

    /// What the checkpoint covered when the log was opened.
    pub(crate) fn covered_position(&self) -> u64 {
        self.files.lock().checkpoint.covered_position
    }

    /// This replica begins to lead: its epoch starts at the log end. Journaled. Refuses an epoch older than the log's.
    pub fn begin_leader_epoch(&self, epoch: LeaderEpoch) -> Result<(), AppendError> {
        self.check_usable()?;
        let mut state = self.state.lock();
        if epoch > state.core.leader_epoch() {
            let start_offset = state.core.offsets().log_end();
            let kind = EntryKind::EpochStart { epoch, start_offset };
            self.write_journal(&mut state, kind, start_offset, false)?;
        }
        state.core.begin_leader_epoch(epoch)?;
        Ok(())
    }

    fn check_usable(&self) -> Result<(), AppendError> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(AppendError::Deleted);
        }
        self.shared.check_health()?;
        Ok(())
    }
}

// ---- Reading ----

impl Log {
    /// Records from `from` up to, not including, `end`, which must be a batch boundary such as the high watermark or the log end.
    ///
    /// Gives whole batches of at most `bytes_max` bytes together; with `at_least_one`, the first batch even if it alone is larger. What
    /// is in memory comes as it is; what is on disk comes as a place to read. Does not wait for a disk. Empty when `from >= end`. Fails
    /// with `OutOfRange` for an offset below the log start or above the log end.
    pub fn read(
        &self,
        from: Offset,
        end: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<ReadSlice, ReadError> {
        let state = self.state.lock();
        let offsets = state.core.offsets();
        if from < offsets.log_start() || from > offsets.log_end() {
            return Err(ReadError::OutOfRange {
                offset: from,
                log_start: offsets.log_start(),
                log_end: offsets.log_end(),
            });
        }
        let end = end.min(offsets.log_end());
        if from >= end {
            return Ok(ReadSlice::default());
        }
        if let Some(batches) = state.tail.from(from) {
            let mut slice = ReadSlice::default();
            for batch in batches {
                let fits = slice.bytes + batch.bytes.len() <= bytes_max
                    || (slice.chunks.is_empty() && at_least_one);
                if batch.next_offset > end || !fits {
                    break;
                }
                slice.bytes += batch.bytes.len();
                slice.chunks.push(Chunk::Tail(batch.bytes.clone()));
            }
            return Ok(slice);
        }
        let below = state.segments.range(..=from).next_back();
        let Some((_, segment)) = below else { return Ok(ReadSlice::default()) };
        let segment = Arc::clone(segment);
        let epochs = state.core.epochs().clone();
        drop(state);
        let written_bytes = segment.written_bytes();
        let left = usize::try_from(written_bytes).unwrap_or(usize::MAX);
        let buffers = Arc::clone(&self.shared.read_buffers);
        let range = FileRange {
            segment,
            written_bytes,
            epochs,
            from,
            end,
            bytes_max,
            at_least_one,
            buffers,
        };
        Ok(ReadSlice { chunks: vec![Chunk::File(range)], bytes: bytes_max.min(left) })
    }
}

// ---- Positions ----

impl Log {
    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    pub fn topic_partition(&self) -> &TopicPartition {
        &self.name
    }

    /// A consistent copy of the log's positions.
    pub fn offsets(&self) -> LogOffsets {
        self.state.lock().core.offsets()
    }

    /// As the leader: everything below `to` is durable on every in-sync replica. `to` must not be above the durable end.
    pub fn advance_high_watermark(&self, to: Offset) {
        self.state.lock().core.advance_high_watermark(to);
    }

    /// As a follower: the leader says that everything below `to` is committed.
    pub fn follow_high_watermark(&self, to: Offset) {
        self.state.lock().core.follow_high_watermark(to);
    }

    /// The newest leader epoch the log was told of; [`LeaderEpoch::NONE`] before the first.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.lock().core.leader_epoch()
    }

    /// The answer to Kafka's OffsetForLeaderEpoch.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        self.state.lock().core.end_offset_for_epoch(epoch)
    }

    /// The epoch that wrote the record at `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.state.lock().core.epochs().epoch_at(offset)
    }

    /// Bytes of all batches.
    pub fn size_bytes(&self) -> u64 {
        self.state.lock().core.size_bytes()
    }

    pub fn config(&self) -> LogConfig {
        self.state.lock().core.config().clone()
    }

    /// Takes over a changed topic configuration. After a start, logs have the default one until this is called.
    pub fn configure(&self, config: LogConfig) {
        self.state.lock().core.configure(config);
    }

    /// A look at the log's rules and state, for checks and tools. Holds the log's lock meanwhile.
    pub fn inspect<T>(&self, look: impl FnOnce(&PartitionLog) -> T) -> T {
        look(&self.state.lock().core)
    }

    /// A flush of the stream up to `position` ended that covered this log's frames up to `end_offset`. Says how far the log is durable
    /// now; `None` if that changed nothing anybody waits for.
    pub(crate) fn flushed(&self, end_offset: Offset, position: u64) -> Option<Offset> {
        check!(FAILED_FLUSH, self.shared.check_health().is_ok(), "flushed up to {end_offset}");
        let mut state = self.state.lock();
        if position < state.truncated_at {
            return None;
        }
        let before = state.core.offsets().recovery_point();
        state.core.flushed(end_offset);
        let offsets = state.core.offsets();
        (offsets.recovery_point() > before).then_some(offsets.durable_end())
    }

    pub(crate) fn oldest_uncovered(&self) -> u64 {
        self.oldest_uncovered.load(Ordering::Acquire)
    }

    pub(crate) fn evict(&self, below: u64) {
        self.state.lock().tail.evict_below(below, &self.shared.tail_budget);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }
}
