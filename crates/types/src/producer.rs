//! Identity and order of an idempotent producer (KIP-98).

use std::fmt;

/// A producer's identity, given out by the controller in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// The batch is not from an idempotent producer.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Raised when a producer id is initialised again or fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a producer's record within one partition: 0 to `i32::MAX`, then 0 again. Not ordered, because it wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sequence(pub i32);

impl Sequence {
    /// The batch carries no sequence.
    pub const NONE: Self = Self(-1);
    pub const ZERO: Self = Self(0);

    /// The sequence `records` further on, wrapping past `i32::MAX` to 0. `records` must not be negative.
    #[must_use]
    pub fn advanced_by(self, records: i32) -> Self {
        let sum = i64::from(self.0) + i64::from(records);
        let wrapped = sum % (i64::from(i32::MAX) + 1);
        Self(i32::try_from(wrapped).expect("the remainder of 2^31 fits in i32"))
    }

    #[must_use]
    pub fn next(self) -> Self {
        self.advanced_by(1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_to_zero_after_the_largest() {
        assert_eq!(Sequence(i32::MAX).next(), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).advanced_by(4), Sequence(2));
        assert_eq!(Sequence(7).advanced_by(0), Sequence(7));
    }
}
