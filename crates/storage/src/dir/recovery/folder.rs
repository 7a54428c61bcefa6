//! Opening one partition's folder: its segments, as far as they are whole.
//!
//! With a checkpoint, everything up to it is taken as it says and only newer batches are read; without one, every batch of every
//! segment is. Newer batches that are whole and follow on are kept; the first that does not ends the log, and if the checkpoint did not
//! reach beyond it, the rest of the file is the torn end of a write and is cut. Cutting loses nothing: the journal has it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thalweg_env::fs::{self, EntryKind as FsEntry};
use thalweg_log_core::{
    EpochIndex, IndexEntry, LogConfig, PartitionLog, ProducerStates, RecoveredLog, SegmentFacts,
    TimeIndexEntry,
};
use thalweg_record::{BatchHeader, HEADER_BYTES, verify_crc};
use thalweg_types::{LeaderEpoch, Offset, Timestamp, TopicIdPartition, TopicPartition};

use super::super::Shared;
use super::jitter_seed;
use crate::checkpoint::{LogCheckpoint, ProducersAt};
use crate::cut;
use crate::error::ReadError;
use crate::layout;
use crate::log::{Log, LogParts, checkpoint_of, read_snapshot};
use crate::segment::{Patience, Segment, Window};

#[derive(Debug)]
pub(super) enum FolderError {
    /// What is in the folder contradicts itself or the checkpoint.
    Damaged {
        id: Option<TopicIdPartition>,
        reason: String,
    },
    Io(io::Error),
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl FolderError {
    fn damaged(id: TopicIdPartition, reason: impl Into<String>) -> Self {
        Self::Damaged { id: Some(id), reason: reason.into() }
    }
}

/// A log as its folder and the checkpoint show it.
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) missing: Option<Missing>,
}

/// The log begins, by the checkpoint, before the first of its segments. That is right only if the journal tells that it was moved behind
/// the gap since: else what was there is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    pub(super) log_start: Offset,
    pub(super) first: Offset,
}

/// Opens a folder.
pub(super) fn open(
    shared: &Arc<Shared>,
    checkpoints: Option<&HashMap<TopicIdPartition, LogCheckpoint>>,
    name: &TopicPartition,
    path: &Path,
    was_clean: bool,
) -> Result<Opened, FolderError> {
    let (id, created_position) = read_id(shared, name, path)?;
    let mut names = list_files(shared, path)?;
    // An entry that covers nothing since the creation is an earlier folder's, or says no more than an empty folder.
    let checkpoint = checkpoints
        .and_then(|checkpoints| checkpoints.get(&id))
        .filter(|checkpoint| checkpoint.covered_position > created_position);
    let is_newer = |(cut, _): &(LogCheckpoint, bool)| {
        checkpoint.is_none_or(|checkpoint| checkpoint.covered_position < cut.covered_position)
    };
    let cut = match names.iter().any(|name| name == layout::TRUNCATION) {
        true => read_cut(shared, id, path)?.filter(is_newer),
        false => None,
    };
    let place = cut::Place { fs: &shared.fs, open_files: &shared.open_files, folder: path };
    let checkpoint = match &cut {
        Some((to, false)) if checkpoints.is_some() => {
            // A process that was killed may have left the decision in memory only.
            shared.fs.sync_dir(path)?;
            cut::carry_out(place, to)?;
            names = list_files(shared, path)?;
            Some(to)
        }
        Some((to, false)) => {
            cut::settle(place, to)?;
            None
        }
        Some((_, true)) => None,
        None => checkpoint,
    };
    let cut = cut.as_ref().map(|(to, _)| to);
    let bases = layout::offsets_of(&names, "log");
    let mut opening = Opening {
        shared,
        id,
        path: path.to_owned(),
        config: LogConfig::default(),
        was_clean,
        found: Found::new(checkpoint),
        segments: BTreeMap::new(),
    };
    let snapshots = layout::offsets_of(&names, "snapshot");
    let scan_from = opening.take_closed(&bases, checkpoint)?;
    let sound_snapshot =
        opening.restore_producers(checkpoint, &snapshots, bases.first().copied())?;
    for (at, base_offset) in scan_from.iter().enumerate() {
        opening.scan_segment(*base_offset, scan_from.get(at + 1).copied(), checkpoint)?;
    }
    opening.require_checkpointed(checkpoint)?;
    let missing = opening.missing_first(checkpoint);
    let snapshots = (snapshots, sound_snapshot);
    let begins = Begins::new(created_position, cut);
    let log = opening.finish(name.clone(), checkpoint, begins, snapshots);
    Ok(Opened { log, missing })
}

/// What the log is known to be no less than, when there is no checkpoint.
#[derive(Debug, Clone, Copy)]
struct Begins {
    /// What the journal says about this log below is of another folder, or was cut.
    position: u64,
    log_start: Offset,
    leader_epoch: LeaderEpoch,
}

impl Begins {
    fn new(created_position: u64, cut: Option<&LogCheckpoint>) -> Self {
        Self {
            position: cut.map_or(created_position, |cut| cut.covered_position),
            log_start: cut.map_or(Offset::ZERO, |cut| cut.log_start),
            leader_epoch: cut.map_or(LeaderEpoch::NONE, |cut| cut.leader_epoch),
        }
    }
}

/// The log's own note of its newest truncation, if there ever was one, and whether it is settled.
fn read_cut(
    shared: &Shared,
    id: TopicIdPartition,
    path: &Path,
) -> Result<Option<(LogCheckpoint, bool)>, FolderError> {
    match cut::read(&*shared.fs, path)? {
        cut::Found::Nothing => Ok(None),
        cut::Found::Cut { to, is_settled } if to.id == id => Ok(Some((*to, is_settled))),
        cut::Found::Cut { .. } => {
            Err(FolderError::damaged(id, "truncation is of another partition"))
        }
        cut::Found::Damaged => Err(FolderError::damaged(id, "truncation is damaged")),
    }
}

/// The folder's file names; leftovers of deletions and replacements are removed.
fn list_files(shared: &Shared, path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in shared.fs.list(path)? {
        if entry.kind != FsEntry::File {
            continue;
        }
        if entry.name.ends_with(".deleted") || entry.name.ends_with(".tmp") {
            shared.fs.remove_file(&path.join(&entry.name))?;
        } else {
            names.push(entry.name);
        }
    }
    Ok(names)
}

/// The partition's identity. A folder has its name since that was durable, so it can only be missing by damage.
fn read_id(
    shared: &Shared,
    name: &TopicPartition,
    path: &Path,
) -> Result<(TopicIdPartition, u64), FolderError> {
    let path = path.join(layout::PARTITION_METADATA);
    let bytes = fs::read_whole(&*shared.fs, &path, layout::TEXT_BYTES_MAX)?.unwrap_or_default();
    let metadata = String::from_utf8(bytes).ok().and_then(|t| layout::parse_partition_metadata(&t));
    let Some((topic_id, created_position)) = metadata else {
        let reason = "partition.metadata is missing or damaged".to_owned();
        return Err(FolderError::Damaged { id: None, reason });
    };
    Ok((TopicIdPartition { topic_id, partition: name.partition }, created_position))
}

/// A folder being opened.
struct Opening<'a> {
    shared: &'a Arc<Shared>,
    id: TopicIdPartition,
    path: PathBuf,
    config: LogConfig,
    was_clean: bool,
    found: Found,
    segments: BTreeMap<Offset, Arc<Segment>>,
}

/// What the folder shows so far.
struct Found {
    facts: Vec<SegmentFacts>,
    epochs: EpochIndex,
    producers: ProducerStates,
}

impl Found {
    fn new(checkpoint: Option<&LogCheckpoint>) -> Self {
        Self {
            facts: Vec::new(),
            epochs: checkpoint.map_or_else(EpochIndex::default, |c| c.epochs.clone()),
            producers: ProducerStates::default(),
        }
    }

    fn log_end(&self) -> Option<Offset> {
        self.facts.last().map(|facts| facts.next_offset)
    }
}

impl Opening<'_> {
    /// Takes the segments before the checkpoint's as they are and returns the bases of those to look into.
    fn take_closed(
        &mut self,
        bases: &[Offset],
        checkpoint: Option<&LogCheckpoint>,
    ) -> Result<Vec<Offset>, FolderError> {
        let Some(checkpoint) = checkpoint else { return Ok(bases.to_vec()) };
        let active = &checkpoint.active;
        let (closed, scan) = bases.split_at(bases.partition_point(|b| *b < active.base_offset));
        if active.size_bytes > 0 && scan.first() != Some(&active.base_offset) {
            let reason = format!("segment {} is missing", active.base_offset);
            return Err(FolderError::damaged(self.id, reason));
        }
        for (at, base_offset) in closed.iter().enumerate() {
            let next_offset = closed.get(at + 1).copied().unwrap_or(active.base_offset);
            let segment = self.add_segment(*base_offset)?;
            if next_offset <= checkpoint.log_start {
                // Retention had given it up before the checkpoint; its removal was not durable.
                self.segments.remove(base_offset);
                for path in segment.mark_deleted()? {
                    self.shared.fs.remove_file(&path)?;
                }
                continue;
            }
            let newest_at_least = self.require_next(&segment, next_offset)?;
            let facts = self.closed_facts(&segment, next_offset, newest_at_least)?;
            segment.close();
            self.found.facts.push(facts);
        }
        if scan.is_empty() {
            self.found.facts.push(*active);
        }
        Ok(scan.to_vec())
    }

    fn add_segment(&mut self, base_offset: Offset) -> io::Result<Arc<Segment>> {
        let fs = Arc::clone(&self.shared.fs);
        let open_files = Arc::clone(&self.shared.open_files);
        let segment = Segment::new(fs, open_files, self.path.clone(), base_offset, 0);
        segment.set_written_bytes(segment.log_file()?.len()?);
        segment.close();
        let segment = Arc::new(segment);
        self.segments.insert(base_offset, Arc::clone(&segment));
        Ok(segment)
    }

    /// Whether the next segment is the next one: if this one ends, whole, before it, there was another between them, or more of this one.
    /// Gives the largest timestamp of its last few batches.
    fn require_next(
        &self,
        segment: &Segment,
        next_offset: Offset,
    ) -> Result<Timestamp, FolderError> {
        let (end, newest) = match segment.last_batches() {
            Ok(last) => last,
            // For those who read it: what is around the damage is served.
            Err(ReadError::Corrupt { .. } | ReadError::OutOfRange { .. }) => {
                return Ok(Timestamp::NONE);
            }
            Err(ReadError::Io { source, .. }) => {
                return Err(io::Error::new(source.kind(), source).into());
            }
        };
        if end < next_offset {
            let base_offset = segment.base_offset;
            let reason = format!(
                "segment {base_offset} ends at {end} and the next one is {next_offset}: what was between them is missing"
            );
            return Err(FolderError::damaged(self.id, reason));
        }
        Ok(newest)
    }

    /// A closed segment was synced before the next one was begun, so its size and the end of its time index say enough: that has its
    /// largest timestamp.
    fn closed_facts(
        &self,
        segment: &Segment,
        next_offset: Offset,
        newest_at_least: Timestamp,
    ) -> Result<SegmentFacts, FolderError> {
        let base_offset = segment.base_offset;
        let located = |entry: TimeIndexEntry| {
            (entry.timestamp, Offset(base_offset.0 + i64::from(entry.relative_offset)))
        };
        let mut newest = segment.last_indexed_time().map(located);
        let is_possible = |(timestamp, offset): (Timestamp, Offset)| {
            timestamp > Timestamp(0) && offset < next_offset
        };
        let newest_told = newest.map_or(Timestamp::NONE, |(timestamp, _)| timestamp);
        if newest.is_some_and(|newest| !is_possible(newest)) || newest_told < newest_at_least {
            segment
                .rebuild_indexes()
                .map_err(|error| FolderError::damaged(self.id, error.to_string()))?;
            newest = segment.last_indexed_time().map(located);
        }
        Ok(SegmentFacts {
            next_offset,
            size_bytes: segment.written_bytes(),
            max_timestamp: newest,
            ..SegmentFacts::empty_at(base_offset, self.shared.clock.now())
        })
    }

    /// Reads the batches of a segment that the checkpoint does not cover, and cuts what does not belong.
    fn scan_segment(
        &mut self,
        base_offset: Offset,
        next_base: Option<Offset>,
        checkpoint: Option<&LogCheckpoint>,
    ) -> Result<(), FolderError> {
        let segment = self.add_segment(base_offset)?;
        let known = checkpoint.map(|c| c.active).filter(|active| active.base_offset == base_offset);
        let start =
            known.unwrap_or_else(|| SegmentFacts::empty_at(base_offset, self.shared.clock.now()));
        let file_bytes = segment.written_bytes();
        if file_bytes < start.size_bytes {
            let reason = format!(
                "segment {base_offset} has {file_bytes} bytes, {} were durable",
                start.size_bytes
            );
            return Err(FolderError::damaged(self.id, reason));
        }
        if file_bytes == start.size_bytes && known.is_some() {
            if !self.was_clean {
                segment
                    .check_indexes(&start)
                    .map_err(|e| FolderError::damaged(self.id, e.to_string()))?;
            }
            self.found.facts.push(start);
            return Ok(());
        }
        if self.found.log_end().is_some_and(|end| end != base_offset) {
            let reason =
                format!("segment {base_offset} does not follow on {:?}", self.found.log_end());
            return Err(FolderError::damaged(self.id, reason));
        }
        let mut scanned = self.read_batches(&segment, start)?;
        if let Some(next) = next_base
            && scanned.facts.next_offset != next
        {
            let reason = format!(
                "segment {base_offset} is damaged at byte {} and others follow",
                scanned.facts.size_bytes
            );
            return Err(FolderError::damaged(self.id, reason));
        }
        if next_base.is_some() {
            scanned.time_entries.extend(scanned.facts.index_time());
        }
        self.keep_scanned(&segment, start, &scanned)?;
        self.found.facts.push(scanned.facts);
        Ok(())
    }

    fn read_batches(&mut self, segment: &Segment, start: SegmentFacts) -> io::Result<Scanned> {
        let file = segment.log_file()?;
        let end = segment.written_bytes();
        let mut window = Window::new(Patience::Wait);
        let mut scanned = Scanned { facts: start, entries: Vec::new(), time_entries: Vec::new() };
        let now = self.shared.clock.now();
        while scanned.facts.size_bytes < end {
            let position = scanned.facts.size_bytes;
            let Some(header) = whole_batch(&mut window, &*file, position, end)? else { break };
            let newest = self.found.epochs.latest().map_or(LeaderEpoch::NONE, |e| e.epoch);
            if header.base_offset != scanned.facts.next_offset || header.leader_epoch < newest {
                break;
            }
            if header.leader_epoch > newest {
                self.found.epochs.assign(header.leader_epoch, header.base_offset);
            }
            self.found.producers.apply(&header, now);
            let placement = scanned.facts.push(&header, &self.config, now);
            scanned.entries.extend(placement.index_entry);
            scanned.time_entries.extend(placement.time_index_entry);
        }
        Ok(scanned)
    }

    /// Cuts the file and its indexes to what was read, durably.
    fn keep_scanned(
        &self,
        segment: &Segment,
        start: SegmentFacts,
        scanned: &Scanned,
    ) -> io::Result<()> {
        let file = segment.log_file()?;
        if segment.written_bytes() > scanned.facts.size_bytes {
            tracing::info!(
                segment = %segment.path("log").display(),
                bytes = segment.written_bytes() - scanned.facts.size_bytes,
                "cutting the torn end of a write"
            );
            file.set_len(scanned.facts.size_bytes)?;
        }
        segment.set_written_bytes(start.size_bytes);
        segment.check_indexes(&start).map_err(io::Error::other)?;
        segment.cut_indexes(start.size_bytes, start.next_offset)?;
        segment.set_written_bytes(scanned.facts.size_bytes);
        segment.extend_indexes_if_room(&scanned.entries, &scanned.time_entries)?;
        segment.sync_indexes()?;
        // What an earlier process wrote, or named, but did not sync counts as durable from now on.
        file.sync_all()?;
        self.shared.fs.sync_dir(&self.path)
    }

    fn require_checkpointed(&self, checkpoint: Option<&LogCheckpoint>) -> Result<(), FolderError> {
        let (Some(checkpoint), Some(end)) = (checkpoint, self.found.log_end()) else {
            return Ok(());
        };
        if end < checkpoint.active.next_offset {
            let reason =
                format!("ends at {end}, was durable up to {}", checkpoint.active.next_offset);
            return Err(FolderError::damaged(self.id, reason));
        }
        Ok(())
    }

    fn missing_first(&self, checkpoint: Option<&LogCheckpoint>) -> Option<Missing> {
        let log_start = checkpoint?.log_start;
        let first = self.found.facts.first()?.base_offset;
        (log_start < first).then_some(Missing { log_start, first })
    }

    /// Producer states at the checkpoint's log end: from its snapshot, else from an older one and the batches since. Returns the
    /// checkpoint's snapshot if that was whole.
    fn restore_producers(
        &mut self,
        checkpoint: Option<&LogCheckpoint>,
        snapshots: &[Offset],
        first: Option<Offset>,
    ) -> Result<Option<Offset>, FolderError> {
        let Some(checkpoint) = checkpoint else {
            // All batches will be applied; of those that retention took, this tells.
            let first = first.filter(|first| snapshots.contains(first));
            let states = first.and_then(|first| read_snapshot(&*self.shared.fs, &self.path, first));
            self.found.producers = states.unwrap_or_default();
            return Ok(None);
        };
        let ProducersAt::Snapshot(at) = checkpoint.producers else { return Ok(None) };
        let usable = snapshots.iter().rev().filter(|offset| **offset <= at);
        let restored = usable.copied().find_map(|offset| {
            let states = read_snapshot(&*self.shared.fs, &self.path, offset)?;
            Some((states, offset))
        });
        let (states, from) = restored.unwrap_or_else(|| (ProducerStates::default(), Offset::ZERO));
        self.found.producers = states;
        if from < at {
            tracing::warn!(id = %self.id, %from, to = %at, "reading batches for producer states");
            self.replay_producers(from, at, checkpoint)
                .map_err(|error| FolderError::damaged(self.id, error.to_string()))?;
        }
        Ok((from == at).then_some(at))
    }

    fn read_epochs(&self) -> Option<EpochIndex> {
        let path = self.path.join(layout::EPOCH_CHECKPOINT);
        let bytes = fs::read_whole(&*self.shared.fs, &path, layout::TEXT_BYTES_MAX).ok()??;
        layout::parse_epoch_checkpoint(std::str::from_utf8(&bytes).ok()?)
    }

    fn replay_producers(
        &mut self,
        from: Offset,
        to: Offset,
        checkpoint: &LogCheckpoint,
    ) -> Result<(), ReadError> {
        let now = self.shared.clock.now();
        let active = checkpoint.active;
        let mut segments: Vec<_> = self.segments.values().cloned().collect();
        if active.size_bytes > 0 {
            let fs = Arc::clone(&self.shared.fs);
            let open_files = Arc::clone(&self.shared.open_files);
            let path = self.path.clone();
            let (base_offset, bytes) = (active.base_offset, active.size_bytes);
            segments.push(Arc::new(Segment::new(fs, open_files, path, base_offset, bytes)));
        }
        for segment in segments {
            segment.walk_from(0, |located| {
                let header = &located.header;
                if header.base_offset >= from && header.next_offset() <= to {
                    self.found.producers.apply(header, now);
                }
                false
            })?;
        }
        Ok(())
    }

    fn finish(
        self,
        name: TopicPartition,
        checkpoint: Option<&LogCheckpoint>,
        begins: Begins,
        (snapshots, sound_snapshot): (Vec<Offset>, Option<Offset>),
    ) -> Log {
        let first = self.found.facts.first().map_or(Offset::ZERO, |facts| facts.base_offset);
        let noted = if checkpoint.is_none() { self.read_epochs() } else { None };
        let newest_noted = noted.and_then(|epochs| epochs.latest());
        let recovered = RecoveredLog {
            log_start: checkpoint.map_or_else(|| first.max(begins.log_start), |c| c.log_start),
            high_watermark: checkpoint.map_or(first, |c| c.high_watermark),
            segments: self.found.facts,
            epochs: self.found.epochs,
            producers: self.found.producers,
        };
        let now = self.shared.clock.now();
        let mut core = PartitionLog::recover(recovered, self.config, jitter_seed(self.id), now);
        if let Some(checkpoint) = checkpoint
            && checkpoint.leader_epoch > core.leader_epoch()
        {
            core.begin_leader_epoch(checkpoint.leader_epoch).expect("newer than the log's");
        }
        if let Some(newest) = newest_noted
            && newest.epoch > core.leader_epoch()
        {
            // An epoch that wrote nothing is in no batch.
            core.begin_leader_epoch(newest.epoch).expect("newer than the log's");
        }
        if checkpoint.is_none() && begins.leader_epoch > core.leader_epoch() {
            core.begin_leader_epoch(begins.leader_epoch).expect("newer than the log's");
        }
        let is_checkpointed = checkpoint.is_some();
        let checkpoint = checkpoint
            .cloned()
            .unwrap_or_else(|| checkpoint_of(self.id, &core, begins.position, ProducersAt::Empty));
        let parts = LogParts {
            id: self.id,
            name,
            folder: self.path,
            core,
            segments: self.segments,
            checkpoint,
            is_checkpointed,
            snapshots,
            sound_snapshot,
        };
        Log::new(Arc::clone(self.shared), parts)
    }
}

/// What reading a segment's batches gave.
struct Scanned {
    facts: SegmentFacts,
    entries: Vec<IndexEntry>,
    time_entries: Vec<TimeIndexEntry>,
}

/// The header of the batch at `position`, if it is whole and its checksum is right.
fn whole_batch(
    window: &mut Window,
    file: &dyn fs::File,
    position: u64,
    end: u64,
) -> io::Result<Option<BatchHeader>> {
    let header =
        window.at(file, position, HEADER_BYTES, end)?.and_then(|b| BatchHeader::parse(b).ok());
    let Some(header) = header else { return Ok(None) };
    let size_bytes = header.size_bytes();
    if position + size_bytes as u64 > end {
        return Ok(None);
    }
    let bytes = window.at(file, position, size_bytes, end)?.unwrap_or_default();
    Ok(verify_crc(bytes, &header).is_ok().then_some(header))
}
