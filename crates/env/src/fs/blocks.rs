//! Memory for direct I/O: blocks that begin where the disk's driver wants them to.
//!
//! Large buffers lie in memory of their own, in huge pages where the system has some: a write of a MiB from small pages costs twice as
//! much, because the kernel looks up and hands to the disk each of 256 pages.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Alignment of position, length and memory that every disk in use accepts for direct I/O.
pub const BLOCK_BYTES: usize = 4096;

/// What the kernel calls a huge page on the machines this runs on; elsewhere only the advice is without effect.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeroed memory of whole blocks, aligned to blocks.
#[derive(Debug)]
pub struct BlockBuffer {
    /// Longer than needed: somewhere in it the aligned part begins.
    room: Room,
    start: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Room {
    Allocated(Vec<u8>),
    Mapped(Mapping),
}

/// Zeroed pages of the system that nobody else uses.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl BlockBuffer {
    /// A buffer of at least `bytes` bytes, rounded up to whole blocks.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        if bytes >= HUGE_PAGE_BYTES
            && let Some(mapping) = Mapping::new(bytes + HUGE_PAGE_BYTES)
        {
            return Self::within(Room::Mapped(mapping), HUGE_PAGE_BYTES, bytes);
        }
        Self::within(Room::Allocated(vec![0; bytes + BLOCK_BYTES]), BLOCK_BYTES, bytes)
    }

    fn within(room: Room, alignment: usize, bytes: usize) -> Self {
        let start = room.as_ptr().align_offset(alignment).min(alignment);
        if let Room::Mapped(mapping) = &room {
            mapping.advise_huge(start, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES);
        }
        Self { room, start, bytes }
    }
}

impl Mapping {
    /// `None` when the system has no more address space to give.
    fn new(bytes: usize) -> Option<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        #[expect(unsafe_code, reason = "the allocator's memory is not in huge pages")]
        // SAFETY: without a wish for an address, the kernel gives pages that nothing else in the process uses.
        let start =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) };
        Some(Self { start: NonNull::new(start.ok()?.cast())?, bytes })
    }

    /// Wishes for huge pages in a part of it. Without them it is as good, but dearer.
    fn advise_huge(&self, from: usize, bytes: usize) {
        let Some(place) = self.get(from..from + bytes) else { return };
        let start = place.as_ptr().cast_mut().cast();
        #[expect(unsafe_code, reason = "the only way to say so")]
        // SAFETY: the range is within this mapping, and the advice changes no byte of it.
        let _ = unsafe { rustix::mm::madvise(start, bytes, Advice::LinuxHugepage) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "gives back what `new` took")]
        // SAFETY: exactly the pages of `new`; whoever borrowed them borrowed this.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[expect(unsafe_code, reason = "a pointer says nothing of who may use it")]
// SAFETY: the pages belong to this value alone, as a `Vec`'s do.
unsafe impl Send for Mapping {}

#[expect(unsafe_code, reason = "a pointer says nothing of who may use it")]
// SAFETY: a shared reference only reads.
unsafe impl Sync for Mapping {}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        #[expect(unsafe_code, reason = "memory of the system's is bytes")]
        // SAFETY: so many bytes are mapped, zeroed by the kernel, and borrowed with this value.
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.bytes)
        }
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        #[expect(unsafe_code, reason = "memory of the system's is bytes")]
        // SAFETY: as above, and borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes)
        }
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(mapping) => mapping,
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Mapped(mapping) => mapping,
        }
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
        for bytes in [1, 4096, 4097, 1 << 20, 2 << 20, (5 << 20) + 1] {
            let mut buffer = BlockBuffer::new(bytes);
            assert!(buffer.len() >= bytes && buffer.len() < bytes + BLOCK_BYTES);
            assert_eq!(buffer.len() % BLOCK_BYTES, 0);
            assert_eq!(buffer.as_ptr().align_offset(BLOCK_BYTES), 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(7);
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_large_buffer_begins_where_a_huge_page_does_and_may_go_to_another_thread() {
        let mut buffer = BlockBuffer::new(4 << 20);
        assert!(matches!(buffer.room, Room::Mapped(_)));
        assert_eq!(buffer.as_ptr().align_offset(HUGE_PAGE_BYTES), 0);
        buffer[0] = 1;
        let moved = std::thread::spawn(move || buffer[0]).join().unwrap();
        assert_eq!(moved, 1);
    }
}
