//! Files as a seam: the few operations a log needs, on the real disk or on a simulated one.
//!
//! The contract is POSIX's, not what one file system happens to do: written bytes are durable only after a successful
//! [`File::sync_data`] or [`File::sync_all`] on that file; a created, renamed or removed name only after a successful
//! [`Fs::sync_dir`] on its directory. After a failed sync nobody knows what is durable, and a second sync that succeeds proves
//! nothing: the pages may have been marked clean.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

mod blocks;
mod real;
mod sim;

pub use blocks::{BLOCK_BYTES, BlockBuffer};
pub use real::RealFs;
pub use sim::{Fault, SimFs};

/// How [`Fs::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file.
    ReadWrite,
    /// A file that does not exist yet; its name is durable after `sync_dir`.
    CreateNew,
    /// A new empty file, or an existing one cut to nothing.
    CreateOrTruncate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    File,
    Directory,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Names that are not UTF-8 are none of ours and are not listed.
    pub name: String,
    pub kind: EntryKind,
}

/// The size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    /// What this process may still write.
    pub available_bytes: u64,
}

/// A held directory lock; released when dropped or when the process dies.
pub trait DirLock: Debug + Send + Sync {}

/// A file system. Paths are used as given; nothing is resolved against a current directory.
pub trait Fs: Debug + Send + Sync + 'static {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Creates one directory; `AlreadyExists` when the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// What the name refers to, or `None` when there is nothing.
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>>;

    /// Gives a file or directory another name, replacing a file of that name in one step.
    fn rename(&self, source: &Path, target: &Path) -> io::Result<()>;

    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in this directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// How large the file system that holds this path is, and how much of it may still be written.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Locks a directory against other processes (and other opens in this one); `WouldBlock` when it is held.
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. Positions are absolute; there is no cursor, so that threads can share it. A file removed while open stays
/// readable through its handle.
pub trait File: Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 at or past the end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Like `read_at`, but `None` instead of waiting for a disk. May give fewer bytes than are cached.
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>>;

    /// Writes all slices back to back at `position`.
    fn write_all_vectored_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Like [`File::write_all_vectored_at`], but past the page cache where the file system lets us: for large amounts that are
    /// written once and not read soon. Just as little durable before a sync; readable at once.
    fn write_all_uncached_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.write_all_vectored_at(slices, position)
    }

    /// Writes whole blocks past the page cache where the file system lets us: `position`, the length of `blocks` and its address are
    /// multiples of [`BLOCK_BYTES`]. Just as little durable before a sync; readable at once.
    fn write_blocks_at(&self, blocks: &[u8], position: u64) -> io::Result<()> {
        self.write_all_at(blocks, position)
    }

    /// Fills whole blocks past the page cache where the file system lets us, as far as the file reaches, and says how many bytes that
    /// was. Alignment as for [`File::write_blocks_at`].
    fn read_blocks_at(&self, blocks: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < blocks.len() {
            match self.read_at(&mut blocks[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Makes the bytes, and a length that is needed to read them, durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes bytes and all attributes durable.
    fn sync_all(&self) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Reserves blocks for the first `bytes` bytes and extends the file to them, so that writing there cannot run out of space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// The descriptor behind a real file, for `sendfile`; `None` for a simulated one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Writes one slice at `position`.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(bytes)], position)
    }

    /// Fills the buffer; `UnexpectedEof` when the file ends before that.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, position) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads a whole file of at most `bytes_max` bytes; `None` when there is no such file, `FileTooLarge` when it is longer.
pub fn read_whole(fs: &dyn Fs, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.len()?;
    if bytes > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut contents = vec![0; usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?];
    file.read_exact_at(&mut contents, 0)?;
    Ok(Some(contents))
}

/// Replaces a file so that a crash at any point leaves the old or the new contents, whole: writes `<path>.tmp`, syncs it, renames
/// it over `path`, syncs the directory. Durable on return.
pub fn replace_whole(fs: &dyn Fs, path: &Path, contents: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let file = fs.open(temporary, OpenMode::CreateOrTruncate)?;
    file.write_all_at(contents, 0)?;
    file.sync_all()?;
    fs.rename(temporary, path)?;
    fs.sync_dir(parent)
}

/// Creates a directory and every missing one above it, each durable on return.
pub fn create_dir_all(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    if fs.kind(path)? == Some(EntryKind::Directory) {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir_all(fs, parent)?;
    }
    match fs.create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs.sync_dir(parent.unwrap_or_else(|| Path::new(".")))
}

/// Whether an operation failed only because the file system, or this user's share of it, is full.
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes a file, or does nothing when there is none.
pub fn remove_file_if_there(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes a directory and everything in it. Not durable until the parent is synced.
pub fn remove_dir_all(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    for entry in fs.list(path)? {
        let child = path.join(&entry.name);
        match entry.kind {
            EntryKind::File => fs.remove_file(&child)?,
            EntryKind::Directory => remove_dir_all(fs, &child)?,
        }
    }
    fs.remove_dir(path)
}

#[cfg(test)]
mod tests;
