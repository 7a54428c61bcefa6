//! The coordinator service: the groups and committed offsets of the partitions it was given.
//!
//! ```text
//!   Kafka clients ──► KafkaBackend ──┐                      ┌── Shell: coordinator-runtime hosting group-core, one per partition
//!   gateways ───► InternalService ───┴─► Coordinator ─► Shards ┤
//!                                                           └── LogPort: the partition's leader, over gRPC
//! ```
//!
//! It keeps nothing on disk. The controller assigns it partitions of `__consumer_offsets`; the metadata says which, and it loads and serves
//! them until it says otherwise. What is decided about groups is `group-core`'s, and that nobody else writes to the partition is seen to by
//! `coordinator-runtime`. Here the two are put together and given a way in and a way out: requests are translated and led to the partition of
//! their group, and appends to whichever broker leads it.
//!
//! | question | file |
//! |---|---|
//! | which partitions are served at present? | `shards.rs` |
//! | how is the log reached? | `log_port.rs`, `log_port/appends.rs` |
//! | which Kafka calls are served, and how? | `kafka.rs`, `kafka/` |
//! | what do gateways ask? | `internal.rs` |

mod brokers;
mod coordinator;
mod hosted;
mod internal;
mod kafka;
mod log_port;
mod member;
mod metrics;
mod shards;

pub use brokers::Brokers;
pub use coordinator::{Coordinator, CoordinatorOptions, Parts};
pub use internal::InternalService;
pub use kafka::{GROUP_APIS, KafkaBackend};
pub use metrics::Metrics;
