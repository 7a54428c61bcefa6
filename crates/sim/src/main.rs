//! `thalweg-sim`: runs seeds, replays one, looks for planted bugs.

#![expect(clippy::print_stdout, reason = "this is a command-line tool")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thalweg_invariants::Mutant;
use thalweg_sim::{Totals, run_seed, run_with_bug, seeds_to_find};

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
    },
    /// Run one seed, with everything that happens if asked.
    Replay {
        seed: u64,
        #[arg(long)]
        trace: bool,
        /// With this bug planted, in the work load made for it.
        #[arg(long)]
        bug: Option<String>,
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
        Command::Run { seeds, seconds, from } => run(seeds, seconds, from),
        Command::Replay { seed, trace, bug } => {
            let bug = bug.and_then(|name| Mutant::ALL.iter().find(|bug| bug.name() == name));
            let report = match bug {
                Some(bug) => run_with_bug(seed, *bug, trace),
                None => run_seed(seed, trace),
            };
            println!("{report:#?}");
            ExitCode::from(u8::from(report.violation.is_some()))
        }
        Command::Mutants { seeds, only } => mutants(seeds, only.as_deref()),
    }
}

#[expect(clippy::disallowed_methods, reason = "how long to run is real time; no run sees it")]
fn run(seeds: Option<u64>, seconds: Option<u64>, from: u64) -> ExitCode {
    let began = std::time::Instant::now();
    let count = seeds.unwrap_or_else(|| if seconds.is_some() { u64::MAX } else { 200 });
    let mut totals = Totals::default();
    let mut failed = 0_u64;
    for seed in (from..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        if seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds) {
            break;
        }
        let report = run_seed(seed, false);
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

fn mutants(seeds: u64, only: Option<&str>) -> ExitCode {
    let mut missed = 0_u8;
    for bug in Mutant::ALL.iter().filter(|bug| only.is_none_or(|only| only == bug.name())) {
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
