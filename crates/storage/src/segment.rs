//! One segment on disk: its file of batches, its two indexes, and how a place in it is found.
//!
//! Files are opened when needed, as many at a time as [`OpenFiles`] allows, and stay readable for whoever holds them, even while retention deletes their names. Only the
//! segment writer writes; readers see what [`Segment::written_bytes`] covers. The indexes are caches in Kafka's formats: a damaged or
//! missing one is rebuilt from the batches.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use thalweg_env::fs::{File, Fs, OpenMode, is_out_of_space};
use thalweg_log_core::{
    IndexEntry, LogConfig, SegmentFacts, TimeIndexEntry, entry_for, scan_start_for_timestamp,
};
use thalweg_record::{BatchHeader, HEADER_BYTES, verify_crc};
use thalweg_types::{Offset, Timestamp};

use crate::error::ReadError;
use crate::layout;
use crate::open_files::{OpenFiles, Place};

/// How much is read at a time when batches are walked one after the other.
const WALK_BYTES: usize = 16 << 10;

/// Whether a look-up may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    /// Gives [`Miss::WouldWait`] instead.
    CachedOnly,
}

/// Why a look-up gives nothing.
#[derive(Debug)]
pub(crate) enum Miss {
    WouldWait,
    Failed(ReadError),
}

impl From<ReadError> for Miss {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

impl Miss {
    /// For look-ups that wait.
    pub(crate) fn into_error(self) -> ReadError {
        match self {
            Self::Failed(error) => error,
            Self::WouldWait => unreachable!("only a look-up that must not wait says so"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Segment {
    fs: Arc<dyn Fs>,
    open_files: Arc<OpenFiles>,
    folder: PathBuf,
    pub(crate) base_offset: Offset,
    /// Bytes of whole batches in the file.
    written_bytes: AtomicU64,
    abandoned: AtomicBool,
    /// The log's end was taken back over it.
    is_cut: AtomicBool,
    log: Arc<Place>,
    index: RwLock<Option<Vec<IndexEntry>>>,
    time_index: RwLock<Option<Vec<TimeIndexEntry>>>,
}

/// A batch in a segment file, found by walking.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Segment {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        open_files: Arc<OpenFiles>,
        folder: PathBuf,
        base_offset: Offset,
        written_bytes: u64,
    ) -> Self {
        Self {
            fs,
            open_files,
            folder,
            base_offset,
            written_bytes: AtomicU64::new(written_bytes),
            abandoned: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            log: Arc::default(),
            index: RwLock::new(None),
            time_index: RwLock::new(None),
        }
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn set_written_bytes(&self, bytes: u64) {
        self.written_bytes.store(bytes, Ordering::Release);
    }

    pub(crate) fn path(&self, extension: &str) -> PathBuf {
        self.folder.join(layout::file_name(self.base_offset, extension))
    }

    /// The file of batches, opened once; writing needs it to have been created by [`Segment::create_log`].
    pub(crate) fn log_file(&self) -> io::Result<Arc<dyn File>> {
        let mut log = self.log.file.lock();
        if let Some(file) = &*log {
            self.open_files.used(&self.log);
            return Ok(Arc::clone(file));
        }
        if self.abandoned.load(Ordering::Acquire) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.fs.open(&self.path("log"), OpenMode::ReadWrite)?;
        *log = Some(Arc::clone(&file));
        drop(log);
        self.open_files.opened(&self.log);
        Ok(file)
    }

    /// The folder is deleted and its name free for another one: whoever has not opened the file yet must not do so any more.
    pub(crate) fn abandon(&self) {
        self.log.keep();
        // Whoever opens it now has done so before the name goes.
        let _opening = self.log.file.lock();
        self.abandoned.store(true, Ordering::Release);
    }

    /// The log's end is taken back over this segment: another one takes its place, or none. Readers find nothing here any more.
    pub(crate) fn cut_off(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.set_written_bytes(0);
        self.abandon();
        *self.log.file.lock() = None;
    }

    /// Whether what a reader finds here, or fails to find, means nothing.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Creates the empty file of batches and empty indexes. The names are durable after the folder is synced.
    pub(crate) fn create_log(&self) -> io::Result<()> {
        let file = self.fs.open(&self.path("log"), OpenMode::CreateOrTruncate)?;
        *self.log.file.lock() = Some(file);
        self.open_files.opened(&self.log);
        self.fs.open(&self.path("index"), OpenMode::CreateOrTruncate)?;
        self.fs.open(&self.path("timeindex"), OpenMode::CreateOrTruncate)?;
        *self.index.write() = Some(Vec::new());
        *self.time_index.write() = Some(Vec::new());
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.log.file.lock().is_some()
    }

    /// Closes the file and forgets the indexes until they are needed again; readers keep what they hold.
    pub(crate) fn close(&self) {
        *self.log.file.lock() = None;
        *self.index.write() = None;
        *self.time_index.write() = None;
    }

    /// Gives all files a name that says they are on their way out, and returns those names.
    pub(crate) fn mark_deleted(&self) -> io::Result<Vec<PathBuf>> {
        // Whoever reads on does so through an open file.
        self.log.keep();
        let _ = self.log_file();
        let mut marked = Vec::new();
        for extension in ["log", "index", "timeindex", "snapshot"] {
            let path = self.path(extension);
            let mut target = path.clone().into_os_string();
            target.push(".");
            target.push(layout::DELETED_FILE_SUFFIX);
            match self.fs.rename(&path, Path::new(&target)) {
                Ok(()) => marked.push(target.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(marked)
    }

    fn io_error(&self, source: io::Error) -> ReadError {
        ReadError::Io { path: self.path("log"), source: Arc::new(source) }
    }

    /// A reader met this.
    pub(crate) fn note_damage(&self, error: &ReadError) {
        self.open_files.damages.met(error);
    }

    pub(crate) fn corrupt(&self, position: u64, reason: impl ToString) -> ReadError {
        ReadError::Corrupt { path: self.path("log"), position, reason: reason.to_string() }
    }
}

// ---- Finding a place ----

impl Segment {
    /// The batch that holds `offset`, or the first one after it; `None` at the end of what is written.
    pub(crate) fn locate(
        &self,
        offset: Offset,
        patience: Patience,
    ) -> Result<Option<Located>, Miss> {
        if patience == Patience::CachedOnly && (!self.is_open() || self.index.read().is_none()) {
            return Err(Miss::WouldWait);
        }
        let mut entry = self.index_entry(offset)?;
        if let Some(given) = entry
            && !self.is_right(given, patience)?
        {
            if patience == Patience::CachedOnly {
                return Err(Miss::WouldWait);
            }
            self.rebuild_indexes()?;
            entry = self.index_entry(offset)?;
        }
        let start = entry.map_or(0, |entry| u64::from(entry.position));
        self.walk(start, patience, |located| located.header.next_offset() > offset)
    }

    /// Where to begin walking for the batch that holds `offset`: a batch begins there, at or before it, unless the index is wrong. May
    /// wait for the disk.
    pub(crate) fn scan_start(&self, offset: Offset) -> Result<u64, ReadError> {
        Ok(self.index_entry(offset)?.map_or(0, |entry| u64::from(entry.position)))
    }

    fn index_entry(&self, offset: Offset) -> Result<Option<IndexEntry>, ReadError> {
        let relative = u32::try_from(offset.records_since(self.base_offset)).unwrap_or(0);
        self.with_index(|index| entry_for(index, relative))
    }

    /// Whether an entry points to the batch that it names. The index has no checksum, and an entry that is wrong but in order would make
    /// a reader skip what lies before, or take a sound segment for a damaged one.
    fn is_right(&self, entry: IndexEntry, patience: Patience) -> Result<bool, Miss> {
        match self.walk(u64::from(entry.position), patience, |_| true) {
            Ok(located) => Ok(located.is_some_and(|located| {
                let relative = located.header.last_offset().records_since(self.base_offset);
                relative == i64::from(entry.relative_offset)
            })),
            Err(Miss::Failed(ReadError::Corrupt { .. })) => Ok(false),
            Err(miss) => Err(miss),
        }
    }

    /// The first batch at or after `position`, where a batch begins, that `wanted` accepts.
    pub(crate) fn walk_from(
        &self,
        position: u64,
        wanted: impl FnMut(&Located) -> bool,
    ) -> Result<Option<Located>, ReadError> {
        self.walk(position, Patience::Wait, wanted).map_err(Miss::into_error)
    }

    fn walk(
        &self,
        mut position: u64,
        patience: Patience,
        mut wanted: impl FnMut(&Located) -> bool,
    ) -> Result<Option<Located>, Miss> {
        let file = self.log_file().map_err(|error| self.io_error(error))?;
        let end = self.written_bytes();
        let mut window = Window::new(patience);
        let mut expected = (position == 0).then_some(self.base_offset);
        while position < end {
            let bytes = window
                .at(&*file, position, HEADER_BYTES, end)
                .map_err(|error| self.io_error(error))?
                .ok_or(Miss::WouldWait)?;
            let header =
                BatchHeader::parse(bytes).map_err(|error| self.corrupt(position, error))?;
            // No checksum covers a batch's offset, but nothing has been taken out of a segment yet.
            let follows = match expected {
                Some(expected) => header.base_offset == expected,
                None => header.base_offset >= self.base_offset,
            };
            if !follows {
                return Err(self.corrupt(position, "offsets that do not follow").into());
            }
            expected = Some(header.next_offset());
            let size_bytes = header.size_bytes() as u64;
            if size_bytes > end - position {
                return Err(self.corrupt(position, "a batch that reaches past the end").into());
            }
            let located = Located { position, header };
            if wanted(&located) {
                return Ok(Some(located));
            }
            position += size_bytes;
        }
        Ok(None)
    }

    /// Reads whole blocks past the page cache, as far as the file reaches.
    pub(crate) fn read_blocks(&self, blocks: &mut [u8], position: u64) -> Result<usize, ReadError> {
        let file = self.log_file().map_err(|error| self.io_error(error))?;
        file.read_blocks_at(blocks, position).map_err(|error| self.io_error(error))
    }

    /// Reads bytes of the file.
    pub(crate) fn fill(
        &self,
        buffer: &mut [u8],
        position: u64,
        patience: Patience,
    ) -> Result<(), Miss> {
        let file = self.log_file().map_err(|error| self.io_error(error))?;
        let window = Window::new(patience);
        let filled = window.fill(&*file, buffer, position).map_err(|error| self.io_error(error))?;
        if filled { Ok(()) } else { Err(Miss::WouldWait) }
    }

    /// The bytes of a located batch, checksum verified.
    pub(crate) fn read_batch(&self, located: &Located) -> Result<Bytes, ReadError> {
        let size_bytes = located.header.size_bytes();
        if located.position + size_bytes as u64 > self.written_bytes() {
            return Err(self.corrupt(located.position, "a batch that reaches past the end"));
        }
        let file = self.log_file().map_err(|error| self.io_error(error))?;
        let mut bytes = BytesMut::zeroed(size_bytes);
        file.read_exact_at(&mut bytes, located.position).map_err(|error| self.io_error(error))?;
        verify_crc(&bytes, &located.header)
            .map_err(|error| self.corrupt(located.position, error))?;
        Ok(bytes.freeze())
    }

    /// Where to begin looking for the first record of `timestamp` or later: an offset at or before it.
    pub(crate) fn scan_start_for(&self, timestamp: Timestamp) -> Result<Offset, ReadError> {
        if self.time_index.read().is_none() {
            let loaded = self.load_time_index();
            *self.time_index.write() = Some(loaded);
        }
        let index = self.time_index.read();
        let relative = index.as_ref().map_or(0, |i| scan_start_for_timestamp(i, timestamp));
        Ok(Offset(self.base_offset.0 + i64::from(relative)))
    }
}

// ---- Indexes ----

impl Segment {
    fn with_index<T>(&self, use_index: impl FnOnce(&[IndexEntry]) -> T) -> Result<T, ReadError> {
        if let Some(index) = &*self.index.read() {
            return Ok(use_index(index));
        }
        let loaded = match self.load_index() {
            Some(index) => index,
            None => self.rebuild_indexes()?,
        };
        let mut index = self.index.write();
        Ok(use_index(index.insert(loaded)))
    }

    /// The index as its file has it; `None` when the file is missing or cannot be right.
    fn load_index(&self) -> Option<Vec<IndexEntry>> {
        let bytes = self.read_small("index")?;
        let (entries, rest) = bytes.as_chunks::<{ IndexEntry::SIZE_BYTES }>();
        let entries: Vec<_> = entries.iter().map(|bytes| IndexEntry::from_bytes(*bytes)).collect();
        let increases = entries.windows(2).all(|pair| {
            pair[0].relative_offset < pair[1].relative_offset && pair[0].position < pair[1].position
        });
        let within =
            entries.last().is_none_or(|last| u64::from(last.position) < self.written_bytes());
        (rest.is_empty() && increases && within).then_some(entries)
    }

    fn load_time_index(&self) -> Vec<TimeIndexEntry> {
        let bytes = self.read_small("timeindex").unwrap_or_default();
        let (entries, _) = bytes.as_chunks::<{ TimeIndexEntry::SIZE_BYTES }>();
        let entries: Vec<_> =
            entries.iter().map(|bytes| TimeIndexEntry::from_bytes(*bytes)).collect();
        let increases = entries.windows(2).all(|pair| {
            pair[0].timestamp < pair[1].timestamp
                && pair[0].relative_offset <= pair[1].relative_offset
        });
        // Without it, look-ups walk the segment from its beginning.
        if increases { entries } else { Vec::new() }
    }

    /// The largest timestamp of a closed segment, as its time index ends with it.
    pub(crate) fn last_indexed_time(&self) -> Option<TimeIndexEntry> {
        let file = self.fs.open(&self.path("timeindex"), OpenMode::Read).ok()?;
        let size = TimeIndexEntry::SIZE_BYTES as u64;
        let count = file.len().ok()? / size;
        let mut bytes = [0; TimeIndexEntry::SIZE_BYTES];
        file.read_exact_at(&mut bytes, count.checked_sub(1)? * size).ok()?;
        Some(TimeIndexEntry::from_bytes(bytes))
    }

    /// Where the last batch of the file ends, by its offsets, and the largest timestamp of the last few batches: found from the last entry
    /// of the index, if that is right, without reading either file whole.
    pub(crate) fn last_batches(&self) -> Result<(Offset, Timestamp), ReadError> {
        let is_right = |entry| self.is_right(entry, Patience::Wait).map_err(Miss::into_error);
        let start = match self.last_index_entry() {
            Some(entry) if is_right(entry)? => u64::from(entry.position),
            _ => 0,
        };
        let (mut end, mut newest) = (self.base_offset, Timestamp::NONE);
        self.walk_from(start, |located| {
            end = located.header.next_offset();
            newest = newest.max(located.header.max_timestamp);
            false
        })?;
        Ok((end, newest))
    }

    fn last_index_entry(&self) -> Option<IndexEntry> {
        let file = self.fs.open(&self.path("index"), OpenMode::Read).ok()?;
        let size = IndexEntry::SIZE_BYTES as u64;
        let count = file.len().ok()? / size;
        let mut bytes = [0; IndexEntry::SIZE_BYTES];
        file.read_exact_at(&mut bytes, count.checked_sub(1)? * size).ok()?;
        Some(IndexEntry::from_bytes(bytes))
    }

    fn read_small(&self, extension: &str) -> Option<Vec<u8>> {
        // Kafka's own limit on index files is 31 bits.
        thalweg_env::fs::read_whole(&*self.fs, &self.path(extension), i32::MAX as u64).ok()?
    }

    /// Makes both indexes anew from the batches, in memory and on disk. Gives the offset index.
    pub(crate) fn rebuild_indexes(&self) -> Result<Vec<IndexEntry>, ReadError> {
        tracing::warn!(segment = %self.path("log").display(), "rebuilding indexes");
        let mut facts = SegmentFacts::empty_at(self.base_offset, Timestamp::NONE);
        let (mut entries, mut time_entries) = (Vec::new(), Vec::new());
        self.walk_from(0, |located| {
            let placement = facts.push(&located.header, &LogConfig::default(), Timestamp::NONE);
            entries.extend(placement.index_entry);
            time_entries.extend(placement.time_index_entry);
            false
        })?;
        time_entries.extend(facts.index_time());
        self.replace_indexes(&entries, &time_entries).map_err(|error| self.io_error(error))?;
        Ok(entries)
    }

    /// After an unclean stop: whether the index files have what the segment's facts say, which were durable; if not, rebuilds them.
    pub(crate) fn check_indexes(&self, facts: &SegmentFacts) -> Result<(), ReadError> {
        let index = self.load_index();
        let times = self.load_time_index();
        let whole = index.is_some_and(|index| index.len() as u64 >= facts.index_entry_count)
            && times.last().map(|entry| entry.timestamp) >= facts.last_indexed_timestamp;
        if !whole {
            self.rebuild_indexes()?;
        }
        Ok(())
    }

    /// Makes the index files durable: the segment is complete.
    pub(crate) fn sync_indexes(&self) -> io::Result<()> {
        for extension in ["index", "timeindex"] {
            self.fs.open(&self.path(extension), OpenMode::ReadWrite)?.sync_all()?;
        }
        Ok(())
    }

    /// Adds entries to the indexes, in memory and in their files, which need not be durable. Entries that are there already, from an
    /// attempt that failed later, are left out.
    pub(crate) fn extend_indexes(
        &self,
        entries: &[IndexEntry],
        time_entries: &[TimeIndexEntry],
    ) -> io::Result<()> {
        if !entries.is_empty() {
            let known = self.with_index(|index| (index.len(), index.last().copied()));
            let (count, last) = known.unwrap_or((0, None));
            let is_new = |entry: &&IndexEntry| last.is_none_or(|l| l.position < entry.position);
            let new: Vec<_> = entries.iter().filter(is_new).copied().collect();
            let bytes: Vec<u8> = new.iter().flat_map(|entry| entry.to_bytes()).collect();
            self.write_entries("index", count * IndexEntry::SIZE_BYTES, &bytes)?;
            if let Some(index) = &mut *self.index.write() {
                index.extend_from_slice(&new);
            }
        }
        if !time_entries.is_empty() {
            let mut index = self.time_index.write();
            let index = index.get_or_insert_with(|| self.load_time_index());
            let last = index.last().copied();
            let is_new =
                |entry: &&TimeIndexEntry| last.is_none_or(|l| l.timestamp < entry.timestamp);
            let new: Vec<_> = time_entries.iter().filter(is_new).copied().collect();
            let bytes: Vec<u8> = new.iter().flat_map(|entry| entry.to_bytes()).collect();
            self.write_entries("timeindex", index.len() * TimeIndexEntry::SIZE_BYTES, &bytes)?;
            index.extend_from_slice(&new);
        }
        Ok(())
    }

    /// Replaces both indexes, in memory and on disk: after a scan that did not trust them. On a full disk the files keep what found room:
    /// too few entries only make look-ups slower.
    pub(crate) fn replace_indexes(
        &self,
        entries: &[IndexEntry],
        time_entries: &[TimeIndexEntry],
    ) -> io::Result<()> {
        self.fs.open(&self.path("index"), OpenMode::CreateOrTruncate)?;
        self.fs.open(&self.path("timeindex"), OpenMode::CreateOrTruncate)?;
        *self.index.write() = Some(Vec::new());
        *self.time_index.write() = Some(Vec::new());
        self.extend_indexes_if_room(entries, time_entries)
    }

    /// Like [`Segment::extend_indexes`], but does without on a full disk; what is in memory is forgotten then.
    pub(crate) fn extend_indexes_if_room(
        &self,
        entries: &[IndexEntry],
        time_entries: &[TimeIndexEntry],
    ) -> io::Result<()> {
        match self.extend_indexes(entries, time_entries) {
            Err(error) if is_out_of_space(&error) => {
                *self.index.write() = None;
                *self.time_index.write() = None;
                Ok(())
            }
            extended => extended,
        }
    }

    /// Forgets index entries for what lies at or past `bytes`, before the file is cut there.
    pub(crate) fn cut_indexes(&self, bytes: u64, next_offset: Offset) -> io::Result<()> {
        let end = next_offset.records_since(self.base_offset);
        let mut entries = self.with_index(<[IndexEntry]>::to_vec).unwrap_or_default();
        entries.retain(|entry| {
            u64::from(entry.position) < bytes && i64::from(entry.relative_offset) < end
        });
        let mut time_entries = self.load_time_index();
        time_entries.retain(|entry| i64::from(entry.relative_offset) < end);
        self.replace_indexes(&entries, &time_entries)
    }

    /// The segment's facts with everything from the batch at `position` on taken away, whose base offset is `next_offset`. `known` are those
    /// of all of it.
    pub(crate) fn facts_at(
        &self,
        known: &SegmentFacts,
        position: u64,
        next_offset: Offset,
    ) -> Result<SegmentFacts, ReadError> {
        let empty = SegmentFacts {
            appended_at: known.appended_at,
            ..SegmentFacts::empty_at(self.base_offset, known.created_at)
        };
        if position == 0 {
            return Ok(empty);
        }
        let kept = self.with_index(|index| {
            let kept = index.partition_point(|entry| u64::from(entry.position) < position);
            (kept as u64, index[..kept].last().copied())
        })?;
        let (index_entry_count, last_entry) = kept;
        let relative_end = next_offset.records_since(self.base_offset);
        let mut times = self.load_time_index();
        times.retain(|entry| i64::from(entry.relative_offset) < relative_end);
        let last_time = times.last().copied();
        let indexed_bytes = last_entry.map_or(0, |entry| u64::from(entry.position));
        // The time index has the largest timestamp up to the last index entry, unless it is not there to ask.
        let is_told = last_entry.is_none() || last_time.is_some() || known.max_timestamp.is_none();
        let mut facts = SegmentFacts {
            next_offset,
            size_bytes: position,
            bytes_since_index_entry: position - indexed_bytes,
            index_entry_count,
            last_indexed_timestamp: last_time.map(|entry| entry.timestamp),
            time_index_entry_count: times.len() as u64,
            max_timestamp: last_time.map(|entry| {
                (entry.timestamp, Offset(self.base_offset.0 + i64::from(entry.relative_offset)))
            }),
            first_timestamp: known.first_timestamp,
            ..empty
        };
        if facts.first_timestamp.is_none() {
            let first = self.walk_from(0, |_| true)?.map(|first| first.header.max_timestamp);
            facts.first_timestamp = first.filter(|timestamp| timestamp.0 >= 0);
        }
        self.walk_from(if is_told { indexed_bytes } else { 0 }, |located| {
            let (header, is_past) = (&located.header, located.position >= position);
            let newest = facts.max_timestamp.map_or(Timestamp::NONE, |(newest, _)| newest);
            if !is_past && header.max_timestamp > newest {
                facts.max_timestamp = Some((header.max_timestamp, header.last_offset()));
            }
            is_past
        })?;
        Ok(facts)
    }

    fn write_entries(&self, extension: &str, position: usize, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(extension);
        let file = match self.fs.open(&path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.fs.open(&path, OpenMode::CreateNew)?
            }
            file => file?,
        };
        file.write_all_at(bytes, position as u64)
    }
}

/// A piece of a file in memory, for walking forwards.
#[derive(Debug)]
pub(crate) struct Window {
    patience: Patience,
    bytes: Vec<u8>,
    position: u64,
}

impl Window {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, bytes: Vec::new(), position: 0 }
    }

    /// At least `bytes` bytes from `position` on, or as many as there are before `end`; `None` when that would wait.
    pub(crate) fn at(
        &mut self,
        file: &dyn File,
        position: u64,
        bytes: usize,
        end: u64,
    ) -> io::Result<Option<&[u8]>> {
        let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        let within = position.checked_sub(self.position).and_then(|at| usize::try_from(at).ok());
        let held = within.is_some_and(|at| at.saturating_add(bytes) <= self.bytes.len());
        if !held {
            let mut piece = std::mem::take(&mut self.bytes);
            piece.resize(bytes.max(WALK_BYTES).min(left), 0);
            if !self.fill(file, &mut piece, position)? {
                return Ok(None);
            }
            (self.bytes, self.position) = (piece, position);
        }
        let at = usize::try_from(position - self.position).unwrap_or(0);
        Ok(Some(&self.bytes[at..]))
    }

    fn fill(&self, file: &dyn File, mut buffer: &mut [u8], mut position: u64) -> io::Result<bool> {
        if self.patience == Patience::Wait {
            return file.read_exact_at(buffer, position).map(|()| true);
        }
        while !buffer.is_empty() {
            match file.read_cached_at(buffer, position)? {
                None => return Ok(false),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => {
                    buffer = &mut buffer[count..];
                    position += count as u64;
                }
            }
        }
        Ok(true)
    }
}
