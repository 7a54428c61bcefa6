//! Whole services on simulated hosts, network and disks, from one seed.
//!
//! The services are the real ones, with their gRPC, their consensus and their tasks; what is simulated is what they stand on: turmoil's hosts,
//! clock and TCP, and `env`'s disks, which lose what was not flushed. Everything runs on one thread. What would bring in another order
//! is replaced on that thread: randomness and writing threads ([`thalweg_env::simulation`]), connections ([`thalweg_rpc::simulation`]).
//!
//! The same seed is the same run, in a process of its own: libraries draw chance from the operating system, and count through a process's
//! life, so the program below has its own `getrandom` and runs one seed. [`Report::trace`] has every outcome, every fault and how far every
//! host had got when; a test holds two runs against each other. Real time is still seen by the HTTP/2 library, which forgets reset streams by it.
//!
//! Not here: brokers and their logs, whose threads are not replaced, and snapshots of the quorum's log, which are written on other threads.

mod checks;
mod client;
mod clock;
mod controllers;
mod nemesis;
mod network;
mod run;
mod trace;

pub use run::{Report, run};
