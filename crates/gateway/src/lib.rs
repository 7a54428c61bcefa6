//! The gateway service: the public edge, over gRPC and over the Kafka protocol.
//!
//! It translates: requests in the public protocol to calls of the brokers ([`port::BrokerPort`]), of the coordinators
//! ([`port::CoordinatorPort`]), of the controller, and to looks at the metadata image; what they answer back to the public protocol. It
//! keeps no state of its own, so any number of gateways serve the same cluster.
//!
//! ```text
//!  clients ─► rpc's stack ─► Producer ─► batches, by key ──────► BrokerPort::produce
//!                            Consumer ─► records or batches ◄─── BrokerPort::fetch
//!                            Admin ────► controller (changes), image (questions)
//!                            groups ───► CoordinatorPort::call
//!                            health, reflection
//!  Kafka clients ─► kafka's listener ─► KafkaBackend ─► the same ways
//! ```

mod admin;
mod consumer;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod groups;
mod kafka;
mod metrics;
mod partitioner;
pub mod port;
mod producer;
mod routed;
mod service;
mod shared;
mod words;

pub use kafka::{Advertised, KafkaBackend, KafkaOptions, KafkaParts};
pub use metrics::Metrics;
pub use routed::{RoutedBrokers, RoutedCoordinators, RoutedOptions};
pub use service::{Gateway, GatewayHandle, GatewayOptions, StartError};
pub use shared::Parts;
