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
//! meanwhile. Which logs a group covers, and up to which offset, is noted when their frames are appended.
//!
//! Frames reach their file in one of two ways. As long as every batch waits for its flush, they are *staged* in memory and the flush
//! writes them past the page cache: that costs a fraction. A batch that is acknowledged from memory (`replicated` topics) must survive
//! the death of the process, so it has to be in the page cache when its append returns: the first one has all that is staged
//! written, and from then on appends write to the file themselves, until the end of a file in which no such batch came.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use thalweg_env::fs::{BLOCK_BYTES, File, Fs};
use thalweg_types::Offset;

use crate::frame;

mod entry;
mod flush;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod recovery;
mod space;
mod stage;

pub(crate) use entry::{Entry, EntryKind};
pub(crate) use recovery::{Found, FoundEntry, scan};

use entry::{FILE_HEADER, FileHeader};
use flush::Gathering;
use space::create_file;
use stage::Stage;

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

/// Staged bytes after which producers wait: a disk that is so far behind is not helped by more.
const STAGED_BYTES_ROOM: usize = 32 << 20;

/// Staged bytes that are never exceeded by more than one frame.
const STAGED_BYTES_MAX: usize = 64 << 20;

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
    /// `Inner::syncing` has become empty.
    synced: Condvar,
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
    /// Frames that are not in the active file yet; `None` while appends write to it themselves.
    stage: Option<Stage>,
    /// Whether the active file holds a batch that nobody waits to be flushed.
    holds_unawaited: bool,
    /// What was appended since the last flush began.
    gathering: Gathering,
    /// Files of the group that is being flushed.
    syncing: Vec<Arc<dyn File>>,
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
        let file_bytes =
            limits.file_bytes.max(4 * FILE_HEADER_BYTES).next_multiple_of(BLOCK_BYTES as u64);
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
                stage: Some(Stage::new(Arc::clone(&active.slot.file), FILE_HEADER_BYTES)),
                holds_unawaited: false,
                gathering: Gathering::default(),
                syncing: Vec::new(),
                dir_unsynced: false,
                active: active.clone(),
            }),
            synced: Condvar::new(),
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
        let copy = generation.encode_header(header);
        let mut copies = [IoSlice::new(&copy), IoSlice::new(&copy)];
        generation.slot.file.write_all_vectored_at(&mut copies, 0)
    }
}

impl Generation {
    /// One of the two copies of the file's header.
    fn encode_header(&self, header: FileHeader) -> bytes::BytesMut {
        let mut copy = bytes::BytesMut::with_capacity(HEADER_COPY_BYTES);
        let (base, durable) = (self.base_position, header.durable_position);
        frame::encode(&mut copy, FILE_HEADER, self.number, base, durable, &header.encode());
        copy.resize(HEADER_COPY_BYTES, 0);
        copy
    }
}

// ---- Appending ----

impl Journal {
    /// Adds one frame at the stream's end. `covers` is the end offset of its log that a flush of this frame covers; `awaited` says that somebody waits for
    /// that flush. A batch that nobody waits for survives the death of the process when this returns; all else may be lost with it
    /// until it is flushed.
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
        let must_survive = !awaited && matches!(entry.kind, EntryKind::Batch { .. });
        if must_survive {
            self.end_staging(&mut inner)?;
        }
        if inner.stage.as_ref().is_some_and(|stage| stage.bytes() > STAGED_BYTES_MAX) {
            return Err(JournalError::NoRoom);
        }
        let switched = inner.active_left() < bytes + kept;
        if switched {
            self.switch_file(&mut inner, bytes + kept, must_survive)?;
        }
        inner.holds_unawaited |= must_survive;
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
        let padding = frame::padding(payload.len(), attachment.len());
        inner
            .put([&header, &payload, attachment, padding])
            .map_err(|error| JournalError::Io(WRITE_OPERATION, error))?;
        inner.gather(entry.id, covers, awaited);
        Ok(Written { position, end_position: position + bytes, switched })
    }

    /// Has everything staged written, after which appends write to the active file themselves. Waits for the disk, and for a flush that
    /// is under way.
    fn end_staging(&self, inner: &mut MutexGuard<'_, Inner>) -> Result<(), JournalError> {
        if inner.stage.is_none() {
            return Ok(());
        }
        while !inner.syncing.is_empty() {
            self.synced.wait(inner);
        }
        // Whoever waited as well may have done it.
        let Some(mut stage) = inner.stage.take() else { return Ok(()) };
        for piece in &mut stage.take() {
            piece.write().map_err(|error| JournalError::Io("write what was staged", error))?;
        }
        Ok(())
    }

    /// Ends the active file and begins another one that has room for `bytes`.
    fn switch_file(
        &self,
        inner: &mut Inner,
        bytes: u64,
        must_survive: bool,
    ) -> Result<(), JournalError> {
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
        if inner.holds_unawaited || must_survive {
            self.write_file_header(&active, header)
                .map_err(|error| JournalError::Io("begin a journal file", error))?;
        } else {
            let file = Arc::clone(&active.slot.file);
            let stage = match &mut inner.stage {
                Some(stage) => {
                    stage.continue_in(file, 0);
                    stage
                }
                ended => ended.insert(Stage::new(file, 0)),
            };
            let copy = active.encode_header(header);
            stage.push(&copy);
            stage.push(&copy);
        }
        inner.holds_unawaited = false;
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
        let has_file = !inner.free.is_empty()
            || inner.total_bytes() + self.limits.file_bytes <= self.limits.bytes_max
            || inner.active_left() > self.limits.file_bytes / 4;
        has_file && inner.stage.as_ref().is_none_or(|stage| stage.bytes() <= STAGED_BYTES_ROOM)
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

    /// Puts a frame at the stream's end: into the stage, or into the file.
    fn put(&mut self, parts: [&[u8]; 4]) -> io::Result<()> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if let Some(stage) = &mut self.stage {
            parts.iter().for_each(|part| stage.push(part));
        } else {
            let at = self.position - self.active.base_position;
            let blank = &BLANK_PAGE[..page_padding(at, at + bytes, self.active.slot.bytes)];
            let [header, payload, attachment, padding] = parts;
            let mut slices = [header, payload, attachment, padding, blank].map(IoSlice::new);
            self.active.slot.file.write_all_vectored_at(&mut slices, at)?;
        }
        self.position += bytes;
        Ok(())
    }
}

/// Zeros that are written behind a frame from `start` to `end`, when it reaches into a page of its file that is not in memory: without
/// them the kernel would read the rest of that page from the disk first, while the append waits.
fn page_padding(start: u64, end: u64, file_bytes: u64) -> usize {
    let page = BLANK_PAGE.len() as u64;
    let begins_page = start.is_multiple_of(page) || start / page != (end - 1) / page;
    if !begins_page || end.is_multiple_of(page) {
        return 0;
    }
    usize::try_from((page - end % page).min(file_bytes - end)).unwrap_or(0)
}

const BLANK_PAGE: [u8; 4096] = [0; 4096];
