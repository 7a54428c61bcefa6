//! Every way in which one partition's replicas and their controller can go, within bounds.
//!
//! The cores are the real ones: each broker is a [`Replica`](thalweg_replication_core::Replica), the controller decides with the
//! [`Image`](thalweg_metadata_core::Image)'s own rules. What stands around them is small and is all that can go otherwise: a log with a
//! flushed end, streams that keep order and break, copies of messages that come late, proposals whose answers are lost, metadata that
//! brokers learn late, crashes that lose what is not flushed.
//!
//! ```text
//!   Scope ──► Protocol: stateright's Model ──► every State that can be reached
//!                 │ Step                          │
//!                 └─► brokers, controller, network ┴─► oracle: I1 to I8, I12, I13, I15
//! ```
//!
//! A state holds what decides the future and nothing else: metadata that everybody has learned is forgotten, and what the oracle keeps
//! is what was committed and who led when. Counters of the cores (attempts, sessions, epochs) are part of it, which is why scopes bound
//! how often each thing happens instead of how deep a run goes.
//!
//! Left out, because the simulator has it: several partitions, retention, producers, reassignment, unclean elections, controllers that
//! come and go. Flushing takes a whole log at a time, and a follower's streams are told of a crash at once.

mod broker;
mod controller;
mod explore;
mod log;
mod network;
mod oracle;
mod protocol;
mod scope;
mod shared;
mod state;

pub use explore::{Explored, explore};
pub use protocol::{Protocol, Step};
pub use scope::{Begin, QUICK, Scope, THOROUGH, named};
pub use state::{Loss, State};
