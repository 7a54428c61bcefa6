//! When an append may go ahead: room in the journal and the tail, first come first served.
//!
//! Storage never blocks an append, and never exceeds its bounds either; so whoever appends asks for room first. As long as there is
//! room this costs two loads. When there is none, producers queue up in the order in which they asked (their requests' order on one
//! connection is the order of their records), and the queue moves as the segment writer makes room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thalweg_storage::LogDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::error::AppendError;
use crate::log_events::LogEvents;

#[derive(Debug)]
pub(crate) struct Admission {
    log_dir: Arc<LogDir>,
    /// Producers in the slow path. While there is any, nobody takes the fast one: that would be overtaking.
    queued: AtomicUsize,
    turn: Mutex<()>,
    events: Arc<LogEvents>,
    patience: Duration,
}

/// Leave to append now. Must be dropped before anything is awaited.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    _turn: Option<MutexGuard<'a, ()>>,
    _queued: Option<Queued<'a>>,
}

#[derive(Debug)]
struct Queued<'a>(&'a AtomicUsize);

impl Admission {
    /// `patience` bounds how long a producer waits for room before it is refused.
    pub(crate) fn new(log_dir: Arc<LogDir>, events: Arc<LogEvents>, patience: Duration) -> Self {
        Self { log_dir, queued: AtomicUsize::new(0), turn: Mutex::new(()), events, patience }
    }

    /// Returns at once, without yielding, while there is room and nobody waits.
    ///
    /// # Errors
    ///
    /// [`AppendError::NoRoom`] when the wait outlasted the patience. Nothing was appended.
    pub(crate) async fn enter(&self) -> Result<Permit<'_>, AppendError> {
        if self.queued.load(Ordering::Acquire) == 0 && self.log_dir.room() {
            return Ok(Permit { _turn: None, _queued: None });
        }
        self.queued.fetch_add(1, Ordering::AcqRel);
        let queued = Queued(&self.queued);
        let deadline = Instant::now() + self.patience;
        // Tokio's mutex is fair: turns come in the order of asking.
        let turn = timeout_at(deadline, self.turn.lock()).await.map_err(|_| AppendError::NoRoom)?;
        loop {
            let room_available = self.events.room_available.notified();
            // A failed directory never has room again, and a full disk not before somebody frees some; the append says so at once.
            let is_hopeless = self.events.log_dir_failed() || self.log_dir.disk_space().is_low;
            if is_hopeless || self.log_dir.room() {
                return Ok(Permit { _turn: Some(turn), _queued: Some(queued) });
            }
            timeout_at(deadline, room_available).await.map_err(|_| AppendError::NoRoom)?;
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
