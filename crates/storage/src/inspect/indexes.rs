//! Index files held against the batches that they point to, both read once from front to back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thalweg_env::fs::{File, Fs, OpenMode};
use thalweg_log_core::{IndexEntry, TimeIndexEntry};
use thalweg_record::BatchHeader;
use thalweg_types::{Offset, Timestamp};

use super::verify::Problem;
use crate::layout;

/// Entries read at a time.
const ENTRIES_AT_A_TIME: usize = 4096;

/// No more than this many misfits of one file are told; by then nothing in it is right.
const MISFITS_MAX: usize = 1000;

/// A problem and the byte of the index file that it is at.
pub(super) type Misfit = (u64, Problem);

/// The entries of one index file, of a length that is taken once. `N` bytes each.
struct Entries<const N: usize> {
    file: Arc<dyn File>,
    /// Of the next entry.
    position: u64,
    end: u64,
    read: Vec<u8>,
    read_at: u64,
}

impl<const N: usize> Entries<N> {
    fn new(file: Arc<dyn File>) -> io::Result<(Self, Option<Misfit>)> {
        let bytes = file.len()?;
        let end = bytes - bytes % N as u64;
        let misfit = (end < bytes).then_some((end, Problem::PartOfAnEntry { bytes: bytes - end }));
        Ok((Self { file, position: 0, end, read: Vec::new(), read_at: 0 }, misfit))
    }

    /// The next entry, which stays the next one, and its position.
    fn peek(&mut self) -> io::Result<Option<(u64, [u8; N])>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let held = self.read_at + self.read.len() as u64;
        if self.position >= held {
            let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            self.read.resize(left.min(N * ENTRIES_AT_A_TIME), 0);
            self.file.read_exact_at(&mut self.read, self.position)?;
            self.read_at = self.position;
        }
        let at = usize::try_from(self.position - self.read_at).unwrap_or(usize::MAX);
        let entry = self.read.get(at..).and_then(|rest| rest.first_chunk::<N>());
        Ok(entry.map(|entry| (self.position, *entry)))
    }

    fn skip(&mut self) {
        self.position += N as u64;
    }
}

fn note(misfits: &mut Vec<Misfit>, misfit: Misfit) {
    if misfits.len() < MISFITS_MAX {
        misfits.push(misfit);
    }
}

fn open(fs: &dyn Fs, path: &Path) -> io::Result<Option<Arc<dyn File>>> {
    match fs.open(path, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Both indexes of one segment. Give it the segment's pieces in order.
pub(super) struct Indexes {
    pub(super) offsets: OffsetIndex,
    pub(super) times: TimeIndex,
}

pub(super) struct OffsetIndex {
    pub(super) path: PathBuf,
    base_offset: Offset,
    /// `None` without a file.
    entries: Option<Entries<{ IndexEntry::SIZE_BYTES }>>,
    previous: Option<IndexEntry>,
    pub(super) misfits: Vec<Misfit>,
}

pub(super) struct TimeIndex {
    pub(super) path: PathBuf,
    base_offset: Offset,
    entries: Option<Entries<{ TimeIndexEntry::SIZE_BYTES }>>,
    previous: Option<TimeIndexEntry>,
    /// Damaged batches lie before the next one: nobody knows which offsets they had.
    is_blind: bool,
    pub(super) misfits: Vec<Misfit>,
}

impl Indexes {
    pub(super) fn open(fs: &dyn Fs, folder: &Path, base_offset: Offset) -> io::Result<Self> {
        let path = folder.join(layout::file_name(base_offset, "index"));
        let opened = open(fs, &path)?.map(Entries::new).transpose()?;
        let (entries, misfit) = opened.unzip();
        let misfits = misfit.flatten().into_iter().collect();
        let offsets = OffsetIndex { path, base_offset, entries, previous: None, misfits };
        let path = folder.join(layout::file_name(base_offset, "timeindex"));
        let opened = open(fs, &path)?.map(Entries::new).transpose()?;
        let (entries, misfit) = opened.unzip();
        let misfits = misfit.flatten().into_iter().collect();
        let (previous, is_blind) = (None, false);
        let times = TimeIndex { path, base_offset, entries, previous, is_blind, misfits };
        Ok(Self { offsets, times })
    }

    pub(super) fn batch(&mut self, position: u64, header: &BatchHeader) -> io::Result<()> {
        self.offsets.batch(position, header)?;
        self.times.batch(header)
    }

    /// Bytes up to `end` hold nothing that can be relied on.
    pub(super) fn skip_to(&mut self, end: u64) -> io::Result<()> {
        self.times.is_blind = true;
        self.offsets.skip_to(end)
    }

    /// The segment ends. `newest` is its largest timestamp, if it gets no more batches and all are whole.
    pub(super) fn end(&mut self, newest: Option<Timestamp>) -> io::Result<()> {
        self.offsets.end()?;
        self.times.end(newest)
    }

    pub(super) fn are_missing(&self) -> [bool; 2] {
        [self.offsets.entries.is_none(), self.times.entries.is_none()]
    }
}

impl OffsetIndex {
    fn batch(&mut self, position: u64, header: &BatchHeader) -> io::Result<()> {
        while let Some((at, entry)) = self.take_up_to(position)? {
            let offset = self.offset_of(entry);
            let points_to = u64::from(entry.position);
            if points_to < position {
                note(
                    &mut self.misfits,
                    (at, Problem::IndexPosition { offset, position: points_to }),
                );
            } else if offset < header.base_offset || offset > header.last_offset() {
                let (base_offset, last_offset) = (header.base_offset, header.last_offset());
                let problem = Problem::IndexOffset { offset, position, base_offset, last_offset };
                note(&mut self.misfits, (at, problem));
            }
        }
        Ok(())
    }

    fn skip_to(&mut self, end: u64) -> io::Result<()> {
        while self.take_up_to(end.saturating_sub(1))?.is_some() {}
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        while let Some((at, entry)) = self.take_up_to(u64::MAX)? {
            let (offset, position) = (self.offset_of(entry), u64::from(entry.position));
            note(&mut self.misfits, (at, Problem::IndexPosition { offset, position }));
        }
        Ok(())
    }

    fn offset_of(&self, entry: IndexEntry) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(entry.relative_offset)))
    }

    /// Takes the next entry if it points to `position` or before it.
    fn take_up_to(&mut self, position: u64) -> io::Result<Option<(u64, IndexEntry)>> {
        let Some(entries) = &mut self.entries else { return Ok(None) };
        let Some((at, bytes)) = entries.peek()? else { return Ok(None) };
        let entry = IndexEntry::from_bytes(bytes);
        if u64::from(entry.position) > position {
            return Ok(None);
        }
        entries.skip();
        let previous = self.previous.replace(entry);
        let increases = previous.is_none_or(|previous| {
            previous.relative_offset < entry.relative_offset && previous.position < entry.position
        });
        if !increases {
            note(&mut self.misfits, (at, Problem::IndexOrder));
        }
        Ok(Some((at, entry)))
    }
}

impl TimeIndex {
    fn batch(&mut self, header: &BatchHeader) -> io::Result<()> {
        let is_blind = std::mem::take(&mut self.is_blind);
        while let Some((at, entry)) = self.take_up_to(header.last_offset())? {
            let (offset, timestamp) = (self.offset_of(entry), entry.timestamp);
            if offset < header.base_offset {
                if !is_blind {
                    note(&mut self.misfits, (at, Problem::TimeIndexOffset { offset, timestamp }));
                }
            } else if timestamp != header.max_timestamp {
                let found = header.max_timestamp;
                note(
                    &mut self.misfits,
                    (at, Problem::TimeIndexTimestamp { offset, timestamp, found }),
                );
            }
        }
        Ok(())
    }

    fn end(&mut self, newest: Option<Timestamp>) -> io::Result<()> {
        while let Some((at, entry)) = self.take_up_to(Offset(i64::MAX))? {
            if !self.is_blind {
                let (offset, timestamp) = (self.offset_of(entry), entry.timestamp);
                note(&mut self.misfits, (at, Problem::TimeIndexOffset { offset, timestamp }));
            }
        }
        let last = self.previous.map(|entry| entry.timestamp);
        if let (Some(entries), Some(newest)) = (&self.entries, newest)
            && last != Some(newest)
        {
            note(&mut self.misfits, (entries.end, Problem::TimeIndexEnd { newest }));
        }
        Ok(())
    }

    fn offset_of(&self, entry: TimeIndexEntry) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(entry.relative_offset)))
    }

    /// Takes the next entry if it is about `offset` or one before it.
    fn take_up_to(&mut self, offset: Offset) -> io::Result<Option<(u64, TimeIndexEntry)>> {
        let Some(entries) = &mut self.entries else { return Ok(None) };
        let Some((at, bytes)) = entries.peek()? else { return Ok(None) };
        let entry = TimeIndexEntry::from_bytes(bytes);
        if self.base_offset.0.saturating_add(i64::from(entry.relative_offset)) > offset.0 {
            return Ok(None);
        }
        entries.skip();
        let previous = self.previous.replace(entry);
        let increases = previous.is_none_or(|previous| {
            previous.timestamp < entry.timestamp
                && previous.relative_offset <= entry.relative_offset
        });
        if !increases {
            note(&mut self.misfits, (at, Problem::IndexOrder));
        }
        Ok(Some((at, entry)))
    }
}
