//! What must hold for a batch that a client sends, before the log looks at it.
//!
//! Checked here is everything the header and the length tell, the CRC, and the form of uncompressed records: what is stored as it came
//! must be readable. Compressed records are not decompressed, which would cost more than all the rest; their readers check them while
//! they read (docs/adr/0005). What depends on the log (sequences, epochs, allowed clock difference, the
//! topic's size limit) is given in or decided there.

use thalweg_types::CompressionType;

use crate::checksum::verify_crc;
use crate::error::BatchError;
use crate::header::{BatchHeader, HEADER_BYTES};
use crate::walk::check_records;

/// Fewest bytes of an uncompressed record: length, attributes, two deltas, two lengths and the header count, one byte each.
const RECORD_BYTES_MIN: usize = 7;

/// Limits a topic puts on what is produced to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceLimits {
    /// Largest whole batch, compressed as it is (`max.message.bytes`).
    pub batch_bytes_max: usize,
}

impl Default for ProduceLimits {
    /// Kafka's default: 1 MiB and a header's length prefix.
    fn default() -> Self {
        Self { batch_bytes_max: 1024 * 1024 + crate::header::LENGTH_PREFIX_BYTES }
    }
}

/// Checks the records field of one partition in a produce request: exactly one batch (produce version 3 and later, KIP-98), whole,
/// within the limits, consistent, with the right CRC. Cheap checks come first; the size limit comes before the CRC.
pub fn check_produced(bytes: &[u8], limits: &ProduceLimits) -> Result<BatchHeader, BatchError> {
    if bytes.is_empty() {
        return Err(BatchError::Empty);
    }
    let header = BatchHeader::parse(bytes)?;
    let size = header.size_bytes();
    match bytes.len() {
        have if have < size => return Err(BatchError::Truncated { needed: size, have }),
        have if have > size => return Err(BatchError::MoreThanOne(have - size)),
        _ => {}
    }
    if size > limits.batch_bytes_max {
        return Err(BatchError::TooLarge { bytes: size, bytes_max: limits.batch_bytes_max });
    }
    check_counts(&header)?;
    check_attributes(&header)?;
    check_producer(&header)?;
    check_timestamps(&header)?;
    verify_crc(bytes, &header)?;
    if header.attributes.compression() == Some(CompressionType::None) {
        check_records(bytes, &header)?;
    }
    Ok(header)
}

/// A client numbers its records 0 to n - 1, and the bytes must have room for n.
fn check_counts(header: &BatchHeader) -> Result<(), BatchError> {
    let BatchHeader { record_count, last_offset_delta, .. } = *header;
    let wrong = BatchError::Counts { record_count, last_offset_delta };
    if record_count < 1 || i64::from(record_count) != i64::from(last_offset_delta) + 1 {
        return Err(wrong);
    }
    let record_bytes = header.size_bytes() - HEADER_BYTES;
    let room = match header.attributes.compression() {
        Some(CompressionType::None) => record_bytes / RECORD_BYTES_MIN,
        _ => usize::MAX,
    };
    if record_bytes == 0 || usize::try_from(record_count).is_ok_and(|count| count > room) {
        return Err(wrong);
    }
    if header.base_offset.0 != 0 {
        return Err(BatchError::BaseOffset(header.base_offset.0));
    }
    Ok(())
}

fn check_attributes(header: &BatchHeader) -> Result<(), BatchError> {
    if header.attributes.compression().is_none() {
        return Err(BatchError::Codec(header.attributes.codec()));
    }
    if header.attributes.is_control() {
        return Err(BatchError::Control);
    }
    if header.attributes.has_delete_horizon() {
        return Err(BatchError::DeleteHorizon);
    }
    Ok(())
}

/// A producer id needs an epoch and a sequence, a transaction needs a producer id. Without a producer id the other two mean nothing, and
/// some clients leave a 0 there, so they are only bounded.
fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    let (id, epoch, sequence) =
        (header.producer_id.0, header.producer_epoch.0, header.base_sequence.0);
    let rule = if id < -1 || epoch < -1 || sequence < -1 {
        "none of them may be below -1"
    } else if id >= 0 && epoch < 0 {
        "a producer id needs an epoch"
    } else if id >= 0 && sequence < 0 {
        "a producer id needs a sequence"
    } else if id < 0 && header.attributes.is_transactional() {
        "a transactional batch needs a producer id"
    } else {
        return Ok(());
    };
    Err(BatchError::Producer {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
        rule,
    })
}

/// Times are -1 (none) or later. The max is not compared with the base: some clients put the last record's time there.
fn check_timestamps(header: &BatchHeader) -> Result<(), BatchError> {
    let (base, max) = (header.base_timestamp.0, header.max_timestamp.0);
    if base < -1 || max < -1 {
        return Err(BatchError::Timestamps { base_timestamp: base, max_timestamp: max });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
