//! A simulated disk that loses power, tears writes and runs full, by seed.
//!
//! Model: every file has its cached bytes and its durable bytes, and remembers which 512-byte sectors differ. A sync copies them
//! over. A power cut keeps, sector by sector and name by name, either the durable or the cached state: any subset of what was not
//! synced may have reached the disk, in any order. Now and then a write lets some dirty sectors reach the disk early, so that
//! older versions of a twice-written sector can survive too. A failed sync forgets what was dirty (Linux marks such pages
//! clean), so that a second sync cannot make it good.
//!
//! Every operation that changes anything has a number, so that a test can cut the power, or fail one operation, at each in turn. Reads are
//! numbered apart from them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, DirLock, EntryKind, File, Fs, OpenMode, Space};
use crate::random::{Random, SeededRandom};

/// The unit that survives or is lost as a whole.
const SECTOR_BYTES: usize = 512;

const ROOT: u64 = 0;

/// An error to inject into one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with EIO. A failed sync loses what it should have saved.
    Io,
    /// The operation fails with ENOSPC and changes nothing.
    NoSpace,
    /// The lights go out during the operation: it may have taken effect in part; it and all later ones fail until
    /// [`SimFs::restart_after_power_cut`].
    PowerCut,
}

/// A simulated file system; clones share it.
#[derive(Debug, Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug)]
struct Disk {
    random: SeededRandom,
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    /// Counts the starts of the machine or process: handles and locks of an earlier one are dead.
    life: u64,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    reads: u64,
    read_faults: BTreeSet<u64>,
    powered: bool,
    /// Total file bytes allowed, `u64::MAX` for no limit.
    capacity_bytes: u64,
    /// Whether reads find everything in memory.
    cached: bool,
    locked: BTreeSet<u64>,
}

#[derive(Debug)]
enum Node {
    File(FileNode),
    Directory(DirectoryNode),
}

#[derive(Debug, Default)]
struct FileNode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct DirectoryNode {
    cached: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    /// Pairs of names that one rename changed: a journaling file system keeps both changes or neither.
    renamed: Vec<(OsString, OsString)>,
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    node: u64,
    life: u64,
    writable: bool,
}

#[derive(Debug)]
struct SimDirLock {
    disk: Arc<Mutex<Disk>>,
    node: u64,
    life: u64,
}

impl SimFs {
    /// An empty disk whose every accident follows from the seed.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            random: SeededRandom::new(seed),
            nodes: BTreeMap::from([(ROOT, Node::Directory(DirectoryNode::default()))]),
            next_node: ROOT + 1,
            life: 0,
            operations: 0,
            faults: BTreeMap::new(),
            reads: 0,
            read_faults: BTreeSet::new(),
            powered: true,
            capacity_bytes: u64::MAX,
            cached: true,
            locked: BTreeSet::new(),
        };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Changing operations so far; the next one has this number.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// Makes the operation of this number fail.
    pub fn inject(&self, operation: u64, fault: Fault) {
        self.disk.lock().faults.insert(operation, fault);
    }

    /// Reads of files and directories so far; the next one has this number.
    pub fn reads(&self) -> u64 {
        self.disk.lock().reads
    }

    /// Makes the read of this number fail with EIO.
    pub fn inject_read_error(&self, read: u64) {
        self.disk.lock().read_faults.insert(read);
    }

    /// Whether an injected power cut has happened and the disk waits for a restart.
    pub fn is_powered(&self) -> bool {
        self.disk.lock().powered
    }

    /// Limits the sum of the lengths of all files that have a name; growing past it fails with ENOSPC, and on a disk that is full to
    /// the last byte no file or directory can be created either.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.disk.lock().capacity_bytes = bytes;
    }

    /// With `false`, reads that must not wait find nothing.
    pub fn set_cached(&self, cached: bool) {
        self.disk.lock().cached = cached;
    }

    /// The machine comes back from a power cut: unsynced sectors and names are kept or lost by seed. Old handles are dead.
    pub fn restart_after_power_cut(&self) {
        self.disk.lock().settle_power_cut();
    }

    /// The process comes back after a kill: the page cache is all there. Old handles are dead.
    pub fn restart_after_kill(&self) {
        self.disk.lock().begin_life();
    }

    /// Changes a file's bytes behind everyone's back, on disk and in cache, as rot or an operator would.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let node = disk.find(path)?;
        let file = disk.file(node)?;
        change(&mut file.cached);
        file.durable.clone_from(&file.cached);
        file.dirty.clear();
        Ok(())
    }
}

impl Disk {
    /// Numbers a changing operation and says how it ends. `PowerCut` is left to the caller to half-perform.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        self.require_power()?;
        let operation = self.operations;
        self.operations += 1;
        match self.faults.remove(&operation) {
            Some(Fault::Io) => Ok(Some(Fault::Io)),
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::PowerCut) => {
                self.powered = false;
                Ok(Some(Fault::PowerCut))
            }
            None => Ok(None),
        }
    }

    /// For operations that happen wholly or not at all: decides a power cut by a coin.
    fn begin_whole(&mut self) -> io::Result<Whole> {
        match self.begin()? {
            None => Ok(Whole::Perform),
            Some(Fault::PowerCut) if self.coin() => Ok(Whole::PerformThenFail),
            Some(Fault::PowerCut) => Err(power_is_off()),
            Some(_) => Err(input_output_error()),
        }
    }

    /// Numbers a read and says how it ends.
    fn begin_read(&mut self) -> io::Result<()> {
        self.require_power()?;
        let read = self.reads;
        self.reads += 1;
        if self.read_faults.remove(&read) { Err(input_output_error()) } else { Ok(()) }
    }

    fn require_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(power_is_off()) }
    }

    fn coin(&self) -> bool {
        self.random.below(2) == 0
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.powered = true;
        self.faults.clear();
        self.read_faults.clear();
        self.locked.clear();
    }

    fn settle_power_cut(&mut self) {
        // Whole-disk moods make the extremes (all lost, all kept) as common as the mixtures.
        let mood = self.random.below(4);
        let random = &self.random;
        let keep = || match mood {
            0 => false,
            1 => true,
            _ => random.below(2) == 0,
        };
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.settle_power_cut(&keep, random),
                Node::Directory(directory) => directory.settle_power_cut(&keep),
            }
        }
        self.begin_life();
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        let mut node = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                node = *self.directory(node)?.cached.get(name).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(node)
    }

    fn find_parent(&self, path: &Path) -> io::Result<(u64, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        Ok((self.find(path.parent().unwrap_or_else(|| Path::new("")))?, name))
    }

    fn directory(&self, node: u64) -> io::Result<&DirectoryNode> {
        match self.nodes.get(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn directory_mut(&mut self, node: u64) -> io::Result<&mut DirectoryNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, node: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Bytes of all files that have a name; not counted on a disk without bounds.
    fn used_bytes(&self) -> u64 {
        if self.capacity_bytes == u64::MAX {
            return 0;
        }
        let named = self.nodes.values().filter_map(|node| match node {
            Node::Directory(directory) => Some(directory.cached.values()),
            Node::File(_) => None,
        });
        let bytes = named.flatten().map(|node| match &self.nodes[node] {
            Node::File(file) => file.cached.len() as u64,
            Node::Directory(_) => 0,
        });
        bytes.sum()
    }

    fn require_room_for_name(&self) -> io::Result<()> {
        if self.used_bytes() < self.capacity_bytes {
            return Ok(());
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    fn link_new(&mut self, parent: u64, name: OsString, node: Node) -> io::Result<u64> {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        self.directory_mut(parent)?.cached.insert(name, id);
        Ok(id)
    }

    fn require_space(&mut self, node: u64, len: usize) -> io::Result<()> {
        let held = self.file(node)?.cached.len();
        let more = len.saturating_sub(held) as u64;
        if more > 0 && self.used_bytes().saturating_add(more) > self.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// The fate of an operation that cannot be half done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Perform,
    PerformThenFail,
}

impl Whole {
    fn finish<T>(self, value: T) -> io::Result<T> {
        match self {
            Self::Perform => Ok(value),
            Self::PerformThenFail => Err(power_is_off()),
        }
    }
}

impl FileNode {
    fn write(&mut self, bytes: &[u8], position: usize) {
        let end = position + bytes.len();
        if self.cached.len() < end {
            self.set_len(end);
        }
        self.cached[position..end].copy_from_slice(bytes);
        self.dirty.extend(position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    fn set_len(&mut self, len: usize) {
        let (low, high) = (len.min(self.cached.len()), len.max(self.cached.len()));
        self.cached.resize(len, 0);
        self.dirty.extend(low / SECTOR_BYTES..high.div_ceil(SECTOR_BYTES));
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.write_back(sector);
        }
        self.durable.truncate(self.cached.len());
        self.durable.resize(self.cached.len(), 0);
    }

    /// One sector reaches the disk, with as much length as it needs.
    fn write_back(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.cached.len());
        if start >= end {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.cached[start..end]);
    }

    fn settle_power_cut(&mut self, keep: &impl Fn() -> bool, random: &SeededRandom) {
        let cut = self.cached.len() < self.durable.len();
        let sectors: Vec<usize> = std::mem::take(&mut self.dirty).into_iter().collect();
        for sector in sectors {
            if keep() {
                self.write_back(sector);
            }
        }
        if cut && keep() {
            self.durable.truncate(self.cached.len());
        } else if !cut && keep() {
            // The length may arrive before the bytes: zeros, up to anywhere.
            let missing = (self.cached.len() - self.durable.len()) as u64;
            let extra = random.below(missing + 1) as usize;
            self.durable.resize(self.durable.len() + extra, 0);
        }
        self.cached.clone_from(&self.durable);
    }
}

impl DirectoryNode {
    fn settle_power_cut(&mut self, keep: &impl Fn() -> bool) {
        let names: BTreeSet<OsString> =
            self.cached.keys().chain(self.durable.keys()).cloned().collect();
        let mut kept: BTreeMap<OsString, bool> =
            names.into_iter().map(|name| (name, keep())).collect();
        // Later renames may touch names of earlier ones: what one keeps, all that hang together keep.
        for _ in 0..self.renamed.len() {
            for (source, target) in &self.renamed {
                let both = kept.get(source).or_else(|| kept.get(target)).copied().unwrap_or(false);
                kept.insert(source.clone(), both);
                kept.insert(target.clone(), both);
            }
        }
        for (name, _) in kept.into_iter().filter(|(_, keep)| *keep) {
            match self.cached.get(&name) {
                Some(node) => self.durable.insert(name, *node),
                None => self.durable.remove(&name),
            };
        }
        self.renamed.clear();
        self.cached.clone_from(&self.durable);
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk.lock();
        disk.require_power()?;
        let (parent, name) = disk.find_parent(path)?;
        let existing = disk.directory(parent)?.cached.get(&name).copied();
        let node = match (existing, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (Some(node), OpenMode::CreateOrTruncate) => {
                let whole = disk.begin_whole()?;
                disk.file(node)?.set_len(0);
                whole.finish(node)?
            }
            (Some(node), OpenMode::Read | OpenMode::ReadWrite) => {
                disk.file(node)?;
                node
            }
            (None, OpenMode::CreateNew | OpenMode::CreateOrTruncate) => {
                disk.require_room_for_name()?;
                let whole = disk.begin_whole()?;
                let node = disk.link_new(parent, name, Node::File(FileNode::default()))?;
                whole.finish(node)?
            }
        };
        let (life, writable) = (disk.life, mode != OpenMode::Read);
        Ok(Arc::new(SimFile { disk: Arc::clone(&self.disk), node, life, writable }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let (parent, name) = disk.find_parent(path)?;
        if disk.directory(parent)?.cached.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.require_room_for_name()?;
        let whole = disk.begin_whole()?;
        disk.link_new(parent, name, Node::Directory(DirectoryNode::default()))?;
        whole.finish(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut disk = self.disk.lock();
        disk.begin_read()?;
        let directory = disk.directory(disk.find(path)?)?;
        let entry = |(name, node): (&OsString, &u64)| DirEntry {
            name: name.to_string_lossy().into_owned(),
            kind: match disk.nodes[node] {
                Node::File(_) => EntryKind::File,
                Node::Directory(_) => EntryKind::Directory,
            },
        };
        Ok(directory.cached.iter().map(entry).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        let disk = self.disk.lock();
        disk.require_power()?;
        match disk.find(path) {
            Ok(node) if disk.directory(node).is_ok() => Ok(Some(EntryKind::Directory)),
            Ok(_) => Ok(Some(EntryKind::File)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let (source_parent, source_name) = disk.find_parent(source)?;
        let (target_parent, target_name) = disk.find_parent(target)?;
        let node = disk.find(source)?;
        if let Ok(replaced) = disk.find(target)
            && disk.directory(replaced).is_ok_and(|directory| !directory.cached.is_empty())
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let whole = disk.begin_whole()?;
        disk.directory_mut(source_parent)?.cached.remove(&source_name);
        let target_directory = disk.directory_mut(target_parent)?;
        target_directory.cached.insert(target_name.clone(), node);
        if source_parent == target_parent {
            target_directory.renamed.push((source_name, target_name));
        }
        whole.finish(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let (parent, name) = disk.find_parent(path)?;
        let node = disk.find(path)?;
        disk.file(node)?;
        let whole = disk.begin_whole()?;
        disk.directory_mut(parent)?.cached.remove(&name);
        whole.finish(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let (parent, name) = disk.find_parent(path)?;
        if !disk.directory(disk.find(path)?)?.cached.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let whole = disk.begin_whole()?;
        disk.directory_mut(parent)?.cached.remove(&name);
        whole.finish(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let node = disk.find(path)?;
        let whole = disk.begin_whole()?;
        let directory = disk.directory_mut(node)?;
        directory.durable.clone_from(&directory.cached);
        directory.renamed.clear();
        whole.finish(())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let disk = self.disk.lock();
        disk.require_power()?;
        disk.find(path)?;
        let total_bytes = disk.capacity_bytes;
        Ok(Space { total_bytes, available_bytes: total_bytes.saturating_sub(disk.used_bytes()) })
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut disk = self.disk.lock();
        disk.require_power()?;
        let node = disk.find(path)?;
        disk.directory(node)?;
        if !disk.locked.insert(node) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimDirLock { disk: Arc::clone(&self.disk), node, life: disk.life }))
    }
}

impl DirLock for SimDirLock {}

impl Drop for SimDirLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        if disk.life == self.life {
            disk.locked.remove(&self.node);
        }
    }
}

impl SimFile {
    fn require_alive(&self, disk: &Disk) -> io::Result<()> {
        disk.require_power()?;
        if disk.life == self.life { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn require_writable(&self, disk: &Disk) -> io::Result<()> {
        self.require_alive(disk)?;
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        self.require_alive(&disk)?;
        match disk.begin()? {
            None => {
                disk.file(self.node)?.sync();
                Ok(())
            }
            // Interrupted: some of it may be on the disk; the settling decides.
            Some(Fault::PowerCut) => Err(power_is_off()),
            Some(_) => {
                disk.file(self.node)?.dirty.clear();
                Err(input_output_error())
            }
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        self.require_alive(&disk)?;
        disk.begin_read()?;
        let bytes = &disk.file(self.node)?.cached;
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        if !self.disk.lock().cached {
            return Ok(None);
        }
        self.read_at(buffer, position).map(Some)
    }

    fn write_all_vectored_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        self.require_writable(&disk)?;
        let mut bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
        let position = usize::try_from(position).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let fault = disk.begin()?;
        disk.require_space(self.node, position + bytes.len())?;
        match fault {
            Some(Fault::Io) => return Err(input_output_error()),
            Some(_) => {
                // Only a part was copied into the cache when the lights went out.
                let kept = disk.random.below(bytes.len() as u64 + 1) as usize;
                bytes.truncate(kept);
            }
            None => {}
        }
        let early = disk.random.below(8) == 0;
        let chance = disk.random.next_u64();
        let file = disk.file(self.node)?;
        file.write(&bytes, position);
        if early {
            let early_sectors: Vec<usize> = file.dirty.iter().copied().collect();
            for (bit, sector) in early_sectors.into_iter().enumerate() {
                // Stays dirty: a later sync writes it again, a power cut finds it on the disk already.
                if (chance >> (bit % 64)) & 1 == 1 {
                    file.write_back(sector);
                }
            }
        }
        if fault.is_some() { Err(power_is_off()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn len(&self) -> io::Result<u64> {
        let mut disk = self.disk.lock();
        self.require_alive(&disk)?;
        Ok(disk.file(self.node)?.cached.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        self.require_writable(&disk)?;
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        disk.require_space(self.node, len)?;
        let whole = disk.begin_whole()?;
        disk.file(self.node)?.set_len(len);
        whole.finish(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if self.len()? < bytes { self.set_len(bytes) } else { Ok(()) }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the simulated power is off")
}

fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}
