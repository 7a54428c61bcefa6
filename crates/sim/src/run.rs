//! Running seeds: one seed is one run, and says what it found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use thalweg_invariants::{Mutant, Plant};

use crate::checker::Counts;
use crate::plan::Plan;
use crate::script::{NOT_PLAYED, Named};
use crate::sim::Sim;

/// What came of one run.
#[derive(Debug, Clone)]
pub struct Report {
    pub seed: u64,
    /// The first thing that was broken.
    pub violation: Option<String>,
    pub trace_hash: u64,
    pub simulated_us: u64,
    pub events: u64,
    pub faults: u64,
    pub power_losses: u64,
    pub elections: u64,
    pub truncations: u64,
    pub suspects: u64,
    pub repeats: u64,
    pub unclean_elections: u64,
    /// Calls that coordinators answered.
    pub coordinated: u64,
    pub counts: Counts,
}

/// Runs a seed.
pub fn run_seed(seed: u64, is_tracing: bool) -> Report {
    run_plan(seed, Plan::random(seed), is_tracing)
}

/// Runs a seed with coordinators.
pub fn run_coordinated_seed(seed: u64, is_tracing: bool) -> Report {
    run_plan(seed, Plan::coordinated(seed), is_tracing)
}

/// Runs a seed as it was when it was kept, in the mix of then.
pub fn run_early_seed(seed: u64, is_tracing: bool) -> Report {
    run_plan(seed, Plan::early(seed), is_tracing)
}

/// Runs a named script.
pub fn run_named(seed: u64, named: Named, is_tracing: bool) -> Report {
    run_plan(seed, Plan::scripted(named.script()), is_tracing)
}

/// Runs a seed of the work load in which a planted bug shows soonest, with the bug in it.
pub fn run_with_bug(seed: u64, bug: Mutant, is_tracing: bool) -> Report {
    let _planted = Plant::new(bug);
    match bug {
        Mutant::M1 => run_named(seed, Named::NewLeaderBehind, is_tracing),
        Mutant::M2 | Mutant::M5 => run_named(seed, Named::JoinUnheard, is_tracing),
        Mutant::M3 | Mutant::M7 => run_named(seed, Named::TwoQuickElections, is_tracing),
        Mutant::M4 => run_named(seed, Named::RebootedJoiner, is_tracing),
        Mutant::M12 => run_named(seed, Named::PageCacheRestart, is_tracing),
        Mutant::M24 => run_named(seed, Named::StoppedThenPowerLoss, is_tracing),
        Mutant::M26 => run_named(seed, Named::LyingLeader, is_tracing),
        Mutant::M14 => run_coordinated_seed(seed, is_tracing),
        Mutant::M29 => run_named(seed, Named::StaleSnapshot, is_tracing),
        _ => run_plan(seed, Plan::biased(seed, bug), is_tracing),
    }
}

/// How many seeds it takes to find a planted bug, up to `seeds_max`, and what is then seen of it.
pub fn seeds_to_find(bug: Mutant, seeds_max: u64) -> Option<(u64, String)> {
    (1..=seeds_max).find_map(|seed| {
        let report = run_with_bug(seed, bug, false);
        // A script that could not be played to its end has found nothing.
        let found = report.violation.filter(|violation| !violation.starts_with(NOT_PLAYED));
        found.map(|violation| (seed, violation))
    })
}

pub(crate) fn run_plan(seed: u64, plan: Plan, is_tracing: bool) -> Report {
    let mut sim = Sim::new(seed, plan, is_tracing);
    // An invariant that a core checks itself ends the run where it is broken.
    let panicked = catch_unwind(AssertUnwindSafe(|| sim.run())).err().map(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let literal = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        format!("panic: {}", text.or(literal).unwrap_or_default())
    });
    let violation = panicked.or_else(|| sim.violation().cloned());
    let stats = sim.env.stats;
    Report {
        seed,
        violation,
        trace_hash: sim.env.trace_hash(),
        simulated_us: sim.env.now,
        events: stats.events,
        faults: stats.faults,
        power_losses: stats.power_losses,
        elections: stats.elections,
        truncations: stats.truncations,
        suspects: stats.suspects,
        repeats: stats.repeats,
        unclean_elections: sim.env.oracle.unclean_elections,
        coordinated: sim.judge.answers,
        counts: sim.env.checker.counts,
    }
}

/// Many runs taken together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub seeds: u64,
    pub simulated_us: u64,
    pub events: u64,
    pub faults: u64,
    pub power_losses: u64,
    pub elections: u64,
    pub truncations: u64,
    pub suspects: u64,
    pub repeats: u64,
    pub unclean_elections: u64,
    pub coordinated: u64,
    pub counts: Counts,
}

impl Totals {
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated_us += report.simulated_us;
        self.events += report.events;
        self.faults += report.faults;
        self.power_losses += report.power_losses;
        self.elections += report.elections;
        self.truncations += report.truncations;
        self.suspects += report.suspects;
        self.repeats += report.repeats;
        self.unclean_elections += report.unclean_elections;
        self.coordinated += report.coordinated;
        let (sum, more) = (&mut self.counts, report.counts);
        sum.acknowledged += more.acknowledged;
        sum.unknown += more.unknown;
        sum.failed += more.failed;
        sum.read += more.read;
        sum.lost += more.lost;
        sum.duplicated += more.duplicated;
        sum.reordered += more.reordered;
        sum.torn += more.torn;
        sum.by_leader += more.by_leader;
        sum.by_leader_gone += more.by_leader_gone;
    }

    pub fn simulated_hours(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure to be shown")]
        let microseconds = self.simulated_us as f64;
        microseconds / 3_600e6
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts {
            acknowledged, unknown, failed, read, lost, duplicated, reordered, torn, ..
        } = self.counts;
        writeln!(f, "seeds {}, simulated hours {:.1}", self.seeds, self.simulated_hours())?;
        writeln!(
            f,
            "events {}, faults {}, power losses {}, elections {} ({} unclean), truncations {}, damage found {}, calls repeated {}",
            self.events,
            self.faults,
            self.power_losses,
            self.elections,
            self.unclean_elections,
            self.truncations,
            self.suspects,
            self.repeats
        )?;
        writeln!(
            f,
            "records acknowledged {acknowledged}, unknown {unknown}, failed {failed}, read {read}"
        )?;
        writeln!(
            f,
            "acknowledged by leaders alone {}, of them gone {}",
            self.counts.by_leader, self.counts.by_leader_gone
        )?;
        writeln!(f, "calls answered by coordinators {}", self.coordinated)?;
        write!(f, "lost {lost}, duplicated {duplicated}, reordered {reordered}, torn {torn}")
    }
}
