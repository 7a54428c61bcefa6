//! Holds a partition's files against each other.
//!
//! Damage is told from what a crash, or a server that is writing now, leaves behind: what lies beyond the durable end that the dir's
//! checkpoint knows is *unfinished*; the next start cuts it and has it from the journal. Without a checkpoint, only a batch that the
//! file's end cuts off, or blank room, at the end of the last segment is taken for that.

use std::io;
use std::path::{Path, PathBuf};

use thalweg_env::fs::{self, Fs};
use thalweg_log_core::{EpochIndex, SegmentFacts};
use thalweg_record::{BatchError, BatchHeader};
use thalweg_types::{LeaderEpoch, Offset, Timestamp, TopicId, TopicIdPartition};

use super::indexes::{Indexes, Misfit};
use super::scan::{BadBytes, BadReason, Piece, SegmentScan, StoredBatch};
use super::{DurableMarks, partition_of, segments};
use crate::layout;

/// Something that is not as it should be, and where.
#[derive(Debug, Clone)]
pub struct Finding {
    pub severity: Severity,
    pub path: PathBuf,
    /// Byte in the file; `None` when it is about the file as a whole.
    pub position: Option<u64>,
    pub problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// What was durable once is not right any more.
    Damage,
    /// The end of a write that a crash cut short or that is under way: no loss.
    Unfinished,
}

/// What is wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    #[error("the file is missing")]
    Missing,
    #[error("the file's contents are not of its format")]
    Unreadable,
    #[error("{} bytes that are no batch: {}; {}", .0.bytes, .0.reason, if .0.is_followed { "whole batches follow" } else { "no whole batch follows" })]
    Bad(BadBytes),
    #[error("the batch of offsets {base_offset} to {last_offset} does not match its CRC")]
    Crc { base_offset: Offset, last_offset: Offset },
    #[error("the batch begins at offset {found}, {expected} comes next")]
    OffsetOrder { expected: Offset, found: Offset },
    #[error("the segment begins at offset {found}, the one before it ends at {expected}")]
    SegmentOrder { expected: Offset, found: Offset },
    #[error("{found} bytes, {durable} were durable")]
    TooShort { found: u64, durable: u64 },
    #[error("ends at offset {found}, was durable up to {durable}")]
    EndsEarly { found: Offset, durable: Offset },
    #[error("the batch at offset {offset} has leader epoch {found} behind one of {previous}")]
    EpochOrder { offset: Offset, previous: LeaderEpoch, found: LeaderEpoch },
    #[error(
        "the batch at offset {offset} has leader epoch {found}, leader-epoch-checkpoint says {noted}"
    )]
    Epoch { offset: Offset, noted: LeaderEpoch, found: LeaderEpoch },
    #[error("{bytes} bytes of an entry at the end")]
    PartOfAnEntry { bytes: u64 },
    #[error("the entry is not above the one before it")]
    IndexOrder,
    #[error("offset {offset} is said to be at byte {position}, where no batch begins")]
    IndexPosition { offset: Offset, position: u64 },
    #[error(
        "offset {offset} is said to be at byte {position}, where offsets {base_offset} to {last_offset} are"
    )]
    IndexOffset { offset: Offset, position: u64, base_offset: Offset, last_offset: Offset },
    #[error("time {timestamp} is said to be at offset {offset}, which no batch holds")]
    TimeIndexOffset { offset: Offset, timestamp: Timestamp },
    #[error(
        "time {timestamp} is said to be at offset {offset}, where the batch's largest is {found}"
    )]
    TimeIndexTimestamp { offset: Offset, timestamp: Timestamp, found: Timestamp },
    #[error("the last entry of a complete segment is not its largest time, {newest}")]
    TimeIndexEnd { newest: Timestamp },
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    pub segments: u64,
    pub batches: u64,
    /// Of the segments' files.
    pub bytes: u64,
    /// First offset, and the one after the last.
    pub offsets: Option<(Offset, Offset)>,
    pub damage: u64,
    pub unfinished: u64,
}

/// Looks at everything in a partition's folder and hands each finding to `report`. An error is the disk's, not the contents'.
pub fn verify_folder(
    fs: &dyn Fs,
    folder: &Path,
    marks: &DurableMarks,
    report: &mut dyn FnMut(&Finding),
) -> io::Result<Verified> {
    let mut check = Check {
        fs,
        folder,
        durable: None,
        epochs: None,
        next_offset: None,
        epoch: LeaderEpoch::NONE,
        epoch_told: None,
        verified: Verified::default(),
        report,
    };
    let bases = segments(fs, folder)?;
    check.read_small_files(marks, &bases)?;
    for (at, base_offset) in bases.iter().enumerate() {
        check.segment(*base_offset, bases.get(at + 1).is_none())?;
    }
    check.durable_end();
    Ok(check.verified)
}

/// A folder being looked at.
struct Check<'a> {
    fs: &'a dyn Fs,
    folder: &'a Path,
    /// The active segment as the checkpoint has it.
    durable: Option<SegmentFacts>,
    epochs: Option<EpochIndex>,
    /// Where the next batch has to begin; unknown at the start and behind damage.
    next_offset: Option<Offset>,
    /// Of the newest whole batch.
    epoch: LeaderEpoch,
    /// The last mismatch of epochs that was reported: noted, found.
    epoch_told: Option<(LeaderEpoch, LeaderEpoch)>,
    verified: Verified,
    report: &'a mut dyn FnMut(&Finding),
}

impl Check<'_> {
    fn find(&mut self, severity: Severity, path: PathBuf, position: Option<u64>, what: Problem) {
        match severity {
            Severity::Damage => self.verified.damage += 1,
            Severity::Unfinished => self.verified.unfinished += 1,
        }
        (self.report)(&Finding { severity, path, position, problem: what });
    }

    fn damage(&mut self, path: PathBuf, position: Option<u64>, what: Problem) {
        self.find(Severity::Damage, path, position, what);
    }

    // Read before the segments, so that a running server is never behind what they say.
    fn read_small_files(&mut self, marks: &DurableMarks, bases: &[Offset]) -> io::Result<()> {
        let path = self.folder.join(layout::PARTITION_METADATA);
        match self.read_text(&path)? {
            None => self.damage(path, None, Problem::Missing),
            Some(text) => match layout::parse_partition_metadata(&text) {
                None => self.damage(path, None, Problem::Unreadable),
                Some((topic_id, _)) => self.durable = self.mark_of(marks, topic_id),
            },
        }
        let path = self.folder.join(layout::EPOCH_CHECKPOINT);
        match self.read_text(&path)? {
            None if bases.is_empty() || self.durable.is_none_or(|facts| facts.is_empty()) => {}
            None => self.damage(path, None, Problem::Missing),
            Some(text) => {
                self.epochs = layout::parse_epoch_checkpoint(&text);
                if self.epochs.is_none() {
                    self.damage(path, None, Problem::Unreadable);
                }
            }
        }
        Ok(())
    }

    fn read_text(&self, path: &Path) -> io::Result<Option<String>> {
        let bytes = match fs::read_whole(self.fs, path, layout::TEXT_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Some(Vec::new()),
            read => read?,
        };
        Ok(bytes.map(|bytes| String::from_utf8(bytes).unwrap_or_default()))
    }

    fn mark_of(&self, marks: &DurableMarks, topic_id: TopicId) -> Option<SegmentFacts> {
        let partition = partition_of(self.folder)?.partition;
        marks.get(self.fs, self.folder, TopicIdPartition { topic_id, partition })
    }

    /// Whether a place lies beyond what the checkpoint knows; `None` without a checkpoint.
    fn is_beyond_durable(&self, base_offset: Offset, position: u64) -> Option<bool> {
        self.durable.map(|active| {
            base_offset > active.base_offset
                || (base_offset == active.base_offset && position >= active.size_bytes)
        })
    }

    fn severity_at(&self, base_offset: Offset, position: u64) -> Severity {
        match self.is_beyond_durable(base_offset, position) {
            Some(true) => Severity::Unfinished,
            Some(false) | None => Severity::Damage,
        }
    }

    fn segment(&mut self, base_offset: Offset, is_last: bool) -> io::Result<()> {
        // The indexes first: a running server writes them after the batches.
        let mut indexes = Indexes::open(self.fs, self.folder, base_offset)?;
        let mut scan = match SegmentScan::open(self.fs, self.folder, base_offset) {
            // Retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            scan => scan?,
        };
        self.verified.segments += 1;
        self.verified.bytes += scan.size_bytes();
        let start = self.verified.offsets.map_or(base_offset, |(start, _)| start);
        self.verified.offsets = Some((start, base_offset));
        if let Some(expected) = self.next_offset
            && expected != base_offset
        {
            let found = base_offset;
            let what = Problem::SegmentOrder { expected, found };
            self.damage(scan.path().to_owned(), None, what);
        }
        self.next_offset = Some(base_offset);
        let mut newest = Some(Timestamp::NONE);
        while let Some(piece) = scan.next_piece()? {
            match piece {
                Piece::Batch(batch) if batch.crc.is_ok() => {
                    self.batch(scan.path(), base_offset, &batch);
                    indexes.batch(batch.position, &batch.header)?;
                    newest = newest.map(|newest| newest.max(batch.header.max_timestamp));
                }
                Piece::Batch(batch) => {
                    self.bad_batch(scan.path(), base_offset, &batch);
                    indexes.skip_to(batch.position + batch.bytes.len() as u64)?;
                    newest = None;
                }
                Piece::Bad(bad) => {
                    indexes.skip_to(bad.position + bad.bytes)?;
                    self.bad_bytes(scan.path(), base_offset, is_last, bad);
                    newest = None;
                }
            }
        }
        self.size(&scan, base_offset);
        indexes.end(newest.filter(|newest| !is_last && newest.0 >= 0))?;
        self.indexes(indexes, scan.size_bytes());
        Ok(())
    }

    fn batch(&mut self, path: &Path, base_offset: Offset, batch: &StoredBatch) {
        let header = &batch.header;
        let severity = self.severity_at(base_offset, batch.position);
        let at = Some(batch.position);
        let mut next_offset = header.next_offset();
        if let Some(expected) = self.next_offset
            && expected != header.base_offset
        {
            let found = header.base_offset;
            self.find(severity, path.to_owned(), at, Problem::OffsetOrder { expected, found });
            let offsets = i64::from(header.last_offset_delta) + 1;
            next_offset = Offset(expected.0.saturating_add(offsets));
        } else {
            self.epoch(path, severity, batch.position, header);
        }
        self.count(next_offset);
        self.next_offset = Some(next_offset);
    }

    fn count(&mut self, next_offset: Offset) {
        self.verified.batches += 1;
        if let Some((_, end)) = &mut self.verified.offsets {
            *end = next_offset.max(*end);
        }
    }

    fn epoch(&mut self, path: &Path, severity: Severity, position: u64, header: &BatchHeader) {
        let (offset, found) = (header.base_offset, header.leader_epoch);
        let previous = std::mem::replace(&mut self.epoch, found);
        if found < previous {
            let what = Problem::EpochOrder { offset, previous, found };
            self.find(severity, path.to_owned(), Some(position), what);
            return;
        }
        // Below its first entry, the checkpoint says nothing: retention shortened it.
        let noted = self.epochs.as_ref().and_then(|epochs| epochs.epoch_at(offset));
        let Some(noted) = noted.filter(|noted| *noted != found) else { return };
        if self.epoch_told != Some((noted, found)) {
            self.epoch_told = Some((noted, found));
            let what = Problem::Epoch { offset, noted, found };
            self.find(severity, path.to_owned(), Some(position), what);
        }
    }

    fn bad_batch(&mut self, path: &Path, base_offset: Offset, batch: &StoredBatch) {
        let header = &batch.header;
        let severity = self.severity_at(base_offset, batch.position);
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        let what = Problem::Crc { base_offset, last_offset };
        self.find(severity, path.to_owned(), Some(batch.position), what);
        self.verified.batches += 1;
        self.next_offset = None;
    }

    fn bad_bytes(&mut self, path: &Path, base_offset: Offset, is_last: bool, bad: BadBytes) {
        let is_cut_off = matches!(bad.reason, BadReason::Batch(BatchError::Truncated { .. }));
        let looks_unfinished = is_last && !bad.is_followed && (is_cut_off || bad.is_blank);
        let severity = match self.is_beyond_durable(base_offset, bad.position) {
            None if looks_unfinished => Severity::Unfinished,
            _ => self.severity_at(base_offset, bad.position),
        };
        self.find(severity, path.to_owned(), Some(bad.position), Problem::Bad(bad));
        self.next_offset = None;
    }

    fn size(&mut self, scan: &SegmentScan, base_offset: Offset) {
        let active = self.durable.filter(|active| active.base_offset == base_offset);
        let Some(durable) = active.map(|active| active.size_bytes) else { return };
        let found = scan.size_bytes();
        if found < durable {
            self.damage(scan.path().to_owned(), Some(found), Problem::TooShort { found, durable });
        }
    }

    fn indexes(&mut self, indexes: Indexes, log_bytes: u64) {
        let missing = indexes.are_missing();
        let (offsets, times) = (indexes.offsets, indexes.times);
        let files: [(PathBuf, Vec<Misfit>); 2] =
            [(offsets.path, offsets.misfits), (times.path, times.misfits)];
        for ((path, misfits), is_missing) in files.into_iter().zip(missing) {
            if is_missing && log_bytes > 0 {
                self.damage(path.clone(), None, Problem::Missing);
            }
            for (position, problem) in misfits {
                self.damage(path.clone(), Some(position), problem);
            }
        }
    }

    /// Whether the segments reach as far as they once did.
    fn durable_end(&mut self) {
        let Some(active) = self.durable.filter(|active| !active.is_empty()) else { return };
        let found = self.verified.offsets.map_or(Offset::ZERO, |(_, end)| end);
        // Damage that hides the end was told already.
        if found < active.next_offset && self.verified.damage == 0 {
            let durable = active.next_offset;
            self.damage(self.folder.to_owned(), None, Problem::EndsEarly { found, durable });
        }
    }
}
