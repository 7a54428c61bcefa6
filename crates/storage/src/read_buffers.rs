//! Memory for reading segments past the page cache: used again and again, because memory touched for the first time costs more than
//! the read.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use thalweg_env::fs::BlockBuffer;

/// Memory kept for the next reads of a dir, beside what readers hold.
const SPARE_BYTES_MAX: usize = 16 << 20;

/// Sizes are rounded up to this, so that one reader's buffer does for the next one.
const SIZE_STEP_BYTES: usize = 256 << 10;

/// The buffers of one dir that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffers {
    spare: Mutex<Vec<BlockBuffer>>,
}

/// A buffer in use. Goes back when the last slice of it is dropped.
#[derive(Debug)]
struct Lent {
    /// `None` only while it is dropped.
    buffer: Option<BlockBuffer>,
    home: Arc<ReadBuffers>,
}

impl ReadBuffers {
    /// At least `bytes` bytes, with anything in them.
    pub(crate) fn take(&self, bytes: usize) -> BlockBuffer {
        let mut spare = self.spare.lock();
        let fitting = spare.iter().position(|b| b.len() >= bytes && b.len() / 4 <= bytes);
        match fitting {
            Some(at) => spare.swap_remove(at),
            None => {
                drop(spare);
                BlockBuffer::new(bytes.next_multiple_of(SIZE_STEP_BYTES))
            }
        }
    }

    pub(crate) fn give_back(&self, buffer: BlockBuffer) {
        let mut spare = self.spare.lock();
        spare.push(buffer);
        let mut bytes: usize = spare.iter().map(|buffer| buffer.len()).sum();
        // The longest unused goes first: sizes nobody asks for any more do not stay for ever.
        while bytes > SPARE_BYTES_MAX {
            bytes -= spare.remove(0).len();
        }
    }

    /// Hands a filled buffer out; its memory comes back by itself.
    pub(crate) fn lend(self: &Arc<Self>, buffer: BlockBuffer) -> Bytes {
        Bytes::from_owner(Lent { buffer: Some(buffer), home: Arc::clone(self) })
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.deref())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.home.give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_last_slice_is_gone() {
        let buffers = Arc::new(ReadBuffers::default());
        let buffer = buffers.take(1_000_000);
        let place = buffer.as_ptr();
        let slice = buffers.lend(buffer).slice(10..20);
        assert_ne!(buffers.take(1_000_000).as_ptr(), place);
        drop(slice);
        assert_eq!(buffers.take(900_000).as_ptr(), place);
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_small_read_gets_no_large_buffer() {
        let buffers = ReadBuffers::default();
        for _ in 0..10 {
            buffers.give_back(BlockBuffer::new(4 << 20));
        }
        let kept: usize = buffers.spare.lock().iter().map(|buffer| buffer.len()).sum();
        assert_eq!(kept, SPARE_BYTES_MAX);
        assert_eq!(buffers.take(1).len(), SIZE_STEP_BYTES);
    }
}
