//! The whole gateway over a live connection: a real client, the real services, and behind them a small log in memory that really
//! keeps batches and a controller that really makes topics.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod admin;
mod broker;
mod cluster;
mod configs;
mod controller;
mod coordinator;
mod core;
mod fetching;
mod groups;
mod producing;
mod rig;
mod subscribing;
mod surface;
