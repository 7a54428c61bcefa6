//! The controller quorum: a replicated log of facts, and the state they build.
//!
//! This is the only crate that knows the consensus library and the store of the materialised state. It orders, stores and commits
//! facts that are opaque bytes to it, and applies them to a [`StateMachine`] that somebody else owns. What is on disk and on the wire is
//! in our own formats: votes and entries in `log`, snapshots in `snapshot`, the library's messages in `network`. The stored keys and
//! values (`kv`) are never the truth: snapshot and log rebuild them.
//!
//! It knows nothing of topics, brokers or any other fact's meaning, and serves nothing by itself.

mod apply;
mod codec;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod identity;
mod kv;
mod log;
mod machine;
mod network;
mod quorum;
mod runtime;
mod snapshot;
#[cfg(test)]
mod suite;
mod types;

pub use error::{PeerError, ProposeError, ReadError, StartError};
pub use kv::{KvError, KvKind, MemoryKv, MetaKv, SledKv};
pub use log::LogCounters;
pub use machine::{CorruptState, KvChange, Position, StateMachine};
pub use network::{Member, NoPeers, Transport, TransportError};
pub use quorum::{
    ChangeError, Leadership, MemberState, PROPOSAL_BYTES_MAX, Quorum, QuorumOptions, QuorumState,
    SnapshotReceiver, Voter,
};
pub use snapshot::SnapshotFile;
pub use types::Peer;
