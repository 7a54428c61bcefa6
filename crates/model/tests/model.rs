//! Every state within the quick scopes, and planted bugs.

#![expect(clippy::print_stdout, reason = "how much was seen is part of the result")]

use std::panic;
use std::sync::Once;

use thalweg_invariants::Mutant;
use thalweg_model::{QUICK, explore, named};

/// Far beyond any of the scopes gone through here.
const STEPS_MAX: usize = 5_000_000;

/// All of them together.
const STATES_MIN: usize = 1_000_000;

/// The scope that was made for each bug.
const BUGS: &[(Mutant, &str)] = &[
    (Mutant::M1, "rejoin"),
    (Mutant::M2, "lag"),
    (Mutant::M3, "late-report"),
    (Mutant::M4, "loss"),
    (Mutant::M5, "answer"),
    (Mutant::M6, "reconnect"),
    (Mutant::M8, "records"),
    (Mutant::M10, "rejoin"),
    (Mutant::M11, "minimum"),
    (Mutant::M12, "loss-of-two"),
    (Mutant::M23, "failover"),
    (Mutant::M26, "lie"),
    (Mutant::M28, "failover"),
];

#[test]
fn no_state_within_the_scopes_breaks_an_invariant() {
    let mut states = 0;
    for scope in QUICK {
        let found = explore(*scope, None, STEPS_MAX);
        println!("{}: {found}", scope.name);
        assert!(found.is_sound(scope), "{}: {found}, not {:?}", scope.name, found.missed(scope));
        states += found.states;
    }
    println!("{states} states");
    assert!(states >= STATES_MIN, "only {states} states");
}

#[test]
fn planted_bugs_are_found() {
    silence_expected_panics();
    let mut missed = Vec::new();
    for (bug, name) in BUGS {
        let scope = named(name).expect("a scope");
        let found = explore(*scope, Some(*bug), STEPS_MAX);
        println!("{} in {name}: {found}", bug.name());
        if found.broken.is_empty() {
            missed.push(bug.name());
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn the_same_scope_is_the_same_states() {
    let scope = named("lie").expect("a scope");
    let (first, second) = (explore(*scope, None, STEPS_MAX), explore(*scope, None, STEPS_MAX));
    assert_eq!((first.states, first.steps), (second.states, second.steps));
    assert!(first.states > 10_000, "{first}");
}

/// A core that finds an invariant broken says so by a panic, and that is what is looked for here.
fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !panic.payload_as_str().is_some_and(|text| text.starts_with("invariant I")) {
                usual(panic);
            }
        }));
    });
}
