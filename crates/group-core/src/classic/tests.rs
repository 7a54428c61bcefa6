//! The rules of the classic protocol, one by one.

mod rebalances;
