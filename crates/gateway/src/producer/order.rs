//! A produce request, checked: what is wanted, in the vocabulary's words, and the load that goes with it.

use std::time::Duration;

use bytes::Bytes;
use thalweg_proto::producer::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{
    Acks, CompressionType, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicName,
};

use crate::words;
use proto::produce_request::Payload;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_MS_MAX: u32 = 300_000;

/// Records of one request: what fits in a few megabytes of small records.
const RECORDS_MAX: usize = 100_000;

/// What a request asks for besides its records.
pub(super) struct Order {
    pub(super) topic: TopicName,
    /// `None`: by key.
    pub(super) partition: Option<PartitionIndex>,
    pub(super) acks: Acks,
    pub(super) timeout: Duration,
    pub(super) compression: CompressionType,
    pub(super) create_topic: bool,
    pub(super) producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
    pub(super) expected_offset: Option<Offset>,
}

/// What is to be written.
pub(super) enum Load {
    Records(Vec<proto::Record>),
    Batch { partition: PartitionIndex, batch: Bytes },
}

pub(super) fn check(request: proto::ProduceRequest) -> Result<(Order, Load), Error> {
    let partition = request.partition.map(words::partition).transpose()?;
    words::at_most("timeout_ms", request.timeout_ms, TIMEOUT_MS_MAX)?;
    let order = Order {
        topic: words::topic_name(&request.topic)?,
        partition,
        acks: words::acks(request.acks)?,
        timeout: match request.timeout_ms {
            0 => TIMEOUT_DEFAULT,
            ms => Duration::from_millis(ms.into()),
        },
        compression: words::compression(request.compression)?,
        create_topic: request.create_topic,
        producer: request.producer.map(check_producer).transpose()?,
        expected_offset: request.expected_offset.map(check_offset).transpose()?,
    };
    if order.expected_offset.is_some() && order.partition.is_none() {
        return Err(Error::invalid_request(
            "partition is required with expected_offset: offsets are of one partition",
        ));
    }
    if order.topic.is_internal() {
        return Err(Error::new(
            thalweg_types::ErrorCode::TopicAuthorizationFailed,
            format!("topic {} is written by the system only", order.topic),
        ));
    }
    let load = match request.payload {
        None => return Err(Error::invalid_request("records or batch must be given")),
        Some(Payload::Records(records)) => check_records(&order, records.records)?,
        Some(Payload::Batch(batch)) => check_batch(&order, batch)?,
    };
    Ok((order, load))
}

fn check_records(order: &Order, records: Vec<proto::Record>) -> Result<Load, Error> {
    words::some_but_at_most("records", records.len(), RECORDS_MAX)?;
    if order.producer.is_some() && order.partition.is_none() {
        return Err(Error::invalid_request(
            "partition is required with producer: sequences are counted by partition",
        ));
    }
    Ok(Load::Records(records))
}

fn check_batch(order: &Order, batch: Bytes) -> Result<Load, Error> {
    let Some(partition) = order.partition else {
        return Err(Error::invalid_request("partition is required with batch"));
    };
    if order.compression != CompressionType::None {
        return Err(Error::invalid_request("compression must be left out with batch"));
    }
    if order.producer.is_some() {
        return Err(Error::invalid_request("producer must be left out with batch"));
    }
    Ok(Load::Batch { partition, batch })
}

fn check_offset(given: i64) -> Result<Offset, Error> {
    match given {
        0.. => Ok(Offset(given)),
        _ => {
            let message = format!("expected_offset must not be negative: {given}");
            Err(Error::invalid_request(message))
        }
    }
}

fn check_producer(
    given: proto::ProducerSequence,
) -> Result<(ProducerId, ProducerEpoch, Sequence), Error> {
    let epoch = i16::try_from(given.producer_epoch).ok().filter(|epoch| *epoch >= 0);
    match epoch {
        Some(epoch) if given.producer_id >= 0 && given.base_sequence >= 0 => {
            Ok((ProducerId(given.producer_id), ProducerEpoch(epoch), Sequence(given.base_sequence)))
        }
        _ => Err(Error::invalid_request(format!(
            "producer id {}, epoch {} and base sequence {} must not be negative, the epoch at most 32767",
            given.producer_id, given.producer_epoch, given.base_sequence
        ))),
    }
}
