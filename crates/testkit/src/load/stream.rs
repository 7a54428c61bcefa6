//! gRPC ProduceStream as an idempotent producer: a producer id, numbered records, and what was not answered is sent again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use thalweg_proto::producer::v1 as proto;
use thalweg_rpc::{Error, channel};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{GROUP, PACE, PATIENCE, Producer, Run};
use crate::history::Outcome;
use proto::produce_request::Payload;
use proto::produce_stream_response::Result as Answer;
use proto::producer_client::ProducerClient;

/// Requests without an answer: as many of a producer's batches as the log remembers (KIP-98), or a repetition would not be known.
const UNANSWERED_MAX: usize = 5;

/// Between two attempts to reach the server.
const PAUSE: Duration = Duration::from_millis(20);

/// Longest wait for one answer of a server that is there.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// A request that is not answered yet, by its first record.
#[derive(Debug, Clone, Copy)]
struct Group {
    first: u64,
    begun: Duration,
}

/// Why a stream is of no more use.
enum Broken {
    /// Another one may do better.
    Again,
    /// This request is refused for good.
    Refused(Error),
}

/// Sends until the run is stopped and everything is answered.
pub(crate) async fn produce(run: &Run, producer: &Producer, grpc: SocketAddr) {
    let channel = channel(&grpc.to_string()).expect("an address of a listener");
    let mut client = ProducerClient::new(channel);
    let Some(identity) = identity(run, &mut client).await else { return };
    let mut work = Work { run, producer, identity, next: 0, unanswered: VecDeque::new() };
    let mut give_up = None;
    loop {
        match work.stream(&mut client).await {
            Ok(()) => break,
            Err(Broken::Refused(error)) => {
                run.complain(format!("producer {}: refused: {error}", producer.id));
                break;
            }
            Err(Broken::Again) => sleep(PAUSE).await,
        }
        if run.is_stopped()
            && Instant::now() > *give_up.get_or_insert_with(|| Instant::now() + PATIENCE)
        {
            run.complain(format!("producer {}: no answers any more", producer.id));
            break;
        }
    }
    for group in work.unanswered {
        run.sent(producer, (group.first, GROUP), group.begun, Outcome::Unknown);
    }
}

async fn identity(run: &Run, client: &mut ProducerClient<Channel>) -> Option<(i64, i32)> {
    while !run.is_stopped() {
        match client.init_producer(proto::InitProducerRequest {}).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                return Some((answer.producer_id, answer.producer_epoch));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
    None
}

struct Work<'a> {
    run: &'a Run,
    producer: &'a Producer,
    identity: (i64, i32),
    next: u64,
    unanswered: VecDeque<Group>,
}

impl Work<'_> {
    /// One stream, up to its break, or to the end of the run.
    async fn stream(&mut self, client: &mut ProducerClient<Channel>) -> Result<(), Broken> {
        let (requests, receiver) = mpsc::channel(2 * UNANSWERED_MAX);
        for group in &self.unanswered {
            let _ = requests.send(self.request(*group)).await;
        }
        let opened = timeout(ANSWER_TIME_MAX, client.produce_stream(ReceiverStream::new(receiver)));
        let Ok(Ok(answers)) = opened.await else { return Err(Broken::Again) };
        let mut answers = answers.into_inner();
        loop {
            if self.run.is_stopped() {
                if self.unanswered.is_empty() {
                    return Ok(());
                }
            } else {
                sleep(PACE).await;
                while self.unanswered.len() < UNANSWERED_MAX {
                    let group = Group { first: self.next, begun: self.run.clock.now() };
                    self.next += GROUP;
                    self.unanswered.push_back(group);
                    if requests.send(self.request(group)).await.is_err() {
                        return Err(Broken::Again);
                    }
                }
            }
            self.take_answer(&mut answers).await?;
        }
    }

    async fn take_answer(
        &mut self,
        answers: &mut Streaming<proto::ProduceStreamResponse>,
    ) -> Result<(), Broken> {
        let answer = match timeout(ANSWER_TIME_MAX, answers.message()).await {
            Ok(Ok(Some(answer))) => answer,
            _ => return Err(Broken::Again),
        };
        let group = *self.unanswered.front().expect("there is one answer to each request");
        let error = match answer.result {
            Some(Answer::Produced(mut produced)) => match produced.partitions.pop() {
                Some(partition) => match partition.error {
                    None => {
                        self.unanswered.pop_front();
                        let acknowledged = Outcome::Acknowledged(partition.base_offset);
                        self.run.sent(
                            self.producer,
                            (group.first, GROUP),
                            group.begun,
                            acknowledged,
                        );
                        return Ok(());
                    }
                    Some(error) => error,
                },
                None => return Err(Broken::Again),
            },
            Some(Answer::Error(error)) => error,
            None => return Err(Broken::Again),
        };
        // What was sent behind it is out of order now; all of it goes again, in order.
        match Error::from_detail(error) {
            error if error.retriable => Err(Broken::Again),
            error => Err(Broken::Refused(error)),
        }
    }

    fn request(&self, group: Group) -> proto::ProduceRequest {
        let (producer_id, producer_epoch) = self.identity;
        let base_sequence = i32::try_from(group.first).expect("a run is short");
        proto::ProduceRequest {
            producer: Some(proto::ProducerSequence { producer_id, producer_epoch, base_sequence }),
            ..request(self.producer, group.first, GROUP)
        }
    }
}

/// `count` records from `first` on.
pub(super) fn request(producer: &Producer, first: u64, count: u64) -> proto::ProduceRequest {
    let record = |number| proto::Record {
        value: Some(producer.value(number).to_bytes().into()),
        ..Default::default()
    };
    let records = (first..first + count).map(record).collect();
    proto::ProduceRequest {
        topic: producer.place.topic.clone(),
        partition: Some(producer.place.partition),
        payload: Some(Payload::Records(proto::Records { records })),
        ..Default::default()
    }
}
