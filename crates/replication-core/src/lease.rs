//! R11: how long a broker may believe that the controller still counts it as alive.
//!
//! A leader that cannot reach the controller may have been replaced. It cannot commit anything, but it could acknowledge `acks=1` and
//! answer readers with what is no longer true. So it stops on its own, and does so before the controller gives up on it. This bounds
//! staleness; no rule of safety depends on it.
//!
//! The controller gives up sooner on a broker that seems to have died, because the stream by which it holds its session has ended. A broker
//! that sees that end, and hears nothing of any controller, trusts its lease no longer than that either.

use thalweg_types::Moment;

/// Part of the session timeout after which a broker without contact fences itself, in percent: the rest is for heartbeats under way
/// and for clocks that do not run alike.
const TRUSTED_PERCENT: u64 = 75;

/// One broker's contact with the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerLease {
    trusted_ms: u64,
    doubted_ms: u64,
    /// When the last heartbeat that succeeded was sent; `None` before the first.
    confirmed_at: Option<Moment>,
    /// When contact broke off, if it has not been made again.
    doubted_at: Option<Moment>,
}

impl ControllerLease {
    /// `return_ms`: how long the controller waits for a broker whose stream has ended.
    pub fn new(session_timeout_ms: u64, return_ms: u64) -> Self {
        let part_of = |ms: u64| ms.saturating_mul(TRUSTED_PERCENT) / 100;
        let (trusted_ms, doubted_ms) = (part_of(session_timeout_ms), part_of(return_ms));
        Self { trusted_ms, doubted_ms, confirmed_at: None, doubted_at: None }
    }

    /// A heartbeat sent at `sent_at` was answered with success. The moment of sending counts: the controller's own clock started after it.
    pub fn confirm(&mut self, sent_at: Moment) {
        self.confirmed_at = self.confirmed_at.max(Some(sent_at));
        // One that was under way when contact broke off says nothing about the time since.
        self.doubted_at = self.doubted_at.filter(|at| *at > sent_at);
    }

    /// Contact broke off at `at`: what held the session has ended, and no controller tells anything. The first time counts, and nothing
    /// before a heartbeat that succeeded.
    pub fn doubt(&mut self, at: Moment) {
        if self.confirmed_at.is_none_or(|confirmed_at| confirmed_at < at) {
            self.doubted_at.get_or_insert(at);
        }
    }

    /// There is contact again.
    pub fn reassure(&mut self) {
        self.doubted_at = None;
    }

    pub fn is_valid(&self, now: Moment) -> bool {
        self.deadline().is_some_and(|at| now < at)
    }

    /// When it ends unless it is confirmed again.
    pub fn deadline(&self) -> Option<Moment> {
        let ends_at = self.confirmed_at?.saturating_add_ms(self.trusted_ms);
        let doubted = self.doubted_at.map(|at| at.saturating_add_ms(self.doubted_ms));
        Some(doubted.map_or(ends_at, |doubted| doubted.min(ends_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_three_quarters_of_a_session_after_the_last_heartbeat_was_sent() {
        let mut lease = ControllerLease::new(8_000, 1_000);
        assert!(!lease.is_valid(Moment(0)), "never confirmed");
        lease.confirm(Moment(1_000));
        lease.confirm(Moment(500));
        assert!(lease.is_valid(Moment(6_999)));
        assert!(!lease.is_valid(Moment(7_000)));
        assert_eq!(lease.deadline(), Some(Moment(7_000)));
    }

    #[test]
    fn a_lease_in_doubt_ends_before_the_controller_gives_up_on_who_let_go() {
        let mut lease = ControllerLease::new(8_000, 1_000);
        lease.doubt(Moment(100));
        assert!(!lease.is_valid(Moment(100)), "doubt confirms nothing");
        lease.confirm(Moment(1_000));
        assert_eq!(lease.deadline(), Some(Moment(7_000)));
        lease.doubt(Moment(2_000));
        lease.doubt(Moment(2_700));
        assert_eq!(lease.deadline(), Some(Moment(2_750)), "the first time counts");
        lease.confirm(Moment(1_999));
        assert_eq!(lease.deadline(), Some(Moment(2_750)), "it was sent before");
        lease.confirm(Moment(2_000));
        assert_eq!(lease.deadline(), Some(Moment(8_000)));
        lease.doubt(Moment(2_000));
        assert_eq!(lease.deadline(), Some(Moment(8_000)), "it was heard of since");
        lease.doubt(Moment(3_000));
        lease.reassure();
        assert_eq!(lease.deadline(), Some(Moment(8_000)));
        lease.doubt(Moment(7_900));
        assert_eq!(lease.deadline(), Some(Moment(8_000)), "doubt gives nobody more time");
    }
}
