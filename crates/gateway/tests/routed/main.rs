//! The gateway's way to several brokers, over real sockets: brokers that refuse, freeze, die and change their roles.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod appends;
mod brokers;
mod cluster;
mod kafka;
mod reads;
mod streams;
