//! The rules of the cluster's metadata: facts, image, decisions.
//!
//! ```text
//!  request ──► Image::decide_* ──► facts + response        (the active controller, on its latest image)
//!                                    │ committed by the quorum
//!                                    ▼
//!              Image::apply  ◄──── facts                   (every node, the same code)
//! ```
//!
//! A [`Record`] is a fact: something that has been decided and cannot be refused any more. An [`Image`] is what all facts up to a
//! [`Position`] amount to. Deciding reads an image and returns facts; only applying facts makes another image. The crate knows no
//! clock, no randomness and no I/O: identities, seeds and times are arguments.

pub mod config;
mod decide;
mod error;
mod image;
mod key;
mod placement;
mod record;

pub use config::{StaticConfigs, TopicConfig};
pub use decide::{
    AlterConfigs, AlteredResource, ConfigAlteration, ConfigChange, ConfigTarget, CreatePartitions,
    CreateTopic, CreatedTopic, Decision, GrowTopic, Heartbeat, HeartbeatAnswer, ItemResult,
    PARTITIONS_PER_REQUEST_MAX, PARTITIONS_PER_TOPIC_MAX, PRODUCER_ID_BLOCK_COUNT, Policy,
    ProducerIdBlock, RegisterNode, Registered, RemovedTopic, TopicReference,
};
pub use error::Error;
pub use image::{Image, Node, Partition, Position, Topic};
pub use key::Key;
pub use record::{ConfigResource, Endpoint, LeaderRecovery, NodeRole, Record, Registration};
