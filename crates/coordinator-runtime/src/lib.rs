//! Hosts a deterministic core on one partition of an internal topic, whose only writer it is.
//!
//! A coordinator is not the leader of its partition's log: it reaches it over the network, and another coordinator may believe that the
//! partition is its own. What makes it the single writer is the log itself. Every append names the leader epoch, the end of the log it
//! was decided on and the chain of appends that it continues, and the leader refuses whatever does not fit. So:
//!
//! ```text
//!   locate ─► read what is committed, replay it ─► high watermark = log end, and past the start of the leader's epoch?
//!     ▲                                                │ no: wait, read on             │ yes
//!     │                                                ▼                               ▼
//!     └──────────────── refused, or outcome unknown ◄──────────────── append a fence on that very end
//!     ▲                                                                                │ committed
//!     │                                                                                ▼
//!     └── an append failed: throw the core away ◄── serve: decide ─► append ─► park the answer ─► committed ─► answer
//! ```
//!
//! A fence that is committed proves that the replay was complete, and that no append of anybody else, sent earlier and still on its
//! way, can ever land: it would have to name the end before the fence, or a chain that the fence has ended. Appends are then pipelined,
//! each on the end that the one before it will make. If one is refused or its outcome is not known, everything decided after the last
//! committed record is void: the core is dropped, nothing is undone, and the partition is loaded anew.
//!
//! An answer leaves when everything decided before it is committed. One that must be current needs more: proof that nobody else has
//! served since the question came. That is any append sent later, or a check at the leader, which all waiting questions share. For
//! answers that may be a moment old (heartbeats), the coordinator's own lease is enough.
//!
//! [`machine`](Machine) is all of this without a clock, a task or a socket; [`Shell`] drives one in a task; [`LogPort`] is the way to the
//! log. What is decided is the [`Core`]'s; nothing here knows what groups or transactions are.

mod core;
mod fence;
mod machine;
mod port;
mod shell;

pub use core::{Core, CorruptRecord, Effects, KeyValue, Now, Refusal, Token};
pub use fence::{FENCE_KEY, Fence};
pub use machine::{Action, Limits, Machine, Report, Ticket};
pub use port::{Condition, LogEnds, LogPort, PortError};
pub use shell::{Counts, Lease, Shell, ShellOptions, Standing};
