//! The fixed part of a batch: reading it, writing it, and what follows from it.

use thalweg_types::{
    CompressionType, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
    TimestampType,
};

use crate::error::BatchError;

/// Bytes of the fixed part: base offset to record count.
pub const HEADER_BYTES: usize = 61;

/// Base offset and batch length: what must be read to know how long a batch is.
pub const LENGTH_PREFIX_BYTES: usize = 12;

/// The only record format there is.
pub const MAGIC: i8 = 2;

/// Smallest value of the batch length field: a batch without records, as compaction leaves it.
const BATCH_LENGTH_MIN: i32 = (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32;

/// Positions of the fields that are changed in place.
pub(crate) mod at {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const LEADER_EPOCH: usize = 12;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
}

/// A batch's header, every field as stored. [`parse`](Self::parse) has checked the relations between length, counts and offsets
/// that the accessors rely on, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record the batch was written with; compaction may have removed that record.
    pub base_offset: Offset,
    /// Bytes after the batch length field.
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub magic: i8,
    /// CRC-32C over the attributes and everything after them.
    pub crc: u32,
    pub attributes: Attributes,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas are relative to; the delete horizon where that attribute is set (KIP-534).
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records, or the append time (see [`Attributes::timestamp_type`]).
    pub max_timestamp: Timestamp,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: Sequence,
    pub record_count: i32,
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

// ---------------------------------------------------------------- BatchHeader

impl BatchHeader {
    /// Reads the header at the front of `bytes`, of which only [`HEADER_BYTES`] need to be there: compare
    /// [`size_bytes`](Self::size_bytes) with what is. Fails on another record format, on a length below a header's, on counts that
    /// contradict each other and on offsets that leave the number space. The CRC is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::decode(bytes)?;
        if header.magic != MAGIC {
            return Err(BatchError::Magic(header.magic));
        }
        if header.batch_length < BATCH_LENGTH_MIN {
            return Err(BatchError::Length(header.batch_length));
        }
        // A compacted batch may hold fewer records than its offsets, down to none (KIP-98).
        if header.last_offset_delta < 0
            || header.record_count < 0
            || i64::from(header.record_count) > i64::from(header.last_offset_delta) + 1
        {
            return Err(BatchError::Counts {
                record_count: header.record_count,
                last_offset_delta: header.last_offset_delta,
            });
        }
        let next = header.base_offset.checked_add(i64::from(header.last_offset_delta) + 1);
        if header.base_offset < Offset::ZERO || next.is_none() {
            return Err(BatchError::OffsetOverflow {
                base_offset: header.base_offset.0,
                last_offset_delta: header.last_offset_delta,
            });
        }
        Ok(header)
    }

    fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let fixed = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(BatchError::Truncated { needed: HEADER_BYTES, have: bytes.len() })?;
        let mut fields = Fields(fixed);
        Ok(Self {
            base_offset: Offset(i64::from_be_bytes(fields.take())),
            batch_length: i32::from_be_bytes(fields.take()),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(fields.take())),
            magic: i8::from_be_bytes(fields.take()),
            crc: u32::from_be_bytes(fields.take()),
            attributes: Attributes(i16::from_be_bytes(fields.take())),
            last_offset_delta: i32::from_be_bytes(fields.take()),
            base_timestamp: Timestamp(i64::from_be_bytes(fields.take())),
            max_timestamp: Timestamp(i64::from_be_bytes(fields.take())),
            producer_id: ProducerId(i64::from_be_bytes(fields.take())),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(fields.take())),
            base_sequence: Sequence(i32::from_be_bytes(fields.take())),
            record_count: i32::from_be_bytes(fields.take()),
        })
    }

    /// The header as stored, CRC as given in the field.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut rest = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            let (here, after) =
                std::mem::take(&mut rest).split_at_mut_checked(field.len()).unwrap_or_default();
            here.copy_from_slice(field);
            rest = after;
        };
        put(&self.base_offset.0.to_be_bytes());
        put(&self.batch_length.to_be_bytes());
        put(&self.leader_epoch.0.to_be_bytes());
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.0.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.0.to_be_bytes());
        put(&self.max_timestamp.0.to_be_bytes());
        put(&self.producer_id.0.to_be_bytes());
        put(&self.producer_epoch.0.to_be_bytes());
        put(&self.base_sequence.0.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header and length prefix included.
    pub fn size_bytes(&self) -> usize {
        LENGTH_PREFIX_BYTES + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record the batch was written with, inclusive.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// Offset after the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Sequence of the last record, or `NONE` in a batch without sequences.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 {
            return Sequence::NONE;
        }
        self.base_sequence.advanced_by(self.last_offset_delta)
    }

    /// Whether the batch comes from an idempotent producer.
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 >= 0
    }
}

/// Takes fields off the front of a header. The fields of [`BatchHeader::decode`] add up to [`HEADER_BYTES`], which its round-trip
/// test shows.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }
}

// ---------------------------------------------------------------- Attributes

impl Attributes {
    const CODEC_MASK: i16 = 0x07;
    pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
    pub(crate) const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    pub(crate) fn with_compression(self, compression: CompressionType) -> Self {
        Self((self.0 & !Self::CODEC_MASK) | i16::from(compression.code()))
    }

    /// The three codec bits.
    pub fn codec(self) -> u8 {
        (self.0 & Self::CODEC_MASK).to_be_bytes()[1]
    }

    /// How the records are compressed; `None` for the unassigned codes 5 to 7.
    pub fn compression(self) -> Option<CompressionType> {
        CompressionType::from_code(self.codec())
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Control batches hold one transaction marker and are hidden from consumers.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the moment from which tombstones of this batch may go (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset(0x0102_0304_0506_0708),
            batch_length: 49,
            leader_epoch: LeaderEpoch(0x1112_1314),
            magic: MAGIC,
            crc: 0x2122_2324,
            attributes: Attributes(0x31),
            last_offset_delta: 0x4142_4344,
            base_timestamp: Timestamp(0x5152_5354_5556_5758),
            max_timestamp: Timestamp(0x6162_6364_6566_6768),
            producer_id: ProducerId(0x7172_7374_7576_7778),
            producer_epoch: ProducerEpoch(0x1415),
            base_sequence: Sequence(0x2425_2627),
            record_count: 0x3435_3637,
        }
    }

    #[test]
    fn every_field_round_trips_and_the_last_one_ends_the_header() {
        let bytes = header().to_bytes();
        assert_eq!(BatchHeader::parse(&bytes), Ok(header()));
        assert_eq!(bytes[57..], 0x3435_3637_i32.to_be_bytes());
        assert_eq!(bytes[16..21], [2, 0x21, 0x22, 0x23, 0x24]);
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let parse = |change: fn(&mut BatchHeader)| {
            let mut changed = header();
            change(&mut changed);
            BatchHeader::parse(&changed.to_bytes())
        };
        assert_eq!(parse(|h| h.magic = 1), Err(BatchError::Magic(1)));
        assert_eq!(parse(|h| h.batch_length = 48), Err(BatchError::Length(48)));
        assert_eq!(parse(|h| h.batch_length = -1), Err(BatchError::Length(-1)));
        assert!(matches!(parse(|h| h.last_offset_delta = -1), Err(BatchError::Counts { .. })));
        assert!(matches!(parse(|h| h.record_count = i32::MAX), Err(BatchError::Counts { .. })));
        assert!(matches!(
            parse(|h| h.base_offset = Offset(-1)),
            Err(BatchError::OffsetOverflow { .. })
        ));
        assert!(matches!(
            parse(|h| h.base_offset = Offset::MAX),
            Err(BatchError::OffsetOverflow { .. })
        ));
    }

    #[test]
    fn a_header_cut_at_any_byte_says_how_much_is_missing() {
        let bytes = header().to_bytes();
        for have in 0..HEADER_BYTES {
            assert_eq!(
                BatchHeader::parse(&bytes[..have]),
                Err(BatchError::Truncated { needed: HEADER_BYTES, have })
            );
        }
    }

    #[test]
    fn last_sequence_wraps_with_the_sequence_space() {
        let mut wrapping = header();
        wrapping.base_sequence = Sequence(i32::MAX);
        wrapping.last_offset_delta = 2;
        assert_eq!(wrapping.last_sequence(), Sequence(1));
        wrapping.base_sequence = Sequence::NONE;
        assert_eq!(wrapping.last_sequence(), Sequence::NONE);
    }
}
