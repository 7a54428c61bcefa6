//! The rules of the classic protocol, one by one.

mod failover;
mod histories;
mod limits;
mod members;
mod rebalances;
mod shown;
mod statics;
