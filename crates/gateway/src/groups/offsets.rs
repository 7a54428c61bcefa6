//! Committed offsets: kept, looked up.

use std::collections::BTreeMap;

use thalweg_kafka::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use thalweg_kafka::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use thalweg_kafka::messages::{OffsetCommitRequest, OffsetFetchRequest, Response};
use thalweg_rpc::{Deadline, Error};
use thalweg_types::ErrorCode;

use super::{GroupCall, ask, ask_as, error_of, unexpected};
use crate::port::{BrokerPort, ClientRef};
use crate::shared::Shared;

/// The last version in which topics go by name, which is what callers know.
const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 9;

/// A partition, by the names callers use.
pub(crate) type Name = (String, i32);

/// In whose name offsets are committed. The default: nobody's, in a group without members.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) instance_id: Option<String>,
}

/// A position to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: i64,
    /// -1: not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// What is kept for one partition.
pub(crate) type Kept = Result<Option<Position>, Error>;

impl Default for Member {
    fn default() -> Self {
        Self { member_id: String::new(), epoch: -1, instance_id: None }
    }
}

impl Position {
    pub(crate) fn at(offset: i64) -> Self {
        Self { offset, leader_epoch: -1, metadata: String::new() }
    }
}

/// Commits, and tells what became of each partition; those that are missing in the coordinator's answer are errors.
pub(crate) async fn commit<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    client: ClientRef,
    member: Member,
    positions: BTreeMap<Name, Position>,
    deadline: Deadline,
) -> Result<BTreeMap<Name, Result<(), Error>>, Error> {
    let names: Vec<Name> = positions.keys().cloned().collect();
    let request = commit_request(group, member, positions);
    let call = GroupCall { group, client, request: request.into(), version: COMMIT_VERSION };
    let wait_max = super::ANSWER_WAIT_MAX.min(deadline.remaining());
    let Response::OffsetCommit(response) = ask_as(shared, call, wait_max).await? else {
        return Err(unexpected());
    };
    let mut told: BTreeMap<Name, i16> = BTreeMap::new();
    for topic in response.topics {
        for partition in topic.partitions {
            told.insert((topic.name.to_string(), partition.partition_index), partition.error_code);
        }
    }
    let answer = |name: Name| {
        let result = match told.get(&name) {
            None => Err(unexpected()),
            Some(code) => match error_of(*code, None, &refusal(group, &name)) {
                None => Ok(()),
                Some(error) => Err(error),
            },
        };
        (name, result)
    };
    Ok(names.into_iter().map(answer).collect())
}

fn commit_request(
    group: &str,
    member: Member,
    positions: BTreeMap<Name, Position>,
) -> OffsetCommitRequest {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for ((topic, partition), position) in positions {
        let partition = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: position.offset,
            committed_leader_epoch: position.leader_epoch,
            committed_metadata: Some(position.metadata.into()),
        };
        match topics.last_mut() {
            Some(last) if last.name == topic.as_str() => last.partitions.push(partition),
            _ => topics.push(OffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: member.epoch,
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Into::into),
        topics,
        ..Default::default()
    }
}

fn refusal(group: &str, (topic, partition): &Name) -> String {
    format!("the offset of {topic}-{partition} was not committed for group {group:?}")
}

/// What is kept for `names`, or for everything when there are none: then only what is there is in the answer.
pub(crate) async fn committed<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    names: Option<Vec<Name>>,
    require_stable: bool,
    deadline: Deadline,
) -> Result<BTreeMap<Name, Kept>, Error> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: names.clone().map(fetch_topics),
            ..Default::default()
        }],
        require_stable,
        ..Default::default()
    };
    let response = ask(shared, group, request, FETCH_VERSION, deadline).await?;
    let Response::OffsetFetch(mut response) = response else { return Err(unexpected()) };
    let Some(answer) = response.groups.pop() else { return Err(unexpected()) };
    if let Some(error) = error_of(answer.error_code, None, &format!("offsets of group {group:?}")) {
        // A group that nobody has heard of has committed nothing.
        if error.code != ErrorCode::GroupIdNotFound {
            return Err(error);
        }
    }
    let mut kept: BTreeMap<Name, Kept> =
        names.into_iter().flatten().map(|name| (name, Ok(None))).collect();
    for topic in answer.topics {
        for partition in topic.partitions {
            let name = (topic.name.to_string(), partition.partition_index);
            let what = format!("the committed offset of {}-{}", name.0, name.1);
            let position = Position {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata.map(|text| text.to_string()).unwrap_or_default(),
            };
            let found = match error_of(partition.error_code, None, &what) {
                Some(error) => Err(error),
                None => Ok((position.offset >= 0).then_some(position)),
            };
            kept.insert(name, found);
        }
    }
    Ok(kept)
}

fn fetch_topics(names: Vec<Name>) -> Vec<OffsetFetchRequestTopics> {
    super::by_topic(names)
        .into_iter()
        .map(|list| OffsetFetchRequestTopics {
            name: list.topic.into(),
            partition_indexes: list.partitions,
            ..Default::default()
        })
        .collect()
}
