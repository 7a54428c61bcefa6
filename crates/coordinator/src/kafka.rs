//! The Kafka calls about groups, translated: what clients send to what `group-core` decides on, and back.
//!
//! Versions differ in form only where this module can even it out; where they differ in meaning, the request says so to the core.

mod administration;
mod members;
mod offsets;

use std::fmt;
use std::sync::Arc;

use thalweg_group_core::Client;
use thalweg_kafka::{
    ApiKey, ApiTable, Backend, Features, KafkaString, Reply, Request, RequestContext, Response,
};
use thalweg_kafka_cluster as kafka_cluster;

use crate::coordinator::{CLUSTER_APIS, Coordinator};

/// The calls about groups, each in every version the protocol crate knows.
pub const GROUP_APIS: &[ApiKey] = &[
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

/// A [`Coordinator`] as the Kafka listener sees it.
pub struct KafkaBackend {
    coordinator: Arc<Coordinator>,
    apis: ApiTable,
}

impl KafkaBackend {
    pub fn new(coordinator: Arc<Coordinator>) -> Self {
        let apis = [&[ApiKey::ApiVersions], GROUP_APIS, CLUSTER_APIS].concat();
        Self { coordinator, apis: ApiTable::of(&apis) }
    }
}

impl fmt::Debug for KafkaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBackend").finish_non_exhaustive()
    }
}

impl Backend for KafkaBackend {
    fn apis(&self) -> &ApiTable {
        &self.apis
    }

    fn features(&self) -> Features {
        kafka_cluster::features(&kafka_cluster::Member::image(&*self.coordinator))
    }

    async fn handle(self: &Arc<Self>, context: RequestContext, request: Request) -> Reply {
        if GROUP_APIS.contains(&context.api_key) {
            let client = client_of(&context);
            return match answer(&self.coordinator, &client, context.api_version, request).await {
                Some(response) => Reply::Response(response),
                None => Reply::Close,
            };
        }
        kafka_cluster::answer(&*self.coordinator, context.api_version, request).await
    }
}

/// Answers one of [`GROUP_APIS`]; `None` for every other request.
pub(crate) async fn answer(
    coordinator: &Coordinator,
    client: &Client,
    version: i16,
    request: Request,
) -> Option<Response> {
    let to = To { coordinator, client, version };
    Some(match request {
        Request::JoinGroup(request) => to.join(request).await.into(),
        Request::SyncGroup(request) => to.sync(request).await.into(),
        Request::Heartbeat(request) => to.heartbeat(request).await.into(),
        Request::LeaveGroup(request) => to.leave(request).await.into(),
        Request::ConsumerGroupHeartbeat(request) => to.consumer_heartbeat(request).await.into(),
        Request::OffsetCommit(request) => to.commit(request).await.into(),
        Request::OffsetFetch(request) => to.fetch(request).await.into(),
        Request::OffsetDelete(request) => to.delete_offsets(request).await.into(),
        Request::ListGroups(request) => to.list(request).await.into(),
        Request::DescribeGroups(request) => to.describe(request).await.into(),
        Request::ConsumerGroupDescribe(request) => to.describe_consumer(request).await.into(),
        Request::DeleteGroups(request) => to.delete(request).await.into(),
        _ => return None,
    })
}

/// To whom a call goes, from whom, in which version.
#[derive(Clone, Copy)]
struct To<'a> {
    coordinator: &'a Coordinator,
    client: &'a Client,
    version: i16,
}

fn client_of(context: &RequestContext) -> Client {
    let id = context.client_id.as_ref().map_or("", KafkaString::as_str);
    Client { id: id.into(), host: format!("/{}", context.peer.ip().to_canonical()).into() }
}

/// Text that outlives the message.
fn text(text: &KafkaString) -> Arc<str> {
    text.as_str().into()
}
