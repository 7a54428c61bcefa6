//! Damage that readers met: which places of which segments cannot be served.
//!
//! A batch whose bytes on disk are not what was written there is never given out (D2), and its log is *suspect* from then on: one line in
//! the server's log per place, not per reader, and a figure for operators. What is whole before and behind the place goes on being
//! served, and so do appends: what is acknowledged now is whole, durable and readable at its offset, and does not depend on older
//! batches. Refusing it would add the loss of service to that of a batch. With other replicas this is for the broker to act on: it can
//! have the range repaired, or resign.
//!
//! Nothing of it is written down. The damage itself is on the disk, where the next reader meets it again and `thalweg log verify` finds it
//! without one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::ReadError;

/// Places remembered; a disk that has more is beyond telling them apart.
const PLACES_MAX: usize = 1024;

/// A place that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub position: u64,
    pub reason: String,
}

/// What was met so far in one log dir.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    places: Mutex<BTreeMap<(PathBuf, u64), String>>,
}

impl Damages {
    /// Remembers what a reader met, and says so the first time.
    pub(crate) fn met(&self, error: &ReadError) {
        let ReadError::Corrupt { path, position, reason } = error else { return };
        let mut places = self.places.lock();
        let place = (path.clone(), *position);
        if places.len() >= PLACES_MAX || places.contains_key(&place) {
            return;
        }
        tracing::error!(
            path = %path.display(), position, %reason,
            "a batch is damaged on disk and not served; what is before and behind it is. `thalweg log verify` shows the extent"
        );
        places.insert(place, reason.clone());
    }

    /// The file is gone, and its damage with it.
    pub(crate) fn forget(&self, file: &Path) {
        self.places.lock().retain(|(path, _), _| path != file);
    }

    /// The folder is gone.
    pub(crate) fn forget_folder(&self, folder: &Path) {
        self.places.lock().retain(|(path, _), _| !path.starts_with(folder));
    }

    pub(crate) fn all(&self) -> Vec<Damage> {
        let places = self.places.lock();
        let damage = |((path, position), reason): (&(PathBuf, u64), &String)| Damage {
            path: path.clone(),
            position: *position,
            reason: reason.clone(),
        };
        places.iter().map(damage).collect()
    }
}
