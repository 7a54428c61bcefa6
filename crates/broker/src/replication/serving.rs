//! The leader's side of replication streams: who may open one, and what comes in on it.
//!
//! ```text
//!  hello ─► checked: for us, of this cluster, of the follower's newest session and stream ─► older stream closed
//!  handshakes ─► partitions ─► answers ┐
//!  reports ────► partitions            ├─► FollowerStream ─► responses, as fast as the follower takes them
//!  taken ──────────────────────────────┘
//! ```
//!
//! What a bad peer says ends its own stream with a typed refusal and changes nothing else (B52).

mod stream;
mod throttle;
mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use thalweg_metadata_feed::Feed;
use thalweg_proto::internal::replication::v1 as proto;
use thalweg_proto::internal::replication::v1::replication_server::{
    Replication, ReplicationServer,
};
use thalweg_replication_core::{Answer, Handshake, HandshakeRefusal, Verdict};
use thalweg_rpc::Error;
use thalweg_types::{BrokerEpoch, ErrorCode, NodeId, TopicIdPartition};
use tonic::{Request, Response, Status, Streaming};

use super::Hub;
use super::wire::{self, Malformed};
use crate::hosting::Hosted;
pub(crate) use stream::FollowerStream;
pub(crate) use throttle::Throttle;

/// How long a stream may be open before the follower has said who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// Largest request: handshakes and reports of tens of thousands of partitions.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The service that followers call.
#[derive(Debug, Clone)]
pub struct ReplicationService(Arc<Serving>);

#[derive(Debug)]
struct Serving {
    hub: Arc<Hub>,
    hosted: Arc<Hosted>,
    feed: Feed,
    /// The newest of each follower. At most one for each node there ever was.
    streams: Mutex<HashMap<NodeId, Arc<FollowerStream>>>,
    is_closed: AtomicBool,
}

impl ReplicationService {
    pub(crate) fn new(hub: Arc<Hub>, hosted: Arc<Hosted>, feed: Feed) -> Self {
        Self(Arc::new(Serving {
            hub,
            hosted,
            feed,
            streams: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// Ends every stream and lets nobody begin another: a server that stops would wait for them.
    pub fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.streams.lock().values().for_each(|stream| stream.close(None));
    }

    /// As a route of a server.
    pub fn into_server(self) -> ReplicationServer<Self> {
        ReplicationServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Replication for ReplicationService {
    type ReplicateStream = BoxStream<'static, Result<proto::ReplicateResponse, Status>>;

    async fn replicate(
        &self,
        request: Request<Streaming<proto::ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(HELLO_PATIENCE, requests.message())
            .await
            .map_err(|_| Error::timed_out(HELLO_PATIENCE))?
            .map_err(Error::from)?
            .ok_or_else(|| Error::invalid_request("the stream ended before it began"))?;
        let stream = self.0.open(first.hello.as_ref())?;
        let (serving, reader) = (Arc::clone(&self.0), Arc::clone(&stream));
        let first = proto::ReplicateRequest { hello: None, ..first };
        // Ends with the requests, or with the responses: their stream is dropped when the follower is gone.
        tokio::spawn(async move { serving.read(&reader, first, requests).await });
        Ok(Response::new(Box::pin(stream::responses(stream))))
    }
}

impl Serving {
    /// Checks who speaks, and closes its older stream.
    fn open(&self, hello: Option<&proto::Hello>) -> Result<Arc<FollowerStream>, Error> {
        let hello = hello.ok_or_else(|| Error::invalid_request("a stream begins with hello"))?;
        let (node, epoch) = (NodeId(hello.node_id), BrokerEpoch(hello.broker_epoch));
        let me = self.hub.me();
        if hello.leader_id != me.node.0 {
            let message = format!("this is node {}, not node {}", me.node, hello.leader_id);
            return Err(Error::new(ErrorCode::InvalidRequest, message));
        }
        let image = self.feed.image();
        let cluster = wire::uuid(&hello.cluster_id, "cluster_id")?;
        if image.cluster_id().is_some_and(|id| id.0 != cluster) {
            let message = format!("the follower belongs to cluster {cluster}");
            return Err(Error::new(ErrorCode::InconsistentClusterId, message));
        }
        if node == me.node {
            return Err(Error::invalid_request("a broker does not follow itself"));
        }
        let registered = image.node(node).map_or(BrokerEpoch::NONE, |node| node.broker_epoch);
        if epoch < registered {
            let message = format!("session {epoch} of node {node} is over, it is in {registered}");
            return Err(Error::new(ErrorCode::StaleBrokerEpoch, message));
        }
        let stream = FollowerStream::new(node, (epoch, hello.stream), hello, &self.hub);
        let mut streams = self.streams.lock();
        if self.is_closed.load(Ordering::Acquire) {
            let message = format!("node {} is shutting down", me.node);
            return Err(Error::new(ErrorCode::BrokerNotAvailable, message));
        }
        if let Some(older) = streams.get(&node) {
            // A session that the metadata does not know, or not any more, gives way to the one it knows.
            let is_other = epoch == registered && older.number().0 != registered;
            if older.number() >= stream.number() && !is_other {
                let message = format!("a newer stream of node {node} is open");
                return Err(Error::new(ErrorCode::StaleBrokerEpoch, message));
            }
            older.close(None);
        }
        let stream = Arc::new(stream);
        streams.insert(node, Arc::clone(&stream));
        Ok(stream)
    }

    /// Takes in what the follower says until it stops.
    async fn read(
        &self,
        stream: &Arc<FollowerStream>,
        first: proto::ReplicateRequest,
        mut requests: Streaming<proto::ReplicateRequest>,
    ) {
        let ended = self.take_in_all(stream, first, &mut requests).await;
        if let Err(error) = ended {
            tracing::debug!(follower = %stream.node(), %error, "replication stream ended");
            stream.close(Some(error));
        }
        stream.close(None);
        for partition in self.hosted.all() {
            partition.handle_stream_gone(stream);
        }
        let mut streams = self.streams.lock();
        if streams.get(&stream.node()).is_some_and(|newest| Arc::ptr_eq(newest, stream)) {
            streams.remove(&stream.node());
        }
    }

    async fn take_in_all(
        &self,
        stream: &Arc<FollowerStream>,
        first: proto::ReplicateRequest,
        requests: &mut Streaming<proto::ReplicateRequest>,
    ) -> Result<(), Error> {
        self.take_in(stream, first)?;
        loop {
            let request = tokio::select! {
                request = requests.message() => request?,
                () = stream.closed() => return Ok(()),
            };
            let Some(request) = request else { return Ok(()) };
            if request.hello.is_some() {
                return Err(Error::invalid_request("a stream has one hello"));
            }
            self.take_in(stream, request)?;
        }
    }

    fn take_in(
        &self,
        stream: &Arc<FollowerStream>,
        request: proto::ReplicateRequest,
    ) -> Result<(), Error> {
        stream.taken(request.taken_count)?;
        for handshake in request.handshakes {
            let session = (stream.node(), stream.number().0);
            let (id, handshake) = wire::handshake_from_proto(session, handshake)?;
            if let Some(answer) = self.answer(id, &handshake, stream) {
                stream.answer(wire::answer_to_proto(id, &answer))?;
            }
        }
        for report in request.reports {
            let (id, report) = wire::report_from_proto(report)?;
            let Some(partition) = self.hosted.get(id) else { continue };
            partition.handle_report(&report, stream).map_err(|refusal| {
                Error::invalid_request(format!("{}: {refusal}", partition.name()))
            })?;
        }
        Ok(())
    }

    fn answer(
        &self,
        id: TopicIdPartition,
        handshake: &Handshake,
        stream: &Arc<FollowerStream>,
    ) -> Option<Answer> {
        match self.hosted.get(id) {
            Some(partition) => partition.handle_handshake(handshake, stream),
            // Perhaps the metadata here is older than the follower's.
            None => Some(Answer {
                leader_epoch: handshake.leader_epoch,
                attempt: handshake.attempt,
                verdict: Verdict::Refused(HandshakeRefusal::NotLeader),
            }),
        }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_request(malformed.to_string())
    }
}
