//! One stream to one leader, from hello to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use thalweg_metadata_feed::codec;
use thalweg_proto::internal::replication::v1 as proto;
use thalweg_proto::internal::replication::v1::replication_client::ReplicationClient;
use thalweg_rpc::{Error, MESSAGE_BYTES_MAX};
use thalweg_storage::AppendError;
use thalweg_types::{ClusterId, ErrorCode, LeaderEpoch, NodeId, Offset, TopicIdPartition};
use tokio::sync::Notify;

use super::{Following, Upstream};
use crate::partition::{PushError, ReceivedPush};
use crate::replication::wire;

/// Bytes of batches that may be on their way to us: in all, and of one partition. The first covers a fast network's round trip, the
/// second bounds how much of a replica that is behind may stand before what others wait for.
const WINDOW_BYTES: u64 = 8 << 20;
const PARTITION_WINDOW_BYTES: u64 = 1 << 20;

/// The leader hears what was taken in with the next report, or when it has come to this much.
const TOLD_AFTER_BYTES: u64 = 256 << 10;

/// How long a leader may take to answer the opening of a stream.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);

/// Handshakes and reports in one request.
const REQUEST_PARTITIONS_MAX: usize = 5_000;

/// The sending half's view of the stream.
struct Sending {
    upstream: Arc<Upstream>,
    progress: Arc<Progress>,
    hello: Option<proto::Hello>,
    /// Taken off the list and not sent yet.
    left: Vec<Arc<crate::partition::Partition>>,
}

/// What was taken in.
#[derive(Default)]
struct Progress {
    taken_count: AtomicU64,
    untold_bytes: AtomicU64,
    has_ended: AtomicBool,
    due: Notify,
}

/// Ends the sending half with the receiving one.
struct Receiving(Arc<Progress>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Release);
        self.0.due.notify_one();
    }
}

impl Following {
    /// Opens a stream and keeps it until it ends. Says why it did.
    pub(super) async fn exchange(&self, upstream: &Arc<Upstream>) -> Error {
        let Err(error) = self.try_exchange(upstream).await else {
            return Error::new(ErrorCode::NetworkException, "the leader has ended the stream");
        };
        error
    }

    async fn try_exchange(&self, upstream: &Arc<Upstream>) -> Result<(), Error> {
        let address = self.address(upstream.leader)?;
        let channel = thalweg_rpc::channel(&address)
            .map_err(|error| Error::new(ErrorCode::BrokerNotAvailable, error.to_string()))?;
        let mut client =
            ReplicationClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let progress = Arc::new(Progress::default());
        let receiving = Receiving(Arc::clone(&progress));
        let sending = Sending {
            upstream: Arc::clone(upstream),
            progress,
            hello: Some(self.hello(upstream.leader)),
            left: Vec::new(),
        };
        let opening = client.replicate(requests(sending));
        let opened = tokio::time::timeout(OPEN_PATIENCE, opening).await;
        let mut responses = opened.map_err(|_| Error::timed_out(OPEN_PATIENCE))??.into_inner();
        while let Some(response) = responses.message().await? {
            self.take_in(upstream.leader, response, &receiving.0).await?;
        }
        Ok(())
    }

    fn hello(&self, leader: NodeId) -> proto::Hello {
        let me = self.hub.me();
        let cluster = self
            .feed
            .image()
            .cluster_id()
            .map_or_else(Bytes::new, |ClusterId(id)| codec::uuid_to_proto(id));
        proto::Hello {
            node_id: me.node.0,
            broker_epoch: me.broker_epoch.0,
            stream: self.hub.upstreams.next_stream(),
            leader_id: leader.0,
            window_bytes: WINDOW_BYTES,
            partition_window_bytes: PARTITION_WINDOW_BYTES,
            cluster_id: cluster,
        }
    }

    async fn take_in(
        &self,
        leader: NodeId,
        response: proto::ReplicateResponse,
        progress: &Progress,
    ) -> Result<(), Error> {
        for answer in response.answers {
            let (id, answer, refused) = wire::answer_from_proto(answer)?;
            if let Some(code) = refused {
                tracing::debug!(%leader, partition = %id, code = code.name(), "not pushed to yet");
            }
            if let Some(partition) = self.hosted.get(id) {
                partition.handle_answer(&answer);
            }
        }
        let mut bytes = 0;
        for push in response.pushes {
            bytes += push.batches.iter().map(Bytes::len).sum::<usize>() as u64;
            let id = wire::id_from_proto(push.partition.clone())?;
            self.take_push(id, push).await?;
        }
        for closing in response.closings {
            let id = wire::id_from_proto(closing.partition)?;
            if let Some(partition) = self.hosted.get(id) {
                partition.handle_leader_gone(leader);
            }
        }
        progress.taken_count.fetch_add(1, Ordering::AcqRel);
        let untold = progress.untold_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if untold >= TOLD_AFTER_BYTES {
            progress.due.notify_one();
        }
        Ok(())
    }

    async fn take_push(&self, id: TopicIdPartition, push: proto::Push) -> Result<(), Error> {
        // Given up here, or deleted, a moment ago.
        let Some(partition) = self.hosted.get(id) else { return Ok(()) };
        let positions = [push.high_watermark, push.log_start, push.log_end].map(Offset);
        let epoch = LeaderEpoch(push.leader_epoch);
        let push = ReceivedPush::new(push.session, epoch, positions, push.batches)
            .map_err(|error| bad_push(id, &error))?;
        let pushed = if !push.has_batches() {
            partition.handle_push(&push)
        } else {
            // Nothing more is read from the stream until there is room: the leader's window closes.
            match self.admission.enter().await {
                Ok(_permit) => partition.handle_push(&push),
                Err(error) => return Err(Error::new(error.code(), error.to_string())),
            }
        };
        match pushed {
            Ok(()) => Ok(()),
            Err(PushError::Refused(refusal)) => Err(bad_push(id, &refusal)),
            Err(PushError::Damaged(error)) => Err(bad_push(id, &error)),
            // No partition finds room now: what comes meanwhile would only be refused, too.
            Err(PushError::Log(
                error @ (AppendError::Throttled
                | AppendError::NoSpace { .. }
                | AppendError::Failed(_)),
            )) => Err(Error::new(error.code(), error.to_string())),
            Err(PushError::Log(error)) => {
                tracing::warn!(partition = %partition.name(), %error, "cannot append as a follower");
                Ok(())
            }
        }
    }
}

/// The leader pushed what no leader may. Nothing of it was taken.
fn bad_push(id: TopicIdPartition, error: &dyn std::fmt::Display) -> Error {
    tracing::error!(partition = %id, %error, "a push was refused, and the stream is closed");
    Error::new(ErrorCode::CorruptMessage, format!("{id}: {error}"))
}

/// The requests, each made when the connection asks for it.
fn requests(sending: Sending) -> impl Stream<Item = proto::ReplicateRequest> + Send + 'static {
    futures_util::stream::unfold(sending, |mut sending| async move {
        let request = sending.next().await?;
        Some((request, sending))
    })
}

impl Drop for Sending {
    /// What was not sent is for the next stream.
    fn drop(&mut self) {
        self.left.drain(..).for_each(|partition| self.upstream.outbox.put(partition));
        self.upstream.outbox.nudge();
    }
}

impl Sending {
    /// `None` at the end of the stream.
    async fn next(&mut self) -> Option<proto::ReplicateRequest> {
        loop {
            if self.progress.has_ended.load(Ordering::Acquire) {
                return None;
            }
            let request = self.compose();
            let is_news = request.hello.is_some()
                || !request.handshakes.is_empty()
                || !request.reports.is_empty()
                || self.progress.untold_bytes.load(Ordering::Acquire) >= TOLD_AFTER_BYTES;
            if is_news {
                self.progress.untold_bytes.store(0, Ordering::Release);
                return Some(request);
            }
            tokio::select! {
                () = self.upstream.outbox.filled() => {}
                () = self.progress.due.notified() => {}
            }
        }
    }

    fn compose(&mut self) -> proto::ReplicateRequest {
        let mut request = proto::ReplicateRequest {
            hello: self.hello.take(),
            taken_count: self.progress.taken_count.load(Ordering::Acquire),
            ..Default::default()
        };
        if self.left.is_empty() {
            self.left = self.upstream.outbox.take_now();
        }
        let count = self.left.len().min(REQUEST_PARTITIONS_MAX);
        for partition in self.left.drain(..count) {
            let (handshake, report) = partition.take_for_leader(self.upstream.leader);
            let id = partition.id();
            request.handshakes.extend(handshake.map(|it| wire::handshake_to_proto(id, &it)));
            request.reports.extend(report.map(|it| wire::report_to_proto(id, &it)));
        }
        request
    }
}
