//! One stream of appends: batches go to their partitions in the order they came, and are answered as they are decided.
//!
//! ```text
//!  request ─► round already refused? ─► appended (waiting for room, and reading nothing meanwhile) ─► acknowledgement awaited ─► answer
//! ```
//!
//! A gateway sends many batches of a partition without waiting. When the leader changes in between, the first ones may be refused and the
//! next ones not, if this broker comes to lead just then; sending the first ones again would turn the order round. So a refusal that the
//! gateway answers by sending again closes the partition for this round of the stream, and the higher round opens it.
//!
//! The answer's body drives everything: who does not take answers is not read from.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{Acks, ErrorCode, Offset, Outcome, TopicPartition};
use tokio::sync::watch;
use tonic::{Status, Streaming};

use super::words;
use crate::broker::{Broker, TopicRef};
use crate::error::{AppendError, ProduceError};
use crate::partition::{Condition, Pending};

/// Batches without an answer. They cost a few hundred bytes each; their records are the log's.
const BATCHES_IN_FLIGHT_MAX: usize = 4_096;

/// Bytes of batches without an answer. One is always taken, however large.
const BYTES_IN_FLIGHT_MAX: usize = 32 * 1024 * 1024;

/// Answers in one message, which a window of 4 MiB holds many times.
const ANSWERS_AT_ONCE_MAX: usize = 1_024;

/// Partitions closed for the present round. A gateway opens them again as it sends; whoever leaves more behind is no gateway.
const REFUSED_PARTITIONS_MAX: usize = 100_000;

pub(super) fn answers(
    broker: Arc<Broker>,
    requests: Streaming<proto::AppendRequest>,
    closing: watch::Receiver<bool>,
) -> impl Stream<Item = Result<proto::AppendResponse, Status>> + Send {
    let appends = Appends {
        broker,
        requests: Some(requests),
        closing: Some(closing),
        read_count: 0,
        appending: None,
        pending: FuturesUnordered::new(),
        bytes_in_flight: 0,
        refused: HashMap::new(),
    };
    stream::unfold(Some(appends), |appends| async move {
        let mut appends = appends?;
        match appends.next().await {
            Ok(Some(answer)) => Some((Ok(answer), Some(appends))),
            Ok(None) => None,
            Err(error) => Some((Err(error.into()), None)),
        }
    })
}

struct Appends {
    broker: Arc<Broker>,
    /// `None`: the gateway has closed its side.
    requests: Option<Streaming<proto::AppendRequest>>,
    /// `None`: the gateway has been told.
    closing: Option<watch::Receiver<bool>>,
    read_count: u64,
    /// The batch at work now. The next request is read when it is done.
    appending: Option<BoxFuture<'static, Appended>>,
    /// Appended batches whose acknowledgement is awaited.
    pending: FuturesUnordered<BoxFuture<'static, (proto::AppendResult, usize)>>,
    bytes_in_flight: usize,
    /// Partitions and the rounds up to which they are closed, with the reason.
    refused: HashMap<TopicPartition, (u64, Error)>,
}

/// A request whose words have been checked.
struct Order {
    at: TopicPartition,
    batch: BytesMut,
    acks: Acks,
    wait: Duration,
    round: u64,
    condition: Option<Condition>,
}

/// An append that was tried.
struct Appended {
    number: u64,
    bytes: usize,
    at: TopicPartition,
    acks: Acks,
    wait: Duration,
    /// `None`: of a coordinator, who sends nothing again as it was.
    round: Option<u64>,
    result: Result<Pending, AppendError>,
}

/// What happens next on a stream.
enum Event {
    Acknowledged(proto::AppendResult, usize),
    Appended(Appended),
    Request(proto::AppendRequest),
    RequestsEnded,
    Closing,
}

impl Appends {
    /// The next message; `None` after the last.
    async fn next(&mut self) -> Result<Option<proto::AppendResponse>, Error> {
        let mut answer = proto::AppendResponse::default();
        while answer.results.is_empty() && !answer.closing {
            let is_over = self.requests.is_none() && self.appending.is_none();
            if is_over && self.pending.is_empty() {
                return Ok(None);
            }
            match self.event().await? {
                Event::Acknowledged(result, bytes) => {
                    answer.results.push(self.acknowledged(result, bytes));
                }
                Event::Appended(appended) => answer.results.extend(self.appended(appended)?),
                Event::Request(request) => answer.results.extend(self.begin(request)),
                Event::RequestsEnded => self.requests = None,
                Event::Closing => {
                    self.closing = None;
                    answer.closing = true;
                }
            }
        }
        // Acknowledgements come in groups, by the flush that covers them.
        while answer.results.len() < ANSWERS_AT_ONCE_MAX
            && let Some(Some((result, bytes))) = self.pending.next().now_or_never()
        {
            answer.results.push(self.acknowledged(result, bytes));
        }
        Ok(Some(answer))
    }

    fn acknowledged(&mut self, result: proto::AppendResult, bytes: usize) -> proto::AppendResult {
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(bytes);
        result
    }

    async fn event(&mut self) -> Result<Event, Error> {
        let reads_on = self.appending.is_none() && self.has_room();
        let Self { requests, closing, appending, pending, .. } = self;
        tokio::select! {
            biased;
            Some((result, bytes)) = pending.next(), if !pending.is_empty() => {
                Ok(Event::Acknowledged(result, bytes))
            }
            appended = maybe(appending.as_mut()) => {
                *appending = None;
                Ok(Event::Appended(appended))
            }
            () = told(closing.as_mut()) => Ok(Event::Closing),
            request = read(requests.as_mut()), if reads_on => match request {
                Ok(Some(request)) => Ok(Event::Request(request)),
                Ok(None) => Ok(Event::RequestsEnded),
                Err(status) => Err(unreadable(status)),
            },
        }
    }

    fn has_room(&self) -> bool {
        self.pending.len() < BATCHES_IN_FLIGHT_MAX
            && (self.bytes_in_flight < BYTES_IN_FLIGHT_MAX || self.pending.is_empty())
    }

    /// Hands a batch to its partition, or refuses it.
    fn begin(&mut self, request: proto::AppendRequest) -> Option<proto::AppendResult> {
        let number = self.read_count;
        self.read_count += 1;
        let order = match check(request) {
            Ok(order) => order,
            Err(error) => return Some(refused(number, &error)),
        };
        if let Some(error) = self.closed(&order) {
            return Some(refused(number, &error));
        }
        let broker = Arc::clone(&self.broker);
        let appending = async move {
            let round = order.round();
            let Order { at, batch, acks, wait, condition, .. } = order;
            let bytes = batch.len();
            let found = broker.partition(&TopicRef::Name(at.topic.as_str()), at.partition);
            let result = match (found, condition) {
                (Ok(partition), Some(Condition::Coordinator(condition))) if batch.is_empty() => {
                    broker.check_condition(&partition, condition)
                }
                (Ok(partition), condition) => {
                    broker.append_if(&partition, batch, acks, condition.as_ref()).await
                }
                (Err(unknown), _) => Err(unknown.into()),
            };
            Appended { number, bytes, at, acks, wait, round, result }
        };
        self.appending = Some(appending.boxed());
        None
    }

    /// Why a batch is refused without being looked at.
    fn closed(&mut self, order: &Order) -> Option<Error> {
        if self.closing.is_none() {
            let message = "this broker is shutting down";
            let error = Error::new(ErrorCode::BrokerNotAvailable, message).not_applied();
            return Some(Error { retriable: true, ..error });
        }
        let given = order.round()?;
        match self.refused.get(&order.at) {
            Some((round, error)) if given <= *round => Some(error.clone()),
            Some(_) => {
                self.refused.remove(&order.at);
                None
            }
            None => None,
        }
    }

    /// What to answer at once, if anything.
    fn appended(&mut self, appended: Appended) -> Result<Option<proto::AppendResult>, Error> {
        let Appended { number, bytes, at, acks, wait, round, result } = appended;
        let pending = match result {
            Ok(_) if acks == Acks::None => return Ok(Some(without_offsets(number))),
            Ok(pending) => pending,
            Err(error) => {
                let error = words::not_produced(&self.broker, &error.into(), &at);
                if let Some(round) = round.filter(|_| is_sent_again(&error)) {
                    self.close(at, round, error.clone())?;
                }
                return Ok(Some(refused(number, &error)));
            }
        };
        let broker = Arc::clone(&self.broker);
        let awaiting = async move {
            let acknowledged = broker.acknowledged(pending, wait).await;
            (acknowledged_result(&broker, number, &at, acknowledged), bytes)
        };
        self.bytes_in_flight += bytes;
        self.pending.push(awaiting.boxed());
        Ok(None)
    }

    fn close(&mut self, at: TopicPartition, round: u64, error: Error) -> Result<(), Error> {
        if self.refused.len() >= REFUSED_PARTITIONS_MAX && !self.refused.contains_key(&at) {
            return Err(Error::invalid_request(format!(
                "{REFUSED_PARTITIONS_MAX} partitions of one stream were refused and not sent again"
            )));
        }
        self.refused.insert(at, (round, error));
        Ok(())
    }
}

impl Order {
    /// `None`: its condition alone decides.
    fn round(&self) -> Option<u64> {
        match self.condition {
            Some(Condition::Coordinator(_)) => None,
            Some(Condition::Offset(_)) | None => Some(self.round),
        }
    }
}

/// Whether gateways answer this by sending the batch again, here or elsewhere.
fn is_sent_again(error: &Error) -> bool {
    let is_about_place = matches!(
        error.code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownTopicOrPartition
    );
    is_about_place && error.outcome == Outcome::NotApplied
}

fn check(request: proto::AppendRequest) -> Result<Order, Error> {
    Ok(Order {
        at: words::partition(&request.topic, request.partition)?,
        acks: words::acks(request.acks)?,
        wait: Duration::from_millis(request.timeout_ms.into()),
        round: request.round,
        condition: words::condition(request.condition, !request.batch.is_empty())?,
        // The log stamps it in place. While another message is in the buffer it came in, this is a copy.
        batch: request.batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..])),
    })
}

fn acknowledged_result(
    broker: &Broker,
    number: u64,
    at: &TopicPartition,
    acknowledged: Result<thalweg_storage::Appended, ProduceError>,
) -> proto::AppendResult {
    match acknowledged {
        Ok(appended) => proto::AppendResult {
            number,
            base_offset: appended.base_offset.0,
            log_start_offset: appended.log_start_offset.0,
            log_append_time_ms: appended.log_append_time.map(|time| time.0),
            refusal: None,
        },
        Err(error) => refused(number, &words::not_produced(broker, &error, at)),
    }
}

fn without_offsets(number: u64) -> proto::AppendResult {
    proto::AppendResult {
        number,
        base_offset: Offset::NONE.0,
        log_start_offset: Offset::NONE.0,
        log_append_time_ms: None,
        refusal: None,
    }
}

fn refused(number: u64, error: &Error) -> proto::AppendResult {
    proto::AppendResult { refusal: Some(words::refusal(error)), ..without_offsets(number) }
}

/// The stream broke in the middle of a request, which therefore was not begun.
fn unreadable(status: Status) -> Error {
    match Error::refused_by_library(&status) {
        Some(error) => error,
        None => Error::from(status).not_applied(),
    }
}

/// The future's output; never, without one.
async fn maybe<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Resolves when streams shall end; never, when that has been seen.
async fn told(closing: Option<&mut watch::Receiver<bool>>) {
    match closing {
        // Whoever could close is gone: that is the same.
        Some(closing) => drop(closing.wait_for(|closing| *closing).await),
        None => std::future::pending().await,
    }
}

async fn read(
    requests: Option<&mut Streaming<proto::AppendRequest>>,
) -> Result<Option<proto::AppendRequest>, Status> {
    match requests {
        Some(requests) => {
            poll_fn(|context| match requests.poll_next_unpin(context) {
                Poll::Ready(next) => Poll::Ready(next.transpose()),
                Poll::Pending => Poll::Pending,
            })
            .await
        }
        None => std::future::pending().await,
    }
}
