//! `thalweg-model`: goes through scopes, with a planted bug or without, and says what there is in them.

#![expect(clippy::print_stdout, reason = "what was found is the result")]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use thalweg_invariants::Mutant;
use thalweg_model::{QUICK, Scope, THOROUGH, explore, named};

/// Goes through every state that the partition protocol can reach within bounds.
#[derive(Debug, Parser)]
struct Arguments {
    /// One scope; all of them without a name.
    scope: Option<String>,
    /// A bug to plant: M1, M2, ...
    #[arg(long)]
    bug: Option<String>,
    /// Steps after which a scope is given up.
    #[arg(long, default_value_t = 100_000_000)]
    steps_max: usize,
}

fn main() -> ExitCode {
    // A broken invariant is reported with the steps that lead to it.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = Arguments::parse();
    let scopes: Vec<&Scope> = match &arguments.scope {
        Some(name) => named(name).into_iter().collect(),
        None => QUICK.iter().chain(THOROUGH).collect(),
    };
    let bug = arguments.bug.as_ref().map(|name| (name, bug_named(name)));
    if scopes.is_empty() || matches!(bug, Some((_, None))) {
        println!("there is no such scope or no such bug");
        return ExitCode::from(2);
    }
    let bug = bug.and_then(|(_, bug)| bug);
    let mut all_sound = true;
    for scope in scopes {
        all_sound &= is_sound(scope, bug, arguments.steps_max);
    }
    if all_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bug_named(name: &str) -> Option<Mutant> {
    Mutant::ALL.iter().copied().find(|mutant| mutant.name().eq_ignore_ascii_case(name))
}

/// Goes through one scope and says what is in it.
fn is_sound(scope: &Scope, bug: Option<Mutant>, steps_max: usize) -> bool {
    #[expect(clippy::disallowed_methods, reason = "how long it takes is real time")]
    let began = Instant::now();
    let found = explore(*scope, bug, steps_max);
    let seconds = began.elapsed().as_secs_f64();
    println!("{}: {found}, {seconds:.1} s", scope.name);
    for missed in found.missed(scope) {
        println!("    never seen: {missed}");
    }
    found.is_sound(scope)
}
