//! The rules of groups: everything that is decided about the groups and offsets of one partition of `__consumer_offsets`.
//!
//! ```text
//!        calls, deadlines, metadata                    stored records
//!                   │                                        │
//!                   ▼                                        ▼
//!   Groups ─── handle*: looks, decides, changes          replay: changes
//!     ├─ classic    groups whose clients agree among themselves (JoinGroup, SyncGroup, ...)
//!     ├─ consumer   groups that are told by heartbeats what to read (KIP-848)
//!     └─ offsets    what groups have committed
//!                   │
//!                   ▼
//!                Effects: records to append, answers that may leave when these and all earlier records are committed
//! ```
//!
//! Nothing here waits, reads a clock or rolls a die. What was decided is applied at once; should its records not reach the log,
//! or nobody know whether they did, the shell throws the whole [`Groups`] away and replays what is stored. So there is no undo, and every
//! rule has one state to look at: what will be stored when all that was decided is.
//!
//! What is kept only here, and so lost with a coordinator, is what may be lost: who waits for which answer, a rebalance under way, and when a
//! member was heard of last. Everything that a client was *told* and may rely on is in a record first.
//!
//! | question | file |
//! |---|---|
//! | what do the bytes in the topic mean? | `record.rs`, `record/` |
//! | which states has a group of the classic protocol? | `classic/state.rs` |
//! | who may commit? | `classic/commit.rs`, `consumer/offsets.rs`, then `offsets/commit.rs` |
//! | when does an offset expire? | `offsets/expiry.rs` |
//! | who shall read what, by the consumer protocol? | `consumer.rs` has the map of the rules |
//! | who gets a call, and what is said when there is no group? | `groups/calls.rs` |
//! | what is refused for its size? | `config.rs` |

mod alarm;
mod alarms;
mod classic;
mod config;
mod consumer;
mod effects;
mod groups;
mod offsets;
pub mod record;
pub mod request;
pub mod response;
mod step;
#[cfg(test)]
mod testing;
mod topics;

pub use config::{GroupConfig, ID_BYTES_MAX, Migration};
pub use consumer::{Assignor, PartitionSet, REGEX_BYTES_MAX, Subscriber, UnknownAssignor};
pub use effects::{Effects, Now, Token};
pub use groups::{Counts, Groups};
pub use record::Record;
pub use request::{Call, Client, Request};
pub use response::Response;
pub use topics::{TopicFacts, Topics};
