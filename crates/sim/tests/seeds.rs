//! Runs of the simulated cluster: thousands of seeds, named scripts, planted bugs, and the same seed twice.

#![expect(clippy::print_stdout, reason = "the figures of a run are part of its result")]

use std::time::Instant;

use thalweg_invariants::Mutant;
use thalweg_sim::{Named, Totals, run_named, run_seed, seeds_to_find};

/// Seeds that failed once.
const REGRESSIONS: &[u64] = &[
    1, 12, 14, 16, 17, 23, 47, 142, 158, 178, 230, 2550, 2912, 101495, 101848, 107683, 109926,
    111550, 111657,
];

/// At least so many, and so much simulated time.
const SEEDS_MIN: u64 = 2_000;
const HOURS_MIN: f64 = 50.0;

/// A machine that is too slow for all of them runs as many as it can in this time.
const SECONDS_MAX: u64 = 600;

#[test]
fn thousands_of_seeds_lose_nothing() {
    #[expect(clippy::disallowed_methods, reason = "what a run costs is real time")]
    let began = Instant::now();
    let mut totals = Totals::default();
    for seed in REGRESSIONS.iter().copied().chain(2..300).chain(1_000..3_000) {
        let is_enough = totals.seeds >= SEEDS_MIN && totals.simulated_hours() >= HOURS_MIN;
        if is_enough || began.elapsed().as_secs() > SECONDS_MAX {
            break;
        }
        let report = run_seed(seed, false);
        totals.add(&report);
        assert_eq!(report.violation, None, "seed {seed}: thalweg-sim replay {seed} --trace");
    }
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure to be shown")]
    let rate = totals.seeds as f64 / seconds;
    println!("{totals}\n{rate:.1} seeds/s");
    let counts = totals.counts;
    assert_eq!((counts.lost, counts.duplicated, counts.reordered, counts.torn), (0, 0, 0, 0));
    assert!(counts.acknowledged > 1_000 * totals.seeds, "hardly anything was written");
    assert!(totals.faults > 20 * totals.seeds, "hardly anything went wrong");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 5_000..5_100 {
        let (first, second) = (run_seed(seed, false), run_seed(seed, false));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
    }
    assert_ne!(run_seed(1, false).trace_hash, run_seed(2, false).trace_hash);
}

#[test]
fn named_scripts_lose_nothing() {
    for named in Named::ALL {
        for seed in 1..=20 {
            let report = run_named(seed, *named, false);
            assert_eq!(report.violation, None, "{named:?} with seed {seed}");
            assert!(report.faults > 0 && report.counts.acknowledged > 100, "{named:?} {seed}");
        }
    }
}

/// Planted bugs that show within [`BUG_SEEDS_MAX`] seeds of the work load that is made for them.
const FOUND: &[Mutant] = &[
    Mutant::M6,
    Mutant::M8,
    Mutant::M9,
    Mutant::M10,
    Mutant::M11,
    Mutant::M18,
    Mutant::M19,
    Mutant::M23,
    Mutant::M24,
    Mutant::M25,
    Mutant::M26,
    Mutant::M28,
    Mutant::M30,
];

const BUG_SEEDS_MAX: u64 = 45;

#[test]
fn planted_bugs_are_found() {
    let mut missed = Vec::new();
    for bug in FOUND {
        match seeds_to_find(*bug, BUG_SEEDS_MAX) {
            Some((seeds, what)) => println!("{}: {seeds} seeds: {what}", bug.name()),
            None => missed.push(bug.name()),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
