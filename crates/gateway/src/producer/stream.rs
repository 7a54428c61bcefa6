//! One ProduceStream: requests are handed to the brokers in the order they came, without waiting for each other's answers, and
//! answered in that order.
//!
//! What the stream holds is bounded: beyond so many unanswered requests, or so many bytes of them, it does not read on, and HTTP/2's
//! flow control makes the client wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::poll_immediate;
use futures_util::stream::{BoxStream, FuturesOrdered};
use futures_util::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use thalweg_proto::producer::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{delivery, plan};
use crate::port::BrokerPort;
use crate::shared::{Shared, stopping_error};
use proto::produce_stream_response::Result as Answer;

/// Requests without an answer. Deep enough to keep a connection of 10 ms and 1 GB/s busy with 64 KiB batches.
const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// Bytes of requests without an answer. One request is always taken, however large.
const BYTES_IN_FLIGHT_MAX: usize = 32 * 1024 * 1024;

/// Answers made but not yet taken by the connection.
const ANSWERS_WAITING_MAX: usize = 64;

type Delivering = Pin<Box<dyn Future<Output = Result<proto::ProduceResponse, Error>> + Send>>;
type Answers = mpsc::Sender<Result<proto::ProduceStreamResponse, Status>>;

/// The answers to a stream of requests. The work goes on in a task of its own until the client is gone, the deadline has passed, or
/// everything has been answered.
pub(super) fn answers<B: BrokerPort>(
    shared: Arc<Shared<B>>,
    requests: Streaming<proto::ProduceRequest>,
    deadline: Deadline,
) -> BoxStream<'static, Result<proto::ProduceStreamResponse, Status>> {
    let (answers, stream) = mpsc::channel(ANSWERS_WAITING_MAX);
    let pipeline = Pipeline {
        shared,
        deadline,
        delivering: FuturesOrdered::new(),
        sizes: VecDeque::new(),
        bytes_in_flight: 0,
        answered_count: 0,
    };
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = answers.closed() => {}
            result = pipeline.run(requests, &answers) => {
                if let Err(error) = result {
                    // Only fails when the client is gone, and then nobody is interested.
                    let _ = answers.send(Err(error.into())).await;
                }
            }
        }
    });
    ReceiverStream::new(stream).boxed()
}

struct Pipeline<B> {
    shared: Arc<Shared<B>>,
    deadline: Deadline,
    /// Unanswered requests, oldest first.
    delivering: FuturesOrdered<Delivering>,
    /// Their sizes in bytes.
    sizes: VecDeque<usize>,
    bytes_in_flight: usize,
    answered_count: u64,
}

impl<B: BrokerPort> Pipeline<B> {
    /// Ends well when the client has closed its side and has all its answers.
    async fn run(
        mut self,
        mut requests: Streaming<proto::ProduceRequest>,
        answers: &Answers,
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let mut stopped = std::pin::pin!(shared.stopped());
        let mut ending: Option<Result<(), Error>> = None;
        loop {
            if self.delivering.is_empty()
                && let Some(ending) = ending
            {
                return ending;
            }
            let reads_on = ending.is_none() && self.has_room();
            tokio::select! {
                biased;
                Some(result) = self.delivering.next(), if !self.delivering.is_empty() => {
                    self.answer(result, answers).await;
                }
                () = self.deadline.passed() => {
                    return Err(Error::new(
                        thalweg_types::ErrorCode::RequestTimedOut,
                        "the stream's deadline has passed",
                    ));
                }
                () = &mut stopped, if ending.is_none() => ending = Some(Err(stopping_error())),
                request = requests.message(), if reads_on => match request {
                    Ok(Some(request)) => self.begin(request).await,
                    Ok(None) => ending = Some(Ok(())),
                    Err(status) => ending = Some(Err(unreadable(status))),
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.delivering.len() < REQUESTS_IN_FLIGHT_MAX
            && (self.bytes_in_flight < BYTES_IN_FLIGHT_MAX || self.delivering.is_empty())
    }

    /// Takes up a request. When this returns, its batches are in the brokers' hands, before those of any later request.
    async fn begin(&mut self, request: proto::ProduceRequest) {
        let size_bytes = request.encoded_len();
        let deadline = self.deadline;
        let delivering: Delivering = match plan(&self.shared, request, deadline).await {
            Ok(plan) => {
                let shared = Arc::clone(&self.shared);
                let mut delivering = delivery::deliver(shared, plan, deadline).boxed();
                match poll_immediate(&mut delivering).await {
                    Some(result) => std::future::ready(result).boxed(),
                    None => delivering,
                }
            }
            Err(error) => std::future::ready(Err(error)).boxed(),
        };
        self.delivering.push_back(delivering);
        self.sizes.push_back(size_bytes);
        self.bytes_in_flight += size_bytes;
    }

    /// Answers the oldest request.
    async fn answer(&mut self, result: Result<proto::ProduceResponse, Error>, answers: &Answers) {
        let size_bytes = self.sizes.pop_front().unwrap_or(0);
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(size_bytes);
        let answer = proto::ProduceStreamResponse {
            request_index: self.answered_count,
            result: Some(match result {
                Ok(produced) => Answer::Produced(produced),
                Err(error) => Answer::Error(error.to_detail()),
            }),
        };
        self.answered_count += 1;
        // Fails only when the client is gone; that ends the pipeline from outside.
        let _ = answers.send(Ok(answer)).await;
    }
}

/// The stream broke in the middle of a request, which therefore was not begun.
fn unreadable(status: Status) -> Error {
    match Error::refused_by_library(&status) {
        Some(error) => error,
        None => Error::from(status).not_applied(),
    }
}
