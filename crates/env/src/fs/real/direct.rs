//! Writing past the page cache.
//!
//! Fresh pages of the page cache are the dearest thing on the way of written-once data: on a virtual machine they cost ten times the
//! copy. Direct I/O needs none, but asks for blocks: position, length and memory must be multiples of 4096. So a write is cut in three:
//!
//! ```text
//!   position        first boundary                      last boundary      end
//!      |-- cached ---------|------------ direct ---------------|-- cached ---|
//! ```
//!
//! The edges go through the page cache, which Linux keeps coherent with direct writes beside them. A file system without direct I/O is
//! found out at the first write and from then on written the ordinary way.

use std::cell::RefCell;
use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::write_all;

/// Alignment that every disk in use accepts.
const BLOCK_BYTES: u64 = 4096;

/// Below this, three system calls and a copy gain nothing.
const DIRECT_BYTES_MIN: u64 = 64 * 1024;

/// Bytes per direct write: large enough for a disk's full rate with one write at a time.
const BUFFER_BYTES: usize = 1 << 20;

thread_local! {
    /// Room for an aligned buffer; one per thread that writes, which are one or two.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A second handle to a file, for direct writes, opened when first needed.
#[derive(Debug)]
pub(super) struct DirectWriter {
    path: PathBuf,
    /// `None` inside: not possible here.
    handle: OnceLock<Option<fs::File>>,
}

impl DirectWriter {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), handle: OnceLock::new() }
    }

    /// Writes all slices back to back; `file` is the cached handle of the same file.
    pub(super) fn write_all(
        &self,
        file: &fs::File,
        mut slices: &mut [IoSlice<'_>],
        position: u64,
    ) -> io::Result<()> {
        let bytes: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let end = position + bytes;
        let (first, last) =
            (position.next_multiple_of(BLOCK_BYTES), end / BLOCK_BYTES * BLOCK_BYTES);
        if last < first + DIRECT_BYTES_MIN {
            return write_all(file, slices, position);
        }
        let Some(direct) = self.handle(file) else {
            return write_all(file, slices, position);
        };
        BUFFER.with_borrow_mut(|room| {
            let buffer = aligned(room);
            copy_and_write(file, buffer, &mut slices, position, first)?;
            let mut at = first;
            while at < last {
                let count =
                    usize::try_from(last - at).map_or(buffer.len(), |left| left.min(buffer.len()));
                let block = &mut buffer[..count];
                gather(&mut slices, block);
                write_direct(direct, file, block, at)?;
                at += count as u64;
            }
            write_all(file, slices, last)
        })
    }

    fn handle(&self, file: &fs::File) -> Option<&fs::File> {
        let open = || {
            let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
            let direct =
                fs::OpenOptions::new().write(true).custom_flags(flags).open(&self.path).ok()?;
            // The name may have been given to another file since.
            is_same_file(file, &direct).then_some(direct)
        };
        self.handle.get_or_init(open).as_ref()
    }
}

/// Writes the part up to the first boundary through the page cache.
fn copy_and_write(
    file: &fs::File,
    buffer: &mut [u8],
    slices: &mut &mut [IoSlice<'_>],
    position: u64,
    end: u64,
) -> io::Result<()> {
    let count = usize::try_from(end - position).expect("less than a block");
    let edge = &mut buffer[..count];
    gather(slices, edge);
    file.write_all_at(edge, position)
}

/// A block that the disk's driver does not want directly after all is written the ordinary way.
fn write_direct(direct: &fs::File, file: &fs::File, block: &[u8], position: u64) -> io::Result<()> {
    match direct.write_all_at(block, position) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            file.write_all_at(block, position)
        }
        written => written,
    }
}

/// Fills `block` from the front of the slices.
fn gather(slices: &mut &mut [IoSlice<'_>], block: &mut [u8]) {
    let mut filled = 0;
    while filled < block.len() {
        let Some(slice) = slices.first() else { return };
        let count = slice.len().min(block.len() - filled);
        block[filled..filled + count].copy_from_slice(&slice[..count]);
        filled += count;
        IoSlice::advance_slices(slices, count);
    }
}

/// The aligned part of a buffer that has a block too many.
fn aligned(room: &mut Vec<u8>) -> &mut [u8] {
    let block_bytes = usize::try_from(BLOCK_BYTES).expect("4096 fits");
    room.resize(BUFFER_BYTES + block_bytes, 0);
    let start = room.as_ptr().align_offset(block_bytes);
    &mut room[start..start + BUFFER_BYTES]
}

fn is_same_file(one: &fs::File, other: &fs::File) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::fs::{File, Fs, OpenMode, RealFs};

    use super::*;

    /// A file that holds what several uncached writes put behind each other, and what was put there.
    fn written(sizes: &[usize]) -> (tempfile::TempDir, std::sync::Arc<dyn File>, Vec<u8>) {
        let place = tempfile::tempdir().unwrap();
        let file = RealFs.open(&place.path().join("file"), OpenMode::CreateNew).unwrap();
        let mut expected = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let bytes: Vec<u8> = (0..*size).map(|at| (at * 31 + number * 7) as u8).collect();
            let (one, two) = bytes.split_at(size / 3);
            let mut slices = [IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(two)];
            file.write_all_uncached_at(&mut slices, expected.len() as u64).unwrap();
            expected.extend(bytes);
        }
        (place, file, expected)
    }

    #[test]
    fn writes_of_any_size_lie_back_to_back_as_written() {
        let sizes = [1, 70_000, 4096, 3 << 20, 65_535, 200_001, 8192, 1 << 20, 5];
        let (_place, file, expected) = written(&sizes);

        assert_eq!(file.len().unwrap(), expected.len() as u64);
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected);
    }

    #[test]
    fn what_was_written_is_there_through_a_new_handle_after_a_sync() {
        let (place, file, expected) = written(&[100_000, 300_000]);
        file.sync_data().unwrap();
        drop(file);

        assert!(fs::read(place.path().join("file")).unwrap() == expected);
    }
}
