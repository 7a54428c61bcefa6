//! Whether the process can do its work: named conditions, each with the reason when it does not hold.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Answers `Ok` when its condition holds, and otherwise says why not. Called for every request to `/readyz`: it must be quick and must
/// not block.
pub type Check = dyn Fn() -> Result<(), String> + Send + Sync;

type Named = (&'static str, Arc<Check>);

/// The conditions of readiness. All clones share one list. Without any condition the process is ready.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<Named>>>,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, or replaces the one of the same name.
    pub fn check(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        let check: Arc<Check> = Arc::new(check);
        let mut checks = self.checks.lock();
        match checks.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = check,
            None => checks.push((name, check)),
        }
    }

    /// Every condition with its present outcome, in the order they were added.
    pub fn report(&self) -> Vec<(&'static str, Result<(), String>)> {
        let checks = self.checks.lock().clone();
        checks.into_iter().map(|(name, check)| (name, check())).collect()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks.lock().iter().map(|(name, _)| name)).finish()
    }
}
