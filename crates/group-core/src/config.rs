//! Limits and times of groups: plain values, given once.
//!
//! The shell takes them from its settings; the defaults are Kafka's where Kafka has one. Everything that a client can make us keep has a
//! limit here.

use crate::consumer::Assignor;

/// Longest group, member and instance id, protocol name and client id, in bytes: what the stored format can say.
pub const ID_BYTES_MAX: usize = i16::MAX as usize;

/// What one coordinator asks of all its groups.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// Groups of one partition that have members or had some; those that only commit offsets do not count.
    pub groups_max: usize,
    /// Members of one group, those that have only been given an id included (`group.max.size`).
    pub group_members_max: usize,
    /// Wait for more members when the first one joins an empty group (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: u64,
    /// Session timeouts that members of the classic protocol may ask for (`group.min.session.timeout.ms`, `group.max.session.timeout.ms`).
    pub session_timeout_min_ms: i32,
    pub session_timeout_max_ms: i32,
    /// How long a new member of the classic protocol that waits for its answer to JoinGroup is believed to be there.
    pub new_member_timeout_ms: u64,
    /// Protocols that one member may offer. Clients offer one to four.
    pub member_protocols_max: usize,
    /// Metadata of all protocols of one member, in bytes.
    pub member_metadata_bytes_max: usize,
    /// The same of all members of one group: bounds the answer to the leader's JoinGroup as well.
    pub group_metadata_bytes_max: usize,
    /// Most bytes of the records of one call that must go together, and of a single record: less than what fits into one batch of the internal
    /// topic. What may go in parts, as the removal of a group's offsets, is not held to it.
    pub records_bytes_max: usize,
    /// Members that one call may let leave, groups that one call may describe or delete.
    pub call_items_max: usize,

    /// Text that may be kept with an offset, in bytes (`offset.metadata.max.bytes`).
    pub offset_metadata_bytes_max: usize,
    /// Partitions that one call may commit, fetch or delete.
    pub call_partitions_max: usize,
    /// How long offsets outlive the last use of their group (`offsets.retention.minutes`).
    pub offsets_retention_ms: u64,
    /// How often it is looked for what has expired (`offsets.retention.check.interval.ms`).
    pub offsets_check_interval_ms: u64,

    /// Of the consumer protocol: given to members, and how long they may be silent (`group.consumer.*`).
    pub consumer_heartbeat_interval_ms: u64,
    pub consumer_session_timeout_ms: u64,
    /// Members of one group of the consumer protocol (`group.consumer.max.size`).
    pub consumer_members_max: usize,
    /// Where no member asks for one (the first of `group.consumer.assignors`).
    pub consumer_assignor: Assignor,
    /// Which groups may change their protocol while they run (`group.consumer.migration.policy`).
    pub consumer_migration: Migration,
}

/// Ways from one protocol to the other for groups with members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Migration {
    Disabled,
    /// From the classic protocol to the consumer protocol, when the first member speaks it.
    Upgrade,
    /// Back, when the last such member has gone.
    Downgrade,
    #[default]
    Bidirectional,
}

impl Migration {
    pub fn may_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    pub fn may_downgrade(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            groups_max: 1_000_000,
            group_members_max: 10_000,
            initial_rebalance_delay_ms: 3_000,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            new_member_timeout_ms: 300_000,
            member_protocols_max: 64,
            member_metadata_bytes_max: 256 * 1024,
            group_metadata_bytes_max: 8 * 1024 * 1024,
            records_bytes_max: 880 * 1024,
            call_items_max: 10_000,
            offset_metadata_bytes_max: 4_096,
            call_partitions_max: 100_000,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_check_interval_ms: 600_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_session_timeout_ms: 45_000,
            consumer_members_max: 10_000,
            consumer_assignor: Assignor::Uniform,
            consumer_migration: Migration::Bidirectional,
        }
    }
}
