//! Snapshots: the whole materialised state in one file of ours, with the position and membership it stands for.
//!
//! ```text
//! 00000000000000000003-00000000000000000001-00000000000000005123.snapshot      term, node, index of its last entry
//! header | chunk | chunk | ... | trailer                                       each a checksummed frame
//! ```
//!
//! A snapshot is written beside its final name, flushed and renamed, so that a half one is never found under a snapshot's name; the
//! trailer's count and digest say that it is whole. It is read whole and checked before anything is replaced by it (C4).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use thalweg_env::fs::{EntryKind, File, Fs, OpenMode, remove_file_if_there};
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_storage::frame::{self, ScanOptions, Verdict};
use thalweg_types::LogIndex;

use crate::codec::{self, CodecError, snapshot_header_from_proto, snapshot_header_to_proto};
use crate::kv::{AppliedState, Digest, Entries};
use crate::types::SnapshotMeta;

/// Version of the file's layout. A newer one is refused.
pub(crate) const FORMAT: u32 = 1;

const SUFFIX: &str = ".snapshot";
const TEMPORARY_SUFFIX: &str = ".snapshot.tmp";
const DAMAGED_SUFFIX: &str = ".snapshot.damaged";

const KIND_HEADER: u8 = 1;
const KIND_CHUNK: u8 = 2;
const KIND_TRAILER: u8 = 3;

/// Every snapshot is a file of its own, written once.
pub(crate) const GENERATION: u64 = 0x736e_6170;

/// A chunk is closed at this size: large writes, small buffers.
const CHUNK_BYTES: usize = 256 * 1024;

/// One snapshot's file, open: it stays readable when a newer snapshot replaces it.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    file: Arc<dyn File>,
    path: PathBuf,
    size_bytes: u64,
}

/// A snapshot that is being received, under a temporary name: removed when it is let go of before it was adopted.
#[derive(Debug)]
pub(crate) struct Incoming {
    fs: Arc<dyn Fs>,
    snapshot: SnapshotFile,
}

/// The snapshots in one directory, of which only the newest is kept.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    current: Mutex<Option<(AppliedState, SnapshotFile)>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not a whole snapshot: {cause}")]
    Damaged { path: PathBuf, cause: String },
}

// ---- SnapshotStore ------------------------------------------------------------------------------------------------------------

impl SnapshotStore {
    /// Opens the newest readable snapshot in `dir`. What is half written is removed; what is damaged is set aside under another name.
    pub(crate) fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<Self, SnapshotError> {
        let store = Self { fs, dir: dir.to_owned(), current: Mutex::new(None) };
        let entries = store.fs.list(dir).map_err(io_error("list", dir))?;
        let mut names: Vec<String> = entries
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::File)
            .map(|entry| entry.name)
            .collect();
        for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
            store.remove(&dir.join(name))?;
        }
        let found_count = names.len();
        names.retain(|name| name.ends_with(SUFFIX));
        // Names sort like positions.
        for name in names.iter().rev() {
            let path = dir.join(name);
            if store.current().is_some() {
                store.remove(&path)?;
                continue;
            }
            let snapshot = store.open_file(&path)?;
            match snapshot.read() {
                Ok((stands_for, _)) => *store.current.lock() = Some((stands_for, snapshot)),
                Err(error @ SnapshotError::Io { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "setting a damaged snapshot aside");
                    store.set_aside(&path)?;
                }
            }
        }
        // One whole snapshot and nothing else is how the last life left it: durably. A start is to be quick.
        if found_count > 1 || store.current().is_none() && found_count > 0 {
            store.sync()?;
        }
        Ok(store)
    }

    pub(crate) fn current(&self) -> Option<(AppliedState, SnapshotFile)> {
        self.current.lock().clone()
    }

    /// A file for a snapshot that another member sends; `number` tells it from others of this life.
    pub(crate) fn receive(&self, number: u64) -> Result<Incoming, SnapshotError> {
        let path = self.dir.join(format!("incoming-{number}{TEMPORARY_SUFFIX}"));
        let file =
            self.fs.open(&path, OpenMode::CreateOrTruncate).map_err(io_error("create", &path))?;
        let snapshot = SnapshotFile { file, path, size_bytes: 0 };
        Ok(Incoming { fs: Arc::clone(&self.fs), snapshot })
    }

    /// Writes the entries as the newest snapshot; durable on return.
    pub(crate) fn write(
        &self,
        applied: &AppliedState,
        entries: &Entries,
    ) -> Result<SnapshotFile, SnapshotError> {
        let temporary = self.path_of(applied, TEMPORARY_SUFFIX);
        let file = self
            .fs
            .open(&temporary, OpenMode::CreateOrTruncate)
            .map_err(io_error("create", &temporary))?;
        let written = write_frames(file.as_ref(), applied, entries)
            .map_err(io_error("write", &temporary))
            .and_then(|size_bytes| {
                file.sync_all().map_err(io_error("flush", &temporary))?;
                Ok(size_bytes)
            });
        if written.is_err() {
            // On a full disk it would take what others need; if it stays, the next start removes it.
            let _ = self.fs.remove_file(&temporary);
        }
        let size_bytes = written?;
        self.adopt(SnapshotFile { file, path: temporary, size_bytes }, applied)
    }

    /// Makes a whole, checked snapshot the current one, durably. A file of another directory is copied.
    pub(crate) fn install(
        &self,
        snapshot: SnapshotFile,
        applied: &AppliedState,
        entries: &Entries,
    ) -> Result<SnapshotFile, SnapshotError> {
        if snapshot.path.parent() == Some(&self.dir) {
            self.adopt(snapshot, applied)
        } else {
            self.write(applied, entries)
        }
    }

    /// Gives a file in this directory its final name and removes the snapshot before.
    fn adopt(
        &self,
        snapshot: SnapshotFile,
        applied: &AppliedState,
    ) -> Result<SnapshotFile, SnapshotError> {
        let path = self.path_of(applied, SUFFIX);
        let mut current = self.current.lock();
        if let Some((newest, file)) = current.as_ref() {
            if newest.last > applied.last {
                // Built before a newer one was installed: it serves whoever asked for it, and nobody else.
                return Ok(snapshot);
            }
            if file.path == snapshot.path && newest == applied {
                return Ok(snapshot);
            }
        }
        self.fs.rename(&snapshot.path, &path).map_err(io_error("rename", &snapshot.path))?;
        self.sync()?;
        let adopted = SnapshotFile { path, ..snapshot };
        let before = current.replace((applied.clone(), adopted.clone()));
        if let Some((_, before)) = before
            && before.path != adopted.path
        {
            self.remove(&before.path)?;
        }
        Ok(adopted)
    }

    fn open_file(&self, path: &Path) -> Result<SnapshotFile, SnapshotError> {
        let file = self.fs.open(path, OpenMode::Read).map_err(io_error("open", path))?;
        let size_bytes = file.len().map_err(io_error("read", path))?;
        Ok(SnapshotFile { file, path: path.to_owned(), size_bytes })
    }

    fn path_of(&self, applied: &AppliedState, suffix: &str) -> PathBuf {
        let (term, node_id, index) = applied
            .last
            .map_or((0, 0, 0), |last| (last.leader_id.term, last.leader_id.node_id, last.index));
        self.dir.join(format!("{term:020}-{node_id:020}-{index:020}{suffix}"))
    }

    fn remove(&self, path: &Path) -> Result<(), SnapshotError> {
        self.fs.remove_file(path).map_err(io_error("remove", path))
    }

    fn set_aside(&self, path: &Path) -> Result<(), SnapshotError> {
        let mut target = path.with_extension("").into_os_string();
        target.push(DAMAGED_SUFFIX);
        self.fs.rename(path, Path::new(&target)).map_err(io_error("rename", path))
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        self.fs.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))
    }
}

// ---- Incoming -----------------------------------------------------------------------------------------------------------------

impl Incoming {
    pub(crate) fn size_bytes(&self) -> u64 {
        self.snapshot.size_bytes
    }

    pub(crate) fn append(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        let Self { snapshot, .. } = self;
        snapshot
            .file
            .write_all_at(piece, snapshot.size_bytes)
            .map_err(io_error("write", &snapshot.path))?;
        snapshot.size_bytes += piece.len() as u64;
        Ok(())
    }

    /// Flushes the file and checks that it is a whole snapshot and the one that was offered.
    pub(crate) fn finish(&self, offered: &SnapshotMeta) -> Result<SnapshotFile, SnapshotError> {
        let snapshot = &self.snapshot;
        snapshot.file.sync_all().map_err(io_error("flush", &snapshot.path))?;
        let (found, _) = snapshot.read()?;
        snapshot.expect_meta(offered, &found)?;
        Ok(snapshot.clone())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Adopted, it has another name. What cannot be removed now is removed at the next start.
        if let Err(error) = remove_file_if_there(self.fs.as_ref(), &self.snapshot.path) {
            tracing::debug!(%error, "cannot remove half a snapshot");
        }
    }
}

// ---- SnapshotFile -------------------------------------------------------------------------------------------------------------

impl SnapshotFile {
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills the buffer with the file's bytes at `position`, for sending it on.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    /// Reads and checks the whole snapshot.
    pub(crate) fn read(&self) -> Result<(AppliedState, Entries), SnapshotError> {
        let options = ScanOptions {
            generation: GENERATION,
            base_position: 0,
            start: 0,
            end: self.size_bytes,
            durable_position: self.size_bytes,
        };
        let mut contents = Contents::default();
        let mut read = Ok(());
        let end = frame::scan(self.file.as_ref(), options, &|_| true, |frame| {
            if read.is_ok() {
                read = contents.take(frame.header.kind, frame.payload);
            }
        })
        .map_err(io_error("read", &self.path))?;
        if end.verdict != Verdict::Clean || end.position != self.size_bytes {
            return Err(self.damaged(format!("byte {} is not readable", end.position)));
        }
        read.and_then(|()| contents.finish()).map_err(|error| self.damaged(error.to_string()))
    }

    /// Whoever offers a snapshot says what it holds; the file has the last word.
    pub(crate) fn expect_meta(
        &self,
        expected: &SnapshotMeta,
        found: &AppliedState,
    ) -> Result<(), SnapshotError> {
        let found = found.to_meta();
        if *expected == found {
            Ok(())
        } else {
            Err(self.damaged(format!("it holds {found}, offered as {expected}")))
        }
    }

    fn damaged(&self, cause: String) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), cause }
    }
}

/// What was read of a snapshot so far.
#[derive(Default)]
struct Contents {
    applied: Option<AppliedState>,
    entries: Entries,
    trailer: Option<proto::SnapshotTrailer>,
}

impl Contents {
    fn take(&mut self, kind: u8, payload: Bytes) -> Result<(), CodecError> {
        let misplaced =
            |what| Err(CodecError::Invalid { what, cause: "in the wrong place".to_owned() });
        match kind {
            KIND_HEADER if self.applied.is_none() => {
                let header: proto::SnapshotHeader = codec::decode("snapshot header", payload)?;
                if header.format != FORMAT {
                    let cause = format!("format {}, this version reads {FORMAT}", header.format);
                    return Err(CodecError::Invalid { what: "snapshot header", cause });
                }
                let SnapshotMeta { last_log_id, last_membership } =
                    snapshot_header_from_proto(&header)?;
                self.applied = Some(AppliedState {
                    last: last_log_id,
                    membership: last_membership,
                    epoch: LogIndex(header.epoch),
                });
            }
            KIND_CHUNK if self.applied.is_some() && self.trailer.is_none() => {
                let chunk: proto::SnapshotChunk = codec::decode("snapshot chunk", payload)?;
                self.entries
                    .extend(chunk.entries.into_iter().map(|entry| (entry.key, entry.value)));
            }
            KIND_TRAILER if self.applied.is_some() && self.trailer.is_none() => {
                self.trailer = Some(codec::decode("snapshot trailer", payload)?);
            }
            _ => return misplaced("snapshot frame"),
        }
        Ok(())
    }

    fn finish(self) -> Result<(AppliedState, Entries), CodecError> {
        let applied = codec::required("snapshot header", self.applied)?;
        let trailer = codec::required("snapshot trailer", self.trailer)?;
        let promised = Digest { sum: trailer.digest, entry_count: trailer.entry_count };
        if Digest::of(&self.entries) != promised {
            let cause =
                format!("{} entries, not the {} written", self.entries.len(), trailer.entry_count);
            return Err(CodecError::Invalid { what: "snapshot", cause });
        }
        Ok((applied, self.entries))
    }
}

/// Returns the size of the file.
fn write_frames(file: &dyn File, applied: &AppliedState, entries: &Entries) -> io::Result<u64> {
    let mut writer = FrameWriter { file, position: 0 };
    writer.write(KIND_HEADER, &snapshot_header_to_proto(&applied.to_meta(), applied.epoch))?;
    let mut chunk = proto::SnapshotChunk::default();
    let mut chunk_bytes = 0;
    for (key, value) in entries {
        chunk_bytes += key.len() + value.len();
        chunk.entries.push(proto::KeyValue { key: key.clone(), value: value.clone() });
        if chunk_bytes >= CHUNK_BYTES {
            writer.write(KIND_CHUNK, &std::mem::take(&mut chunk))?;
            chunk_bytes = 0;
        }
    }
    if !chunk.entries.is_empty() {
        writer.write(KIND_CHUNK, &chunk)?;
    }
    let digest = Digest::of(entries);
    let trailer = proto::SnapshotTrailer { entry_count: digest.entry_count, digest: digest.sum };
    writer.write(KIND_TRAILER, &trailer)?;
    Ok(writer.position)
}

struct FrameWriter<'a> {
    file: &'a dyn File,
    position: u64,
}

impl FrameWriter<'_> {
    fn write(&mut self, kind: u8, message: &impl Message) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        frame::encode(&mut bytes, kind, GENERATION, self.position, 0, &message.encode_to_vec());
        self.file.write_all_at(&bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> SnapshotError + use<'a> {
    move |source| SnapshotError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
