//! What clients ask: one structure per call, the same for every version of the wire.
//!
//! Where versions differ in meaning, a field says so; where they differ in form only, the shell evens it out.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{
    GenerationId, GroupId, InstanceId, LeaderEpoch, MemberEpoch, MemberId, Offset, PartitionIndex,
    TopicId, TopicName, Uuid,
};

use crate::effects::Token;

/// One call of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub token: Token,
    pub client: Client,
    /// Randomness: becomes part of a member id if one has to be made.
    pub fresh: Uuid,
    pub request: Request,
}

/// Who calls, as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub id: Arc<str>,
    /// Its address.
    pub host: Arc<str>,
}

/// Every call that is decided here.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Join(Join),
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Leave),
    CommitOffsets(CommitOffsets),
    FetchOffsets(FetchOffsets),
    DeleteOffsets(DeleteOffsets),
    ListGroups(ListGroups),
    /// Of the classic protocol; groups of the consumer protocol are answered as ones that do not exist.
    DescribeGroups(Vec<GroupId>),
    DeleteGroups(Vec<GroupId>),
    ConsumerHeartbeat(ConsumerHeartbeat),
    ConsumerDescribe(Vec<GroupId>),
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    pub group: GroupId,
    /// Empty: a new member.
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    /// `consumer`, `connect`, ...
    pub protocol_type: Arc<str>,
    /// What the member could use, its favourite first.
    pub protocols: Vec<Protocol>,
    pub session_timeout_ms: i32,
    /// Versions without it mean the session timeout.
    pub rebalance_timeout_ms: i32,
    /// Version 4 and later: a new member is first given an id, and joins with it in a second call (KIP-394).
    pub requires_known_member: bool,
    /// Version 9 and later: a leader that returns can be told that it need not assign (KIP-814).
    pub supports_skipping_assignment: bool,
    /// Why, for people (KIP-800).
    pub reason: Option<Arc<str>>,
}

/// One way to share the work that a member offers, with what it tells the leader for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    pub group: GroupId,
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub generation: GenerationId,
    /// Version 5 and later; compared when given.
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// From the leader: everybody's share. From all others: empty.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// Heartbeat of the classic protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    pub group: GroupId,
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub generation: GenerationId,
}

/// LeaveGroup; versions before 3 name one member.
#[derive(Debug, Clone, PartialEq)]
pub struct Leave {
    pub group: GroupId,
    pub members: Vec<LeavingMember>,
}

/// Who leaves: by member id, or a static member by its instance id alone.
#[derive(Debug, Clone, PartialEq)]
pub struct LeavingMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub reason: Option<Arc<str>>,
}

/// OffsetCommit.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitOffsets {
    pub group: GroupId,
    /// Empty, with `generation_or_epoch` -1: no member, but a consumer that assigns itself or a tool.
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub generation_or_epoch: i32,
    /// Versions 2 to 4: how long the offsets are to be kept instead of the coordinator's retention.
    pub retention_ms: Option<i64>,
    /// Version 9 and later: the client understands the consumer protocol's errors (KIP-848).
    pub knows_consumer_protocol: bool,
    pub topics: Vec<TopicCommits>,
}

/// What is committed of one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicCommits {
    pub topic: TopicRef,
    pub partitions: Vec<PartitionCommit>,
}

/// A topic as the caller names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    /// By name; the text need not be a valid one.
    Name(Arc<str>),
    /// By id: version 10 and later of the offset calls.
    Id(TopicId),
}

/// One offset to commit.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionCommit {
    pub partition: PartitionIndex,
    /// The next to read.
    pub offset: Offset,
    /// Of the last record read.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

/// OffsetFetch of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchOffsets {
    pub group: GroupId,
    /// With `member_epoch`, from version 9 on: who asks, to be refused when it is not in the group any more. `None`: not said.
    pub member: Option<MemberId>,
    pub member_epoch: MemberEpoch,
    /// `None`: everything that the group has committed.
    pub topics: Option<Vec<TopicPartitions>>,
    /// Refuse partitions for which a transaction that has not ended commits an offset.
    pub require_stable: bool,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicPartitions {
    pub topic: TopicRef,
    pub partitions: Vec<PartitionIndex>,
}

/// OffsetDelete.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteOffsets {
    pub group: GroupId,
    pub topics: Vec<TopicPartitions>,
}

/// ListGroups: empty filters let everything pass.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListGroups {
    /// Names of states, in any case (KIP-518).
    pub states: Vec<Arc<str>>,
    /// Names of group types, in any case (KIP-848).
    pub types: Vec<Arc<str>>,
}

/// ConsumerGroupHeartbeat. `None` everywhere: as said before.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerHeartbeat {
    pub group: GroupId,
    pub member: MemberId,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members).
    pub member_epoch: MemberEpoch,
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub rebalance_timeout_ms: Option<i32>,
    pub subscribed_names: Option<Vec<TopicName>>,
    pub subscribed_regex: Option<Arc<str>>,
    pub server_assignor: Option<Arc<str>>,
    /// What the member still reads.
    pub owned: Option<Vec<(TopicId, Vec<PartitionIndex>)>>,
    /// Version 1 and later: the client makes its member id itself (KIP-1082).
    pub requires_client_made_id: bool,
}

impl Request {
    /// The group that the call is about; `None` for those about several or all.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            Self::Join(join) => Some(&join.group),
            Self::Sync(sync) => Some(&sync.group),
            Self::Heartbeat(heartbeat) => Some(&heartbeat.group),
            Self::Leave(leave) => Some(&leave.group),
            Self::CommitOffsets(commit) => Some(&commit.group),
            Self::FetchOffsets(fetch) => Some(&fetch.group),
            Self::DeleteOffsets(delete) => Some(&delete.group),
            Self::ConsumerHeartbeat(heartbeat) => Some(&heartbeat.group),
            Self::ListGroups(_)
            | Self::DescribeGroups(_)
            | Self::DeleteGroups(_)
            | Self::ConsumerDescribe(_) => None,
        }
    }
}
