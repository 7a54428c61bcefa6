//! Listing, describing and deleting groups.

use std::collections::HashMap;

use thalweg_group_core::request::ListGroups;
use thalweg_group_core::response::{
    DescribedConsumerGroup, DescribedConsumerMember, DescribedPartitions,
};
use thalweg_group_core::{Request, Response};
use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::consumer_group_describe as consumer;
use thalweg_kafka::messages::delete_groups::DeletableGroupResult;
use thalweg_kafka::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use thalweg_kafka::messages::list_groups::ListedGroup;
use thalweg_kafka::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest,
    DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest,
    ListGroupsResponse,
};
use thalweg_types::{ErrorCode, GroupId};

use super::{To, text};

/// First version of DescribeGroups in which a group that is not there is an error (KIP-1043); before, it is a dead group.
const NOT_FOUND_SINCE: i16 = 6;

/// "Not asked for": there is no authorisation yet that could be told.
const NO_OPERATIONS: i32 = i32::MIN;

impl To<'_> {
    pub(super) async fn list(self, request: ListGroupsRequest) -> ListGroupsResponse {
        let filter = ListGroups {
            states: request.states_filter.iter().map(text).collect(),
            types: request.types_filter.iter().map(text).collect(),
        };
        let listed = self.coordinator.list_groups(self.client, filter).await;
        let groups = listed.groups.into_iter().map(|group| ListedGroup {
            group_id: group.group.shared().into(),
            protocol_type: group.protocol_type.into(),
            group_state: group.state.into(),
            group_type: group.group_type.into(),
        });
        ListGroupsResponse {
            error_code: listed.error.code(),
            groups: groups.collect(),
            ..Default::default()
        }
    }

    pub(super) async fn describe(self, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let asked = groups(&request.groups);
        let answers =
            self.coordinator.ask_groups(self.client, asked, Request::DescribeGroups).await;
        let described = answers.into_iter().filter_map(|answer| match answer {
            Response::DescribeGroups(groups) => Some(groups),
            _ => None,
        });
        let described = described.flatten().map(|group| {
            let is_error =
                self.version >= NOT_FOUND_SINCE || group.error != ErrorCode::GroupIdNotFound;
            let error = if is_error { group.error } else { ErrorCode::None };
            let message = group.error_message.filter(|_| self.version >= NOT_FOUND_SINCE);
            let members = group.members.into_iter().map(|member| DescribedGroupMember {
                member_id: member.member.shared().into(),
                group_instance_id: member.instance.map(|id| id.shared().into()),
                client_id: member.client_id.into(),
                client_host: member.client_host.into(),
                member_metadata: member.metadata,
                member_assignment: member.assignment,
            });
            DescribedGroup {
                error_code: error.code(),
                error_message: message.map(KafkaString::from),
                group_id: group.group.shared().into(),
                group_state: group.state.into(),
                protocol_type: group.protocol_type.into(),
                protocol_data: group.protocol.into(),
                members: members.collect(),
                authorized_operations: NO_OPERATIONS,
            }
        });
        let groups = in_order(&request.groups, described, |group| &group.group_id);
        DescribeGroupsResponse { groups, ..Default::default() }
    }

    pub(super) async fn describe_consumer(
        self,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        let asked = groups(&request.group_ids);
        let answers =
            self.coordinator.ask_groups(self.client, asked, Request::ConsumerDescribe).await;
        let described = answers.into_iter().filter_map(|answer| match answer {
            Response::ConsumerDescribe(groups) => Some(groups),
            _ => None,
        });
        let described = described.flatten().map(consumer_group);
        let groups = in_order(&request.group_ids, described, |group| &group.group_id);
        ConsumerGroupDescribeResponse { groups, ..Default::default() }
    }

    pub(super) async fn delete(self, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let asked = groups(&request.groups_names);
        let answers = self.coordinator.ask_groups(self.client, asked, Request::DeleteGroups).await;
        let deleted = answers.into_iter().filter_map(|answer| match answer {
            Response::DeleteGroups(groups) => Some(groups),
            _ => None,
        });
        let results = deleted.flatten().map(|(group, error)| DeletableGroupResult {
            group_id: group.shared().into(),
            error_code: error.code(),
        });
        let results = in_order(&request.groups_names, results, |result| &result.group_id);
        DeleteGroupsResponse { results, ..Default::default() }
    }
}

fn consumer_group(group: DescribedConsumerGroup) -> consumer::DescribedGroup {
    consumer::DescribedGroup {
        error_code: group.error.code(),
        error_message: group.error_message.map(KafkaString::from),
        group_id: group.group.shared().into(),
        group_state: group.state.into(),
        group_epoch: group.group_epoch.0,
        assignment_epoch: group.assignment_epoch.0,
        assignor_name: group.assignor.into(),
        members: group.members.into_iter().map(consumer_member).collect(),
        authorized_operations: NO_OPERATIONS,
    }
}

fn consumer_member(member: DescribedConsumerMember) -> consumer::Member {
    consumer::Member {
        member_id: member.member.shared().into(),
        instance_id: member.instance.map(|id| id.shared().into()),
        rack_id: member.rack.map(KafkaString::from),
        member_epoch: member.member_epoch.0,
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        subscribed_topic_names: member.subscribed_names.iter().map(KafkaString::from).collect(),
        subscribed_topic_regex: member.subscribed_regex.map(KafkaString::from),
        assignment: assignment(member.assignment),
        target_assignment: assignment(member.target),
        member_type: member.member_type,
    }
}

fn assignment(topics: Vec<DescribedPartitions>) -> consumer::Assignment {
    let topics = topics.into_iter().map(|topic| consumer::TopicPartitions {
        topic_id: topic.topic_id.0,
        topic_name: KafkaString::from(&topic.topic),
        partitions: topic.partitions.into_iter().map(|partition| partition.0).collect(),
    });
    consumer::Assignment { topic_partitions: topics.collect() }
}

fn groups(names: &[KafkaString]) -> Vec<GroupId> {
    names.iter().map(|name| GroupId::from(text(name))).collect()
}

/// What is about several groups, in the order in which they were asked for.
fn in_order<T>(
    asked: &[KafkaString],
    answers: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &KafkaString,
) -> Vec<T> {
    let places: HashMap<&str, usize> =
        asked.iter().enumerate().map(|(place, group)| (group.as_str(), place)).collect();
    let mut answers: Vec<_> = answers.collect();
    answers.sort_by_key(|answer| places.get(name(answer).as_str()).copied());
    answers
}
