//! Whole lives of one partition: four brokers and the real controller's decisions, with messages that are late, lost and repeated,
//! crashes, power loss, damage, and every change of registration that the rules know. One seed is one life.
//!
//! After every step the invariants I1 to I7, I12 and I13 are checked against what was ever committed; at the end everything heals, and the
//! partition must be whole again. The planted bugs show that the checks can fail.

mod cluster {
    pub(crate) mod broker;
    pub(crate) mod controller;
    pub(crate) mod log;
    pub(crate) mod network;
    pub(crate) mod oracle;
    pub(crate) mod random;
    pub(crate) mod world;
}

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use cluster::world::{Tally, World};
use thalweg_invariants::{Mutant, Plant};

/// Lives that every test run goes through.
const SEEDS: u64 = 1_500;
/// Lives after which a planted bug must have been found.
const SEEDS_TO_FIND_MAX: u64 = 1_500;
const STEPS: usize = 400;

thread_local! {
    /// A planted bug's panic is the expected outcome and not worth a message.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn no_life_breaks_an_invariant_and_every_one_heals() {
    let mut total = Tally::default();
    for seed in seeds() {
        total += World::live(seed, STEPS);
    }
    println!("{total:?}");
    assert!(total.committed > 10 * total.lives, "hardly anything was committed: {total:?}");
    assert!(total.healed * 100 > total.lives * 99, "too few lives could be healed: {total:?}");
    assert!(total.unclean_elections * 20 > total.lives, "hardly any was unclean: {total:?}");
}

/// `SEED=n` replays one.
#[expect(clippy::disallowed_methods, reason = "this is a test, not the core that it tests")]
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    }
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in 0..20 {
        assert_eq!(World::live(seed, STEPS), World::live(seed, STEPS));
    }
}

/// M3 and M4 need more lives than a test run has, and M26 a leader that lies: the tests of the rules show them.
#[test]
fn every_planted_bug_is_found() {
    silence_expected_panics();
    let mut missed = Vec::new();
    for mutant in [
        Mutant::M1,
        Mutant::M2,
        Mutant::M5,
        Mutant::M6,
        Mutant::M7,
        Mutant::M8,
        Mutant::M10,
        Mutant::M11,
        Mutant::M12,
        Mutant::M23,
        Mutant::M28,
        Mutant::M30,
    ] {
        match seeds_to_find(mutant) {
            Some((seeds, how)) => println!("{}: {seeds} seeds: {how}", mutant.name()),
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// How many lives it took, and what was seen.
fn seeds_to_find(mutant: Mutant) -> Option<(u64, String)> {
    let _plant = Plant::new(mutant);
    IS_QUIET.set(true);
    let found = (0..SEEDS_TO_FIND_MAX).find_map(|seed| {
        let life = catch_unwind(AssertUnwindSafe(|| World::live(seed, STEPS)));
        let panic = life.err()?;
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        Some((seed + 1, text.chars().take(100).collect()))
    });
    IS_QUIET.set(false);
    found
}

fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
}
