//! One FetchStream: the server sends what is there and what comes, as long as the client has granted credit.
//!
//! ```text
//!            ┌────────── credit left, nothing in hand: ask the brokers, wait for records ──────────┐
//!  start ─►  │                                                                                     ▼
//!            └──────── in hand: send a message, charge it ◄──── wait for credit if there is none ◄─┘
//! ```
//!
//! What was fetched is kept until it has been sent, and decoded batch by batch only while there is credit: a stream never holds more
//! than one fetch and the records of one batch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{ErrorCode, IsolationLevel, PartitionIndex, TopicName};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::decode::Form;
use super::fetch;
use super::in_hand::InHand;
use crate::port::{BrokerPort, FetchCall, FetchPartition, FetchedPartition};
use crate::shared::{Shared, stopping_error};
use crate::words;
use proto::fetch_stream_request::Message;

const WAIT_MS_DEFAULT: u32 = 500;
const MESSAGE_BYTES_DEFAULT: u32 = 1024 * 1024;
pub(super) const CREDIT_BYTES_MAX: u64 = 1 << 40;

/// Messages made but not yet taken by the connection: one on its way, one ready.
const MESSAGES_WAITING_MAX: usize = 2;

/// Pause before brokers are asked again when no leader answers for a partition.
const LEADERLESS_PAUSE: Duration = Duration::from_millis(50);

type Messages = mpsc::Sender<Result<proto::FetchStreamResponse, Status>>;

/// The messages of one stream. The work is done in a task of its own until the client is gone, the deadline has passed, or nothing
/// is left to follow.
pub(super) fn records<B: BrokerPort>(
    shared: Arc<Shared<B>>,
    requests: Streaming<proto::FetchStreamRequest>,
    deadline: Deadline,
) -> BoxStream<'static, Result<proto::FetchStreamResponse, Status>> {
    let (messages, stream) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        let result = tokio::select! {
            biased;
            () = messages.closed() => return,
            () = shared.stopped() => Err(stopping_error()),
            () = deadline.passed() => Err(Error::new(
                ErrorCode::RequestTimedOut,
                "the stream's deadline has passed",
            ).not_applied()),
            result = follow(&shared, requests, &messages) => result,
        };
        if let Err(error) = result {
            // Only fails when the client is gone, and then nobody is interested.
            let _ = messages.send(Err(error.into())).await;
        }
    });
    ReceiverStream::new(stream).boxed()
}

async fn follow<B: BrokerPort>(
    shared: &Shared<B>,
    mut requests: Streaming<proto::FetchStreamRequest>,
    messages: &Messages,
) -> Result<(), Error> {
    let Some(first) = requests.message().await.map_err(unreadable)? else { return Ok(()) };
    let Some(Message::Start(start)) = first.message else {
        return Err(Error::invalid_request("the first message must be start"));
    };
    let mut credit = Credit { requests, bytes: 0, is_final: false };
    let mut reader = Reader::start(start, &mut credit)?;
    loop {
        if reader.is_done() || !credit.available().await? {
            return Ok(());
        }
        if reader.in_hand.is_empty() {
            let fetched = reader.ask(shared, &mut credit).await?;
            let Some(fetched) = fetched else { return Ok(()) };
            reader.take(shared, fetched);
            if reader.in_hand.is_empty() && !reader.leaderless.is_empty() {
                tokio::time::sleep(LEADERLESS_PAUSE).await;
            }
        } else if let Some(message) = reader.next_message().await {
            credit.bytes -= i128::from(message.charged_bytes);
            if messages.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
    }
}

// ------------------------------------------------------------------- Credit

/// What the client has granted, and the side of the stream it grants on.
struct Credit {
    requests: Streaming<proto::FetchStreamRequest>,
    /// Below zero when a message took more than was left.
    bytes: i128,
    /// The client has closed its side: there will be no more.
    is_final: bool,
}

impl Credit {
    fn grant(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes += i128::from(bytes);
        match self.bytes > i128::from(CREDIT_BYTES_MAX) {
            true => Err(Error::invalid_request(format!(
                "at most {CREDIT_BYTES_MAX} bytes of credit may be open"
            ))),
            false => Ok(()),
        }
    }

    /// Waits for the next grant. Pends for ever when there can be none.
    async fn granted(&mut self) -> Result<(), Error> {
        if self.is_final {
            return std::future::pending().await;
        }
        match self.requests.message().await.map_err(unreadable)? {
            None => {
                self.is_final = true;
                Ok(())
            }
            Some(proto::FetchStreamRequest { message: Some(Message::CreditBytes(bytes)) })
                if bytes > 0 =>
            {
                self.grant(bytes)
            }
            Some(_) => Err(Error::invalid_request(
                "every message after the first must grant credit_bytes of more than 0",
            )),
        }
    }

    /// Waits until something may be sent; false when that will never be.
    async fn available(&mut self) -> Result<bool, Error> {
        while self.bytes <= 0 && !self.is_final {
            self.granted().await?;
        }
        Ok(self.bytes > 0)
    }
}

// ------------------------------------------------------------------- Reader

/// The partitions followed, and what has been fetched but not yet sent.
struct Reader {
    form: Form,
    isolation: IsolationLevel,
    rack: String,
    min_bytes: usize,
    max_bytes: usize,
    max_wait: Duration,
    /// At their next offsets.
    partitions: Vec<FetchPartition>,
    in_hand: VecDeque<InHand>,
    /// Partitions that no leader answers for, and since when.
    leaderless: HashMap<(TopicName, PartitionIndex), Instant>,
}

impl Reader {
    fn start(start: proto::FetchStreamStart, credit: &mut Credit) -> Result<Self, Error> {
        credit.grant(start.credit_bytes)?;
        let min_bytes = words::at_most("min_bytes", start.min_bytes, fetch::BYTES_MAX)?.max(1);
        let max_bytes = fetch::bytes_or("max_bytes", start.max_bytes, MESSAGE_BYTES_DEFAULT)?;
        let max_wait_ms =
            match words::at_most("max_wait_ms", start.max_wait_ms, fetch::WAIT_MS_MAX)? {
                0 => WAIT_MS_DEFAULT,
                ms => ms,
            };
        Ok(Self {
            form: Form::from_wire(start.format)?,
            isolation: words::isolation_level(start.isolation_level)?,
            rack: words::rack(start.rack)?,
            min_bytes: min_bytes.min(max_bytes) as usize,
            max_bytes: max_bytes as usize,
            max_wait: Duration::from_millis(max_wait_ms.into()),
            partitions: fetch::partitions(start.partitions)?,
            in_hand: VecDeque::new(),
            leaderless: HashMap::new(),
        })
    }

    /// Every partition has failed and been reported.
    fn is_done(&self) -> bool {
        self.partitions.is_empty() && self.in_hand.is_empty()
    }

    /// Asks the brokers for records, taking in credit meanwhile. `None`: the brokers' answer is not needed any more.
    async fn ask<B: BrokerPort>(
        &mut self,
        shared: &Shared<B>,
        credit: &mut Credit,
    ) -> Result<Option<Vec<FetchedPartition>>, Error> {
        let credit_bytes = usize::try_from(credit.bytes).unwrap_or(0);
        let max_bytes = self.max_bytes.min(credit_bytes.max(1));
        let call = FetchCall {
            partitions: self.partitions.clone(),
            min_bytes: self.min_bytes.min(max_bytes),
            max_bytes,
            max_wait: self.max_wait,
            isolation: self.isolation,
            rack: self.rack.clone(),
        };
        let mut asking = std::pin::pin!(shared.broker.fetch(call));
        loop {
            tokio::select! {
                biased;
                fetched = &mut asking => return fetched.map(Some),
                granted = credit.granted() => granted?,
            }
        }
    }

    /// Keeps what has something to tell, and lets another partition be the first to be filled next time.
    fn take<B: BrokerPort>(&mut self, shared: &Shared<B>, fetched: Vec<FetchedPartition>) {
        for fetched in fetched {
            let at = self.partitions.iter().position(|partition| {
                partition.topic == fetched.topic && partition.partition == fetched.partition
            });
            let Some(at) = at else { continue };
            if self.is_ridden_out(&fetched, shared.leader_wait_max) {
                continue;
            }
            let bytes = fetch::size_bytes(&fetched);
            shared.metrics.fetched_bytes.inc_by(bytes as u64);
            if bytes > 0 || fetched.result.is_err() {
                let partition = self.partitions[at].clone();
                if fetched.result.is_err() {
                    self.partitions.remove(at);
                }
                self.in_hand.push_back(InHand::new(partition, fetched.result, self.form));
            }
        }
        if !self.partitions.is_empty() {
            self.partitions.rotate_left(1);
        }
    }

    /// Whether an answer only says that the leader is changing, and that has not taken too long: the reader goes on as if there were no new
    /// records.
    fn is_ridden_out(&mut self, fetched: &FetchedPartition, wait_max: Duration) -> bool {
        let name = (fetched.topic.clone(), fetched.partition);
        match &fetched.result {
            Err(error) if is_about_leader(error) => {
                let since = *self.leaderless.entry(name).or_insert_with(Instant::now);
                since.elapsed() < wait_max
            }
            Ok(_) | Err(_) => {
                self.leaderless.remove(&name);
                false
            }
        }
    }

    /// The next message out of what is in hand; `None` if that holds no record at all (only the log's own markers).
    async fn next_message(&mut self) -> Option<proto::FetchStreamResponse> {
        let mut message = proto::FetchStreamResponse::default();
        let mut used_bytes = 0;
        while used_bytes < self.max_bytes
            && let Some(hand) = self.in_hand.front_mut()
        {
            let (answer, bytes) = hand.answer(self.max_bytes - used_bytes).await;
            let is_empty = hand.is_empty();
            let partition = hand.partition.clone();
            self.move_on(partition, answer.error.is_some());
            if is_empty {
                self.in_hand.pop_front();
            }
            used_bytes += bytes;
            if answer.error.is_some() || bytes > 0 {
                message.partitions.push(answer);
            }
        }
        message.charged_bytes = used_bytes as u64;
        (!message.partitions.is_empty()).then_some(message)
    }

    /// Follows a partition from its new offset on, or no longer.
    fn move_on(&mut self, partition: FetchPartition, has_failed: bool) {
        let at = self.partitions.iter().position(|followed| is_same(followed, &partition));
        match at {
            Some(at) if has_failed => drop(self.partitions.remove(at)),
            Some(at) => self.partitions[at].offset = partition.offset,
            None => {}
        }
    }
}

pub(super) fn is_about_leader(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::BrokerNotAvailable
            | ErrorCode::NetworkException
            | ErrorCode::RequestTimedOut
            | ErrorCode::OffsetNotAvailable
    )
}

fn is_same(one: &FetchPartition, other: &FetchPartition) -> bool {
    one.partition == other.partition && one.topic == other.topic
}

pub(super) fn unreadable(status: Status) -> Error {
    Error::refused_by_library(&status).unwrap_or_else(|| Error::from(status)).not_applied()
}
