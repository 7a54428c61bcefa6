//! Time as an argument: what the wall says, and how much time has passed.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use thalweg_types::Timestamp;

/// The machine's two clocks.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall-clock time; may jump either way.
    fn now(&self) -> Timestamp;

    /// Nanoseconds since an arbitrary start; never goes back. For measuring and for deadlines.
    fn monotonic_ns(&self) -> u64;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

/// Clocks that stand still until a test moves them.
#[derive(Debug, Default)]
pub struct SimClock {
    now_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl SimClock {
    pub fn new(now: Timestamp) -> Self {
        Self { now_ms: AtomicI64::new(now.0), monotonic_ns: AtomicU64::new(0) }
    }

    /// Lets `ms` milliseconds pass on both clocks.
    pub fn advance_ms(&self, ms: u32) {
        self.now_ms.fetch_add(i64::from(ms), Ordering::Relaxed);
        self.monotonic_ns.fetch_add(u64::from(ms) * 1_000_000, Ordering::Relaxed);
    }

    /// Makes the wall clock jump, as an operator or a time server would; the monotonic clock does not notice.
    pub fn jump_to(&self, now: Timestamp) {
        self.now_ms.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_ms.load(Ordering::Relaxed))
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_jump_leaves_the_monotonic_clock_alone() {
        let clock = SimClock::new(Timestamp(1_000));
        clock.advance_ms(5);
        clock.jump_to(Timestamp(10));
        assert_eq!((clock.now(), clock.monotonic_ns()), (Timestamp(10), 5_000_000));
    }

    #[test]
    fn the_system_clock_is_past_the_year_2020_and_runs_forwards() {
        let clock = SystemClock::new();
        let before = clock.monotonic_ns();
        assert!(clock.now() > Timestamp(1_577_836_800_000));
        assert!(clock.monotonic_ns() >= before);
    }
}
