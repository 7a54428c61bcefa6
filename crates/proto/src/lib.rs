//! The protobuf messages and services of `proto/`, as code.
//!
//! Modules mirror packages: `thalweg.producer.v1` is [`producer::v1`], `thalweg.internal.controller.v1` is
//! [`internal::controller::v1`], and so on for every file under `proto/thalweg`. `bytes` fields are [`bytes::Bytes`]: a payload
//! taken out of a message is a slice of the frame it came in.
//!
//! Features: `client` and `server` (both on by default) generate the stubs of the respective side.
//!
//! What this crate does not do: validate. A message that decodes may still hold a negative partition or an unknown enum value;
//! the service that receives it checks.

/// Everything generated, nested by package.
#[allow(
    unreachable_pub,
    clippy::all,
    clippy::or_fun_call,
    clippy::large_futures,
    rustdoc::all,
    reason = "generated code answers to its generator"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/thalweg.modules.rs"));
}

pub use generated::thalweg::*;

/// Descriptors of every file under `proto/thalweg` and of what they import, encoded as one `FileDescriptorSet`: what server
/// reflection answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/thalweg.descriptors.bin"));
