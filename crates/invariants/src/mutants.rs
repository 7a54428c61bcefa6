//! Planted bugs: rules that a test can switch off, one at a time, to learn whether the tests would notice.
//!
//! [`mutant!`](crate::mutant) stands in the condition of the rule itself, so a planted bug is exactly the rule's absence:
//!
//! ```
//! use thalweg_invariants::{Mutant, mutant};
//! let (durable_end, epoch_start_offset) = (5, 7);
//! let may_join = durable_end >= epoch_start_offset || mutant!(Mutant::M1);
//! assert!(!may_join);
//! ```
//!
//! Without the feature `mutants`, which only dev-dependencies and the simulator switch on, the macro is the constant `false` and costs nothing.
//! With it, a [`Plant`] in force on this thread decides: cores run in their caller's thread, so tests do not see each other's bugs.

macro_rules! catalogue {
    ($($name:ident $meaning:literal,)+) => {
        /// A bug that can be planted. The names are those of the reliability chapter's table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $(#[doc = $meaning] $name,)+
        }

        impl Mutant {
            /// Every bug that code in this repository lets a test plant.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Whether it is a bug of coordinators: planted, and to be found, in the tests of `coordinator-runtime` and `group-core`, and not in
            /// the simulated cluster of brokers and controllers.
            pub fn is_of_coordinators(self) -> bool {
                matches!(self, Self::M14 | Self::M21)
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What is wrong while it is planted.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)+
                }
            }
        }
    };
}

catalogue! {
    M1 "A follower joins the in-sync replicas before it reached the start of the leader's epoch.",
    M2 "The high watermark waits for the committed in-sync replicas only, not for proposed ones.",
    M3 "Progress reported under an older leader epoch counts.",
    M4 "Broker epochs are not compared.",
    M5 "A proposal whose outcome is unknown is taken back.",
    M6 "A follower cuts its log to its high watermark before it follows.",
    M7 "A follower cuts to the leader's end of an epoch without regard to its own.",
    M8 "What is appended counts as durable before it is flushed.",
    M9 "A flush that failed is tried again, and its success believed.",
    M10 "The high watermark moves with fewer in-sync replicas than the minimum.",
    M11 "Eligible replicas survive a change of the minimum.",
    M12 "A replica stays eligible after an unclean restart.",
    M14 "A coordinator serves before it knows that it has read all there is, and that nobody else can write.",
    M18 "Recovery cuts at the first damage, even below what was flushed.",
    M19 "A producer snapshot is taken as it is, without the log after it.",
    M21 "The generation or member epoch of a call is not compared.",
    M23 "An election does not raise the leader epoch.",
    M24 "The removal of the clean-shutdown marker is not flushed.",
    M25 "An empty disk keeps the identity of the one it replaces.",
    M26 "A follower cuts below its high watermark when its leader says so.",
    M28 "The high watermark counts as the true one before it reached the start of the leader's epoch.",
    M29 "A topic that a snapshot does not mention is deleted.",
    M30 "A replica with damaged data stays eligible and leads.",
    M31 "A node whose stream to the controller has ended is fenced, though it is heard of again.",
}

/// Whether the given bug is planted on this thread: a rule's condition, or'ed or and'ed with its absence. Constant `false` in the
/// product.
#[macro_export]
macro_rules! mutant {
    ($mutant:expr) => {
        $crate::is_planted($mutant)
    };
}

/// A bug in force on this thread until this is dropped. Planting another one in the meantime replaces it.
#[cfg(feature = "mutants")]
#[derive(Debug)]
#[must_use = "the bug is taken out again when this is dropped"]
pub struct Plant {
    before: Option<Mutant>,
}

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    use super::{Mutant, Plant};

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Plant {
        pub fn new(mutant: Mutant) -> Self {
            Self { before: PLANTED.replace(Some(mutant)) }
        }
    }

    impl Drop for Plant {
        fn drop(&mut self) {
            PLANTED.set(self.before);
        }
    }

    #[doc(hidden)]
    pub fn is_planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use planted::is_planted;

#[cfg(not(feature = "mutants"))]
#[doc(hidden)]
pub const fn is_planted(_: Mutant) -> bool {
    false
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_in_force_on_its_own_thread_until_it_is_taken_out() {
        assert!(!mutant!(Mutant::M1));
        let plant = Plant::new(Mutant::M1);
        assert!(mutant!(Mutant::M1) && !mutant!(Mutant::M2));
        let elsewhere = std::thread::spawn(|| mutant!(Mutant::M1)).join().expect("it only looks");
        assert!(!elsewhere);
        drop(plant);
        assert!(!mutant!(Mutant::M1));
    }
}
