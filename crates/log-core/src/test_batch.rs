//! Batch headers for the tests of this crate: the fields its rules read, made short.

use thalweg_record::{Attributes, BatchHeader};
use thalweg_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// A batch of `records` records from no idempotent producer, without timestamps, of 100 bytes a record beside its header.
pub(crate) fn batch(records: i32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset::ZERO,
        batch_length: 49 + 100 * records,
        leader_epoch: LeaderEpoch::NONE,
        magic: 2,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: records - 1,
        base_timestamp: Timestamp::NONE,
        max_timestamp: Timestamp::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        record_count: records,
    }
}

pub(crate) trait Vary {
    fn at(self, base_offset: i64) -> Self;
    fn epoch(self, leader_epoch: i32) -> Self;
    fn time(self, timestamp: i64) -> Self;
    fn from(self, producer_id: i64, epoch: i16, sequence: i32) -> Self;
}

impl Vary for BatchHeader {
    fn at(self, base_offset: i64) -> Self {
        Self { base_offset: Offset(base_offset), ..self }
    }

    fn epoch(self, leader_epoch: i32) -> Self {
        Self { leader_epoch: LeaderEpoch(leader_epoch), ..self }
    }

    fn time(self, timestamp: i64) -> Self {
        let timestamp = Timestamp(timestamp);
        Self { base_timestamp: timestamp, max_timestamp: timestamp, ..self }
    }

    fn from(self, producer_id: i64, epoch: i16, sequence: i32) -> Self {
        Self {
            producer_id: ProducerId(producer_id),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            ..self
        }
    }
}
