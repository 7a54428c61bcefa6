//! The public gRPC API: one stream on each connection.
//!
//! Each connection has a runtime of its own on the thread that uses it, which moves bytes only while that thread waits for an answer. That is
//! when there is something to move: a sender with a full window waits at once.

use bytes::Bytes;
use thalweg_proto::consumer::v1 as consumer;
use thalweg_proto::consumer::v1::consumer_client::ConsumerClient;
use thalweg_proto::producer::v1 as producer;
use thalweg_proto::producer::v1::producer_client::ProducerClient;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::connections::Start;
use crate::error::Error;
use crate::fetch::Taker;
use crate::produce;
use crate::{Fetch, Place};

/// Bytes the server may have on the way to a reader.
const CREDIT_BYTES: u64 = 64 * 1024 * 1024;

/// A partition that has no leader for longer is not merely new. Tries, and the pause between them.
const LEADER_TRIES_MAX: u32 = 200;
const LEADER_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Sends batches down one `ProduceStream`.
pub(crate) struct Producer {
    runtime: Runtime,
    topic: String,
    requests: mpsc::UnboundedSender<producer::ProduceRequest>,
    answers: Streaming<producer::ProduceStreamResponse>,
}

impl Producer {
    /// Ready once all `partitions` are led.
    pub(crate) fn open(place: &Place, partitions: &[i32]) -> Result<Self, Error> {
        let runtime = runtime()?;
        // How many requests wait here is bounded by the caller, who counts those in flight.
        let (requests, to_send) = mpsc::unbounded_channel();
        let answers = runtime.block_on(async {
            let channel = thalweg_rpc::channel(&place.address().to_string())?;
            offsets(channel.clone(), &place.topic, partitions, consumer::OffsetSpec::Latest)
                .await?;
            let mut client = ProducerClient::new(channel);
            let answers = client.produce_stream(UnboundedReceiverStream::new(to_send)).await?;
            Ok::<_, Error>(answers.into_inner())
        })?;
        Ok(Self { runtime, topic: place.topic.clone(), requests, answers })
    }
}

impl produce::Sender for Producer {
    fn send(&mut self, partition: i32, batch: &Bytes) -> Result<(), Error> {
        let request = producer::ProduceRequest {
            topic: self.topic.clone(),
            partition: Some(partition),
            acks: producer::Acks::All.into(),
            payload: Some(producer::produce_request::Payload::Batch(batch.clone())),
            ..Default::default()
        };
        self.requests.send(request).map_err(|_| Error::Malformed("the stream ended early"))
    }

    fn take_answer(&mut self) -> Result<(), Error> {
        use producer::produce_stream_response::Result as Outcome;
        let answer = self.runtime.block_on(self.answers.message())?;
        match answer.and_then(|answer| answer.result) {
            Some(Outcome::Produced(produced)) => {
                let error = produced.partitions.into_iter().find_map(|partition| partition.error);
                error.map_or(Ok(()), |error| Err(error.into()))
            }
            Some(Outcome::Error(error)) => Err(error.into()),
            None => Err(Error::Malformed("the stream ended early")),
        }
    }
}

/// Reads `partitions` down one `FetchStream`.
pub(crate) fn fetch(
    arguments: &Fetch,
    partitions: &[i32],
    taker: &mut Taker,
    start: Start<'_>,
) -> Result<(), Error> {
    let place = &arguments.place;
    let runtime = runtime()?;
    let (grants, granted) = mpsc::unbounded_channel();
    let (client, mut open) = runtime.block_on(async {
        let channel = thalweg_rpc::channel(&place.address().to_string())?;
        let at = |spec| offsets(channel.clone(), &place.topic, partitions, spec);
        let ends = at(consumer::OffsetSpec::Latest).await?;
        let firsts = at(consumer::OffsetSpec::Earliest).await?;
        let client =
            ConsumerClient::new(channel).max_decoding_message_size(thalweg_rpc::MESSAGE_BYTES_MAX);
        Ok::<_, Error>((client, Open::new(partitions, &firsts, &ends)))
    })?;
    start.go();
    if open.is_empty() {
        return Ok(());
    }
    runtime.block_on(async {
        grant(&grants, consumer::fetch_stream_request::Message::Start(open.start(arguments)))?;
        let mut client = client;
        let messages = client.fetch_stream(UnboundedReceiverStream::new(granted)).await?;
        let mut messages = messages.into_inner();
        while !open.is_empty() {
            let message = messages.message().await?;
            let message = message.ok_or(Error::Malformed("the stream ended early"))?;
            for partition in message.partitions {
                open.take(partition, taker)?;
            }
            let credit =
                consumer::fetch_stream_request::Message::CreditBytes(message.charged_bytes);
            grant(&grants, credit)?;
        }
        Ok(())
    })
}

fn grant(
    grants: &mpsc::UnboundedSender<consumer::FetchStreamRequest>,
    message: consumer::fetch_stream_request::Message,
) -> Result<(), Error> {
    let request = consumer::FetchStreamRequest { message: Some(message) };
    grants.send(request).map_err(|_| Error::Malformed("the stream ended early"))
}

/// Partitions that are not read to their end yet.
struct Open(Vec<OpenPartition>);

struct OpenPartition {
    partition: i32,
    next: i64,
    end: i64,
}

impl Open {
    fn new(partitions: &[i32], firsts: &[i64], ends: &[i64]) -> Self {
        let all = partitions.iter().zip(firsts.iter().zip(ends));
        let open = all.filter(|(_, (first, end))| first < end);
        let opened = |(partition, (next, end)): (&i32, (&i64, &i64))| OpenPartition {
            partition: *partition,
            next: *next,
            end: *end,
        };
        Self(open.map(opened).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn start(&self, arguments: &Fetch) -> consumer::FetchStreamStart {
        let bytes_max = arguments.fetch_bytes.unsigned_abs();
        let partition = |open: &OpenPartition| consumer::FetchPartition {
            topic: arguments.place.topic.clone(),
            partition: open.partition,
            offset: open.next,
            max_bytes: bytes_max,
            leader_epoch: None,
        };
        consumer::FetchStreamStart {
            partitions: self.0.iter().map(partition).collect(),
            max_bytes: bytes_max,
            format: consumer::FetchFormat::Batches.into(),
            credit_bytes: CREDIT_BYTES,
            ..Default::default()
        }
    }

    fn take(
        &mut self,
        fetched: consumer::FetchedPartition,
        taker: &mut Taker,
    ) -> Result<(), Error> {
        if let Some(error) = fetched.error {
            return Err(error.into());
        }
        let position = self.0.iter().position(|open| open.partition == fetched.partition);
        // One that was read to its end may bring more that has been written since.
        let Some(position) = position else { return Ok(()) };
        let open = self.0.get_mut(position).ok_or(Error::Malformed("a partition"))?;
        for batches in &fetched.batches {
            open.next = taker.take(batches, open.next)?;
        }
        if open.next >= open.end {
            self.0.swap_remove(position);
        }
        Ok(())
    }
}

/// An offset of each partition, once all of them are led.
async fn offsets(
    channel: Channel,
    topic: &str,
    partitions: &[i32],
    spec: consumer::OffsetSpec,
) -> Result<Vec<i64>, Error> {
    let mut client = ConsumerClient::new(channel);
    let query = |partition: &i32| consumer::OffsetQuery {
        topic: topic.to_owned(),
        partition: *partition,
        spec: spec.into(),
        timestamp_ms: 0,
    };
    let queries: Vec<_> = partitions.iter().map(query).collect();
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..LEADER_TRIES_MAX {
        let request =
            consumer::ListOffsetsRequest { queries: queries.clone(), ..Default::default() };
        let listed = client.list_offsets(request).await?.into_inner().offsets;
        if listed.iter().all(|listed| listed.error.is_none()) {
            return Ok(listed.into_iter().map(|listed| listed.offset.unwrap_or(0)).collect());
        }
        tokio::time::sleep(LEADER_PAUSE).await;
    }
    Err(Error::NotLed(LEADER_TRIES_MAX))
}

fn runtime() -> Result<Runtime, Error> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
