//! `thalweg-sim`: runs seeds, replays one, looks for planted bugs.

#![expect(clippy::print_stdout, reason = "this is a command-line tool")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thalweg_invariants::Mutant;
use thalweg_sim::{
    Named, Report, Totals, run_coordinated_seed, run_early_seed, run_named, run_seed, run_with_bug,
    seeds_to_find,
};

#[derive(Parser)]
#[command(about = "A simulated cluster: one seed is one run")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run seeds; those that fail are printed with what was broken.
    Run {
        /// How many; without it and without --seconds, 200.
        #[arg(long)]
        seeds: Option<u64>,
        /// For how long.
        #[arg(long)]
        seconds: Option<u64>,
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// With coordinators.
        #[arg(long)]
        coordinated: bool,
    },
    /// Run one seed, with everything that happens if asked.
    Replay {
        seed: u64,
        #[arg(long)]
        trace: bool,
        /// With this bug planted, in the work load made for it.
        #[arg(long)]
        bug: Option<String>,
        /// The script of this name instead of the random mix.
        #[arg(long)]
        script: Option<String>,
        /// In the mix of the first seeds.
        #[arg(long)]
        early: bool,
        /// With coordinators.
        #[arg(long)]
        coordinated: bool,
    },
    /// Play every named script.
    Scripts {
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
    },
    /// Plant every known bug in turn and say how many seeds it takes to find it.
    Mutants {
        #[arg(long, default_value_t = 500)]
        seeds: u64,
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
    },
}

fn main() -> ExitCode {
    // What a run finds is reported by the run; the default hook would print a panic of its own for each.
    std::panic::set_hook(Box::new(|_| {}));
    match Arguments::parse().command {
        Command::Run { seeds, seconds, from, coordinated } => {
            let one = if coordinated { run_coordinated_seed } else { run_seed };
            run(seeds, seconds, from, one)
        }
        Command::Replay { seed, trace, bug, script, early, coordinated } => {
            let bug = bug.and_then(|name| Mutant::ALL.iter().find(|bug| bug.name() == name));
            let script = script.and_then(|name| Named::ALL.iter().find(|s| s.name() == name));
            let report = match (bug, script) {
                (Some(bug), _) => run_with_bug(seed, *bug, trace),
                (None, Some(script)) => run_named(seed, *script, trace),
                (None, None) if early => run_early_seed(seed, trace),
                (None, None) if coordinated => run_coordinated_seed(seed, trace),
                (None, None) => run_seed(seed, trace),
            };
            println!("{report:#?}");
            ExitCode::from(u8::from(report.violation.is_some()))
        }
        Command::Scripts { seeds, only } => scripts(seeds, only.as_deref()),
        Command::Mutants { seeds, only } => mutants(seeds, only.as_deref()),
    }
}

#[expect(clippy::disallowed_methods, reason = "how long to run is real time; no run sees it")]
fn run(
    seeds: Option<u64>,
    seconds: Option<u64>,
    from: u64,
    one: fn(u64, bool) -> Report,
) -> ExitCode {
    let began = std::time::Instant::now();
    let count = seeds.unwrap_or_else(|| if seconds.is_some() { u64::MAX } else { 200 });
    let mut totals = Totals::default();
    let mut failed = 0_u64;
    for seed in (from..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        if seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds) {
            break;
        }
        let report = one(seed, false);
        totals.add(&report);
        if let Some(violation) = &report.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
        }
    }
    println!("{totals}");
    println!("{failed} seeds failed, {:.1} s", began.elapsed().as_secs_f64());
    ExitCode::from(u8::from(failed > 0))
}

fn scripts(seeds: u64, only: Option<&str>) -> ExitCode {
    let mut failed = 0_u64;
    for script in Named::ALL.iter().filter(|script| only.is_none_or(|only| only == script.name())) {
        let mut totals = Totals::default();
        for seed in 1..=seeds {
            let report = run_named(seed, *script, false);
            totals.add(&report);
            if let Some(violation) = &report.violation {
                failed += 1;
                println!("{} {seed}: {violation}", script.name());
            }
        }
        println!(
            "{}: {} faults, {} acknowledged",
            script.name(),
            totals.faults,
            totals.counts.acknowledged
        );
    }
    ExitCode::from(u8::from(failed > 0))
}

fn mutants(seeds: u64, only: Option<&str>) -> ExitCode {
    let mut missed = 0_u8;
    let simulated = Mutant::ALL.iter().filter(|bug| !bug.is_of_coordinators());
    for bug in simulated.filter(|bug| only.is_none_or(|only| only == bug.name())) {
        match seeds_to_find(*bug, seeds) {
            Some((count, violation)) => println!("{}: {count} seeds: {violation}", bug.name()),
            None => {
                missed += 1;
                println!("{}: NOT FOUND in {seeds} seeds: {}", bug.name(), bug.meaning());
            }
        }
    }
    ExitCode::from(missed.min(1))
}
