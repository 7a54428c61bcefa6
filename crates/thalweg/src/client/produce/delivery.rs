//! Batches down a stream, and down another one when that breaks, until each is acknowledged or its time is up.
//!
//! Every batch carries the producer's id and a running sequence, so sending it again is harmless: the leader stores it once, whatever
//! became of the first try. What it remembers of a producer are the last few batches of each partition, so no more than those are under
//! way at a time; and a partition's first batch goes alone, since to a leader that knows nothing of a producer any sequence is a start.
//!
//! ```text
//!  packer ──► pending (oldest first) ──► stream ─ ─ ► server
//!                │    ▲                                 │
//!                │    └── broken: all that is pending again, on a new stream
//!                └───── acknowledged ◄ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//! ```
//!
//! With acks=0 nobody knows what arrived, so nothing is sent again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use thalweg_proto::producer::v1 as proto;
use thalweg_proto::producer::v1::producer_client::ProducerClient;
use thalweg_rpc::Error;
use thalweg_types::{Acks, Outcome, PartitionIndex, TopicName};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::packer::Packed;
use super::progress::Progress;
use crate::client::{Failure, Server};

/// Batches of one partition under way: what a leader can tell from repeats (KIP-98).
const IN_FLIGHT_PER_PARTITION_MAX: usize = 5;

/// Bytes of batches taken from the packer and not acknowledged. One batch is always taken.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// Requests handed to the connection and not yet taken by it.
const REQUESTS_AHEAD_MAX: usize = 8;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What has been acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) records: u64,
    /// Of the input, newlines included.
    pub(super) input_bytes: u64,
    pub(super) batches: u64,
    /// Streams that broke and were followed by another.
    pub(super) retries: u64,
}

/// Takes batches to the server.
pub(super) struct Delivery<'a> {
    server: &'a Server,
    topic: TopicName,
    acks: Acks,
    /// From the moment a batch is taken from the packer.
    time_max: Duration,
    batches: mpsc::Receiver<Packed>,
    input_ended: bool,
    /// Not acknowledged, oldest first.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// How many of the pending were given to the present stream.
    sent: usize,
    flows: HashMap<PartitionIndex, Flow>,
    /// Where the next batch from the packer has to go, if that was said.
    expected_offset: Option<i64>,
    totals: Totals,
    progress: &'a Progress,
}

struct Pending {
    packed: Packed,
    expected_offset: Option<i64>,
    since: Instant,
}

/// One partition's batches on the present stream.
#[derive(Default)]
struct Flow {
    in_flight: usize,
    /// The leader knows the producer from now on.
    known: bool,
}

/// Why a stream is not used any more.
enum Broken {
    /// The same again may work.
    Retry(Failure),
    Final(Failure),
}

/// The present stream, both ways.
struct Stream {
    requests: mpsc::Sender<proto::ProduceRequest>,
    answers: Streaming<proto::ProduceStreamResponse>,
}

/// What to do next on a stream.
enum Event {
    Answered(Box<proto::ProduceStreamResponse>),
    Packed(Option<Packed>),
    /// There is room for a request.
    Room,
}

impl<'a> Delivery<'a> {
    /// The first record gets `expected_offset`, if that is given, and those behind it follow without a gap.
    pub(super) fn new(
        server: &'a Server,
        topic: TopicName,
        acks: Acks,
        (time_max, expected_offset): (Duration, Option<i64>),
        batches: mpsc::Receiver<Packed>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            server,
            topic,
            acks,
            time_max,
            batches,
            input_ended: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            sent: 0,
            flows: HashMap::new(),
            expected_offset,
            totals: Totals::default(),
            progress,
        }
    }

    /// Sends every batch and waits for every answer. A failure comes with what was acknowledged before it.
    pub(super) async fn run(mut self) -> Result<Totals, (Failure, Totals)> {
        match self.deliver_all().await {
            Ok(()) => Ok(self.totals),
            Err(failure) => Err((failure, self.totals)),
        }
    }

    async fn deliver_all(&mut self) -> Result<(), Failure> {
        let mut wait = RETRY_FIRST;
        loop {
            if self.pending.is_empty() && !self.input_ended {
                let packed = self.batches.recv().await;
                self.take(packed);
            }
            if self.pending.is_empty() && self.input_ended {
                return Ok(());
            }
            let acknowledged_before = self.totals.batches;
            let failure = match self.follow_stream().await {
                Ok(()) => continue,
                Err(Broken::Final(failure)) => return Err(failure),
                Err(Broken::Retry(failure)) if self.acks == Acks::None => return Err(failure),
                Err(Broken::Retry(failure)) => failure,
            };
            if self.totals.batches > acknowledged_before {
                wait = RETRY_FIRST;
            }
            let Some(give_up_at) = self.give_up_at() else { continue };
            if Instant::now() + wait >= give_up_at {
                return Err(self.given_up(&failure));
            }
            if wait == RETRY_FIRST {
                eprintln!("thalweg: {failure}; trying again");
            }
            self.totals.retries += 1;
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Uses one stream until all is acknowledged for the moment, or it breaks. Begins with everything that is pending.
    async fn follow_stream(&mut self) -> Result<(), Broken> {
        self.sent = 0;
        self.flows.values_mut().for_each(|flow| flow.in_flight = 0);
        let mut stream = self.open().await?;
        while !(self.pending.is_empty() && self.input_ended) {
            match self.next_event(&mut stream).await? {
                Event::Answered(answer) => self.settle(*answer)?,
                Event::Packed(packed) => self.take(packed),
                Event::Room => self.send_next(&stream),
            }
        }
        Ok(())
    }

    async fn open(&self) -> Result<Stream, Broken> {
        let mut client = ProducerClient::new(self.server.channel())
            .max_decoding_message_size(thalweg_rpc::MESSAGE_BYTES_MAX);
        let (requests, receiver) = mpsc::channel(REQUESTS_AHEAD_MAX);
        let opening = client.produce_stream(ReceiverStream::new(receiver));
        tokio::select! {
            biased;
            opened = opening => match opened {
                Ok(response) => Ok(Stream { requests, answers: response.into_inner() }),
                Err(status) => Err(self.broken_by(status)),
            },
            () = until(self.give_up_at()) => Err(Broken::Final(self.out_of_time())),
        }
    }

    async fn next_event(&mut self, stream: &mut Stream) -> Result<Event, Broken> {
        let takes_more = !self.input_ended
            && self.sent == self.pending.len()
            && (self.pending.is_empty() || self.pending_bytes < PENDING_BYTES_MAX);
        let may_send = self.may_send_next();
        let give_up_at = self.give_up_at();
        tokio::select! {
            biased;
            answer = stream.answers.message() => match answer {
                Ok(Some(answer)) => Ok(Event::Answered(Box::new(answer))),
                Ok(None) => Err(Broken::Retry(Failure::Protocol("the server ended the stream".to_owned()))),
                Err(status) => Err(self.broken_by(status)),
            },
            // A request that is not taken any more shows in the answers.
            Ok(_) = stream.requests.reserve(), if may_send => Ok(Event::Room),
            packed = self.batches.recv(), if takes_more => Ok(Event::Packed(packed)),
            () = until(give_up_at) => Err(Broken::Final(self.out_of_time())),
        }
    }

    fn may_send_next(&self) -> bool {
        let Some(next) = self.pending.get(self.sent) else { return false };
        let flow = self.flows.get(&next.packed.partition);
        let (in_flight, known) = flow.map_or((0, false), |flow| (flow.in_flight, flow.known));
        self.acks == Acks::None || in_flight < if known { IN_FLIGHT_PER_PARTITION_MAX } else { 1 }
    }

    fn take(&mut self, packed: Option<Packed>) {
        match packed {
            Some(packed) => {
                self.pending_bytes += packed.batch.len();
                let expected_offset = self.expected_offset;
                let records = i64::try_from(packed.records).unwrap_or(i64::MAX);
                self.expected_offset = expected_offset.map(|at| at.saturating_add(records));
                let since = Instant::now();
                self.pending.push_back(Pending { packed, expected_offset, since });
            }
            None => self.input_ended = true,
        }
    }

    fn send_next(&mut self, stream: &Stream) {
        let Some(Pending { packed, expected_offset, .. }) = self.pending.get(self.sent) else {
            return;
        };
        let acks = match self.acks {
            Acks::None => proto::Acks::None,
            Acks::Leader => proto::Acks::Leader,
            Acks::All => proto::Acks::All,
        };
        let request = proto::ProduceRequest {
            topic: self.topic.to_string(),
            partition: Some(packed.partition.0),
            acks: acks.into(),
            payload: Some(proto::produce_request::Payload::Batch(packed.batch.clone())),
            expected_offset: *expected_offset,
            ..Default::default()
        };
        // There was room a moment ago, and nobody else sends.
        if stream.requests.try_send(request).is_ok() {
            self.flows.entry(packed.partition).or_default().in_flight += 1;
            self.sent += 1;
        }
    }

    /// Answers come in the order of the requests.
    fn settle(&mut self, answer: proto::ProduceStreamResponse) -> Result<(), Broken> {
        let Some(Pending { packed, .. }) = self.pending.front().filter(|_| self.sent > 0) else {
            let failure = Failure::Protocol("more answers than requests".to_owned());
            return Err(Broken::Final(failure));
        };
        if let Err(error) = check(answer) {
            let what = format!("partition {}", packed.partition);
            return Err(broken(what, error));
        }
        let flow = self.flows.entry(packed.partition).or_default();
        flow.in_flight = flow.in_flight.saturating_sub(1);
        flow.known = true;
        self.totals.records += packed.records;
        self.totals.input_bytes += packed.input_bytes;
        self.totals.batches += 1;
        self.pending_bytes -= packed.batch.len();
        self.sent -= 1;
        self.pending.pop_front();
        self.progress.at(self.totals.input_bytes);
        Ok(())
    }

    fn give_up_at(&self) -> Option<Instant> {
        self.pending.front().map(|oldest| oldest.since + self.time_max)
    }

    fn out_of_time(&self) -> Failure {
        self.given_up(&Failure::Protocol("no answer came".to_owned()))
    }

    fn given_up(&self, last: &Failure) -> Failure {
        let records: u64 = self.pending.iter().map(|pending| pending.packed.records).sum();
        Failure::Undelivered { records, time_max: self.time_max, last: last.to_string() }
    }

    fn broken_by(&self, status: tonic::Status) -> Broken {
        match self.server.failed(status) {
            Failure::Refused { what, error } => broken(what, error),
            unreachable => Broken::Retry(unreachable),
        }
    }
}

fn broken(what: String, error: Error) -> Broken {
    let again = error.retriable || error.outcome == Outcome::Unknown;
    let failure = Failure::Refused { what, error };
    if again { Broken::Retry(failure) } else { Broken::Final(failure) }
}

/// An error in an answer, be it about the request or about its one partition.
fn check(answer: proto::ProduceStreamResponse) -> Result<(), Error> {
    use proto::produce_stream_response::Result as Outcome;
    let error = match answer.result {
        Some(Outcome::Produced(produced)) => {
            produced.partitions.into_iter().find_map(|partition| partition.error)
        }
        Some(Outcome::Error(error)) => Some(error),
        None => return Err(Error::invalid_request("an answer without a result").outcome_unknown()),
    };
    error.map_or(Ok(()), |detail| Err(Error::from_detail(detail)))
}

/// For ever, when there is no such moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
