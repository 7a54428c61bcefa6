//! The same batch under another codec: what a broker stores when its topic, not the producer, chooses the codec.
//!
//! Unlike a batch that is stored as it came, one that is compressed anew is read whole: from then on the checksum is the broker's, so
//! nothing malformed may pass under it. Producer identity, sequence, flags and every record's bytes stay as they were.

use bytes::{BufMut, BytesMut};
use thalweg_types::{CompressionType, TimestampType};

use crate::checksum;
use crate::compression::{self, Level};
use crate::error::BatchError;
use crate::header::{BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, at};
use crate::records::Records;

impl Records<'_> {
    /// A batch of these records, compressed with `codec`; `level` is the codec's own, its default for `None`. The max timestamp is
    /// that of the records.
    ///
    /// # Errors
    ///
    /// The first record that is malformed, or records that do not fill the batch's offsets without a gap.
    pub fn recompressed(
        &self,
        codec: CompressionType,
        level: Option<i32>,
    ) -> Result<BytesMut, BatchError> {
        let mut header = *self.header();
        header.max_timestamp = self.check_all()?.unwrap_or(header.max_timestamp);
        header.attributes = header.attributes.with_compression(codec);

        let mut batch = BytesMut::with_capacity(HEADER_BYTES + self.size_bytes() / 2);
        batch.put_bytes(0, HEADER_BYTES);
        compression::compress(codec, Level(level), self.bytes(), &mut batch)?;
        header.batch_length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES)
            .map_err(|_| BatchError::Full("2^31 - 1 bytes"))?;
        put(&mut batch, 0, &header.to_bytes());
        let crc = checksum::compute(&batch);
        put(&mut batch, at::CRC, &crc.to_be_bytes());
        Ok(batch)
    }

    /// Reads every record; the newest timestamp, where records have timestamps of their own.
    fn check_all(&self) -> Result<Option<thalweg_types::Timestamp>, BatchError> {
        let BatchHeader { record_count, last_offset_delta, attributes, .. } = *self.header();
        let mut newest = None;
        let mut count = 0_i32;
        for record in self {
            newest = newest.max(Some(record?.timestamp));
            count += 1;
        }
        // The records' own offsets ascend within the batch, so as many of them as offsets leave no gap.
        if i64::from(count) != i64::from(last_offset_delta) + 1 {
            return Err(BatchError::Counts { record_count, last_offset_delta });
        }
        Ok(newest.filter(|_| attributes.timestamp_type() == TimestampType::CreateTime))
    }
}

fn put(batch: &mut [u8], position: usize, field: &[u8]) {
    batch
        .get_mut(position..position + field.len())
        .expect("the batch begins with room for the header")
        .copy_from_slice(field);
}

#[cfg(test)]
mod tests {
    use thalweg_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

    use super::*;
    use crate::{BatchBuilder, DecompressLimits, RecordHeader, records, verify_crc};

    const CODECS: [CompressionType; 5] = [
        CompressionType::None,
        CompressionType::Gzip,
        CompressionType::Snappy,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];

    fn batch(codec: CompressionType) -> BytesMut {
        let mut builder = BatchBuilder::new(codec)
            .producer(ProducerId(7), ProducerEpoch(3), Sequence(11))
            .transactional();
        let header = RecordHeader { key: b"trace", value: None };
        for number in 0..500_i64 {
            let value = format!("value {number} value {number}");
            // Not in order: the newest is neither first nor last.
            let timestamp = Timestamp(1_000 + (number * 7) % 500);
            builder.push(timestamp, Some(b"key"), Some(value.as_bytes()), &[header]).unwrap();
        }
        builder.finish().unwrap()
    }

    fn all(batch: &[u8]) -> Vec<String> {
        let records = records(batch, &DecompressLimits::default()).unwrap();
        records.iter().map(|record| format!("{:?}", record.unwrap())).collect()
    }

    #[test]
    fn every_codec_becomes_every_other_with_the_same_records_and_producer() {
        for from in CODECS {
            let original = batch(from);
            let before = BatchHeader::parse(&original).unwrap();
            for to in CODECS {
                let unpacked = records(&original, &DecompressLimits::default()).unwrap();
                let stored = unpacked.recompressed(to, None).unwrap();
                let after = BatchHeader::parse(&stored).unwrap();
                assert_eq!(after.size_bytes(), stored.len(), "{from} to {to}");
                assert_eq!(verify_crc(&stored, &after), Ok(()), "{from} to {to}");
                assert_eq!(after.attributes.compression(), Some(to));
                assert!(after.attributes.is_transactional());
                assert_eq!(all(&stored), all(&original), "{from} to {to}");
                let same = BatchHeader {
                    batch_length: before.batch_length,
                    crc: before.crc,
                    attributes: before.attributes,
                    ..after
                };
                assert_eq!(same, before, "{from} to {to}");
            }
        }
    }

    #[test]
    fn levels_are_heeded_and_even_the_highest_can_be_read() {
        let original = batch(CompressionType::None);
        let unpacked = records(&original, &DecompressLimits::default()).unwrap();
        let bytes = |codec, level| {
            let stored = unpacked.recompressed(codec, Some(level)).unwrap();
            assert_eq!(all(&stored), all(&original), "{codec} {level}");
            stored.len()
        };
        assert!(bytes(CompressionType::Gzip, 9) < bytes(CompressionType::Gzip, 1));
        assert!(bytes(CompressionType::Zstd, 22) < bytes(CompressionType::Zstd, -131_072));
    }

    #[test]
    fn a_wrong_max_timestamp_is_put_right() {
        let mut original = batch(CompressionType::Lz4);
        put(&mut original, at::MAX_TIMESTAMP, &5_000_000_i64.to_be_bytes());
        let unpacked = records(&original, &DecompressLimits::default()).unwrap();
        let stored = unpacked.recompressed(CompressionType::Zstd, None).unwrap();
        assert_eq!(BatchHeader::parse(&stored).unwrap().max_timestamp, Timestamp(1_499));
    }

    #[test]
    fn records_that_are_malformed_or_leave_gaps_are_refused() {
        let mut builder = BatchBuilder::new(CompressionType::None);
        for _ in 0..3 {
            builder.push(Timestamp(1), None, Some(b"v"), &[]).unwrap();
        }
        let sound = builder.finish().unwrap();
        let refused = |change: &dyn Fn(&mut BytesMut)| {
            let mut batch = sound.clone();
            change(&mut batch);
            let unpacked = records(&batch, &DecompressLimits::default()).unwrap();
            unpacked.recompressed(CompressionType::Zstd, None).unwrap_err()
        };
        let gap = refused(&|batch| put(batch, 23, &5_i32.to_be_bytes()));
        assert!(matches!(gap, BatchError::Counts { .. }), "{gap}");
        let length = refused(&|batch| put(batch, HEADER_BYTES, &[0x7f]));
        assert!(matches!(length, BatchError::Record { index: 0, .. }), "{length}");
        let fewer = refused(&|batch| put(batch, 57, &2_i32.to_be_bytes()));
        assert!(matches!(fewer, BatchError::TrailingBytes(_)), "{fewer}");
        assert_eq!(all(&sound).len(), 3);
        assert_eq!(BatchHeader::parse(&sound).unwrap().base_offset, Offset::ZERO);
    }
}
