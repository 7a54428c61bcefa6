//! The rules of the consumer protocol, called as a client would.

mod heartbeat;
mod histories;
mod membership;
mod migration;
mod mixed;
mod topics;
mod world;
