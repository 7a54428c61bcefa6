//! What clients are told: one structure per call, errors inside.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{
    AssignmentEpoch, ErrorCode, GenerationId, GroupEpoch, GroupId, InstanceId, LeaderEpoch,
    MemberEpoch, MemberId, Offset, PartitionIndex, TopicId, TopicName,
};

use crate::request::{CommitOffsets, Request, TopicCommits, TopicRef};

/// The answer to the [`Request`] of the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    Join(Joined),
    Sync(Synced),
    Heartbeat(ErrorCode),
    Leave(Left),
    CommitOffsets(Vec<TopicErrors>),
    FetchOffsets(FetchedOffsets),
    DeleteOffsets(DeletedOffsets),
    ListGroups(ListedGroups),
    DescribeGroups(Vec<DescribedGroup>),
    DeleteGroups(Vec<(GroupId, ErrorCode)>),
    ConsumerHeartbeat(ConsumerHeartbeatAnswer),
    ConsumerDescribe(Vec<DescribedConsumerGroup>),
}

/// JoinGroup. With an error, the rest is empty but for the member id.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    pub error: ErrorCode,
    pub generation: GenerationId,
    pub protocol_type: Option<Arc<str>>,
    /// The chosen one.
    pub protocol: Option<Arc<str>>,
    pub leader: MemberId,
    /// The leader need not assign: what was assigned still holds (KIP-814).
    pub skips_assignment: bool,
    /// The caller's id; with `MEMBER_ID_REQUIRED`, the one to join with.
    pub member: MemberId,
    /// To the leader only: everybody, with the metadata of the chosen protocol.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JoinedMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub metadata: Bytes,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Synced {
    pub error: ErrorCode,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// LeaveGroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    pub error: ErrorCode,
    /// In the order of the request; empty when `error` says that nothing was tried. Versions before 3 say the one member's error as that of the call.
    pub members: Vec<LeftMember>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LeftMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub error: ErrorCode,
}

/// What became of the partitions of one topic, in the order of the request.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicErrors {
    pub topic: TopicRef,
    pub partitions: Vec<(PartitionIndex, ErrorCode)>,
}

/// OffsetFetch of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedOffsets {
    /// With an error there are no topics.
    pub error: ErrorCode,
    pub topics: Vec<FetchedTopic>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchedTopic {
    /// As the request named it; by name when it named none.
    pub topic: TopicRef,
    pub partitions: Vec<FetchedOffset>,
}

/// Nothing committed: offset and epoch -1, no metadata, no error.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedOffset {
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub error: ErrorCode,
}

/// OffsetDelete.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedOffsets {
    /// With an error there are no topics.
    pub error: ErrorCode,
    pub topics: Vec<TopicErrors>,
}

/// ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroups {
    pub error: ErrorCode,
    pub groups: Vec<ListedGroup>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: GroupId,
    pub protocol_type: Arc<str>,
    pub state: &'static str,
    /// `classic` or `consumer`, as DescribeGroups and ListGroups spell it.
    pub group_type: &'static str,
}

/// DescribeGroups: one group.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedGroup {
    pub group: GroupId,
    pub error: ErrorCode,
    pub error_message: Option<String>,
    pub state: &'static str,
    pub protocol_type: Arc<str>,
    /// Only in a stable group.
    pub protocol: Arc<str>,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Of the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// ConsumerGroupHeartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerHeartbeatAnswer {
    pub error: ErrorCode,
    pub error_message: Option<String>,
    pub member: Option<MemberId>,
    pub member_epoch: MemberEpoch,
    pub heartbeat_interval_ms: i32,
    /// `None`: nothing new.
    pub assignment: Option<Vec<(TopicId, Vec<PartitionIndex>)>>,
}

/// ConsumerGroupDescribe: one group.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedConsumerGroup {
    pub group: GroupId,
    pub error: ErrorCode,
    pub error_message: Option<String>,
    pub state: &'static str,
    pub group_epoch: GroupEpoch,
    pub assignment_epoch: AssignmentEpoch,
    pub assignor: Arc<str>,
    pub members: Vec<DescribedConsumerMember>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedConsumerMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub member_epoch: MemberEpoch,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub subscribed_names: Vec<TopicName>,
    pub subscribed_regex: Option<Arc<str>>,
    pub assignment: Vec<DescribedPartitions>,
    pub target: Vec<DescribedPartitions>,
    /// -1 unknown, 0 classic, 1 consumer.
    pub member_type: i8,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedPartitions {
    pub topic_id: TopicId,
    pub topic: TopicName,
    pub partitions: Vec<PartitionIndex>,
}

impl Response {
    /// The answer to a call that is refused as a whole, without a look at any group: what a shell says while it loads, or when it is not in
    /// charge.
    pub fn refused(request: &Request, error: ErrorCode) -> Self {
        match request {
            Request::Join(join) => Self::Join(Joined::refused(join.member.clone(), error)),
            Request::Sync(_) => Self::Sync(Synced::refused(error)),
            Request::Heartbeat(_) => Self::Heartbeat(error),
            Request::Leave(_) => Self::Leave(Left { error, members: Vec::new() }),
            Request::CommitOffsets(commit) => Self::CommitOffsets(commit.refused(error)),
            Request::FetchOffsets(_) => {
                Self::FetchOffsets(FetchedOffsets { error, topics: Vec::new() })
            }
            Request::DeleteOffsets(_) => {
                Self::DeleteOffsets(DeletedOffsets { error, topics: Vec::new() })
            }
            Request::ListGroups(_) => Self::ListGroups(ListedGroups { error, groups: Vec::new() }),
            Request::DescribeGroups(groups) => Self::DescribeGroups(
                groups.iter().map(|group| DescribedGroup::refused(group, error)).collect(),
            ),
            Request::DeleteGroups(groups) => {
                Self::DeleteGroups(groups.iter().map(|group| (group.clone(), error)).collect())
            }
            Request::ConsumerHeartbeat(_) => {
                Self::ConsumerHeartbeat(ConsumerHeartbeatAnswer::refused(error, None))
            }
            Request::ConsumerDescribe(groups) => Self::ConsumerDescribe(
                groups.iter().map(|group| DescribedConsumerGroup::refused(group, error)).collect(),
            ),
        }
    }
}

impl Joined {
    pub(crate) fn refused(member: MemberId, error: ErrorCode) -> Self {
        Self {
            error,
            generation: GenerationId::NONE,
            protocol_type: None,
            protocol: None,
            leader: MemberId::default(),
            skips_assignment: false,
            member,
            members: Vec::new(),
        }
    }
}

impl Synced {
    pub(crate) fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

impl CommitOffsets {
    /// The same error for every partition.
    pub(crate) fn refused(&self, error: ErrorCode) -> Vec<TopicErrors> {
        let of_topic = |topic: &TopicCommits| TopicErrors {
            topic: topic.topic.clone(),
            partitions: topic.partitions.iter().map(|commit| (commit.partition, error)).collect(),
        };
        self.topics.iter().map(of_topic).collect()
    }
}

impl DescribedGroup {
    /// The state is that of a group which is not there.
    pub(crate) fn refused(group: &GroupId, error: ErrorCode) -> Self {
        Self {
            group: group.clone(),
            error,
            error_message: None,
            state: "Dead",
            protocol_type: Arc::default(),
            protocol: Arc::default(),
            members: Vec::new(),
        }
    }
}

impl ConsumerHeartbeatAnswer {
    pub(crate) fn refused(error: ErrorCode, error_message: Option<String>) -> Self {
        Self {
            error,
            error_message,
            member: None,
            member_epoch: MemberEpoch(0),
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }
}

impl DescribedConsumerGroup {
    pub(crate) fn refused(group: &GroupId, error: ErrorCode) -> Self {
        Self {
            group: group.clone(),
            error,
            error_message: None,
            state: "",
            group_epoch: GroupEpoch(0),
            assignment_epoch: AssignmentEpoch(0),
            assignor: Arc::default(),
            members: Vec::new(),
        }
    }
}
