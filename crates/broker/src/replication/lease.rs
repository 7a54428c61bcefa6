//! The broker's lease with the controller, for every thread to look at (R11).
//!
//! Heartbeats confirm it; each partition asks for it as it is entered, so that its end needs no timer and reaches all of them at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_replication_core::ControllerLease;
use thalweg_types::Moment;

#[derive(Debug)]
pub(crate) struct Lease {
    rule: Mutex<ControllerLease>,
    /// The rule's deadline in milliseconds; 0 before the first confirmation.
    ends_at: AtomicU64,
}

impl Lease {
    /// `return_timeout`: how long the controller waits for a broker whose stream has ended.
    pub(crate) fn new(session_timeout: Duration, return_timeout: Duration) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let rule = ControllerLease::new(ms(session_timeout), ms(return_timeout));
        Self { rule: Mutex::new(rule), ends_at: AtomicU64::new(0) }
    }

    /// A heartbeat sent at `sent_at` was answered with success.
    pub(crate) fn confirm(&self, sent_at: Moment) {
        self.change(|rule| rule.confirm(sent_at));
    }

    /// What holds the session ended at `at`, and no controller tells anything.
    pub(crate) fn doubt(&self, at: Moment) {
        self.change(|rule| rule.doubt(at));
    }

    /// There is contact again.
    pub(crate) fn reassure(&self) {
        self.change(ControllerLease::reassure);
    }

    fn change(&self, change: impl FnOnce(&mut ControllerLease)) {
        let mut rule = self.rule.lock();
        change(&mut rule);
        let ends_at = rule.deadline().map_or(0, |at| at.0);
        self.ends_at.store(ends_at, Ordering::Release);
    }

    pub(crate) fn is_valid(&self, now: Moment) -> bool {
        now.0 < self.ends_at.load(Ordering::Acquire)
    }

    /// When it ends unless it is confirmed again; `None` before the first time.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.rule.lock().deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_sees_what_the_rule_says() {
        let lease = Lease::new(Duration::from_secs(8), Duration::from_secs(1));
        assert!(!lease.is_valid(Moment(0)), "never confirmed");
        lease.confirm(Moment(1_000));
        assert!(lease.is_valid(Moment(6_999)) && !lease.is_valid(Moment(7_000)));
        assert_eq!(lease.deadline(), Some(Moment(7_000)));
        lease.doubt(Moment(2_000));
        assert!(lease.is_valid(Moment(2_749)) && !lease.is_valid(Moment(2_750)));
        lease.reassure();
        assert!(lease.is_valid(Moment(2_750)));
    }
}
