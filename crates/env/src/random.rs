//! Chance as an argument.

use std::fmt::Debug;

use parking_lot::Mutex;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng, TryRng};

/// A source of random bits, shared between threads.
pub trait Random: Debug + Send + Sync + 'static {
    fn next_u64(&self) -> u64;

    /// 128 random bits, enough for an identity.
    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// A number from 0 up to, not including, `bound`; 0 when the bound is 0. The bias is below `bound / 2^64`.
    fn below(&self, bound: u64) -> u64 {
        let scaled = (u128::from(self.next_u64()) * u128::from(bound)) >> 64;
        u64::try_from(scaled).expect("a product of two 64-bit numbers shifted by 64 fits")
    }
}

/// The operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsRandom;

/// A generator that gives the same sequence for the same seed.
#[derive(Debug)]
pub struct SeededRandom {
    generator: Mutex<StdRng>,
}

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        SysRng.try_next_u64().expect("the operating system always has randomness after boot")
    }
}

impl SeededRandom {
    pub fn new(seed: u64) -> Self {
        Self { generator: Mutex::new(StdRng::seed_from_u64(seed)) }
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        self.generator.lock().next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_sequences() {
        let (a, b, c) = (SeededRandom::new(7), SeededRandom::new(7), SeededRandom::new(8));
        let sequence =
            |random: &SeededRandom| (0..4).map(|_| random.next_u64()).collect::<Vec<_>>();
        let first = sequence(&a);
        assert_eq!(first, sequence(&b));
        assert_ne!(first, sequence(&c));
    }

    #[test]
    fn bounded_numbers_stay_below_their_bound() {
        let random = SeededRandom::new(1);
        assert!((0..1_000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
        assert_ne!(OsRandom.next_u128(), OsRandom.next_u128());
    }
}
