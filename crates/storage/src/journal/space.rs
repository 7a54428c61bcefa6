//! The journal's files: prepared ahead of need, freed when segments have what they hold, used again.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use thalweg_env::fs::{BLOCK_BYTES, BlockBuffer, File, Fs, OpenMode, is_out_of_space};

use super::entry::FREE_FILE;
use super::{FileSlot, Generation, HEADER_COPY_BYTES, Journal};
use crate::frame;

/// How much is written at a time when a file is prepared.
const PREWRITE_BYTES: usize = 1 << 20;

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
        ended.into_iter().any(|generation| inner.is_unflushed(&generation.slot.file))
    }

    /// Frees the files that hold nothing at or above `oldest_needed`, oldest first.
    pub(crate) fn free_below(&self, oldest_needed: u64) -> io::Result<()> {
        loop {
            let generation = {
                let mut inner = self.inner.lock();
                let Some(oldest) = inner.live.front() else { return Ok(()) };
                let end = oldest.base_position + oldest.slot.bytes;
                if end > oldest_needed || inner.is_unflushed(&oldest.slot.file) {
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
    pub(super) fn mark_free(&self, generation: &Generation) -> io::Result<()> {
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
pub(super) fn create_file(
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

/// Writes zeros from `position` on, rounded down to whole blocks, to `end`.
fn fill(file: &dyn File, position: u64, end: u64) -> io::Result<()> {
    let zeros =
        BlockBuffer::new(usize::try_from(end).unwrap_or(PREWRITE_BYTES).min(PREWRITE_BYTES));
    let mut position = position / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    while position < end {
        let left = usize::try_from(end - position).unwrap_or(usize::MAX);
        let count = zeros.len().min(left.next_multiple_of(BLOCK_BYTES));
        file.write_blocks_at(&zeros[..count], position)?;
        position += count as u64;
    }
    file.sync_all()
}
