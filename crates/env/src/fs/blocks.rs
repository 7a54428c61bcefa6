//! Memory for direct I/O: blocks that begin where the disk's driver wants them to.

use std::ops::{Deref, DerefMut};

/// Alignment of position, length and memory that every disk in use accepts for direct I/O.
pub const BLOCK_BYTES: usize = 4096;

/// Zeroed memory of whole blocks, aligned to blocks.
#[derive(Debug)]
pub struct BlockBuffer {
    /// One block longer than needed: somewhere in it the aligned part begins.
    room: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl BlockBuffer {
    /// A buffer of at least `bytes` bytes, rounded up to whole blocks.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let room = vec![0; bytes + BLOCK_BYTES];
        let start = room.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { room, start, bytes }
    }
}

impl Deref for BlockBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[self.start..self.start + self.bytes]
    }
}

impl DerefMut for BlockBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.bytes]
    }
}

impl AsRef<[u8]> for BlockBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_whole_aligned_blocks() {
        for bytes in [1, 4096, 4097, 1 << 20] {
            let buffer = BlockBuffer::new(bytes);
            assert!(buffer.len() >= bytes && buffer.len() < bytes + BLOCK_BYTES);
            assert_eq!(buffer.len() % BLOCK_BYTES, 0);
            assert_eq!(buffer.as_ptr().align_offset(BLOCK_BYTES), 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }
}
