//! Replicas as brokers and operators ask the controller about them, over gRPC.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod cluster;
mod commands;
mod proposals;
mod shutdown;
