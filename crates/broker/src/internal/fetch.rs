//! One fetch of a gateway: asked of the partitions, answered in pieces.
//!
//! Records are slices of the tail or of what was read; a piece is put on the wire when the gateway has taken the one before it, and the
//! memory of what is not sent yet is counted for all gateways together.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{LeaderEpoch, Offset, TopicPartition};
use tonic::Status;

use super::words;
use crate::broker::{Broker, TopicRef};
use crate::error::FetchError;
use crate::fetch::{FetchCall, FetchMemory, FetchPartition, Fetched, Replicas};

const PARTITIONS_MAX: usize = 10_000;
const WAIT_MS_MAX: u32 = 300_000;

/// A message is sent once it holds so much: large enough that its framing does not count, small enough to be encoded while the one
/// before is on its way.
const PIECE_BYTES: usize = 512 * 1024;

/// A fetch whose words have been checked.
pub(super) struct Wanted {
    call: FetchCall,
    names: Vec<TopicPartition>,
}

pub(super) fn wanted(broker: &Broker, request: proto::FetchRequest) -> Result<Wanted, Error> {
    let count = request.partitions.len();
    if count > PARTITIONS_MAX {
        let message = format!("at most {PARTITIONS_MAX} partitions, not {count}");
        return Err(Error::invalid_request(message));
    }
    if request.max_wait_ms > WAIT_MS_MAX {
        let message = format!("max_wait_ms is at most {WAIT_MS_MAX}: {}", request.max_wait_ms);
        return Err(Error::invalid_request(message));
    }
    let isolation = words::isolation_level(request.isolation_level)?;
    let mut names = Vec::with_capacity(count);
    let mut partitions = Vec::with_capacity(count);
    for wanted in request.partitions {
        let name = words::partition(&wanted.topic, wanted.partition)?;
        partitions.push(FetchPartition {
            target: broker.partition(&TopicRef::Name(&wanted.topic), name.partition),
            offset: Offset(wanted.offset),
            max_bytes: wanted.max_bytes as usize,
            reader_epoch: LeaderEpoch(wanted.leader_epoch),
        });
        names.push(name);
    }
    let call = FetchCall {
        partitions,
        first: 0,
        min_bytes: request.min_bytes as usize,
        max_bytes: (request.max_bytes as usize).min(broker.options().fetch_bytes_max),
        max_wait: Duration::from_millis(request.max_wait_ms.into()),
        isolation,
        // Gateways choose for themselves.
        replicas: Replicas { followers_too: request.followers_too, ..Replicas::default() },
    };
    Ok(Wanted { call, names })
}

/// The answer, begun when it is polled and given up when it is dropped.
pub(super) fn pieces(
    broker: Arc<Broker>,
    memory: Arc<FetchMemory>,
    wanted: Wanted,
) -> impl Stream<Item = Result<proto::FetchResponse, Status>> + Send {
    stream::once(async move {
        let results = broker.fetch_within(&wanted.call, Some(&memory)).await;
        stream::iter(cut(&broker, &wanted.names, results)).map(Ok)
    })
    .flatten()
}

fn cut(
    broker: &Broker,
    names: &[TopicPartition],
    results: Vec<Result<Fetched, FetchError>>,
) -> Vec<proto::FetchResponse> {
    let mut pieces = Pieces::default();
    for ((index, name), result) in (0_u32..).zip(names).zip(results) {
        match result {
            Ok(fetched) => pieces.add(index, fetched),
            Err(error) => pieces.present.push(proto::FetchedPartition {
                index,
                refusal: Some(words::refusal(&words::unreadable(broker, &error, name))),
                ..Default::default()
            }),
        }
    }
    pieces.finish()
}

#[derive(Default)]
struct Pieces {
    done: Vec<proto::FetchResponse>,
    present: Vec<proto::FetchedPartition>,
    present_bytes: usize,
}

impl Pieces {
    fn add(&mut self, index: u32, fetched: Fetched) {
        let partition = |batches| proto::FetchedPartition {
            index,
            high_watermark: fetched.high_watermark.0,
            last_stable_offset: fetched.last_stable_offset.0,
            log_start_offset: fetched.log_start_offset.0,
            batches,
            refusal: None,
        };
        let mut batches: Vec<Bytes> = Vec::new();
        for slice in fetched.batches {
            self.present_bytes += slice.len();
            batches.push(slice);
            if self.present_bytes >= PIECE_BYTES {
                self.present.push(partition(std::mem::take(&mut batches)));
                self.flush();
            }
        }
        // Also without records: where the partition stands is told in any case, and told once more after a full piece.
        self.present.push(partition(batches));
    }

    fn flush(&mut self) {
        self.present_bytes = 0;
        let partitions = std::mem::take(&mut self.present);
        self.done.push(proto::FetchResponse { partitions });
    }

    fn finish(mut self) -> Vec<proto::FetchResponse> {
        if !self.present.is_empty() {
            self.flush();
        }
        self.done
    }
}
