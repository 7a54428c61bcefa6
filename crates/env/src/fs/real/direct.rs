//! Reading and writing past the page cache.
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

use super::super::{BLOCK_BYTES, BlockBuffer};
use super::write_all;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Below this, three system calls and a copy gain nothing.
const DIRECT_BYTES_MIN: u64 = 64 * 1024;

/// Bytes per direct write: a huge page, and large enough for a disk's full rate with one write at a time.
const BUFFER_BYTES: usize = 2 << 20;

thread_local! {
    /// Made when first needed; one per thread that writes, which are one or two.
    static BUFFER: RefCell<Option<BlockBuffer>> = const { RefCell::new(None) };
}

/// A second handle to a file, for direct I/O, opened when first needed.
#[derive(Debug)]
pub(super) struct DirectHandle {
    path: PathBuf,
    is_written: bool,
    /// `None` inside: not possible here.
    handle: OnceLock<Option<fs::File>>,
}

impl DirectHandle {
    pub(super) fn new(path: &Path, is_written: bool) -> Self {
        Self { path: path.to_owned(), is_written, handle: OnceLock::new() }
    }

    /// Writes whole aligned blocks; `file` is the cached handle of the same file.
    pub(super) fn write_blocks(
        &self,
        file: &fs::File,
        blocks: &[u8],
        position: u64,
    ) -> io::Result<()> {
        match self.handle(file) {
            Some(direct) => write_direct(direct, file, blocks, position),
            None => file.write_all_at(blocks, position),
        }
    }

    /// Reads whole aligned blocks, up to the end of the file.
    pub(super) fn read_blocks(
        &self,
        file: &fs::File,
        blocks: &mut [u8],
        position: u64,
    ) -> io::Result<usize> {
        let mut direct = self.handle(file);
        let mut filled = 0;
        while filled < blocks.len() {
            let at = position + filled as u64;
            match direct.unwrap_or(file).read_at(&mut blocks[filled..], at) {
                Ok(0) => break,
                // A read that ends within a block has met the end of the file.
                Ok(count) if direct.is_some() && !count.is_multiple_of(BLOCK_BYTES) => {
                    filled += count;
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if direct.is_some() && is_refused(&error) => direct = None,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
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
        let (first, last) = (position.next_multiple_of(BLOCK), end / BLOCK * BLOCK);
        if last < first + DIRECT_BYTES_MIN {
            return write_all(file, slices, position);
        }
        let Some(direct) = self.handle(file) else {
            return write_all(file, slices, position);
        };
        BUFFER.with_borrow_mut(|buffer| {
            let buffer = buffer.get_or_insert_with(|| BlockBuffer::new(BUFFER_BYTES));
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
            let mut options = fs::OpenOptions::new();
            options.read(true).write(self.is_written).custom_flags(flags);
            let direct = options.open(&self.path).ok()?;
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
        Err(error) if is_refused(&error) => file.write_all_at(block, position),
        written => written,
    }
}

fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
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
    fn blocks_are_read_back_as_written_up_to_the_end_of_the_file() {
        let (_place, file, expected) = written(&[70_000]);
        let mut blocks = BlockBuffer::new(12_288);
        blocks.fill(0xa5);
        file.write_blocks_at(&blocks, 8_192).unwrap();

        let mut found = BlockBuffer::new(80_000);
        assert_eq!(file.read_blocks_at(&mut found, 0).unwrap(), 70_000);
        assert!(found[..8_192] == expected[..8_192]);
        assert!(found[8_192..20_480] == blocks[..]);
        assert!(found[20_480..70_000] == expected[20_480..]);
        assert_eq!(file.read_blocks_at(&mut found, 81_920).unwrap(), 0);
    }

    #[test]
    fn what_was_written_is_there_through_a_new_handle_after_a_sync() {
        let (place, file, expected) = written(&[100_000, 300_000]);
        file.sync_data().unwrap();
        drop(file);

        assert!(fs::read(place.path().join("file")).unwrap() == expected);
    }
}
