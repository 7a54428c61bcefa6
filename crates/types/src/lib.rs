//! The vocabulary: ids, offsets, epochs, timestamps and error codes.
//!
//! Every position, fencing number and identity of the system has its own type here, so that no two of them can be mixed up and a
//! reader always knows what a number is relative to. The crate depends on nothing of the workspace and on no I/O.
//!
//! Rules that hold for every type: positions are exclusive ends or next positions unless the name says `last`; the wire value
//! `-1` ("none" in the Kafka protocol) is a named constant, never a bare literal; conversions to raw integers are explicit.

mod epoch;
mod error_code;
mod group;
mod id;
mod modes;
mod offset;
mod producer;
mod time;
mod topic;
mod uuid;

pub use epoch::{
    AssignmentEpoch, BrokerEpoch, ControllerEpoch, CoordinatorEpoch, GenerationId, GroupEpoch,
    LeaderEpoch, MemberEpoch, PartitionEpoch,
};
pub use error_code::{ErrorCode, Outcome};
pub use group::{GroupId, InstanceId, MemberId, coordinator_partition};
pub use id::{ClusterId, DirId, IncarnationId, NodeId};
pub use modes::{Acks, CompressionType, Durability, IsolationLevel, TimestampType, UnknownMode};
pub use offset::{LogIndex, Offset};
pub use producer::{ProducerEpoch, ProducerId, Sequence};
pub use time::{Moment, Timestamp};
pub use topic::{
    InvalidTopicName, PartitionIndex, TOPIC_NAME_BYTES_MAX, TopicId, TopicIdPartition, TopicName,
    TopicPartition,
};
pub use uuid::{ParseUuidError, Uuid};
