//! The simulated network: links that delay, lose, are cut one way or both, or slow.
//!
//! Single messages may overtake each other, and calls may be repeated. A stream keeps its order; where a message of it would be lost the
//! stream breaks instead, and both ends notice, each in its own time. A link may be held: nothing is lost, and all of it comes later.

use crate::message::{HOSTS, Host};
use crate::rng::Rng;

/// Microseconds since the run began.
pub(crate) type Time = u64;

pub(crate) const MS: Time = 1_000;
pub(crate) const SECOND: Time = 1_000_000;

#[derive(Debug)]
pub(crate) struct Network {
    cut: [[bool; HOSTS]; HOSTS],
    slow: [[bool; HOSTS]; HOSTS],
    /// Messages lost, of 1,000.
    pub(crate) loss: u64,
    /// Messages delayed for long, of 1,000.
    pub(crate) spikes: u64,
    /// Calls sent twice, of 1,000.
    pub(crate) repeats: u64,
    held: [[bool; HOSTS]; HOSTS],
    rng: Rng,
    repeats_rng: Rng,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let none = [[false; HOSTS]; HOSTS];
        Self {
            cut: none,
            slow: none,
            loss: 0,
            spikes: 5,
            repeats: 0,
            held: none,
            rng: Rng::new(seed, "network"),
            repeats_rng: Rng::new(seed, "repeats"),
        }
    }

    pub(crate) fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cut[from][to]
    }

    pub(crate) fn cut(&mut self, from: Host, to: Host) {
        self.cut[from][to] = from != to;
    }

    /// Cuts `host` off from everybody in both directions.
    pub(crate) fn isolate(&mut self, host: Host) {
        for other in 0..HOSTS {
            self.cut(host, other);
            self.cut(other, host);
        }
    }

    /// Cuts every link between the two groups.
    pub(crate) fn split(&mut self, a: &[Host], b: &[Host]) {
        for (one, other) in a.iter().flat_map(|one| b.iter().map(move |other| (*one, *other))) {
            self.cut(one, other);
            self.cut(other, one);
        }
    }

    pub(crate) fn slow_down(&mut self, host: Host) {
        for other in 0..HOSTS {
            self.slow[host][other] = true;
            self.slow[other][host] = true;
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut = [[false; HOSTS]; HOSTS];
        self.slow = [[false; HOSTS]; HOSTS];
        self.loss = 0;
        self.spikes = 2;
        self.repeats = 0;
    }

    pub(crate) fn is_held(&self, from: Host, to: Host) -> bool {
        self.held[from][to]
    }

    pub(crate) fn set_held(&mut self, from: Host, to: Host, is_held: bool) {
        self.held[from][to] = is_held;
    }

    /// Whether this call is sent twice.
    pub(crate) fn is_repeated(&mut self) -> bool {
        self.repeats > 0 && self.repeats_rng.chance(self.repeats)
    }

    /// How long a message is under way; `None` when it never arrives.
    pub(crate) fn route(&mut self, from: Host, to: Host) -> Option<Time> {
        let draw = self.rng.next();
        let is_lost = draw % 1_000 < self.loss;
        let is_spike = (draw >> 20) % 1_000 < self.spikes;
        let base = 200 + (draw >> 40) % 1_800;
        let spike = if is_spike { self.rng.between(20 * MS, 900 * MS) } else { 0 };
        let slow = if self.slow[from][to] { self.rng.between(50 * MS, 400 * MS) } else { 0 };
        (!is_lost && !self.cut[from][to]).then_some(base + spike + slow)
    }

    /// How long one end of a broken stream takes to notice.
    pub(crate) fn notice(&mut self) -> Time {
        self.rng.between(2 * MS, 1_500 * MS)
    }
}
