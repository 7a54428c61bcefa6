//! How fast replicas that are catching up are pushed to: so many bytes a second, and never more than a second's worth at once.
//!
//! What was sent is paid for afterwards, so that a batch larger than the rate gets through: the next one waits for it. Replicas in sync pay
//! nothing and wait for nobody.

use thalweg_types::Moment;

/// Longest wait that is told: the rate may be another one by then.
const WAIT_MS_MAX: u64 = 1_000;

/// Bytes that may be sent, and since when that many.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Below 0: what is still to be paid for.
    left: i64,
    at: Moment,
}

impl Throttle {
    /// A rate at which nothing is held back.
    pub(crate) const UNLIMITED: u64 = i64::MAX.unsigned_abs();

    /// How many milliseconds to wait at `rate` bytes a second before anything is sent; 0: it may be sent now.
    pub(crate) fn wait_ms(&mut self, rate: u64, now: Moment) -> u64 {
        if rate >= Self::UNLIMITED {
            self.left = 0;
            self.at = now;
            return 0;
        }
        let second = i64::try_from(rate).unwrap_or(i64::MAX);
        let passed_ms = now.ms_since(self.at).min(3_600_000);
        let earned = u128::from(rate) * u128::from(passed_ms) / 1_000;
        if earned > 0 {
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.left = self.left.saturating_add(earned).min(second);
            self.at = now;
        }
        if self.left > 0 {
            return 0;
        }
        let missing = u128::from(self.left.unsigned_abs()) + 1;
        let wait = (missing * 1_000).checked_div(u128::from(rate)).unwrap_or(u128::MAX);
        u64::try_from(wait).unwrap_or(u64::MAX).clamp(1, WAIT_MS_MAX)
    }

    /// So much was sent.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends pieces as soon as it may, for so many milliseconds; returns the bytes sent.
    fn sent(rate: u64, piece: usize, ms: u64) -> u64 {
        let mut throttle = Throttle::default();
        let (mut now, mut sent) = (1_000, 0);
        throttle.wait_ms(rate, Moment(now));
        let end = now + ms;
        while now < end {
            match throttle.wait_ms(rate, Moment(now)) {
                0 => {
                    throttle.spend(piece);
                    sent += piece as u64;
                }
                wait => now += wait,
            }
        }
        sent
    }

    #[test]
    fn what_is_sent_keeps_to_the_rate_whatever_the_size_of_the_pieces() {
        for (rate, piece) in [(1_000_000, 1_000), (1_000_000, 256 << 10), (1_000, 700), (50_000, 1)]
        {
            let sent = sent(rate, piece, 20_000);
            // A second's worth may have been there to begin with, and the last piece is not paid for.
            let least = rate * 19;
            let most = rate * 21 + piece as u64;
            assert!((least..=most).contains(&sent), "{rate} of {piece}: {sent}");
        }
    }

    #[test]
    fn a_batch_larger_than_the_rate_gets_through_and_is_waited_for() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.wait_ms(100, Moment(10_000)), 0);
        throttle.spend(100 + 1_000);
        assert_eq!(throttle.wait_ms(100, Moment(10_000)), WAIT_MS_MAX);
        assert!(throttle.wait_ms(100, Moment(19_000)) > 0);
        assert_eq!(throttle.wait_ms(100, Moment(20_100)), 0);
    }

    #[test]
    fn nothing_passes_at_rate_0_and_everything_without_a_limit() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.wait_ms(0, Moment(5_000)), WAIT_MS_MAX);
        assert_eq!(throttle.wait_ms(Throttle::UNLIMITED, Moment(5_000)), 0);
        throttle.spend(usize::MAX);
        assert_eq!(throttle.wait_ms(Throttle::UNLIMITED, Moment(5_000)), 0);
    }
}
