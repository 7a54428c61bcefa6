//! The clocks of a simulated host: both are the runtime's, which stands still while anything runs.

use thalweg_env::Clock;
use thalweg_types::Timestamp;
use tokio::time::Instant;

/// What the wall says when a host starts.
const WALL_MS: i64 = 1_700_000_000_000;

#[derive(Debug)]
pub(crate) struct HostClock {
    started: Instant,
}

impl HostClock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(WALL_MS.saturating_add(passed))
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
