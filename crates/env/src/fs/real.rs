//! The operating system's file system.

mod direct;

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

use super::{DirEntry, DirLock, EntryKind, File, Fs, OpenMode, Space};
use direct::DirectHandle;

/// The operating system's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    direct: DirectHandle,
}

/// Holds the lock through its open descriptor.
#[derive(Debug)]
struct RealDirLock(
    #[expect(dead_code, reason = "kept open: closing it releases the lock")] fs::File,
);

impl DirLock for RealDirLock {}

impl Fs for RealFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::CreateOrTruncate => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile {
            file: options.open(path)?,
            direct: DirectHandle::new(path, mode != OpenMode::Read),
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind =
                if entry.file_type()?.is_dir() { EntryKind::Directory } else { EntryKind::File };
            entries.push(DirEntry { name, kind });
        }
        entries.sort();
        Ok(entries)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Some(EntryKind::Directory)),
            Ok(_) => Ok(Some(EntryKind::File)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        fs::rename(source, target)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let system = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Ok(Space { total_bytes: bytes(system.f_blocks), available_bytes: bytes(system.f_bavail) })
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(".lock"))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealDirLock(file)))
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        let slices = &mut [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, slices, position, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(Some(count)),
            // Not in memory, or a file system that cannot tell: the caller reads the waiting way.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_all_vectored_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        write_all(&self.file, slices, position)
    }

    fn write_all_uncached_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.direct.write_all(&self.file, slices, position)
    }

    fn write_blocks_at(&self, blocks: &[u8], position: u64) -> io::Result<()> {
        self.direct.write_blocks(&self.file, blocks, position)
    }

    fn read_blocks_at(&self, blocks: &mut [u8], position: u64) -> io::Result<usize> {
        self.direct.read_blocks(&self.file, blocks, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            // A file system without reservation: the caller's prewriting allocates the blocks.
            Err(Errno::OPNOTSUPP) => self.file.set_len(bytes.max(self.len()?)),
            Err(errno) => Err(errno.into()),
            Ok(()) => Ok(()),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

fn write_all(file: &fs::File, mut slices: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        // The kernel takes at most 1024 slices a call; giving it fewer is a short write like any other.
        let batch = slices.len().min(1024);
        match rustix::io::pwritev(file, &slices[..batch], position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut slices, count);
                position += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
