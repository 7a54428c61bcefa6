//! The broker service: stores partitions, serves produce and fetch.
//!
//! | read | for |
//! |---|---|
//! | [`broker`] | what the protocols call |
//! | `start` | how a broker registers and comes up |
//! | `shutdown` | how it hands over and goes |
//! | `partition` | the critical section: append, positions, who waits |
//! | [`fetch`] | long poll and offset look-up |
//! | `hosting` | following the metadata image |
//! | `replication` | what partitions share with their other replicas |
//! | `kafka` | the Kafka calls, translated |
//! | `internal` | the calls of gateways, translated |
//!
//! The rules of a log are `log-core`'s, its files `storage`'s, the wire `kafka`'s; this crate ties them together and adds what only
//! a broker knows: who may be answered when.

mod admission;
mod append;
#[cfg(test)]
mod bench;
pub mod broker;
mod configs;
pub mod error;
pub mod fetch;
mod hold;
mod hosting;
mod internal;
mod kafka;
mod log_events;
mod metrics;
mod options;
mod partition;
mod producer_ids;
mod refusal;
mod replication;
mod shutdown;
mod start;
mod tasks;

pub use broker::{Broker, TopicRef};
pub use configs::DescribeConfigsError;
pub use internal::{InternalService, InternalStreams};
pub use kafka::KafkaBackend;
pub use log_events::LogEvents;
pub use metrics::Metrics;
pub use options::BrokerOptions;
pub use partition::{
    AckError, Condition, ConditionError, CoordinatorCondition, Partition, Pending,
};
pub use replication::ReplicationService;
pub use start::{Parts, StartError};
