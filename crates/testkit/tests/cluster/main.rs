//! Clusters of real processes on loopback: how they come up, what they live through, what they refuse.

mod coordinators;
mod decommission;
mod load;
mod nearest;
mod quorum;
mod start;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: each has many processes, which would only be slow together.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
