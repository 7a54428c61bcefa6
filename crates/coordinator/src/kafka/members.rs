//! What members say and are told: joining, heartbeats, leaving, in both protocols.

use thalweg_group_core::request::{
    ConsumerHeartbeat, Heartbeat, Join, Leave, LeavingMember, Protocol, Sync,
};
use thalweg_group_core::{Request, Response};
use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::consumer_group_heartbeat::{AssignedTopicPartitions, Assignment};
use thalweg_kafka::messages::join_group::JoinGroupResponseMember;
use thalweg_kafka::messages::leave_group::MemberResponse;
use thalweg_kafka::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use thalweg_types::{
    ErrorCode, GenerationId, GroupId, InstanceId, MemberEpoch, MemberId, PartitionIndex, TopicId,
    TopicName,
};

use super::{To, text};

/// First version of JoinGroup in which a new member joins in two steps (KIP-394).
const TWO_STEPS_SINCE: i16 = 4;
/// First versions with a rebalance timeout, with the type of protocol in the answer, and in which a leader need not assign (KIP-814).
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
const PROTOCOL_TYPE_SINCE: i16 = 7;
const SKIPS_ASSIGNMENT_SINCE: i16 = 9;
/// First version of LeaveGroup that names several members (KIP-345).
const MANY_LEAVE_SINCE: i16 = 3;
/// First version of ConsumerGroupHeartbeat in which clients make their ids (KIP-1082).
const CLIENT_MADE_ID_SINCE: i16 = 1;

impl To<'_> {
    pub(super) async fn join(self, request: JoinGroupRequest) -> JoinGroupResponse {
        let group = request.group_id.clone();
        let response = self.ask(&group, Request::Join(self.join_request(request))).await;
        let Response::Join(joined) = response else { return JoinGroupResponse::default() };
        let knows_type = self.version >= PROTOCOL_TYPE_SINCE;
        let member = |member: thalweg_group_core::response::JoinedMember| JoinGroupResponseMember {
            member_id: member.member.shared().into(),
            group_instance_id: member.instance.map(|id| id.shared().into()),
            metadata: member.metadata,
        };
        JoinGroupResponse {
            error_code: joined.error.code(),
            generation_id: joined.generation.0,
            protocol_type: joined.protocol_type.map(KafkaString::from),
            // Null is said in newer versions only.
            protocol_name: match joined.protocol {
                None if !knows_type => Some(KafkaString::default()),
                protocol => protocol.map(KafkaString::from),
            },
            leader: joined.leader.shared().into(),
            skip_assignment: joined.skips_assignment && self.version >= SKIPS_ASSIGNMENT_SINCE,
            member_id: joined.member.shared().into(),
            members: joined.members.into_iter().map(member).collect(),
            ..Default::default()
        }
    }

    fn join_request(self, request: JoinGroupRequest) -> Join {
        let has_rebalance_timeout = self.version >= REBALANCE_TIMEOUT_SINCE;
        let protocols = request.protocols.into_iter();
        Join {
            group: group_id(&request.group_id),
            member: member_id(&request.member_id),
            instance: instance_id(request.group_instance_id),
            protocol_type: text(&request.protocol_type),
            protocols: protocols
                .map(|protocol| Protocol {
                    name: text(&protocol.name),
                    metadata: protocol.metadata,
                })
                .collect(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: match has_rebalance_timeout {
                true => request.rebalance_timeout_ms,
                false => request.session_timeout_ms,
            },
            requires_known_member: self.version >= TWO_STEPS_SINCE,
            supports_skipping_assignment: self.version >= SKIPS_ASSIGNMENT_SINCE,
            reason: request.reason.as_ref().map(text),
        }
    }

    pub(super) async fn sync(self, request: SyncGroupRequest) -> SyncGroupResponse {
        let group = request.group_id;
        let assignments = request.assignments.into_iter();
        let sync = Sync {
            group: group_id(&group),
            member: member_id(&request.member_id),
            instance: instance_id(request.group_instance_id),
            generation: GenerationId(request.generation_id),
            protocol_type: request.protocol_type.as_ref().map(text),
            protocol: request.protocol_name.as_ref().map(text),
            assignments: assignments
                .map(|share| (member_id(&share.member_id), share.assignment))
                .collect(),
        };
        let Response::Sync(synced) = self.ask(&group, Request::Sync(sync)).await else {
            return SyncGroupResponse::default();
        };
        SyncGroupResponse {
            error_code: synced.error.code(),
            protocol_type: synced.protocol_type.map(KafkaString::from),
            protocol_name: synced.protocol.map(KafkaString::from),
            assignment: synced.assignment,
            ..Default::default()
        }
    }

    pub(super) async fn heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse {
        let group = request.group_id;
        let heartbeat = Heartbeat {
            group: group_id(&group),
            member: member_id(&request.member_id),
            instance: instance_id(request.group_instance_id),
            generation: GenerationId(request.generation_id),
        };
        let error = match self.ask(&group, Request::Heartbeat(heartbeat)).await {
            Response::Heartbeat(error) => error,
            _ => ErrorCode::UnknownServerError,
        };
        HeartbeatResponse { error_code: error.code(), ..Default::default() }
    }

    pub(super) async fn leave(self, request: LeaveGroupRequest) -> LeaveGroupResponse {
        let group = request.group_id;
        let members = match self.version >= MANY_LEAVE_SINCE {
            true => {
                let members = request.members.into_iter();
                let leaving = members.map(|member| LeavingMember {
                    member: member_id(&member.member_id),
                    instance: instance_id(member.group_instance_id),
                    reason: member.reason.as_ref().map(text),
                });
                leaving.collect()
            }
            false => vec![LeavingMember {
                member: member_id(&request.member_id),
                instance: None,
                reason: None,
            }],
        };
        let leave = Leave { group: group_id(&group), members };
        let Response::Leave(left) = self.ask(&group, Request::Leave(leave)).await else {
            return LeaveGroupResponse::default();
        };
        if self.version < MANY_LEAVE_SINCE {
            let of_member = left.members.first().map_or(ErrorCode::None, |member| member.error);
            let error = if left.error == ErrorCode::None { of_member } else { left.error };
            return LeaveGroupResponse { error_code: error.code(), ..Default::default() };
        }
        let members = left.members.into_iter().map(|member| MemberResponse {
            member_id: member.member.shared().into(),
            group_instance_id: member.instance.map(|id| id.shared().into()),
            error_code: member.error.code(),
        });
        LeaveGroupResponse {
            error_code: left.error.code(),
            members: members.collect(),
            ..Default::default()
        }
    }

    pub(super) async fn consumer_heartbeat(
        self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let group = request.group_id.clone();
        let heartbeat = match self.consumer_request(request) {
            Ok(heartbeat) => heartbeat,
            Err(invalid) => {
                return ConsumerGroupHeartbeatResponse {
                    error_code: ErrorCode::InvalidRequest.code(),
                    error_message: Some(invalid.into()),
                    ..Default::default()
                };
            }
        };
        let response = self.ask(&group, Request::ConsumerHeartbeat(heartbeat)).await;
        let Response::ConsumerHeartbeat(answer) = response else {
            return ConsumerGroupHeartbeatResponse::default();
        };
        let assigned = |(topic, partitions): (TopicId, Vec<PartitionIndex>)| {
            let partitions = partitions.into_iter().map(|partition| partition.0).collect();
            AssignedTopicPartitions { topic_id: topic.0, partitions }
        };
        ConsumerGroupHeartbeatResponse {
            error_code: answer.error.code(),
            error_message: answer.error_message.map(KafkaString::from),
            member_id: answer.member.map(|id| id.shared().into()),
            member_epoch: answer.member_epoch.0,
            heartbeat_interval_ms: answer.heartbeat_interval_ms,
            assignment: answer.assignment.map(|topics| Assignment {
                topic_partitions: topics.into_iter().map(assigned).collect(),
            }),
            ..Default::default()
        }
    }

    fn consumer_request(
        self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerHeartbeat, String> {
        let names = request.subscribed_topic_names.map(|names| {
            let names = names.iter().map(|name| TopicName::new(name));
            names.collect::<Result<Vec<_>, _>>()
        });
        let owned = request.topic_partitions.map(|topics| {
            let of_topic = topics.into_iter().map(|topic| {
                let partitions = topic.partitions.into_iter().map(PartitionIndex).collect();
                (TopicId(topic.topic_id), partitions)
            });
            of_topic.collect()
        });
        Ok(ConsumerHeartbeat {
            group: group_id(&request.group_id),
            member: member_id(&request.member_id),
            member_epoch: MemberEpoch(request.member_epoch),
            instance: instance_id(request.instance_id),
            rack: request.rack_id.as_ref().map(text),
            rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
            subscribed_names: names.transpose().map_err(|invalid| invalid.to_string())?,
            subscribed_regex: request.subscribed_topic_regex.as_ref().map(text),
            server_assignor: request.server_assignor.as_ref().map(text),
            owned,
            requires_client_made_id: self.version >= CLIENT_MADE_ID_SINCE,
        })
    }

    pub(super) async fn ask(self, group: &str, request: Request) -> Response {
        self.coordinator.ask_group(self.client, group, request).await
    }
}

fn group_id(id: &KafkaString) -> GroupId {
    GroupId::from(text(id))
}

fn member_id(id: &KafkaString) -> MemberId {
    MemberId::from(text(id))
}

fn instance_id(id: Option<KafkaString>) -> Option<InstanceId> {
    id.map(|id| InstanceId::from(text(&id)))
}
