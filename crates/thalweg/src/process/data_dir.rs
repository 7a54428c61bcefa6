//! Whose data directory this is: asked before anything in it is changed.
//!
//! A node's records are worth nothing without the metadata that says what they are, nor the other way round, and either half of another
//! node is worse than none: a start on it would found a second cluster, or serve empty partitions as if they were the ones that were lost.
//! So what is missing or does not belong ends the start, with words for whoever mounted the wrong disk.

mod slot;

use std::io;
use std::path::{Path, PathBuf};

use thalweg_env::fs::Fs;
use thalweg_metadata_feed::Feed;
use thalweg_storage::{LogDir, OpenError};
use thalweg_types::ClusterId;

pub(super) use slot::Slot;

/// Folder of the metadata log in the data directory.
pub(super) const METADATA_DIR: &str = "metadata";

/// Folder of the partition logs in the data directory.
pub(super) const LOGS_DIR: &str = "logs";

/// What a quorum keeps in its directory once it has begun.
const METADATA_CONTENTS: [&str; 3] = ["log", "snapshots", "state"];

/// The data directory cannot be served. The log dir in it was not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataDirError {
    #[error("data directory: {path} cannot be used: {source}. {advice}")]
    Unusable { path: PathBuf, source: io::Error, advice: &'static str },
    #[error(
        "{logs} holds records of cluster {cluster_id}, but {metadata} is missing or empty: that cluster's metadata was removed, or its disk is \
         not mounted. Starting would found another cluster, to which the records do not belong. Mount it, or restore it from a copy of \
         this node's; to begin anew, give --data-dir an empty directory"
    )]
    MetadataLost { logs: PathBuf, metadata: PathBuf, cluster_id: ClusterId },
    #[error(
        "{metadata} holds a cluster's metadata, but {logs} has no storage.meta: the records were removed, or their disk is not mounted. \
         Starting would serve the partitions as if they had always been empty. Mount it, or restore it from a copy of this node's; to begin \
         anew, give --data-dir an empty directory"
    )]
    LogsLost { logs: PathBuf, metadata: PathBuf },
    #[error(
        "{logs} belongs to cluster {found}, but {metadata} to cluster {expected}: directories of two nodes were mixed up. Put the one back \
         that belongs here; the records in {logs} were not touched"
    )]
    Foreign { logs: PathBuf, metadata: PathBuf, found: ClusterId, expected: ClusterId },
    #[error(
        "{logs} belongs to cluster {found}, but the controllers to cluster {expected}. Mount the disk that belongs here, or point \
         cluster.controllers at the broker's own cluster; the records were not touched"
    )]
    ForeignLogs { logs: PathBuf, found: ClusterId, expected: ClusterId },
    #[error(
        "{pattern} leaves a number open, but every directory from 1 to {tried} is another process's. Stop what is not needed, or give this \
         one a directory of its own"
    )]
    NoneFree { pattern: PathBuf, tried: u32 },
    #[error(transparent)]
    Logs(OpenError),
}

/// A data directory of controller and broker that may be started on.
#[derive(Debug)]
pub(super) struct StandaloneDir {
    pub(super) logs: PathBuf,
    pub(super) metadata: PathBuf,
    /// Whose records are in `logs`; `None` in a new directory.
    cluster_id: Option<ClusterId>,
}

impl StandaloneDir {
    /// Creates the directory if there is none, and looks at what is in it. Waits for the disk.
    pub(super) fn examine(fs: &dyn Fs, path: &Path) -> Result<Self, DataDirError> {
        std::fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
        let (logs, metadata) = (path.join(LOGS_DIR), path.join(METADATA_DIR));
        for folder in [&logs, &metadata] {
            if folder.exists() && !folder.is_dir() {
                return Err(unusable(folder, io::ErrorKind::NotADirectory.into()));
            }
        }
        let meta =
            LogDir::meta_at(fs, &logs).map_err(|error| DataDirError::not_opened(&logs, error))?;
        let cluster_id = meta.and_then(|meta| meta.cluster_id);
        let has_metadata = METADATA_CONTENTS.iter().any(|name| is_filled(&metadata.join(name)));
        match (cluster_id, has_metadata) {
            (Some(cluster_id), false) => {
                Err(DataDirError::MetadataLost { logs, metadata, cluster_id })
            }
            // The first start makes the one before the other.
            (None, true) if meta.is_none() => Err(DataDirError::LogsLost { logs, metadata }),
            _ => Ok(Self { logs, metadata, cluster_id }),
        }
    }

    /// Whether records are there, which belong to a cluster.
    pub(super) fn is_adopted(&self) -> bool {
        self.cluster_id.is_some()
    }

    /// Whether the records belong to the cluster that the metadata is of.
    pub(super) fn require_cluster(&self, expected: ClusterId) -> Result<(), DataDirError> {
        match self.cluster_id {
            Some(found) if found != expected => Err(DataDirError::Foreign {
                logs: self.logs.clone(),
                metadata: self.metadata.clone(),
                found,
                expected,
            }),
            _ => Ok(()),
        }
    }
}

/// The partition logs in a broker's data directory.
#[derive(Debug)]
pub(super) struct BrokerDir {
    pub(super) path: PathBuf,
    /// Where they are one of several: held until the broker has closed them.
    pub(super) slot: Slot,
    /// Whose records are there; `None` in a new directory.
    cluster_id: Option<ClusterId>,
}

/// The folder of the metadata log in a controller's data directory, which is made when there is none. Waits for the disk.
pub(super) fn of_controller(path: &Path) -> Result<PathBuf, DataDirError> {
    folder_in(path, METADATA_DIR)
}

impl BrokerDir {
    /// Creates the directory if there is none, takes the first free one where `path` leaves its number open, and asks whose records are
    /// in it. Waits for the disk.
    pub(super) fn examine(fs: &dyn Fs, path: &Path) -> Result<Self, DataDirError> {
        let slot = Slot::claim(path)?;
        let path = folder_in(&slot.path, LOGS_DIR)?;
        let meta =
            LogDir::meta_at(fs, &path).map_err(|error| DataDirError::not_opened(&path, error))?;
        Ok(Self { path, slot, cluster_id: meta.and_then(|meta| meta.cluster_id) })
    }

    /// Waits until the cluster is known, if there is something in the directory that may belong to another one.
    pub(super) async fn require_cluster(&self, feed: &Feed) -> Result<(), DataDirError> {
        let Some(found) = self.cluster_id else { return Ok(()) };
        let mut applied = feed.changed();
        loop {
            match feed.image().cluster_id() {
                Some(expected) if expected == found => return Ok(()),
                Some(expected) => {
                    let logs = self.path.clone();
                    return Err(DataDirError::ForeignLogs { logs, found, expected });
                }
                None => {}
            }
            if applied.changed().await.is_err() {
                // The registration will say what is wrong.
                return Ok(());
            }
        }
    }
}

fn folder_in(path: &Path, name: &str) -> Result<PathBuf, DataDirError> {
    std::fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
    let folder = path.join(name);
    match folder.exists() && !folder.is_dir() {
        true => Err(unusable(&folder, io::ErrorKind::NotADirectory.into())),
        false => Ok(folder),
    }
}

impl DataDirError {
    /// Why the log directory did not open, with what to do about it where that is known.
    pub(super) fn not_opened(logs: &Path, error: OpenError) -> Self {
        match error {
            OpenError::Io { source, .. } if advice(source.kind()).is_some() => {
                unusable(logs, source)
            }
            error => Self::Logs(error),
        }
    }
}

fn is_filled(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn unusable(path: &Path, source: io::Error) -> DataDirError {
    let advice =
        advice(source.kind()).unwrap_or("Give --data-dir a directory on a disk that works");
    DataDirError::Unusable { path: path.to_owned(), source, advice }
}

fn advice(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("A file is in the way: move it, or give --data-dir a directory")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some(
            "It must be writable: mount the file system for writing, after finding out why it is not",
        ),
        io::ErrorKind::PermissionDenied => Some(
            "It must be writable for the user that runs the server: change its owner, or the user",
        ),
        _ => None,
    }
}
