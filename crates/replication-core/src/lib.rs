//! The rules by which the replicas of one partition agree, as a deterministic core.
//!
//! A [`Replica`] is what one broker is to one partition: its leader, a follower, or neither. It is told what happens (metadata, messages
//! of the other replicas, progress of its own log, the passing of time) and says what follows as [`Action`]s. It reads no clock, sends
//! nothing and touches no log: whoever drives it does, under the partition's lock, and feeds the results back.
//!
//! ```text
//!  metadata ─────► Replica ─ leader ───► Action::Propose ───► controller ─┐
//!     ▲                │ └── follower ─► Action::Handshake, Truncate ...  │
//!     └────────────────┼──────────────────────────────────────────────────┘
//!  own log: appended, flushed ─►┘    next_push, take_report: what to send when there is room on a stream
//! ```
//!
//! Batches are pushed. For each follower the leader keeps a cursor and what it has told; the driver asks [`Replica::next_push`] when there is
//! room on the stream and says with [`Replica::pushed`] how far it got. A follower's driver sends [`Replica::take_report`] whenever there
//! is one. Neither allocates.
//!
//! Which rule of the replication chapter is where:
//!
//! | rule | what | where |
//! |---|---|---|
//! | R1 | handshake: refusals, divergence, progress | `leader/handshake.rs` |
//! | R2 | truncation, guard G-HW | `follower/truncation.rs` |
//! | R3 | high watermark, applied high watermark | `leader/high_watermark.rs` |
//! | R4 | when an append is admitted, and when its producer must be told "unknown" | `leader/admission.rs` |
//! | R5, R6 | who joins and who leaves the in-sync replicas | `leader/membership.rs` |
//! | R8 | proposals and their outcomes | `leader/isr.rs`, `leader/membership.rs` |
//! | R11 | a leader that has lost its controller fences itself | `lease.rs`, `leader/admission.rs` |
//! | R13 | nothing before the own registration is applied; damaged replicas do not lead | `replica.rs` |
//! | R14 | a leader after an unclean election is alone until it has recovered | `leader/membership.rs` |
//! | R19 | what counts as durable when the topic's durability changes | `leader/durable.rs` |
//! | B52 | what a follower refuses from its leader | `follower/push.rs` |
//!
//! R7, R9, R10, R12, R14 and R15 are decided by the controller: `metadata-core`. R1's and R2's arithmetic on epoch ends is
//! [`EpochIndex`](thalweg_log_core::EpochIndex)'s.
//!
//! Times are [`Moment`](thalweg_types::Moment)s: how long somebody lags, when to try again. No rule of safety looks at them.
//!
//! What the driver must keep: one thread at a time per replica; drain [`Replica::poll_action`] after every input and execute the actions in
//! order before the next one; a proposal is delivered at most once per attempt, and its outcome, or its loss, is always reported.

mod action;
mod follower;
mod leader;
mod lease;
mod log_ends;
mod message;
mod partition;
mod replica;

pub use action::{AckFailure, Action, Halt};
pub use follower::{Follower, PushRefusal};
pub use leader::{AppendRefusal, HandshakeRefusal, Leader, ReportRefusal};
pub use lease::ControllerLease;
pub use log_ends::{LogEnds, LogView};
pub use message::{
    AlterOutcome, Answer, BatchSpan, Fitness, Handshake, Proposal, Push, PushCursor, Report,
    Verdict,
};
pub use partition::{Identity, Metadata, Partition, Peer, Timing};
pub use replica::{Replica, Role};
