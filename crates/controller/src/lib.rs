//! The controller service: the cluster's single source of truth.
//!
//! ```text
//!  gRPC call ─► server ─► active task ─► metadata core decides on the latest image
//!                            │                       │ facts
//!                            │                       ▼
//!                            │            quorum: commit ─► machine: apply ─► image, history ─► watchers
//!                            └◄──────── answer, after both
//! ```
//!
//! One task decides, one decision at a time, always on the image that holds everything decided before. The quorum makes decisions
//! durable; applying them is the same code that every watching node runs. Nothing is answered before it is committed and applied.

mod contact;
mod error;
mod history;
mod machine;
mod server;
mod service;
mod task;
mod transport;

#[cfg(feature = "fuzzing")]
pub use server::fuzzing;
pub use service::{Controller, ControllerOptions, Handle, Standing, StandingWatch, StartError};
pub use thalweg_raft::Voter;
