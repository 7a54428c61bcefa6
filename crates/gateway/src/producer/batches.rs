//! Records to batches: one for each partition they go to.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use thalweg_proto::common::v1::Header;
use thalweg_proto::producer::v1 as proto;
use thalweg_record::{BatchBuilder, BatchError, BatchHeader, RecordHeader};
use thalweg_rpc::Error;
use thalweg_types::{
    CompressionType, ErrorCode, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

use super::order::{Load, Order};
use crate::partitioner;
use crate::port::BrokerPort;
use crate::shared::Shared;

const HEADERS_MAX: usize = 1_000;
const HEADER_KEY_BYTES_MAX: usize = 32 * 1024;

/// Up to here compressing takes less time than handing the work to another thread is worth; beyond it, it would hold up the other
/// calls of this one.
const COMPRESS_INLINE_BYTES_MAX: usize = 64 * 1024;

/// One partition's share of a request.
pub(super) struct Part {
    pub(super) partition: PartitionIndex,
    pub(super) batch: BytesMut,
    pub(super) record_count: u32,
    /// Positions in the request; empty when all its records are here.
    pub(super) record_indexes: Vec<u32>,
}

/// How records become batches: everything the work needs, so that it can be done elsewhere.
struct Recipe {
    /// Where everything goes, if that was said.
    partition: Option<PartitionIndex>,
    partition_count: u32,
    /// Where records without a key go.
    keyless: PartitionIndex,
    now: Timestamp,
    compression: CompressionType,
    producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
}

/// The batches of a request, in order of the partition.
pub(super) async fn build<B: BrokerPort>(
    shared: &Shared<B>,
    order: &Order,
    load: Load,
    partition_count: u32,
) -> Result<Vec<Part>, Error> {
    let records = match load {
        Load::Batch { partition, batch } => return Ok(vec![ready_made(partition, batch)?]),
        Load::Records(records) => records,
    };
    let keyless = records.iter().any(|record| record.key.is_none()) && order.partition.is_none();
    let recipe = Recipe {
        partition: order.partition,
        partition_count,
        // A turn is taken only when it is needed, or keyed requests would make it uneven.
        keyless: match keyless {
            true => shared.rotation.next(partition_count),
            false => PartitionIndex(0),
        },
        now: shared.clock.now(),
        compression: order.compression,
        producer: order.producer,
    };
    let bytes: usize = records.iter().map(payload_bytes).sum();
    if recipe.compression == CompressionType::None || bytes <= COMPRESS_INLINE_BYTES_MAX {
        return pack(&recipe, &records);
    }
    match tokio::task::spawn_blocking(move || pack(&recipe, &records)).await {
        Ok(parts) => parts,
        Err(_) => Err(Error::new(ErrorCode::UnknownServerError, "the records were not packed")),
    }
}

/// The batches of a request that goes to a topic of `partition_count` partitions at the beginning of time.
#[cfg(feature = "fuzzing")]
pub(super) fn pack_at(order: &Order, load: Load, partition_count: u32) -> Result<Vec<Part>, Error> {
    let records = match load {
        Load::Batch { partition, batch } => return Ok(vec![ready_made(partition, batch)?]),
        Load::Records(records) => records,
    };
    let recipe = Recipe {
        partition: order.partition,
        partition_count,
        keyless: PartitionIndex(0),
        now: Timestamp(0),
        compression: order.compression,
        producer: order.producer,
    };
    pack(&recipe, &records)
}

/// A batch the client made: it must be one whole batch; the rest of its checks are the log's.
fn ready_made(partition: PartitionIndex, batch: Bytes) -> Result<Part, Error> {
    let header = BatchHeader::parse(&batch).map_err(|error| refused(&error))?;
    let (needed, have) = (header.size_bytes(), batch.len());
    if needed > have {
        return Err(refused(&BatchError::Truncated { needed, have }));
    }
    if needed < have {
        return Err(refused(&BatchError::MoreThanOne(have - needed)));
    }
    let record_count = u32::try_from(header.record_count)
        .map_err(|_| Error::new(ErrorCode::InvalidRecord, "the record count is negative"))?;
    // The log stamps it in place. Whoever else holds the received frame makes this a copy.
    let batch = batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    Ok(Part { partition, batch, record_count, record_indexes: Vec::new() })
}

fn pack(recipe: &Recipe, records: &[proto::Record]) -> Result<Vec<Part>, Error> {
    let mut builders: BTreeMap<PartitionIndex, (BatchBuilder, Vec<u32>)> = BTreeMap::new();
    for (index, record) in (0u32..).zip(records) {
        let partition = recipe.partition_of(record);
        let (builder, indexes) =
            builders.entry(partition).or_insert_with(|| (recipe.builder(), Vec::new()));
        push(builder, record, recipe.now).map_err(|error| Error {
            message: format!("record {index}: {}", error.message),
            ..error
        })?;
        indexes.push(index);
    }
    let is_split = builders.len() > 1;
    builders
        .into_iter()
        .map(|(partition, (builder, indexes))| {
            Ok(Part {
                partition,
                batch: builder.finish().map_err(|error| refused(&error))?,
                record_count: u32::try_from(indexes.len()).unwrap_or(u32::MAX),
                record_indexes: if is_split { indexes } else { Vec::new() },
            })
        })
        .collect()
}

impl Recipe {
    fn partition_of(&self, record: &proto::Record) -> PartitionIndex {
        match (self.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partitioner::partition_of(key, self.partition_count),
            (None, None) => self.keyless,
        }
    }

    fn builder(&self) -> BatchBuilder {
        let builder = BatchBuilder::new(self.compression);
        match self.producer {
            Some((id, epoch, sequence)) => builder.producer(id, epoch, sequence),
            None => builder,
        }
    }
}

fn push(builder: &mut BatchBuilder, record: &proto::Record, now: Timestamp) -> Result<(), Error> {
    let timestamp = record.timestamp_ms.map_or(now, Timestamp);
    if timestamp.0 < 0 {
        let message = format!("timestamp_ms must not be negative: {timestamp}");
        return Err(Error::new(ErrorCode::InvalidTimestamp, message));
    }
    if record.headers.len() > HEADERS_MAX {
        let message = format!("at most {HEADERS_MAX} headers, not {}", record.headers.len());
        return Err(Error::new(ErrorCode::InvalidRecord, message));
    }
    let headers = record.headers.iter().map(header).collect::<Result<Vec<_>, _>>()?;
    builder
        .push(timestamp, record.key.as_deref(), record.value.as_deref(), &headers)
        .map_err(|error| refused(&error))
}

fn header(header: &Header) -> Result<RecordHeader<'_>, Error> {
    if header.key.len() > HEADER_KEY_BYTES_MAX {
        let message = format!("a header key has at most {HEADER_KEY_BYTES_MAX} bytes");
        return Err(Error::new(ErrorCode::InvalidRecord, message));
    }
    Ok(RecordHeader { key: header.key.as_bytes(), value: header.value.as_deref() })
}

fn payload_bytes(record: &proto::Record) -> usize {
    let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|header| header.key.len() + length(&header.value));
    length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

fn refused(error: &BatchError) -> Error {
    Error::new(error.code(), error.to_string())
}
