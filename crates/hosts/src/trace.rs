//! What happened, in order: the same for the same seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    /// At the simulation's time, which hosts and the outside have in common.
    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        self.0.lock().push(format!("{:>7} {what}", now.as_millis()));
    }

    /// From outside of all hosts, where there is no current time.
    pub(crate) fn note_at(&self, now: std::time::Duration, what: impl std::fmt::Display) {
        self.0.lock().push(format!("{:>7} {what}", now.as_millis()));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

pub(crate) fn hash(lines: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    hasher.finish()
}
