//! One stream of appends to one broker: what is queued for it, what it was sent, and the task that keeps it.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_proto::internal::broker::v1::append_request::Condition;
use thalweg_rpc::Error;
use thalweg_types::{Acks, ErrorCode, NodeId, Offset, TopicPartition};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Status;

use super::Shared;
use super::lanes::{LaneId, Ticket};
use crate::routed::nodes::Client;
use crate::routed::words;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LinkId(pub(super) u64);

/// A batch's place in the queue. It counts only while its lane is in the same round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) lane: LaneId,
    pub(super) position: u64,
    pub(super) round: u64,
}

/// What a link sends next.
#[derive(Debug)]
pub(super) enum Taken {
    Batch {
        at: TopicPartition,
        bytes: Bytes,
        acks: Acks,
        deadline: Instant,
        expected_offset: Option<Offset>,
        round: u64,
    },
    /// Nothing at present; the waker is kept.
    Nothing,
    /// Nothing ever.
    Finished,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) endpoint: String,
    node: NodeId,
    queue: VecDeque<Queued>,
    /// Without an answer, by number.
    sent: BTreeMap<u64, Ticket>,
    sent_count: u64,
    is_retired: bool,
    waker: Option<Waker>,
    task: AbortHandle,
}

impl Link {
    pub(super) fn new(node: NodeId, endpoint: String, task: AbortHandle) -> Self {
        Self {
            endpoint,
            node,
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            sent_count: 0,
            is_retired: false,
            waker: None,
            task,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.is_retired
    }

    pub(super) fn queue(&mut self, queued: Queued) {
        self.queue.push_back(queued);
    }

    /// Who waits for the queue to fill.
    pub(super) fn wake(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    pub(super) fn retire(&mut self) -> Option<Waker> {
        tracing::debug!(node = %self.node, endpoint = self.endpoint, "nothing more is sent to it");
        self.is_retired = true;
        self.waker.take()
    }

    pub(super) fn next(&mut self, waker: &Waker) -> Result<Queued, Taken> {
        match self.queue.pop_front() {
            Some(queued) => Ok(queued),
            None if self.is_retired => Err(Taken::Finished),
            None => {
                self.waker = Some(waker.clone());
                Err(Taken::Nothing)
            }
        }
    }

    /// Counts a batch as sent; returns its number.
    pub(super) fn send(&mut self, ticket: Ticket) -> u64 {
        let number = self.sent_count;
        self.sent_count += 1;
        self.sent.insert(number, ticket);
        number
    }

    pub(super) fn answered(&mut self, number: u64) -> Option<Ticket> {
        self.sent.remove(&number)
    }

    /// Its answer is not waited for.
    pub(super) fn forget(&mut self, number: u64) {
        self.sent.remove(&number);
    }

    /// In the order in which they were sent.
    pub(super) fn take_sent(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.sent).into_values().collect()
    }

    pub(super) fn take_queue(&mut self) -> VecDeque<Queued> {
        std::mem::take(&mut self.queue)
    }

    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

/// The sending side of the stream, as the connection takes it.
struct Outbound {
    shared: Arc<Shared>,
    id: LinkId,
}

impl Stream for Outbound {
    type Item = proto::AppendRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.shared.with(|lanes| lanes.take(self.id, context.waker())) {
            Taken::Finished => Poll::Ready(None),
            Taken::Nothing => Poll::Pending,
            Taken::Batch { at, bytes, acks, deadline, expected_offset, round } => {
                let left = deadline.saturating_duration_since(Instant::now());
                Poll::Ready(Some(proto::AppendRequest {
                    topic: at.topic.to_string(),
                    partition: at.partition.0,
                    batch: bytes,
                    acks: words::acks(acks).into(),
                    timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
                    round,
                    condition: expected_offset.map(|offset| Condition::ExpectedOffset(offset.0)),
                }))
            }
        }
    }
}

/// Keeps the stream until it ends, for whatever reason.
pub(super) async fn run(shared: Arc<Shared>, id: LinkId, client: Client) {
    let outbound = Outbound { shared: Arc::clone(&shared), id };
    let error = match keep(&shared, id, client, outbound).await {
        Ok(()) => Error::new(ErrorCode::NetworkException, "the broker ended the stream"),
        Err(status) => Error::from(status),
    };
    tracing::debug!(%error, "a stream of appends has ended");
    let error = Error::new(ErrorCode::NetworkException, error.message);
    shared.with(|lanes| lanes.lost(id, &error, Instant::now()));
}

async fn keep(
    shared: &Shared,
    id: LinkId,
    mut client: Client,
    outbound: Outbound,
) -> Result<(), Status> {
    let mut answers = client.append(outbound).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let now = Instant::now();
        shared.with(|lanes| {
            for result in answer.results {
                lanes.answered(id, result.number, words::produced(result), now);
            }
            if answer.closing {
                lanes.retire(id);
            }
        });
    }
    Ok(())
}
