//! gRPC servers and channels: tuning, tower stack, typed errors.
//!
//! Every service of the cluster is served and called through this crate, so that windows, frame sizes, keep-alive, limits and the
//! meaning of an error are chosen once. What it gives:
//!
//! * [`Server`] and [`ServerHandle`]: a tuned server on TCP or in memory, around the [`stack`] of layers every call passes;
//! * [`channel`] and [`channel_in_memory`]: the same tuning from the calling side;
//! * [`LeaderChannel`]: a channel to several nodes of which one decides;
//! * [`Error`]: what went wrong by Kafka's code, whether it may have been applied, and where to go instead; both ways to and from a
//!   [`tonic::Status`];
//! * [`Deadline`]: when the caller stops waiting, for services that wait themselves.
//!
//! It knows no service, no storage and no consensus.

mod accept;
mod channel;
mod deadline;
mod error;
mod leader;
mod limits;
mod memory;
mod routes;
mod server;
pub mod simulation;
pub mod stack;

pub use channel::{InvalidEndpoint, channel, channel_in_memory};
pub use deadline::{Deadline, deadline_of};
pub use error::{Error, LeaderHint};
pub use leader::{InvalidEndpoints, LeaderChannel, LeaderOptions};
pub use limits::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX};
pub use memory::{MemoryConnector, MemoryIncoming, memory_listener};
pub use routes::Routes;
pub use server::{Server, ServerHandle, ServerOptions};
pub use stack::observe::{CallObserver, NoObserver};
