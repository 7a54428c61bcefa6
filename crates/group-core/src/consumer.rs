//! Groups of the consumer protocol (KIP-848): the coordinator decides who reads what, and tells each member at its heartbeats.
//!
//! | question | file |
//! |---|---|
//! | what is a group, and what do its records say? | `consumer/group.rs`, `consumer/member.rs` |
//! | what may a heartbeat say, and what is answered? | `consumer/request.rs`, `consumer/heartbeat.rs` |
//! | who shall own what? | `consumer/target.rs`, `consumer/assignor.rs` |
//! | when may a member be given a partition (G3)? | `consumer/reconcile.rs` |
//! | when is a member removed? | `consumer/removal.rs` |
//! | what does a group subscribe to, and when is that something else? | `consumer/subscription.rs`, `consumer/regex.rs` |
//! | what may clients of the classic protocol do in such a group? | `consumer/classic_members.rs` |
//! | when does a group change its protocol? | `consumer/convert.rs` |
//! | who may commit (G2)? | `consumer/offsets.rs` |

mod assignor;
mod calls;
mod classic_members;
mod convert;
mod describe;
mod group;
mod heartbeat;
mod member;
mod offsets;
mod partitions;
mod reconcile;
mod refusal;
mod regex;
mod removal;
mod request;
mod subscription;
mod target;

pub use assignor::{Assignor, Subscriber, UnknownAssignor};
pub(crate) use group::Group;
pub use partitions::PartitionSet;
pub use regex::REGEX_BYTES_MAX;

#[cfg(test)]
mod tests;
