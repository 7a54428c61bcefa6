//! Whether this thread runs a simulation of whole services, and the chance of one.
//!
//! A simulation runs every host on one thread, in an order that follows from a seed. What would bring in another order is asked here
//! first: libraries' randomness ([`entropy`]), and threads of our own, whose work is done in the caller's thread instead ([`is_on`]). The
//! product never begins one; for it both are constants but for a look at a thread-local.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::random::{OsRandom, Random, SeededRandom};

thread_local! {
    static CHANCE: RefCell<Option<SeededRandom>> = const { RefCell::new(None) };
}

/// A simulation on this thread, until it is dropped.
#[derive(Debug)]
#[must_use = "the simulation ends when this is dropped"]
pub struct Simulation {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Simulation {
    pub fn begin(seed: u64) -> Self {
        CHANCE.set(Some(SeededRandom::new(seed)));
        Self { _thread: PhantomData }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        CHANCE.set(None);
    }
}

/// Whether nothing may happen beside this thread.
pub fn is_on() -> bool {
    CHANCE.with_borrow(Option::is_some)
}

/// Random bits for whoever cannot be given a [`Random`]: of the simulation, or else of the operating system.
pub fn entropy() -> u64 {
    let simulated = CHANCE.with_borrow(|chance| chance.as_ref().map(Random::next_u64));
    simulated.unwrap_or_else(|| OsRandom.next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_chance_and_only_here() {
        let draw = |seed| {
            let _simulation = Simulation::begin(seed);
            assert!(is_on());
            let elsewhere = std::thread::spawn(is_on).join().expect("it only looks");
            assert!(!elsewhere);
            [entropy(), entropy()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(!is_on());
        assert_ne!(entropy(), entropy());
    }
}
