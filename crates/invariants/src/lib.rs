//! The named invariants, and the macro that checks them.
//!
//! One catalogue, used four times: specification, model, simulator and running system. A broken invariant is a bug in this project,
//! never bad input: input is refused with typed errors long before. [`check!`] therefore stops the process's current task at the
//! place where the lie is first seen, before it can reach a disk or a peer, in every build profile.
//!
//! The tests of the tests are here too: [`mutant!`] marks the place of a rule that a test can switch off, to see whether it is found out.

mod mutants;

pub use mutants::Mutant;
#[cfg(feature = "mutants")]
pub use mutants::Plant;
#[doc(hidden)]
pub use mutants::is_planted;

/// An invariant's name, as reports and the reliability chapter of ARCHITECTURE.md use it, and its meaning in one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invariant {
    pub id: &'static str,
    pub meaning: &'static str,
}

macro_rules! catalogue {
    ($($name:ident = $id:literal $meaning:literal,)+) => {
        $(#[doc = $meaning] pub const $name: Invariant = Invariant { id: $id, meaning: $meaning };)+

        /// Every invariant that code in this repository checks.
        pub const ALL: &[Invariant] = &[$($name),+];
    };
}

catalogue! {
    QUORUM_SUPERSET = "I5" "Whom a leader waits for includes everyone who may be elected after it.",
    HIGH_WATERMARK = "I6" "The high watermark never moves back under one leader and never passes the durable end.",
    EPOCHS = "I7" "Leader epochs never decrease along a log, and the epoch index agrees with the log.",
    OFFSETS = "I8" "Offsets are dense, strictly increasing, and never reused below the high watermark.",
    TRUNCATION = "I12" "A truncation leaves the log end at the cut, the durable end at or below it, and producer state equal to the log's.",
    ACK_DURABILITY = "I13" "An acknowledged record on an fsync topic is covered by a successful flush.",
    ISR_SANITY = "I15" "A leader is in sync; in-sync and eligible replicas are disjoint, assigned, and enough in-sync ones leave none eligible.",
    RETENTION = "I17" "Nothing at or above the high watermark is deleted, and the log start never moves back.",
    PRODUCER_STATE = "P3" "Producer state is a function of the log.",
    FAILED_FLUSH = "D1" "Nothing is acknowledged after a failed flush in the same process life.",
}

/// Panics with the invariant's id, its meaning and the given detail unless the condition holds.
///
/// ```
/// use thalweg_invariants::{OFFSETS, check};
/// let (next, last) = (5, 4);
/// check!(OFFSETS, next == last + 1, "next {next} after {last}");
/// ```
#[macro_export]
macro_rules! check {
    ($invariant:expr, $condition:expr, $($detail:tt)+) => {
        if !$condition {
            $crate::broken($invariant, format_args!($($detail)+));
        }
    };
}

#[doc(hidden)]
#[cold]
#[track_caller]
pub fn broken(invariant: Invariant, detail: std::fmt::Arguments<'_>) -> ! {
    panic!("invariant {} broken ({}): {detail}", invariant.id, invariant.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique() {
        for (position, invariant) in ALL.iter().enumerate() {
            assert!(
                ALL[..position].iter().all(|other| other.id != invariant.id),
                "{}",
                invariant.id
            );
        }
    }

    #[test]
    #[should_panic(expected = "invariant I8 broken")]
    fn a_broken_invariant_panics_with_its_id() {
        check!(OFFSETS, 1 > 2, "1 after 2");
    }
}
