//! What storage tells the broker: flushed, room again, disk full, failed.
//!
//! Called on storage's own threads, once per partition and group commit. Each call only moves positions and wakes tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thalweg_storage::{DirFailed, Log, LogObserver};
use thalweg_types::Offset;
use tokio::sync::{Notify, watch};

use crate::hosting::Hosted;
use crate::partition::AckError;

/// Handed to [`thalweg_storage::LogDir::open`] before there is a broker, and to the broker afterwards.
#[derive(Debug, Default)]
pub struct LogEvents {
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) room_available: Notify,
    disk_low: watch::Sender<bool>,
    failed: AtomicBool,
}

impl LogEvents {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether the disk has less left than the reserve, as it changes.
    pub(crate) fn disk_low(&self) -> watch::Receiver<bool> {
        self.disk_low.subscribe()
    }

    /// Whether a write or flush has failed. Nothing is acknowledged any more in this process's life (D1).
    pub fn log_dir_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl LogObserver for LogEvents {
    fn flushed(&self, log: &Arc<Log>, _durable_end: Offset) {
        if let Some(partition) = self.hosted.get(log.id()) {
            partition.flushed();
        }
    }

    fn disk_space_changed(&self, is_low: bool) {
        self.disk_low.send_replace(is_low);
        // Whoever waits for room hears the refusal now.
        self.room_available.notify_one();
    }

    fn room_available(&self) {
        self.room_available.notify_one();
    }

    fn failed(&self, error: &DirFailed) {
        tracing::error!(%error, "log directory failed; nothing will be acknowledged until a restart");
        self.failed.store(true, Ordering::Release);
        for partition in self.hosted.all() {
            partition.fail_waiters(AckError::LogDirFailed);
            partition.handle_log_dir_failed();
        }
        self.room_available.notify_one();
    }
}
