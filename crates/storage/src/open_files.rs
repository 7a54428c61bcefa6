//! How many segment files of a log dir are open at a time: the least recently used one is closed for the next.
//!
//! A closed file is opened again when it is needed. Files whose name is gone or means another file by now are *kept*: they cannot be opened
//! again, do not count, and close when their last reader lets go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use thalweg_env::fs::File;

use crate::damage::Damages;

/// The open files of one log dir.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    files_max: usize,
    uses: AtomicU64,
    /// What readers of these files met.
    pub(crate) damages: Damages,
    /// No lock of a place is held by who waits for this one.
    open: Mutex<Vec<Weak<Place>>>,
}

/// Where a segment has its file while that is open.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) file: Mutex<Option<Arc<dyn File>>>,
    /// Number of the last use; larger is later.
    used: AtomicU64,
    kept: AtomicBool,
}

impl Place {
    /// The file must not be closed any more: its name does not lead to it.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    fn counts(&self) -> bool {
        !self.kept.load(Ordering::Acquire) && self.file.lock().is_some()
    }
}

impl OpenFiles {
    pub(crate) fn new(files_max: usize) -> Self {
        Self {
            files_max: files_max.max(1),
            uses: AtomicU64::new(0),
            damages: Damages::default(),
            open: Mutex::default(),
        }
    }

    pub(crate) fn used(&self, place: &Place) {
        place.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A place got a file: closes others if that is one too many. The caller holds no place's lock.
    pub(crate) fn opened(&self, place: &Arc<Place>) {
        self.used(place);
        let mut open = self.open.lock();
        open.retain(|other| other.upgrade().is_some_and(|other| other.counts()));
        if !open.iter().any(|other| other.as_ptr() == Arc::as_ptr(place)) {
            open.push(Arc::downgrade(place));
        }
        while open.len() > self.files_max {
            let others = open.iter().enumerate();
            let others = others.filter(|(_, other)| other.as_ptr() != Arc::as_ptr(place));
            let last_used =
                |other: &Weak<Place>| other.upgrade().map(|o| o.used.load(Ordering::Relaxed));
            let oldest = others.min_by_key(|(_, other)| last_used(other));
            let Some((at, _)) = oldest else { return };
            let Some(oldest) = open.swap_remove(at).upgrade() else { continue };
            let mut file = oldest.file.lock();
            // Under the lock: whoever keeps a file does so before its name goes, and opens it again if need be.
            if !oldest.kept.load(Ordering::Acquire) {
                *file = None;
            }
        }
    }

    /// Files open now, without the kept ones.
    pub(crate) fn count(&self) -> usize {
        let open = self.open.lock();
        open.iter().filter(|place| place.upgrade().is_some_and(|place| place.counts())).count()
    }
}
