//! The journal: one sequential stream of everything that happens to all logs of a dir, durable by one flush.
//!
//! The stream lies in files of fixed size that are reserved, written once in advance, and used again and again, so that an append
//! overwrites pages that are in memory and blocks that are allocated. One use of a file is a *generation*, numbered upwards; the
//! stream position of a file's first byte is the end of the generation before it.
//!
//! ```text
//!        oldest live                           active
//!   ... | generation 7 ............ | generation 8 ....^        | free | free |
//!       | header frame | frames ... | header | frames  position
//! ```
//!
//! The header frame of a generation says which generation it follows and where that one's frames end. A file whose frames are all in
//! segments is *freed*: its header is overwritten by a free mark, and that is flushed, before it may be used again; so recovery never
//! meets a file that is half one generation and half another, and files leave strictly oldest first.
//!
//! Flushing is group commit without timers: [`Journal::begin_flush`] takes what has gathered, the caller syncs, the next group gathers
//! meanwhile. Which logs a group covers, and up to which offset, is noted when their frames are written.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use thalweg_env::fs::{File, Fs, OpenMode, is_out_of_space};
use thalweg_types::{Offset, TopicIdPartition};

use crate::frame;

mod entry;
mod recovery;

pub(crate) use entry::{Entry, EntryKind};
pub(crate) use recovery::{Found, FoundEntry, scan};

use entry::{FILE_HEADER, FREE_FILE, FileHeader, MARK};

/// Size of the very first file of a new dir: written in advance within milliseconds, so that a first start is instant.
const FIRST_FILE_BYTES: u64 = 2 << 20;

/// Room at the start of each file for its header frame, twice: a power cut in the middle of writing one copy leaves the other one, new
/// or old. Either is right, because a header is only replaced when no frame of the file counts.
const FILE_HEADER_BYTES: u64 = 4096;
const HEADER_COPY_BYTES: usize = FILE_HEADER_BYTES as usize / 2;

/// What batches leave free of each file: room for hundreds of small frames.
const KEPT_BYTES: u64 = 64 << 10;

/// How a failed append is called, after which the stream ends where it did before.
pub(crate) const WRITE_OPERATION: &str = "write to the journal";

/// How much is written at a time when a file is prepared.
const PREWRITE_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalLimits {
    pub(crate) file_bytes: u64,
    /// Sum of all files.
    pub(crate) bytes_max: u64,
}

impl JournalLimits {
    /// The end of every file that batches leave free.
    fn kept_bytes(self) -> u64 {
        KEPT_BYTES.min(self.file_bytes / 32)
    }
}

#[derive(Debug)]
pub(crate) struct Journal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    limits: JournalLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    active: Generation,
    /// Stream position of the next frame; in the active file.
    position: u64,
    durable_position: u64,
    /// Earlier generations that may hold what segments lack, oldest first.
    live: VecDeque<Generation>,
    /// Files ready for use.
    free: Vec<FileSlot>,
    /// Files taken out of `live`, being marked free, and files being prepared: counted, not usable.
    in_preparation_bytes: u64,
    next_file_number: u64,
    next_generation: u64,
    /// What was written since the last flush began.
    gathering: Gathering,
    /// A name was created whose directory is not synced yet.
    dir_unsynced: bool,
}

/// One use of one file.
#[derive(Debug, Clone)]
struct Generation {
    number: u64,
    slot: FileSlot,
    /// Stream position of the file's first byte.
    base_position: u64,
}

#[derive(Debug, Clone)]
struct FileSlot {
    number: u64,
    file: Arc<dyn File>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Gathering {
    /// The end offset of each log's last frame in the group.
    covered: BTreeMap<TopicIdPartition, Offset>,
    files: Vec<Arc<dyn File>>,
    /// Whether somebody waits for the flush.
    awaited: bool,
}

/// A group of frames to be flushed together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) covered: BTreeMap<TopicIdPartition, Offset>,
    files: Vec<Arc<dyn File>>,
    sync_dir: bool,
    position: u64,
}

/// Where a frame was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// Stream position of the frame and of what follows it.
    pub(crate) position: u64,
    pub(crate) end_position: u64,
    /// A file was filled and the next one begun: the segment writer has work.
    pub(crate) switched: bool,
}

#[derive(Debug)]
pub(crate) enum JournalError {
    /// No file is free and no more may be created now.
    NoRoom,
    /// The frame is larger than a file.
    TooLarge,
    /// A write failed: the dir is lost.
    Io(&'static str, io::Error),
}

// ---- Start ----

impl Journal {
    /// Continues after what a scan found, with a new generation, durably begun on return.
    pub(crate) fn start(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        limits: JournalLimits,
        found: Found,
    ) -> io::Result<Self> {
        let mut free = found.free;
        let mut next_file_number = found.next_file_number;
        // Files with room for their header only would never do.
        let file_bytes = limits.file_bytes.max(4 * FILE_HEADER_BYTES);
        let limits = JournalLimits { file_bytes, ..limits };
        let slot = match free.pop() {
            Some(slot) => slot,
            None => {
                let bytes = FIRST_FILE_BYTES.min(file_bytes);
                let slot = create_file(&*fs, &dir, next_file_number, bytes, true)?;
                next_file_number += 1;
                slot
            }
        };
        let active = Generation {
            number: found.next_generation,
            slot,
            base_position: found.next_base_position,
        };
        let journal = Self {
            inner: Mutex::new(Inner {
                position: active.base_position + FILE_HEADER_BYTES,
                durable_position: 0,
                live: found.live,
                free,
                in_preparation_bytes: 0,
                next_file_number,
                next_generation: active.number + 1,
                gathering: Gathering::default(),
                dir_unsynced: false,
                active: active.clone(),
            }),
            fs,
            dir,
            limits,
        };
        let header = FileHeader {
            base_position: active.base_position,
            previous_generation: found.previous,
            previous_end: found.previous_end,
            oldest_generation: found.oldest.unwrap_or(active.number),
            durable_position: 0,
        };
        journal.write_file_header(&active, header)?;
        active.slot.file.sync_data()?;
        journal.fs.sync_dir(&journal.dir)?;
        // Generations cut off behind a torn tail must not be met again.
        for dead in found.dead {
            journal.mark_free(&dead)?;
            journal.inner.lock().free.push(dead.slot);
        }
        let mut inner = journal.inner.lock();
        inner.durable_position = inner.position;
        drop(inner);
        Ok(journal)
    }

    fn write_file_header(&self, generation: &Generation, header: FileHeader) -> io::Result<()> {
        let mut bytes = bytes::BytesMut::new();
        frame::encode(
            &mut bytes,
            FILE_HEADER,
            generation.number,
            generation.base_position,
            header.durable_position,
            &header.encode(),
        );
        write_header(&generation.slot, bytes)
    }
}

// ---- Appending ----

impl Journal {
    /// Writes one frame at the stream's end. `covers` is the end offset of its log that a flush of this frame covers; `awaited` says that somebody waits for
    /// that flush.
    pub(crate) fn append(
        &self,
        entry: &Entry<'_>,
        covers: Offset,
        awaited: bool,
    ) -> Result<Written, JournalError> {
        let payload = entry.encode_payload();
        let attachment = entry.attachment();
        let bytes = frame::frame_bytes(payload.len(), attachment.len());
        // Batches leave room for frames about deletions, which are what makes space when there is none.
        let kept = if attachment.is_empty() { 0 } else { self.limits.kept_bytes() };
        if bytes + kept + FILE_HEADER_BYTES > self.limits.file_bytes {
            return Err(JournalError::TooLarge);
        }
        let mut inner = self.inner.lock();
        let switched = inner.active_left() < bytes + kept;
        if switched {
            self.switch_file(&mut inner, bytes + kept)?;
        }
        let position = inner.position;
        let header = frame::Header::new(
            entry.kind_byte(),
            inner.active.number,
            position,
            inner.durable_position,
            &payload,
            attachment.len(),
        )
        .to_bytes();
        let mut slices = [
            IoSlice::new(&header),
            IoSlice::new(&payload),
            IoSlice::new(attachment),
            IoSlice::new(frame::padding(payload.len(), attachment.len())),
        ];
        let file = &inner.active.slot.file;
        file.write_all_vectored_at(&mut slices, position - inner.active.base_position)
            .map_err(|error| JournalError::Io(WRITE_OPERATION, error))?;
        inner.position += bytes;
        inner.gather(entry.id, covers, awaited);
        Ok(Written { position, end_position: position + bytes, switched })
    }

    /// Ends the active file and begins another one that has room for `bytes`.
    fn switch_file(&self, inner: &mut Inner, bytes: u64) -> Result<(), JournalError> {
        let needed = bytes + FILE_HEADER_BYTES;
        let slot = match inner.free.iter().position(|slot| slot.bytes >= needed) {
            Some(at) => inner.free.swap_remove(at),
            None => self.create_in_a_hurry(inner)?,
        };
        let ended = inner.active.clone();
        let base_position = ended.base_position + ended.slot.bytes;
        let active = Generation { number: inner.next_generation, slot, base_position };
        let header = FileHeader {
            base_position,
            previous_generation: Some(ended.number),
            previous_end: inner.position,
            oldest_generation: inner.live.front().map_or(ended.number, |oldest| oldest.number),
            durable_position: inner.durable_position,
        };
        self.write_file_header(&active, header)
            .map_err(|error| JournalError::Io("begin a journal file", error))?;
        inner.next_generation += 1;
        // Whatever of the ended file is not flushed yet belongs to the same group as the new file's first frames.
        inner.position = base_position + FILE_HEADER_BYTES;
        // It may end with a mark that no group holds.
        inner.gathering.add_file(&ended.slot.file);
        inner.live.push_back(ended);
        inner.gathering.add_file(&active.slot.file);
        inner.active = active;
        Ok(())
    }

    /// A file that nobody had prepared: reserved, so that writing cannot run out of space, but not written in advance.
    fn create_in_a_hurry(&self, inner: &mut Inner) -> Result<FileSlot, JournalError> {
        if inner.total_bytes() + self.limits.file_bytes > self.limits.bytes_max {
            return Err(JournalError::NoRoom);
        }
        let number = inner.next_file_number;
        let slot = create_file(&*self.fs, &self.dir, number, self.limits.file_bytes, false);
        // A full disk is no damage: nothing was written over.
        let slot = slot.map_err(|error| {
            tracing::warn!(%error, "cannot create a journal file");
            JournalError::NoRoom
        })?;
        inner.next_file_number += 1;
        inner.dir_unsynced = true;
        Ok(slot)
    }

    /// Whether batches find room for some time without another file being freed.
    pub(crate) fn has_room(&self) -> bool {
        let inner = self.inner.lock();
        !inner.free.is_empty()
            || inner.total_bytes() + self.limits.file_bytes <= self.limits.bytes_max
            || inner.active_left() > self.limits.file_bytes / 4
    }
}

impl Inner {
    fn active_left(&self) -> u64 {
        self.active.base_position + self.active.slot.bytes - self.position
    }

    fn total_bytes(&self) -> u64 {
        let live: u64 = self.live.iter().map(|generation| generation.slot.bytes).sum();
        let free: u64 = self.free.iter().map(|slot| slot.bytes).sum();
        live + free + self.active.slot.bytes + self.in_preparation_bytes
    }

    fn gather(&mut self, id: TopicIdPartition, covers: Offset, awaited: bool) {
        let file = Arc::clone(&self.active.slot.file);
        self.gathering.add_file(&file);
        self.gathering.covered.insert(id, covers);
        self.gathering.awaited |= awaited;
    }
}

impl Gathering {
    fn add_file(&mut self, file: &Arc<dyn File>) {
        if !self.holds(file) {
            self.files.push(Arc::clone(file));
        }
    }

    fn holds(&self, file: &Arc<dyn File>) -> bool {
        self.files.iter().any(|known| Arc::ptr_eq(known, file))
    }
}

// ---- Flushing ----

impl Journal {
    /// Takes what has gathered since the last flush began; `None` when there is nothing, or, with `only_awaited`, nobody waits.
    pub(crate) fn begin_flush(&self, only_awaited: bool) -> Option<Group> {
        let mut inner = self.inner.lock();
        if inner.gathering.files.is_empty() || (only_awaited && !inner.gathering.awaited) {
            return None;
        }
        let gathered = std::mem::take(&mut inner.gathering);
        Some(Group {
            covered: gathered.covered,
            files: gathered.files,
            sync_dir: std::mem::take(&mut inner.dir_unsynced),
            position: inner.position,
        })
    }

    /// Makes a group durable. After an error nothing in this journal may be relied on.
    pub(crate) fn sync(&self, group: &Group) -> io::Result<()> {
        for file in &group.files {
            file.sync_data()?;
        }
        if group.sync_dir {
            self.fs.sync_dir(&self.dir)?;
        }
        let mut inner = self.inner.lock();
        inner.durable_position = inner.durable_position.max(group.position);
        self.mark(&mut inner)
    }

    /// Notes how far the stream is durable, unless frames that are under way do. Without it, damage to the last flushed frames would look
    /// like the torn end of a write. Nobody waits for the mark itself to be durable.
    fn mark(&self, inner: &mut Inner) -> io::Result<()> {
        let bytes = frame::frame_bytes(0, 0);
        if !inner.gathering.files.is_empty() || inner.active_left() < bytes {
            return Ok(());
        }
        let (position, durable) = (inner.position, inner.durable_position);
        let mut mark = bytes::BytesMut::new();
        frame::encode(&mut mark, MARK, inner.active.number, position, durable, &[]);
        inner.active.slot.file.write_all_at(&mark, position - inner.active.base_position)?;
        inner.position += bytes;
        Ok(())
    }
}

// ---- Space ----

impl Journal {
    /// Stream position below which everything should be written to segments, so that ended files can be freed.
    pub(crate) fn write_behind_target(&self) -> u64 {
        let inner = self.inner.lock();
        if inner.live.is_empty() { 0 } else { inner.active.base_position }
    }

    pub(crate) fn position(&self) -> u64 {
        self.inner.lock().position
    }

    /// Whether an ended file that lies below `position` waits for a flush.
    pub(crate) fn has_unflushed_below(&self, position: u64) -> bool {
        let inner = self.inner.lock();
        let ended = inner.live.iter().filter(|generation| generation.base_position < position);
        ended.into_iter().any(|generation| inner.gathering.holds(&generation.slot.file))
    }

    /// Frees the files that hold nothing at or above `oldest_needed`, oldest first.
    pub(crate) fn free_below(&self, oldest_needed: u64) -> io::Result<()> {
        loop {
            let generation = {
                let mut inner = self.inner.lock();
                let Some(oldest) = inner.live.front() else { return Ok(()) };
                let end = oldest.base_position + oldest.slot.bytes;
                if end > oldest_needed || inner.gathering.holds(&oldest.slot.file) {
                    return Ok(());
                }
                let generation = inner.live.pop_front().expect("looked at just now");
                inner.in_preparation_bytes += generation.slot.bytes;
                generation
            };
            self.mark_free(&generation)?;
            let freed_bytes = generation.slot.bytes;
            let slot = self.grown(generation.slot)?;
            let mut inner = self.inner.lock();
            inner.in_preparation_bytes -= freed_bytes;
            inner.free.push(slot);
        }
    }

    /// The small first file, brought to full size while nobody waits for it.
    fn grown(&self, mut slot: FileSlot) -> io::Result<FileSlot> {
        if slot.bytes < self.limits.file_bytes {
            let grown = slot
                .file
                .allocate(self.limits.file_bytes)
                .and_then(|()| fill(&*slot.file, slot.bytes, self.limits.file_bytes));
            match grown {
                Ok(()) => slot.bytes = self.limits.file_bytes,
                // It is as good as before.
                Err(error) if is_out_of_space(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(slot)
    }

    /// Makes a file's frames unfindable, durably.
    fn mark_free(&self, generation: &Generation) -> io::Result<()> {
        let mut bytes = bytes::BytesMut::new();
        frame::encode(&mut bytes, FREE_FILE, generation.number, 0, 0, &[]);
        write_header(&generation.slot, bytes)?;
        generation.slot.file.sync_data()
    }

    /// Creates and writes in advance one more file if fewer than two are ready and the bound allows it. Says whether it did.
    pub(crate) fn prepare_ahead(&self) -> io::Result<bool> {
        let bytes = self.limits.file_bytes;
        let number = {
            let mut inner = self.inner.lock();
            if inner.free.len() >= 2 || inner.total_bytes() + bytes > self.limits.bytes_max {
                return Ok(false);
            }
            inner.in_preparation_bytes += bytes;
            inner.next_file_number += 1;
            inner.next_file_number - 1
        };
        let created = create_file(&*self.fs, &self.dir, number, bytes, true)
            .and_then(|slot| self.fs.sync_dir(&self.dir).map(|()| slot));
        let mut inner = self.inner.lock();
        inner.in_preparation_bytes -= bytes;
        inner.free.push(created?);
        Ok(true)
    }
}

/// Writes a frame as both copies of a file's header.
fn write_header(slot: &FileSlot, mut frame: bytes::BytesMut) -> io::Result<()> {
    frame.resize(HEADER_COPY_BYTES, 0);
    let mut copies = [IoSlice::new(&frame), IoSlice::new(&frame)];
    slot.file.write_all_vectored_at(&mut copies, 0)
}

fn file_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.journal"))
}

/// A new file of fixed size, with its blocks reserved and, if `prewrite`, written and synced.
fn create_file(
    fs: &dyn Fs,
    dir: &Path,
    number: u64,
    bytes: u64,
    prewrite: bool,
) -> io::Result<FileSlot> {
    let path = file_path(dir, number);
    let file = fs.open(&path, OpenMode::CreateOrTruncate)?;
    let filled =
        file.allocate(bytes).and_then(|()| if prewrite { fill(&*file, 0, bytes) } else { Ok(()) });
    if let Err(error) = filled {
        // Half a file must not be counted on; a name that stays is taken up again as an empty file.
        let _ = fs.remove_file(&path);
        return Err(error);
    }
    Ok(FileSlot { number, file, bytes })
}

fn fill(file: &dyn File, mut position: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; PREWRITE_BYTES.min(usize::try_from(end).unwrap_or(PREWRITE_BYTES))];
    while position < end {
        let count = zeros.len().min(usize::try_from(end - position).unwrap_or(zeros.len()));
        file.write_all_at(&zeros[..count], position)?;
        position += count as u64;
    }
    file.sync_all()
}
