//! Looking at a log dir's files without opening it: nothing is locked, nothing is written.
//!
//! For copies, for backups, and beside a running server, whose newest records may then be in its journal only. Memory is bounded by one
//! batch. A file that retention removes while it is looked at is left out.
//!
//! [`SegmentScan`] walks one segment's batches, over damaged stretches too; [`verify_folder`] holds a partition's files against each
//! other and says what does not fit.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use thalweg_env::fs::{self, EntryKind, Fs};
use thalweg_log_core::SegmentFacts;
use thalweg_types::{Offset, TopicIdPartition, TopicPartition};

use crate::checkpoint::{self, LogCheckpoint};
use crate::cut;
use crate::layout;

mod indexes;
mod scan;
mod verify;

pub use scan::{BadBytes, BadReason, Piece, SegmentScan, StoredBatch};
pub use verify::{Finding, Problem, Severity, Verified, verify_folder};

/// Where a data directory of the server keeps its log dir.
const LOGS_DIR: &str = "logs";

/// The checkpoint of a dir with very many logs; larger is damage.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 30;

/// What a path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One segment's file of batches.
    Segment { folder: PathBuf, base_offset: Offset },
    /// One partition's folder.
    Folder(PathBuf),
    /// A log dir, itself or as part of a data directory.
    LogDir(PathBuf),
}

/// What a log dir's checkpoint says to be durable in the segments, by partition.
#[derive(Debug, Clone, Default)]
pub struct DurableMarks(Option<HashMap<TopicIdPartition, LogCheckpoint>>);

/// Finds out what a path holds; `None` for nothing of ours.
pub fn target(fs: &dyn Fs, path: &Path) -> io::Result<Option<Target>> {
    match fs.kind(path)? {
        None => return Ok(None),
        Some(EntryKind::File) => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
            return Ok(layout::parse_file_name(name, "log")
                .map(|base_offset| Target::Segment { folder, base_offset }));
        }
        Some(EntryKind::Directory) => {}
    }
    let entries = fs.list(path)?;
    let has_file = |accepts: &dyn Fn(&str) -> bool| {
        entries.iter().any(|entry| entry.kind == EntryKind::File && accepts(&entry.name))
    };
    let is_segment = |name: &str| layout::parse_file_name(name, "log").is_some();
    if has_file(&|name| name == layout::PARTITION_METADATA || is_segment(name)) {
        return Ok(Some(Target::Folder(path.to_owned())));
    }
    let holds_partitions = |entries: &[fs::DirEntry]| {
        entries.iter().any(|entry| {
            entry.name == layout::STORAGE_META || layout::parse_folder(&entry.name).is_some()
        })
    };
    if holds_partitions(&entries) {
        return Ok(Some(Target::LogDir(path.to_owned())));
    }
    let logs = path.join(LOGS_DIR);
    let is_data_dir =
        fs.kind(&logs)? == Some(EntryKind::Directory) && holds_partitions(&fs.list(&logs)?);
    Ok(is_data_dir.then_some(Target::LogDir(logs)))
}

/// The folders of a log dir's partitions, in order of their names. Deleted and stray ones are left out.
pub fn partition_folders(fs: &dyn Fs, log_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs.list(log_dir)?.into_iter();
    let folders = entries.filter(|entry| {
        entry.kind == EntryKind::Directory && layout::parse_folder(&entry.name).is_some()
    });
    Ok(folders.map(|entry| log_dir.join(entry.name)).collect())
}

/// The partition that a folder is of, by its name.
pub fn partition_of(folder: &Path) -> Option<TopicPartition> {
    layout::parse_folder(folder.file_name()?.to_str()?)
}

/// The base offsets of a folder's segments, in order.
pub fn segments(fs: &dyn Fs, folder: &Path) -> io::Result<Vec<Offset>> {
    let mut bases: Vec<_> = fs
        .list(folder)?
        .iter()
        .filter_map(|entry| layout::parse_file_name(&entry.name, "log"))
        .collect();
    bases.sort_unstable();
    Ok(bases)
}

impl DurableMarks {
    /// Reads a log dir's checkpoint. A missing or damaged one says nothing, as it does to the server.
    pub fn read(fs: &dyn Fs, log_dir: &Path) -> io::Result<Self> {
        let path = log_dir.join(layout::CHECKPOINT);
        let bytes = fs::read_whole(fs, &path, CHECKPOINT_BYTES_MAX)?.unwrap_or_default();
        let logs = checkpoint::decode(&bytes);
        Ok(Self(logs.map(|logs| logs.into_iter().map(|log| (log.id, log)).collect())))
    }

    /// What is durable of a partition's newest segment: as the checkpoint says, or a truncation since.
    fn get(&self, fs: &dyn Fs, folder: &Path, id: TopicIdPartition) -> Option<SegmentFacts> {
        let checkpoint = self.0.as_ref()?.get(&id);
        let covered = checkpoint.map_or(0, |checkpoint| checkpoint.covered_position);
        match cut::read(fs, folder) {
            Ok(cut::Found::Cut { to, is_settled: false })
                if to.id == id && to.covered_position > covered =>
            {
                Some(to.active)
            }
            _ => checkpoint.map(|checkpoint| checkpoint.active),
        }
    }
}

#[cfg(test)]
mod tests;
