//! Calls about groups: each goes to its group's coordinator, and one about several groups is split and put together again.
//!
//! When no coordinator answers, the client is told `COORDINATOR_NOT_AVAILABLE`, on which it looks for the coordinator and asks again.

use futures_util::stream::{self, StreamExt as _};
use thalweg_kafka::messages::offset_fetch::OffsetFetchResponseGroup;
use thalweg_kafka::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, SyncGroupResponse, consumer_group_describe,
    delete_groups, describe_groups, offset_commit, offset_fetch,
};
use thalweg_kafka::{ApiKey, KafkaString, Reply, Request, RequestContext, Response};
use thalweg_kafka_cluster::Member as _;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;

use super::KafkaBackend;
use crate::port::ClientRef;

/// The calls answered here.
pub(super) const APIS: &[ApiKey] = &[
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
];

/// First version of OffsetFetch that is about several groups (KIP-709).
const FETCHES_MANY_SINCE: i16 = 8;

/// Groups of one request that are asked for at a time.
const ASKED_AT_ONCE: usize = 64;

/// On whose behalf, and in which version.
struct Caller<'a> {
    backend: &'a KafkaBackend,
    client: ClientRef,
    version: i16,
}

pub(super) async fn answer(
    backend: &KafkaBackend,
    context: &RequestContext,
    request: Request,
) -> Reply {
    let caller = Caller {
        backend,
        client: ClientRef {
            id: context.client_id.clone().unwrap_or_default(),
            // As Kafka shows it.
            host: KafkaString::from(format!("/{}", context.peer.ip())),
        },
        version: context.api_version,
    };
    let response = match request {
        Request::OffsetFetch(request) if caller.version >= FETCHES_MANY_SINCE => {
            caller.fetch_offsets(request).await.into()
        }
        Request::DescribeGroups(request) => caller.describe(request).await.into(),
        Request::ConsumerGroupDescribe(request) => caller.describe_consumer(request).await.into(),
        Request::DeleteGroups(request) => caller.delete(request).await.into(),
        Request::ListGroups(request) => caller.list(request).await.into(),
        request => caller.of_one_group(request).await,
    };
    Reply::Response(response)
}

impl Caller<'_> {
    async fn ask(&self, group: &str, request: Request) -> Result<Response, Error> {
        let coordinators = &self.backend.parts.coordinators;
        coordinators.call(group, self.client.clone(), request, self.version).await
    }

    /// A call that names one group is passed on as it is.
    async fn of_one_group(&self, request: Request) -> Response {
        let Some((group, unanswered)) = one_group(&request) else {
            // `answer` has taken all others.
            return HeartbeatResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..Default::default()
            }
            .into();
        };
        match self.ask(&group, request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%error, group = &*group, "no coordinator answered");
                unanswered
            }
        }
    }

    async fn fetch_offsets(&self, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let require_stable = request.require_stable;
        let groups = self.each(request.groups, |group| {
            let name = group.group_id.clone();
            let one =
                OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
            async move {
                match self.ask(&name, one.into()).await {
                    Ok(Response::OffsetFetch(answer)) => answer.groups,
                    _ => vec![OffsetFetchResponseGroup {
                        group_id: name,
                        error_code: NOT_AVAILABLE,
                        ..Default::default()
                    }],
                }
            }
        });
        OffsetFetchResponse { groups: groups.await, ..Default::default() }
    }

    async fn describe(&self, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let include_authorized_operations = request.include_authorized_operations;
        let groups = self.each(request.groups, |name| {
            let groups = vec![name.clone()];
            let one = DescribeGroupsRequest { groups, include_authorized_operations };
            async move {
                match self.ask(&name, one.into()).await {
                    Ok(Response::DescribeGroups(answer)) => answer.groups,
                    _ => vec![describe_groups::DescribedGroup {
                        group_id: name,
                        error_code: NOT_AVAILABLE,
                        ..Default::default()
                    }],
                }
            }
        });
        DescribeGroupsResponse { groups: groups.await, ..Default::default() }
    }

    async fn describe_consumer(
        &self,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        let include_authorized_operations = request.include_authorized_operations;
        let groups = self.each(request.group_ids, |name| {
            let group_ids = vec![name.clone()];
            let one = ConsumerGroupDescribeRequest { group_ids, include_authorized_operations };
            async move {
                match self.ask(&name, one.into()).await {
                    Ok(Response::ConsumerGroupDescribe(answer)) => answer.groups,
                    _ => vec![consumer_group_describe::DescribedGroup {
                        group_id: name,
                        error_code: NOT_AVAILABLE,
                        ..Default::default()
                    }],
                }
            }
        });
        ConsumerGroupDescribeResponse { groups: groups.await, ..Default::default() }
    }

    async fn delete(&self, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let results = self.each(request.groups_names, |name| {
            let one = DeleteGroupsRequest { groups_names: vec![name.clone()] };
            async move {
                match self.ask(&name, one.into()).await {
                    Ok(Response::DeleteGroups(answer)) => answer.results,
                    _ => vec![delete_groups::DeletableGroupResult {
                        group_id: name,
                        error_code: NOT_AVAILABLE,
                    }],
                }
            }
        });
        DeleteGroupsResponse { results: results.await, ..Default::default() }
    }

    /// Clients ask every node and put the answers together: each gateway answers for its share of the coordinators.
    async fn list(&self, request: ListGroupsRequest) -> ListGroupsResponse {
        let coordinators = &self.backend.parts.coordinators;
        let answers =
            coordinators.call_each(self.client.clone(), request.into(), self.version).await;
        let image = self.backend.image();
        let view = self.backend.view(&image);
        let mut whole = ListGroupsResponse::default();
        for (_, answer) in answers.into_iter().filter(|(node, _)| view.stands_for(*node)) {
            match answer {
                Ok(Response::ListGroups(share)) => {
                    whole.groups.extend(share.groups);
                    if whole.error_code == ErrorCode::None.code() {
                        whole.error_code = share.error_code;
                    }
                }
                _ => whole.error_code = NOT_AVAILABLE,
            }
        }
        whole
    }

    /// Asks for every item, and puts the answers together in the order of the items.
    async fn each<T, R, F>(&self, items: Vec<T>, ask: impl Fn(T) -> F) -> Vec<R>
    where
        F: Future<Output = Vec<R>>,
    {
        stream::iter(items.into_iter().map(ask)).buffered(ASKED_AT_ONCE).concat().await
    }
}

const NOT_AVAILABLE: i16 = ErrorCode::CoordinatorNotAvailable as i16;

/// The group of a call about one, and what is answered if its coordinator does not.
fn one_group(request: &Request) -> Option<(KafkaString, Response)> {
    let error_code = NOT_AVAILABLE;
    Some(match request {
        Request::JoinGroup(request) => {
            let member_id = request.member_id.clone();
            let response = JoinGroupResponse { error_code, member_id, ..Default::default() };
            (request.group_id.clone(), response.into())
        }
        Request::SyncGroup(request) => {
            let response = SyncGroupResponse { error_code, ..Default::default() };
            (request.group_id.clone(), response.into())
        }
        Request::Heartbeat(request) => {
            let response = HeartbeatResponse { error_code, ..Default::default() };
            (request.group_id.clone(), response.into())
        }
        Request::LeaveGroup(request) => {
            let response = LeaveGroupResponse { error_code, ..Default::default() };
            (request.group_id.clone(), response.into())
        }
        Request::ConsumerGroupHeartbeat(request) => {
            let response = ConsumerGroupHeartbeatResponse {
                error_code,
                error_message: Some("no coordinator answers".into()),
                ..Default::default()
            };
            (request.group_id.clone(), response.into())
        }
        Request::OffsetDelete(request) => {
            let response = OffsetDeleteResponse { error_code, ..Default::default() };
            (request.group_id.clone(), response.into())
        }
        Request::OffsetCommit(request) => (request.group_id.clone(), not_committed(request).into()),
        Request::OffsetFetch(request) => (request.group_id.clone(), not_fetched(request).into()),
        _ => return None,
    })
}

fn not_committed(request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let topic = |topic: &offset_commit::OffsetCommitRequestTopic| {
        let partition = |one: &offset_commit::OffsetCommitRequestPartition| {
            offset_commit::OffsetCommitResponsePartition {
                partition_index: one.partition_index,
                error_code: NOT_AVAILABLE,
            }
        };
        offset_commit::OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(partition).collect(),
        }
    };
    OffsetCommitResponse {
        topics: request.topics.iter().map(topic).collect(),
        ..Default::default()
    }
}

/// Before version 2 there is no place but the partitions for an error.
fn not_fetched(request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let topic = |topic: &offset_fetch::OffsetFetchRequestTopic| {
        let partition = |index: &i32| offset_fetch::OffsetFetchResponsePartition {
            partition_index: *index,
            committed_offset: -1,
            metadata: Some(KafkaString::default()),
            error_code: NOT_AVAILABLE,
            ..Default::default()
        };
        offset_fetch::OffsetFetchResponseTopic {
            name: topic.name.clone(),
            partitions: topic.partition_indexes.iter().map(partition).collect(),
        }
    };
    let topics = request.topics.iter().flatten().map(topic).collect();
    OffsetFetchResponse { topics, error_code: NOT_AVAILABLE, ..Default::default() }
}
