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
//!
//! Which rule of the replication chapter is where:
//!
//! | rule | what | where |
//! |---|---|---|
//! | R7 | AlterPartition | `decide/alter_partition.rs` |
//! | R9, R10 | elections, eligible replicas | `decide/election.rs` |
//! | R10, R19 | what a change of configs means for partitions | `decide/configs.rs` |
//! | R12 | controlled shutdown | `decide/nodes.rs`, [`Sessions::others_applied`] |
//! | R13 | registration, damaged replicas | `decide/nodes.rs`, [`Sessions::check_registration`] |
//! | R14 | unclean election by command; preferred leaders | `decide/leaders.rs` |
//! | | which coordinator has which partition of an internal topic | `decide/coordinators.rs` |
//! | | features: what the whole cluster can do | `features.rs`, `decide/features.rs` |
//! | R15 | reassignment; plans for brokers that come or go | `decide/reassignment.rs`, `placement/moves.rs` |
//!
//! Who is alive is not a fact until somebody is fenced: [`Sessions`] keeps it beside the image, for the active controller only.

pub mod config;
mod decide;
mod error;
mod features;
mod image;
mod key;
mod placement;
mod record;
mod sessions;

pub use config::{StaticConfigs, TopicConfig};
pub use decide::{
    AlterConfigs, AlterPartition, AlteredResource, Candidate, ConfigAlteration, ConfigChange,
    ConfigTarget, CreatePartitions, CreateTopic, CreatedTopic, Decision, ElectUnclean,
    ElectedUnclean, FeatureUpdate, GrowTopic, Heartbeat, HeartbeatAnswer, ItemResult,
    OngoingReassignment, PARTITIONS_PER_REQUEST_MAX, PARTITIONS_PER_TOPIC_MAX,
    PRODUCER_ID_BLOCK_COUNT, PartitionReference, Policy, ProducerIdBlock, Reassign, RegisterNode,
    Registered, RemovedTopic, TopicReference,
};
pub use error::{Error, FeatureRefusal};
pub use features::{FEATURES, Feature, GROUP_VERSION};
pub use image::{Coordinator, Image, Node, Partition, Position, Topic};
pub use key::Key;
pub use placement::{StayReason, Staying};
pub use record::{ConfigResource, Endpoint, LeaderRecovery, NodeRole, Record, Registration};
pub use sessions::{HoldId, SessionTiming, Sessions};
