//! Building a batch from records.

use bytes::{BufMut, BytesMut};
use thalweg_types::{
    CompressionType, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

use crate::checksum;
use crate::compression;
use crate::error::BatchError;
use crate::header::{Attributes, BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, at};
use crate::records::RecordHeader;
use crate::varint;

/// Encodes records one after the other into one batch, compresses them at the end.
///
/// The batch has base offset 0 and no leader epoch, as a client sends it; the log [stamps](crate::stamp) it.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: CompressionType,
    attributes: Attributes,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    record_count: i32,
    /// Room for the header, then the records uncompressed.
    bytes: BytesMut,
}

impl BatchBuilder {
    pub fn new(compression: CompressionType) -> Self {
        let mut bytes = BytesMut::new();
        bytes.put_bytes(0, HEADER_BYTES);
        Self {
            compression,
            attributes: Attributes::default().with_compression(compression),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            record_count: 0,
            bytes,
        }
    }

    /// Makes the batch an idempotent producer's (KIP-98).
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, sequence: Sequence) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = sequence;
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes.0 |= Attributes::TRANSACTIONAL;
        self
    }

    /// Appends a record. Fails, and leaves the batch as it was, when the batch would outgrow its 31-bit length or record count, or when
    /// the timestamp is further from the first record's than 64 bits hold.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<(), BatchError> {
        let next_count =
            self.record_count.checked_add(1).ok_or(BatchError::Full("2^31 - 1 records"))?;
        let base = if self.record_count == 0 { timestamp } else { self.base_timestamp };
        let timestamp_delta = timestamp
            .0
            .checked_sub(base.0)
            .ok_or(BatchError::Full("timestamps are too far apart"))?;
        let body_bytes = 1
            + varint::size_bytes(timestamp_delta)
            + varint::size_bytes(i64::from(self.record_count))
            + field_bytes(key)
            + field_bytes(value)
            + headers_bytes(headers);
        let body_length = length(body_bytes)?;
        length(self.bytes.len().saturating_add(body_bytes).saturating_add(5))?;

        self.bytes.reserve(body_bytes + 5);
        varint::put_i32(&mut self.bytes, body_length);
        self.bytes.put_u8(0);
        varint::put_i64(&mut self.bytes, timestamp_delta);
        varint::put_i32(&mut self.bytes, self.record_count);
        put_field(&mut self.bytes, key);
        put_field(&mut self.bytes, value);
        varint::put_i32(&mut self.bytes, length(headers.len())?);
        for header in headers {
            put_field(&mut self.bytes, Some(header.key));
            put_field(&mut self.bytes, header.value);
        }
        self.base_timestamp = base;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count = next_count;
        Ok(())
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch if it were finished now without compression.
    pub fn size_estimate(&self) -> usize {
        self.bytes.len()
    }

    /// Compresses, computes the CRC and returns the whole batch. Fails with [`BatchError::Empty`] when nothing was pushed.
    pub fn finish(mut self) -> Result<BytesMut, BatchError> {
        if self.record_count == 0 {
            return Err(BatchError::Empty);
        }
        if self.compression != CompressionType::None {
            let records = self.bytes.split_off(HEADER_BYTES);
            let level = compression::Level::default();
            compression::compress(self.compression, level, &records, &mut self.bytes)?;
        }
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: length(self.bytes.len() - LENGTH_PREFIX_BYTES)?,
            leader_epoch: LeaderEpoch::NONE,
            magic: MAGIC,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        };
        put(&mut self.bytes, 0, &header.to_bytes());
        let crc = checksum::compute(&self.bytes);
        put(&mut self.bytes, at::CRC, &crc.to_be_bytes());
        Ok(self.bytes)
    }
}

fn put(batch: &mut [u8], position: usize, field: &[u8]) {
    batch
        .get_mut(position..position + field.len())
        .expect("a builder begins with room for the header")
        .copy_from_slice(field);
}

fn length(bytes: usize) -> Result<i32, BatchError> {
    i32::try_from(bytes).map_err(|_| BatchError::Full("2^31 - 1 bytes"))
}

fn field_bytes(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varint::size_bytes(bytes.len() as i64) + bytes.len(),
    }
}

fn headers_bytes(headers: &[RecordHeader<'_>]) -> usize {
    let fields = headers.iter().map(|h| field_bytes(Some(h.key)) + field_bytes(h.value));
    varint::size_bytes(headers.len() as i64) + fields.sum::<usize>()
}

fn put_field(target: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => varint::put_i32(target, -1),
        Some(bytes) => {
            varint::put_i64(target, bytes.len() as i64);
            target.put_slice(bytes);
        }
    }
}
