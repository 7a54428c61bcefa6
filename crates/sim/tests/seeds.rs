//! Runs of the simulated cluster: thousands of seeds, named scripts, planted bugs, and the same seed twice.

#![expect(clippy::print_stdout, reason = "the figures of a run are part of its result")]

use std::time::Instant;

use thalweg_invariants::Mutant;
use thalweg_sim::{Named, Totals, run_early_seed, run_named, run_seed, seeds_to_find};

/// Seeds that failed once, in the mix of then.
const EARLY_REGRESSIONS: &[u64] = &[
    1, 12, 14, 16, 17, 23, 47, 142, 158, 178, 230, 2550, 2912, 101_495, 101_848, 107_683, 109_926,
    111_550, 111_657, 116_151, 119_106, 124_157, 128_360, 131_799, 139_436, 133_963, 140_484,
    145_871,
];

/// Seeds that failed once, in today's mix.
const REGRESSIONS: &[u64] = &[681, 400_864, 405_775];

/// What a run should reach.
const SEEDS_MIN: u64 = 2_000;
const HOURS_MIN: f64 = 50.0;

/// In this time. A slower machine, or a busy one, says how far it got.
const SECONDS_MAX: u64 = 180;

/// So many always: less says that something is wrong with the simulator itself.
const SEEDS_FLOOR: u64 = 100;

#[test]
fn thousands_of_seeds_lose_nothing() {
    #[expect(clippy::disallowed_methods, reason = "what a run costs is real time")]
    let began = Instant::now();
    let mut totals = Totals::default();
    for seed in EARLY_REGRESSIONS {
        let report = run_early_seed(*seed, false);
        totals.add(&report);
        assert_eq!(report.violation, None, "thalweg-sim replay {seed} --early --trace");
    }
    for seed in REGRESSIONS.iter().copied().chain(10_000..) {
        let is_enough = totals.seeds >= SEEDS_MIN && totals.simulated_hours() >= HOURS_MIN;
        let is_late = began.elapsed().as_secs() > SECONDS_MAX && totals.seeds >= SEEDS_FLOOR;
        if is_enough || is_late {
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
    if totals.seeds < SEEDS_MIN || totals.simulated_hours() < HOURS_MIN {
        println!("not all of {SEEDS_MIN} seeds and {HOURS_MIN} hours in {SECONDS_MAX} s");
    }
    let counts = totals.counts;
    assert_eq!((counts.lost, counts.duplicated, counts.reordered, counts.torn), (0, 0, 0, 0));
    assert!(counts.acknowledged > 1_000 * totals.seeds, "hardly anything was written");
    assert!(counts.by_leader > 0 && totals.repeats > 0, "acks=1 and repeated calls were left out");
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
        for seed in 1..=10 {
            let report = run_named(seed, *named, false);
            assert_eq!(report.violation, None, "{} with seed {seed}", named.name());
            assert!(report.faults > 0 && report.counts.acknowledged > 100, "{named:?} {seed}");
        }
    }
}

/// Three times as many as the hardest of them took when this was written.
const BUG_SEEDS_MAX: u64 = 45;

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Mutant::ALL.iter().filter(|bug| !bug.is_of_coordinators()) {
        match seeds_to_find(*bug, BUG_SEEDS_MAX) {
            Some((seeds, what)) => println!("{}: {seeds} seeds: {what}", bug.name()),
            None => missed.push(bug.name()),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
