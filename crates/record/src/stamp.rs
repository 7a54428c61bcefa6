//! What the log writes into a received batch, in place.

use thalweg_types::{LeaderEpoch, Offset, Timestamp};

use crate::checksum;
use crate::header::{Attributes, HEADER_BYTES, at};

/// Gives a batch its place in the log. Both fields lie outside the CRC, so nothing else changes.
///
/// # Panics
/// `batch` must hold a whole header, which every batch that was parsed does.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    put(batch, at::BASE_OFFSET, &base_offset.0.to_be_bytes());
    put(batch, at::LEADER_EPOCH, &leader_epoch.0.to_be_bytes());
}

/// Replaces the client's timestamps by the log's (`message.timestamp.type=LogAppendTime`, KIP-32): sets the attribute and the max
/// timestamp and computes the CRC anew. `batch` is one whole batch. Readers take the max timestamp for every record.
///
/// # Panics
/// As [`stamp`].
pub fn stamp_log_append_time(batch: &mut [u8], now: Timestamp) {
    let header = batch.first_chunk::<HEADER_BYTES>().expect("a parsed batch holds a whole header");
    let attributes = i16::from_be_bytes([header[at::ATTRIBUTES], header[at::ATTRIBUTES + 1]]);
    put(batch, at::ATTRIBUTES, &(attributes | Attributes::LOG_APPEND_TIME).to_be_bytes());
    put(batch, at::MAX_TIMESTAMP, &now.0.to_be_bytes());
    let crc = checksum::compute(batch);
    put(batch, at::CRC, &crc.to_be_bytes());
}

fn put(batch: &mut [u8], position: usize, field: &[u8]) {
    batch
        .get_mut(position..position + field.len())
        .expect("a parsed batch holds a whole header")
        .copy_from_slice(field);
}

#[cfg(test)]
mod tests {
    use thalweg_types::{CompressionType, TimestampType};

    use super::*;
    use crate::{BatchBuilder, BatchHeader, DecompressLimits, records, verify_crc};

    #[test]
    fn a_stamp_leaves_the_checksum_valid_and_the_rest_untouched() {
        let mut builder = BatchBuilder::new(CompressionType::None);
        builder.push(Timestamp(7), None, Some(b"value"), &[]).unwrap();
        let before = builder.finish().unwrap();

        let mut after = before.clone();
        stamp(&mut after, Offset(911), LeaderEpoch(3));

        let header = BatchHeader::parse(&after).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (Offset(911), LeaderEpoch(3)));
        assert_eq!(verify_crc(&after, &header), Ok(()));
        assert_eq!(before[16..], after[16..]);
    }

    #[test]
    fn append_time_is_what_every_record_then_carries() {
        let mut builder = BatchBuilder::new(CompressionType::None);
        builder.push(Timestamp(7), None, Some(b"a"), &[]).unwrap();
        builder.push(Timestamp(8), None, Some(b"b"), &[]).unwrap();
        let mut batch = builder.finish().unwrap();

        stamp_log_append_time(&mut batch, Timestamp(1000));

        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(verify_crc(&batch, &header), Ok(()));
        let records = records(&batch, &DecompressLimits::default()).unwrap();
        let times: Vec<_> = records.iter().map(|record| record.unwrap().timestamp).collect();
        assert_eq!(times, [Timestamp(1000), Timestamp(1000)]);
    }
}
