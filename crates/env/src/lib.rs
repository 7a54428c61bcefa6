//! The seams to the machine: clock, randomness and files, real and simulated.
//!
//! Everything that touches time, chance or a disk takes one of these traits, so that the same code runs on the real machine and
//! on a simulated one that loses power at a chosen write. The traits are synchronous: the threads that use them may block.

mod clock;
pub mod fs;
mod random;
pub mod simulation;

pub use clock::{Clock, SimClock, SystemClock};
pub use random::{OsRandom, Random, SeededRandom};
