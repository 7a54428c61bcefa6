//! What the core wants done, and when it is asked.

use thalweg_types::{Moment, Timestamp};

use crate::record::Record;
use crate::response::Response;

/// Names one call from its arrival to its answer; given by the shell, never given twice to one [`Groups`](crate::Groups).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The time of a call, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub moment: Moment,
    /// For what is stored: commit times and since when a group is empty.
    pub wall: Timestamp,
}

/// What follows from one call. The state has already changed accordingly.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// To be appended in this order; together where they fit into one batch, and those that have to do fit.
    pub records: Vec<Record>,
    /// May leave when `records` and all records of earlier effects are committed.
    pub answers: Vec<(Token, Response)>,
}

impl Effects {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty()
    }
}
