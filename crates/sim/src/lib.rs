//! A whole cluster of cores on simulated network, clock and disks, from one seed.
//!
//! One seed is one run. A run is a queue of events, ordered by time and then by number; there is no thread, no clock and no hash map, so a
//! seed always does the same, which its trace hash shows. Brokers, controllers and clients are shells around the same cores that the
//! product runs; what they know of each other travels over a network that delays, loses, cuts and breaks, and what they keep lies on
//! disks that lose what was not flushed, tear, fail and decay.
//!
//! | file | what |
//! |---|---|
//! | `sim.rs` | the run: events to whom they are for, checks after each, the end |
//! | `env.rs` | time, queue, connections, trace |
//! | `network.rs`, `disk.rs` | the machines' faults |
//! | `log.rs` | `log-core` over a disk, with recovery |
//! | `broker.rs` | the shell around `replication-core` |
//! | `quorum.rs` | one committed log, controllers around `metadata-core` |
//! | `clients.rs` | producers and consumers |
//! | `coordinators.rs` | `coordinator-runtime` on a partition that brokers lead, and who judges what it tells |
//! | `nemesis.rs`, `script.rs` | faults at random, and named ones |
//! | `oracle.rs`, `checker.rs` | what must hold of the cluster, and of what clients see |
//! | `plan.rs`, `run.rs` | from a seed to a run, from runs to figures |
//!
//! Nothing depends on this crate.

mod broker;
mod checker;
mod clients;
mod coordinators;
mod disk;
mod env;
mod log;
mod message;
mod nemesis;
mod network;
mod oracle;
mod partition;
mod plan;
mod quorum;
mod rng;
mod run;
mod script;
mod sim;

pub use checker::Counts;
pub use run::{
    Report, Totals, run_coordinated_seed, run_early_seed, run_named, run_seed, run_with_bug,
    seeds_to_find,
};
pub use script::Named;
