//! Group commit: what has gathered becomes durable together.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use thalweg_env::fs::File;
use thalweg_types::{Offset, TopicIdPartition};

use super::entry::MARK;
use super::stage::Piece;
use super::{Inner, Journal};
use crate::frame;

/// What a flush would cover.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The end offset of each log's last frame in the group.
    covered: BTreeMap<TopicIdPartition, Offset>,
    files: Vec<Arc<dyn File>>,
    /// Whether somebody waits for the flush.
    awaited: bool,
}

/// A group of frames to be flushed together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) covered: BTreeMap<TopicIdPartition, Offset>,
    /// To be synced; none if there is nothing but a mark to write.
    files: Vec<Arc<dyn File>>,
    pieces: Vec<Piece>,
    sync_dir: bool,
    /// Stream position that the group reaches to.
    pub(crate) position: u64,
}

impl Gathering {
    pub(super) fn add_file(&mut self, file: &Arc<dyn File>) {
        if !holds(&self.files, file) {
            self.files.push(Arc::clone(file));
        }
    }
}

fn holds(files: &[Arc<dyn File>], file: &Arc<dyn File>) -> bool {
    files.iter().any(|known| Arc::ptr_eq(known, file))
}

impl Inner {
    pub(super) fn gather(&mut self, id: TopicIdPartition, covers: Offset, awaited: bool) {
        self.gathering.add_file(&self.active.slot.file);
        self.gathering.covered.insert(id, covers);
        self.gathering.awaited |= awaited;
    }

    /// Whether frames of the file wait for a flush, or are being flushed.
    pub(super) fn is_unflushed(&self, file: &Arc<dyn File>) -> bool {
        holds(&self.gathering.files, file) || holds(&self.syncing, file)
    }
}

impl Journal {
    /// Takes what has gathered since the last flush began; `None` when there is nothing, or, with `only_awaited`, nobody waits. A group
    /// must be synced before the next is begun.
    pub(crate) fn begin_flush(&self, only_awaited: bool) -> Option<Group> {
        let mut inner = self.inner.lock();
        let has_mark = inner.stage.as_ref().is_some_and(|stage| stage.has_news());
        let is_empty = inner.gathering.files.is_empty() && !has_mark;
        if is_empty || (only_awaited && !inner.gathering.awaited) {
            return None;
        }
        let gathered = std::mem::take(&mut inner.gathering);
        inner.syncing.clone_from(&gathered.files);
        if inner.syncing.is_empty() {
            let active = Arc::clone(&inner.active.slot.file);
            inner.syncing.push(active);
        }
        Some(Group {
            covered: gathered.covered,
            files: gathered.files,
            pieces: inner.stage.as_mut().map(|stage| stage.take()).unwrap_or_default(),
            sync_dir: std::mem::take(&mut inner.dir_unsynced),
            position: inner.position,
        })
    }

    /// Makes a group durable. After an error nothing in this journal may be relied on.
    pub(crate) fn sync(&self, group: &mut Group) -> io::Result<()> {
        let synced = self.write_and_sync(group);
        let mut inner = self.inner.lock();
        inner.syncing.clear();
        self.synced.notify_all();
        if let Some(stage) = &mut inner.stage {
            stage.bring_back(std::mem::take(&mut group.pieces));
        }
        synced?;
        if group.files.is_empty() {
            return Ok(());
        }
        inner.durable_position = inner.durable_position.max(group.position);
        inner.mark()
    }

    fn write_and_sync(&self, group: &mut Group) -> io::Result<()> {
        group.pieces.iter_mut().try_for_each(Piece::write)?;
        group.files.iter().try_for_each(|file| file.sync_data())?;
        if group.sync_dir { self.fs.sync_dir(&self.dir) } else { Ok(()) }
    }
}

impl Inner {
    /// Notes how far the stream is durable, unless frames that are under way do. Without it, damage to the last flushed frames would look
    /// like the torn end of a write. Nobody waits for the mark itself to be durable.
    fn mark(&mut self) -> io::Result<()> {
        let bytes = frame::frame_bytes(0, 0);
        if !self.gathering.files.is_empty() || self.active_left() < bytes {
            return Ok(());
        }
        let (position, durable) = (self.position, self.durable_position);
        let mut mark = bytes::BytesMut::new();
        frame::encode(&mut mark, MARK, self.active.number, position, durable, &[]);
        self.put([&mark, &[], &[], &[]])
    }
}
