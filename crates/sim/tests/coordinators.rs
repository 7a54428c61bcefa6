//! Runs with coordinators: whatever befalls them, the brokers and the controllers, what they tell is one history.

#![expect(clippy::print_stdout, reason = "the figures of a run are part of its result")]

use std::time::Instant;

use thalweg_invariants::Mutant;
use thalweg_sim::{Totals, run_coordinated_seed, seeds_to_find};

/// What a run should reach, and in which time; so many always.
const SEEDS: u64 = 150;
const SECONDS_MAX: u64 = 60;
const SEEDS_FLOOR: u64 = 15;

#[test]
fn what_coordinators_tell_is_one_history() {
    #[expect(clippy::disallowed_methods, reason = "what a run costs is real time")]
    let began = Instant::now();
    let mut totals = Totals::default();
    for seed in 1..=SEEDS {
        if began.elapsed().as_secs() > SECONDS_MAX && totals.seeds >= SEEDS_FLOOR {
            break;
        }
        let report = run_coordinated_seed(seed, false);
        totals.add(&report);
        let again = format!("thalweg-sim replay {seed} --coordinated --trace");
        assert_eq!(report.violation, None, "{again}");
    }
    println!("{totals}\n{:.1} s", began.elapsed().as_secs_f64());
    assert!(totals.coordinated > 50 * totals.seeds, "hardly anything was answered");
}

#[test]
fn the_same_seed_with_coordinators_is_the_same_run() {
    let (one, other) = (run_coordinated_seed(7, false), run_coordinated_seed(7, false));
    assert_eq!((one.trace_hash, one.coordinated), (other.trace_hash, other.coordinated));
}

#[test]
fn a_coordinator_that_serves_too_early_is_found_out() {
    let found = seeds_to_find(Mutant::M14, 60);
    println!("M14: {found:?}");
    assert!(found.is_some(), "not found");
}
