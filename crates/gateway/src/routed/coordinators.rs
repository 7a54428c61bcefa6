//! The coordinators of a cluster, as one: a call goes to the node that the metadata names for the group.
//!
//! A coordinator that does not coordinate the group (any more, or yet) says so in the answer; then the metadata here or there are behind,
//! and the call is made again when they change. What was sent and not answered is not sent again: the client knows better what that
//! means for it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use thalweg_kafka::{ApiKey, Reader, Request, Response, Writer};
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::Feed;
use thalweg_proto::internal::coordinator::v1 as proto;
use thalweg_proto::internal::coordinator::v1::coordinator_client::CoordinatorClient;
use thalweg_rpc::{Error, MESSAGE_BYTES_MAX, channel};
use thalweg_types::{ErrorCode, NodeId};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

use super::nodes::internal_endpoint;
use super::words;
use crate::port::{ClientRef, CoordinatorPort};

/// How long a call looks for its coordinator. Less than a session timeout of a group's member, which is at least six seconds.
const COORDINATOR_WAIT_MAX: Duration = Duration::from_secs(3);

/// Wait before a call is made again when the metadata says nothing new; doubled every time.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(250);

/// Longest time for a coordinator to answer what it need not wait for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

type Client = CoordinatorClient<Channel>;

/// All coordinators of a cluster. Dropping it ends its connections.
#[derive(Debug)]
pub struct RoutedCoordinators {
    feed: Feed,
    /// Where connections live, whoever needs them first.
    runtime: Handle,
    /// With the address behind each.
    known: Mutex<HashMap<NodeId, (String, Client)>>,
}

impl RoutedCoordinators {
    /// Goes by the metadata of `feed`. Must be called within a tokio runtime.
    pub fn new(feed: Feed) -> Self {
        Self { feed, runtime: Handle::current(), known: Mutex::default() }
    }

    async fn ask(
        &self,
        group: &str,
        request: proto::CallRequest,
        key: ApiKey,
        version: i16,
    ) -> Result<Response, Error> {
        let end = Instant::now() + COORDINATOR_WAIT_MAX;
        let mut pause = RETRY_PAUSE_FIRST;
        loop {
            let mut changed = self.feed.changed();
            changed.mark_unchanged();
            let image = self.feed.image();
            let answer = match coordinator_of(&image, group) {
                Ok(node) => self.call_node(&image, node, request.clone(), key, version).await?,
                Err(error) if Instant::now() + pause >= end => return Err(error),
                Err(_) => None,
            };
            match answer {
                Some(answer) if !is_elsewhere(&answer) || Instant::now() + pause >= end => {
                    return Ok(answer);
                }
                _ => {
                    // News or not, somebody may coordinate it by then.
                    let _ = timeout(pause, changed.changed()).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    /// `None`: the node cannot be reached, and so has not been asked.
    async fn call_node(
        &self,
        image: &Image,
        node: NodeId,
        request: proto::CallRequest,
        key: ApiKey,
        version: i16,
    ) -> Result<Option<Response>, Error> {
        let mut client = self.client(image, node)?;
        match client.call(request).await {
            Ok(answer) => decode(key, version, answer.into_inner().body).map(Some),
            Err(status) => {
                let error = Error::from(status);
                if words::is_about_place(&error) { Ok(None) } else { Err(error) }
            }
        }
    }

    fn client(&self, image: &Image, node: NodeId) -> Result<Client, Error> {
        let endpoint = internal_endpoint(image, node)?;
        let mut known = self.known.lock();
        known.retain(|id, _| image.node(*id).is_some());
        if let Some((_, client)) = known.get(&node).filter(|(known, _)| *known == endpoint) {
            return Ok(client.clone());
        }
        let _connections_live_there = self.runtime.enter();
        let channel = channel(&endpoint).map_err(|error| words::unavailable(error.to_string()))?;
        let client = CoordinatorClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        known.insert(node, (endpoint, client.clone()));
        Ok(client)
    }
}

impl CoordinatorPort for RoutedCoordinators {
    fn call(
        &self,
        group: &str,
        client: ClientRef,
        request: Request,
        version: i16,
    ) -> BoxFuture<'_, Result<Response, Error>> {
        let group = group.to_owned();
        async move {
            let key = request.api_key();
            let request = encode(&client, request, version)?;
            self.ask(&group, request, key, version).await
        }
        .boxed()
    }

    fn call_each(
        &self,
        client: ClientRef,
        request: Request,
        version: i16,
    ) -> BoxFuture<'_, Vec<(NodeId, Result<Response, Error>)>> {
        async move {
            let image = self.feed.image();
            let key = request.api_key();
            let request = encode(&client, request, version);
            let asked = image.live_coordinators().map(|node| {
                let (id, request, image) = (node.id, request.clone(), &image);
                async move {
                    let answer = async {
                        let asked = self.call_node(image, id, request?, key, version);
                        let unreachable = || words::unavailable(format!("node {id} is not there"));
                        match timeout(ANSWER_TIME_MAX, asked).await {
                            Ok(answer) => answer?.ok_or_else(unreachable),
                            Err(_) => Err(Error::timed_out(ANSWER_TIME_MAX)),
                        }
                    };
                    (id, answer.await)
                }
            });
            join_all(asked).await
        }
        .boxed()
    }
}

/// Who coordinates a group, as far as the metadata say.
fn coordinator_of(image: &Image, group: &str) -> Result<NodeId, Error> {
    let nobody = || {
        let message = format!("nobody coordinates group {group:?} at present");
        Error::new(ErrorCode::CoordinatorNotAvailable, message).not_applied()
    };
    let partition = image.group_partition(group).ok_or_else(nobody)?;
    image.coordinator_node(partition).map(|node| node.id).ok_or_else(nobody)
}

fn encode(client: &ClientRef, request: Request, version: i16) -> Result<proto::CallRequest, Error> {
    let api_key = i32::from(request.api_key() as i16);
    let mut writer = Writer::new();
    request.encode(version, &mut writer).map_err(|error| {
        Error::new(ErrorCode::InvalidRequest, format!("it cannot be passed on: {error}"))
            .not_applied()
    })?;
    Ok(proto::CallRequest {
        api_key,
        api_version: version.into(),
        client_id: client.id.to_string(),
        client_host: client.host.to_string(),
        body: writer.finish().to_bytes(),
    })
}

fn decode(key: ApiKey, version: i16, body: Bytes) -> Result<Response, Error> {
    let unreadable = |error| {
        let message = format!("a coordinator's answer cannot be read: {error}");
        Error::new(ErrorCode::UnknownServerError, message).outcome_unknown()
    };
    let mut reader = Reader::new(BytesMut::from(body));
    let response = Response::decode(key, version, &mut reader).map_err(unreadable)?;
    reader.finish().map_err(unreadable)?;
    Ok(response)
}

/// Whether the node that answered does not coordinate the group. Nothing was done then.
fn is_elsewhere(response: &Response) -> bool {
    let elsewhere = ErrorCode::NotCoordinator.code();
    match response {
        Response::JoinGroup(answer) => answer.error_code == elsewhere,
        Response::SyncGroup(answer) => answer.error_code == elsewhere,
        Response::Heartbeat(answer) => answer.error_code == elsewhere,
        Response::LeaveGroup(answer) => answer.error_code == elsewhere,
        Response::ConsumerGroupHeartbeat(answer) => answer.error_code == elsewhere,
        Response::OffsetDelete(answer) => answer.error_code == elsewhere,
        Response::OffsetCommit(answer) => {
            let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.any(|partition| partition.error_code == elsewhere)
        }
        Response::OffsetFetch(answer) => {
            let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            answer.error_code == elsewhere
                || answer.groups.iter().any(|group| group.error_code == elsewhere)
                || partitions.any(|partition| partition.error_code == elsewhere)
        }
        Response::DescribeGroups(answer) => {
            answer.groups.iter().any(|group| group.error_code == elsewhere)
        }
        Response::ConsumerGroupDescribe(answer) => {
            answer.groups.iter().any(|group| group.error_code == elsewhere)
        }
        Response::DeleteGroups(answer) => {
            answer.results.iter().any(|group| group.error_code == elsewhere)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use thalweg_kafka::messages::{HeartbeatRequest, HeartbeatResponse};

    use super::*;

    #[test]
    fn calls_and_answers_pass_unchanged() {
        let client = ClientRef { id: "c".into(), host: "/127.0.0.1".into() };
        let request = HeartbeatRequest { group_id: "g".into(), ..Default::default() };
        let wire = encode(&client, request.clone().into(), 4).unwrap();
        assert_eq!((wire.api_key, wire.api_version), (12, 4));
        let mut reader = Reader::new(BytesMut::from(wire.body));
        let read = Request::decode(ApiKey::Heartbeat, 4, &mut reader).unwrap();
        assert_eq!(read, Request::from(request));

        let answer = HeartbeatResponse { error_code: 16, ..Default::default() };
        let mut writer = Writer::new();
        Response::from(answer.clone()).encode(4, &mut writer).unwrap();
        let bytes = writer.finish().to_bytes();
        let read = decode(ApiKey::Heartbeat, 4, bytes.clone()).unwrap();
        assert_eq!(read, Response::from(answer));
        assert!(is_elsewhere(&read));
        assert!(decode(ApiKey::Heartbeat, 4, bytes.slice(1..)).is_err());
        assert!(decode(ApiKey::Heartbeat, 0, bytes).is_err());
    }
}
