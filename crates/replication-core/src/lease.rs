//! R11: how long a broker may believe that the controller still counts it as alive.
//!
//! A leader that cannot reach the controller may have been replaced. It cannot commit anything, but it could acknowledge `acks=1` and
//! answer readers with what is no longer true. So it stops on its own, and does so before the controller gives up on it. This bounds
//! staleness; no rule of safety depends on it.

use thalweg_types::Moment;

/// Part of the session timeout after which a broker without contact fences itself, in percent: the rest is for heartbeats under way
/// and for clocks that do not run alike.
const TRUSTED_PERCENT: u64 = 75;

/// One broker's contact with the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerLease {
    trusted_ms: u64,
    /// When the last heartbeat that succeeded was sent; `None` before the first.
    confirmed_at: Option<Moment>,
}

impl ControllerLease {
    pub fn new(session_timeout_ms: u64) -> Self {
        let trusted_ms = session_timeout_ms.saturating_mul(TRUSTED_PERCENT) / 100;
        Self { trusted_ms, confirmed_at: None }
    }

    /// A heartbeat sent at `sent_at` was answered with success. The moment of sending counts: the controller's own clock started after it.
    pub fn confirm(&mut self, sent_at: Moment) {
        self.confirmed_at = self.confirmed_at.max(Some(sent_at));
    }

    pub fn is_valid(&self, now: Moment) -> bool {
        self.confirmed_at.is_some_and(|at| now.ms_since(at) < self.trusted_ms)
    }

    /// When it ends unless it is confirmed again.
    pub fn deadline(&self) -> Option<Moment> {
        self.confirmed_at.map(|at| at.saturating_add_ms(self.trusted_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_three_quarters_of_a_session_after_the_last_heartbeat_was_sent() {
        let mut lease = ControllerLease::new(8_000);
        assert!(!lease.is_valid(Moment(0)), "never confirmed");
        lease.confirm(Moment(1_000));
        lease.confirm(Moment(500));
        assert!(lease.is_valid(Moment(6_999)));
        assert!(!lease.is_valid(Moment(7_000)));
        assert_eq!(lease.deadline(), Some(Moment(7_000)));
    }
}
