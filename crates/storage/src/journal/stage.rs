//! Frames in memory on their way to the journal's file, in whole blocks, so that a flush writes them past the page cache.
//!
//! ```text
//!   file position   p                                          next frame goes here
//!                   |== block ==|== block ==|== block ==|= bl..    |
//!                   written by an earlier group | not written yet
//! ```
//!
//! A flush takes what has gathered; the block that is not full is written with zeros behind its frames, stays here as well, and is
//! written again, fuller, by the next one. That is no worse than what the page cache does with such a block. What is here dies with the
//! process: nothing that is acknowledged before it is flushed may be staged.

use std::io;
use std::sync::Arc;

use thalweg_env::fs::{BLOCK_BYTES, BlockBuffer, File};

/// Size of a buffer: a huge page, and a disk's full rate with one write at a time.
const BUFFER_BYTES: usize = 2 << 20;

/// Size while little is flushed at a time: a server with hardly any producers needs no huge pages.
const SMALL_BUFFER_BYTES: usize = 64 << 10;

/// Buffers kept for use again: more than a flush takes at usual rates.
const SPARE_BUFFERS_MAX: usize = 4;

/// What was staged and not yet taken for writing, in stream order.
#[derive(Debug)]
pub(super) struct Stage {
    full: Vec<Piece>,
    open: Piece,
    spare: Vec<BlockBuffer>,
    /// Bytes in pieces that were taken and not yet brought back.
    taken_bytes: usize,
}

/// Consecutive bytes of one file.
#[derive(Debug)]
pub(super) struct Piece {
    file: Arc<dyn File>,
    /// In the file; a whole number of blocks.
    position: u64,
    buffer: BlockBuffer,
    bytes: usize,
    /// How many from the front have been taken for writing before.
    taken: usize,
}

impl Stage {
    /// Nothing staged; frames will follow at `position` of `file`, where a block begins.
    pub(super) fn new(file: Arc<dyn File>, position: u64) -> Self {
        let open = Piece::new(file, position, BlockBuffer::new(SMALL_BUFFER_BYTES));
        Self { full: Vec::new(), open, spare: Vec::new(), taken_bytes: 0 }
    }

    /// Goes on in another file. What is staged for the one before stays and goes first.
    pub(super) fn continue_in(&mut self, file: Arc<dyn File>, position: u64) {
        self.open_next(file, position, BUFFER_BYTES);
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open.bytes == self.open.buffer.len() {
                let position = self.open.position + self.open.bytes as u64;
                self.open_next(Arc::clone(&self.open.file), position, BUFFER_BYTES);
            }
            let room = &mut self.open.buffer[self.open.bytes..];
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.open.bytes += count;
            bytes = &bytes[count..];
        }
    }

    fn open_next(&mut self, file: Arc<dyn File>, position: u64, buffer_bytes: usize) {
        let spare = self.spare.iter().position(|spare| spare.len() == buffer_bytes);
        let buffer = match spare {
            Some(at) => self.spare.swap_remove(at),
            None => BlockBuffer::new(buffer_bytes),
        };
        let ended = std::mem::replace(&mut self.open, Piece::new(file, position, buffer));
        if ended.has_news() {
            self.full.push(ended);
        } else {
            self.keep_spare(ended.buffer);
        }
    }

    /// Whether a flush would have something to write.
    pub(super) fn has_news(&self) -> bool {
        self.open.has_news() || !self.full.is_empty()
    }

    /// Memory of what is not known to be written.
    pub(super) fn bytes(&self) -> usize {
        self.taken_bytes
            + self.full.iter().map(|piece| piece.bytes).sum::<usize>()
            + self.open.bytes
    }

    /// What must be written next. Bring the pieces back with [`Stage::bring_back`].
    pub(super) fn take(&mut self) -> Vec<Piece> {
        if self.open.has_news() {
            let whole = self.open.bytes / BLOCK_BYTES * BLOCK_BYTES;
            let position = self.open.position + whole as u64;
            let carried = self.open.bytes - whole;
            // The next group will be about as large.
            let is_small = self.open.bytes <= SMALL_BUFFER_BYTES / 2;
            let buffer_bytes = if is_small { SMALL_BUFFER_BYTES } else { BUFFER_BYTES };
            self.open_next(Arc::clone(&self.open.file), position, buffer_bytes);
            if let Some(ended) = self.full.last() {
                self.open.buffer[..carried].copy_from_slice(&ended.buffer[whole..][..carried]);
                self.open.bytes = carried;
                self.open.taken = carried;
            }
        }
        let pieces = std::mem::take(&mut self.full);
        self.taken_bytes += pieces.iter().map(|piece| piece.bytes).sum::<usize>();
        pieces
    }

    /// The pieces are written, or never will be.
    pub(super) fn bring_back(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            self.taken_bytes -= piece.bytes;
            self.keep_spare(piece.buffer);
        }
    }

    fn keep_spare(&mut self, buffer: BlockBuffer) {
        if self.spare.len() == SPARE_BUFFERS_MAX {
            // Sizes that are not asked for any more do not stay for ever.
            self.spare.remove(0);
        }
        self.spare.push(buffer);
    }
}

impl Piece {
    fn new(file: Arc<dyn File>, position: u64, buffer: BlockBuffer) -> Self {
        Self { file, position, buffer, bytes: 0, taken: 0 }
    }

    fn has_news(&self) -> bool {
        self.bytes > self.taken
    }

    /// Writes the piece, zeros up to the end of its last block included.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let end = self.bytes.next_multiple_of(BLOCK_BYTES);
        self.buffer[self.bytes..end].fill(0);
        self.file.write_blocks_at(&self.buffer[..end], self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use thalweg_env::fs::{Fs, OpenMode, SimFs, read_whole};

    use super::*;

    fn write_all(stage: &mut Stage) -> usize {
        let mut pieces = stage.take();
        pieces.iter_mut().for_each(|piece| piece.write().unwrap());
        let count = pieces.len();
        stage.bring_back(pieces);
        count
    }

    #[test]
    fn what_is_pushed_in_any_sizes_is_in_the_file_after_each_writing() {
        let fs = SimFs::new(1);
        let file = fs.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let mut stage = Stage::new(file, 4096);
        let mut expected = vec![0; 4096];
        for (number, size) in [10, 4086, 1, 9_000, 3 << 20, 70_000, 5].into_iter().enumerate() {
            let bytes: Vec<u8> = (0..size).map(|at| (at + number * 3 + 1) as u8).collect();
            stage.push(&bytes);
            expected.extend(bytes);
            assert!(stage.has_news());
            assert!(write_all(&mut stage) > 0);
            assert!(!stage.has_news());
            let found = read_whole(&fs, Path::new("/file"), 1 << 30).unwrap().unwrap();
            assert_eq!(found.len(), expected.len().next_multiple_of(BLOCK_BYTES));
            assert!(found[..expected.len()] == expected);
            assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
        }
        assert_eq!(write_all(&mut stage), 0);
        assert!(stage.bytes() < BLOCK_BYTES);
    }

    #[test]
    fn what_is_staged_for_an_ended_file_is_written_before_the_next_files() {
        let fs = SimFs::new(2);
        let open = |name| fs.open(Path::new(name), OpenMode::CreateNew).unwrap();
        let mut stage = Stage::new(open("/one"), 0);
        stage.push(b"first");
        stage.continue_in(open("/two"), 4096);
        stage.push(b"second");
        assert_eq!(stage.bytes(), 11);
        assert_eq!(write_all(&mut stage), 2);
        let read = |name| read_whole(&fs, Path::new(name), 1 << 20).unwrap().unwrap();
        assert!(read("/one").starts_with(b"first\0"));
        assert!(read("/two")[4096..].starts_with(b"second\0"));
    }
}
