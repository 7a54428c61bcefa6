//! Positions in logs.

use std::fmt;

/// Position of a record in a partition log; as an end, the position the next record will get. Starts at 0, dense, never reused
/// below the high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    pub const ZERO: Self = Self(0);
    /// "None" on the wire.
    pub const NONE: Self = Self(-1);
    pub const MAX: Self = Self(i64::MAX);

    /// This position moved by `records`, or `None` past the end of the number space.
    #[must_use]
    pub fn checked_add(self, records: i64) -> Option<Self> {
        self.0.checked_add(records).map(Self)
    }

    /// Records from `earlier` to here; negative when `earlier` is later.
    #[must_use]
    pub fn records_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of an entry in the metadata log. Starts at 1; 0 is before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogIndex(pub u64);

impl LogIndex {
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
