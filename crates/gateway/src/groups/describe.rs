//! Groups as their coordinators know them, of both types in one shape.

use thalweg_kafka::consumer_protocol::{Assignment, PROTOCOL_TYPE, Subscription};
use thalweg_kafka::messages::consumer_group_describe as consumer;
use thalweg_kafka::messages::describe_groups as classic;
use thalweg_kafka::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    Response,
};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{ErrorCode, NodeId};
use tokio::time::timeout;

use super::{ask, by_topic, error_of, nobody, unexpected};
use crate::port::BrokerPort;
use crate::shared::Shared;

const CONSUMER_DESCRIBE_VERSION: i16 = 1;
/// The first in which a group that is not there is an error of its own.
const DESCRIBE_VERSION: i16 = 6;
const LIST_VERSION: i16 = 5;
const DELETE_VERSION: i16 = 2;

/// The groups of all coordinators, and who could not be asked.
pub(crate) struct Listed {
    pub(crate) groups: Vec<proto::GroupListing>,
    pub(crate) unreached: Vec<(NodeId, Error)>,
}

/// What there is, in order of the ids.
pub(crate) async fn list<B: BrokerPort>(
    shared: &Shared<B>,
    deadline: Deadline,
) -> Result<Listed, Error> {
    let wait_max = super::ANSWER_WAIT_MAX.min(deadline.remaining());
    let asking =
        shared.coordinators.call_each(nobody(), ListGroupsRequest::default().into(), LIST_VERSION);
    let answers = timeout(wait_max, asking).await.map_err(|_| Error::timed_out(wait_max))?;
    let mut listed = Listed { groups: Vec::new(), unreached: Vec::new() };
    for (node_id, answer) in answers {
        match answer.and_then(listing) {
            Ok(groups) => listed.groups.extend(groups),
            Err(error) => listed.unreached.push((node_id, error)),
        }
    }
    // While a group moves, two coordinators may list it.
    listed.groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
    listed.groups.dedup_by(|one, other| one.group_id == other.group_id);
    Ok(listed)
}

fn listing(response: Response) -> Result<Vec<proto::GroupListing>, Error> {
    let Response::ListGroups(response) = response else { return Err(unexpected()) };
    if let Some(error) = error_of(response.error_code, None, "the coordinator's groups") {
        return Err(error);
    }
    let one = |group: thalweg_kafka::messages::list_groups::ListedGroup| proto::GroupListing {
        r#type: group_type(&group.group_type).into(),
        state: state(&group.group_state).into(),
        protocol_type: group.protocol_type.to_string(),
        group_id: group.group_id.to_string(),
    };
    Ok(response.groups.into_iter().map(one).collect())
}

/// One group. As Kafka's tools do it: to those who ask for consumer groups, one of the classic type is not there.
pub(crate) async fn describe<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    deadline: Deadline,
) -> Result<proto::GroupDescription, Error> {
    let request =
        ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
    let answer = ask(shared, group, request, CONSUMER_DESCRIBE_VERSION, deadline).await?;
    let Response::ConsumerGroupDescribe(mut answer) = answer else { return Err(unexpected()) };
    let found = answer.groups.pop().ok_or_else(unexpected)?;
    match error_of(found.error_code, found.error_message.as_deref(), &what(group)) {
        None => return Ok(consumer_group(found)),
        Some(error) if error.code == ErrorCode::GroupIdNotFound => {}
        Some(error) => return Err(error),
    }
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let answer = ask(shared, group, request, DESCRIBE_VERSION, deadline).await?;
    let Response::DescribeGroups(mut answer) = answer else { return Err(unexpected()) };
    let found = answer.groups.pop().ok_or_else(unexpected)?;
    match error_of(found.error_code, found.error_message.as_deref(), &what(group)) {
        None => Ok(classic_group(found)),
        Some(error) => Err(error),
    }
}

/// Deletes one group.
pub(crate) async fn delete<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    deadline: Deadline,
) -> Result<(), Error> {
    let request = DeleteGroupsRequest { groups_names: vec![group.into()] };
    let answer = ask(shared, group, request, DELETE_VERSION, deadline).await?;
    let Response::DeleteGroups(mut answer) = answer else { return Err(unexpected()) };
    let result = answer.results.pop().ok_or_else(unexpected)?;
    match error_of(result.error_code, None, &what(group)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn what(group: &str) -> String {
    format!("group {:?}", crate::words::shown(group))
}

// ------------------------------------------------------------------- Consumer groups

fn consumer_group(group: consumer::DescribedGroup) -> proto::GroupDescription {
    proto::GroupDescription {
        group_id: group.group_id.to_string(),
        error: None,
        r#type: proto::GroupType::Consumer.into(),
        state: state(&group.group_state).into(),
        assignor: group.assignor_name.to_string(),
        group_epoch: Some(group.group_epoch),
        assignment_epoch: Some(group.assignment_epoch),
        members: group.members.into_iter().map(consumer_member).collect(),
    }
}

fn consumer_member(member: consumer::Member) -> proto::GroupMember {
    proto::GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.map(|id| id.to_string()).unwrap_or_default(),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        member_epoch: Some(member.member_epoch),
        subscribed_topics: member.subscribed_topic_names.iter().map(|it| it.to_string()).collect(),
        subscribed_pattern: member
            .subscribed_topic_regex
            .map(|pattern| pattern.to_string())
            .unwrap_or_default(),
        assignment: consumer_assignment(&member.assignment),
        target_assignment: consumer_assignment(&member.target_assignment),
    }
}

fn consumer_assignment(assignment: &consumer::Assignment) -> Vec<proto::TopicPartitionList> {
    by_topic(assignment.topic_partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.topic_name.to_string(), *partition))
    }))
}

// ------------------------------------------------------------------- Classic groups

fn classic_group(group: classic::DescribedGroup) -> proto::GroupDescription {
    let are_consumers = group.protocol_type == PROTOCOL_TYPE;
    proto::GroupDescription {
        group_id: group.group_id.to_string(),
        error: None,
        r#type: proto::GroupType::Classic.into(),
        state: state(&group.group_state).into(),
        assignor: group.protocol_data.to_string(),
        group_epoch: None,
        assignment_epoch: None,
        members: group
            .members
            .into_iter()
            .map(|member| classic_member(member, are_consumers))
            .collect(),
    }
}

/// What members tell each other is readable only where they are consumers; bytes that are not what they should be are shown as nothing.
fn classic_member(
    member: classic::DescribedGroupMember,
    are_consumers: bool,
) -> proto::GroupMember {
    let subscription = are_consumers
        .then(|| Subscription::decode(&member.member_metadata).ok())
        .flatten()
        .unwrap_or_default();
    let assignment = are_consumers
        .then(|| Assignment::decode(&member.member_assignment).ok())
        .flatten()
        .unwrap_or_default();
    let assignment = by_topic(assignment.assigned_partitions.iter().flat_map(|one| {
        one.partitions.iter().map(|partition| (one.topic.to_string(), *partition))
    }));
    proto::GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()).unwrap_or_default(),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        member_epoch: None,
        subscribed_topics: subscription.topics.iter().map(|topic| topic.to_string()).collect(),
        subscribed_pattern: String::new(),
        target_assignment: assignment.clone(),
        assignment,
    }
}

// ------------------------------------------------------------------- Words

/// Kafka spells states as its classes are called.
fn state(name: &str) -> proto::GroupState {
    match name {
        "Empty" => proto::GroupState::Empty,
        "PreparingRebalance" => proto::GroupState::PreparingRebalance,
        "CompletingRebalance" => proto::GroupState::CompletingRebalance,
        "Assigning" => proto::GroupState::Assigning,
        "Reconciling" => proto::GroupState::Reconciling,
        "Stable" => proto::GroupState::Stable,
        "Dead" => proto::GroupState::Dead,
        _ => proto::GroupState::Unspecified,
    }
}

fn group_type(name: &str) -> proto::GroupType {
    match name.to_ascii_lowercase().as_str() {
        "classic" => proto::GroupType::Classic,
        "consumer" => proto::GroupType::Consumer,
        _ => proto::GroupType::Unspecified,
    }
}
