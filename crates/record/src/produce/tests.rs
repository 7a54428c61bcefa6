//! Each check of a produced batch, by a batch that breaks it.

use bytes::BytesMut;
use thalweg_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::*;
use crate::checksum;
use crate::header::{Attributes, at};
use crate::{BatchBuilder, MAGIC};

fn batch() -> BytesMut {
    let mut builder = BatchBuilder::new(CompressionType::None).producer(
        ProducerId(7),
        ProducerEpoch(0),
        Sequence(5),
    );
    builder.push(Timestamp(10), Some(b"key"), Some(b"first"), &[]).unwrap();
    builder.push(Timestamp(11), None, Some(b"second"), &[]).unwrap();
    builder.finish().unwrap()
}

/// The batch with its header changed and the CRC made right again, as a hostile client would send it.
fn forged(change: impl FnOnce(&mut BatchHeader)) -> Result<BatchHeader, BatchError> {
    let mut bytes = batch();
    let mut header = BatchHeader::parse(&bytes).unwrap();
    change(&mut header);
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let crc = checksum::compute(&bytes);
    bytes[at::CRC..at::CRC + 4].copy_from_slice(&crc.to_be_bytes());
    check_produced(&bytes, &ProduceLimits::default())
}

fn code(result: Result<BatchHeader, BatchError>) -> ErrorCode {
    result.expect_err("must be refused").code()
}

#[test]
fn an_honest_batch_passes() {
    let header = check_produced(&batch(), &ProduceLimits::default()).unwrap();
    assert_eq!((header.record_count, header.last_offset_delta, header.magic), (2, 1, MAGIC));
    assert_eq!(header.last_sequence(), Sequence(6));
    assert!(forged(|_| {}).is_ok());
}

#[test]
fn exactly_one_whole_batch_is_taken() {
    let (one, limits) = (batch(), ProduceLimits::default());
    let two = [&one[..], &one[..]].concat();
    assert_eq!(check_produced(&two, &limits), Err(BatchError::MoreThanOne(one.len())));
    assert_eq!(check_produced(&[], &limits), Err(BatchError::Empty));
    for cut in 1..one.len() {
        let refused = check_produced(&one[..cut], &limits);
        assert!(matches!(refused, Err(BatchError::Truncated { .. })), "{cut}: {refused:?}");
    }
}

#[test]
fn the_size_limit_counts_the_whole_batch() {
    let bytes = batch();
    let limits = |batch_bytes_max| ProduceLimits { batch_bytes_max };
    assert!(check_produced(&bytes, &limits(bytes.len())).is_ok());
    assert_eq!(code(check_produced(&bytes, &limits(bytes.len() - 1))), ErrorCode::MessageTooLarge);
}

#[test]
fn other_record_formats_are_refused() {
    for magic in [0, 1, 3, 127, -1] {
        assert_eq!(forged(|h| h.magic = magic), Err(BatchError::Magic(magic)));
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let length = (batch().len() - 12) as i32;
    for wrong in [i32::MIN, -1, 0, 48, length - 1, length + 1, i32::MAX] {
        assert!(forged(|h| h.batch_length = wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_wrong_checksum_is_corruption() {
    let mut bytes = batch();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(code(check_produced(&bytes, &ProduceLimits::default())), ErrorCode::CorruptMessage);
}

#[test]
fn counts_must_agree_with_offsets_and_with_the_bytes() {
    let counts = |count, delta| {
        forged(|h| {
            h.record_count = count;
            h.last_offset_delta = delta;
        })
    };
    for (count, delta) in [(0, 0), (0, -1), (-1, -2), (1, 1), (2, 0), (i32::MAX, i32::MAX - 1)] {
        assert!(matches!(counts(count, delta), Err(BatchError::Counts { .. })), "{count} {delta}");
    }
    // Consistent with each other, but no batch of this size holds a thousand records.
    assert!(matches!(counts(1000, 999), Err(BatchError::Counts { .. })));
}

#[test]
fn clients_do_not_choose_offsets_nor_write_control_batches() {
    assert_eq!(
        forged(|h| h.base_offset = thalweg_types::Offset(9)),
        Err(BatchError::BaseOffset(9))
    );
    assert_eq!(forged(|h| h.attributes = Attributes(0x20)), Err(BatchError::Control));
    assert_eq!(forged(|h| h.attributes = Attributes(0x40)), Err(BatchError::DeleteHorizon));
    assert!(forged(|h| h.leader_epoch = thalweg_types::LeaderEpoch(77)).is_ok());
}

#[test]
fn unassigned_codecs_are_refused_by_their_own_code() {
    for codec in 5..=7 {
        let refused = forged(|h| h.attributes = Attributes(codec));
        assert_eq!(code(refused), ErrorCode::UnsupportedCompressionType);
    }
}

#[test]
fn a_producer_id_comes_with_epoch_and_sequence() {
    let producer = |id, epoch, sequence, attributes| {
        forged(|h| {
            h.producer_id = ProducerId(id);
            h.producer_epoch = ProducerEpoch(epoch);
            h.base_sequence = Sequence(sequence);
            h.attributes = Attributes(attributes);
        })
    };
    for (id, epoch, sequence) in [(-2, 0, 0), (7, -2, 0), (7, -1, 0), (7, 0, -1), (7, 0, -2)] {
        assert_eq!(code(producer(id, epoch, sequence, 0)), ErrorCode::InvalidRecord);
    }
    assert_eq!(code(producer(-1, -1, -1, 0x10)), ErrorCode::InvalidRecord);
    assert!(producer(7, 0, i32::MAX, 0x10).is_ok());
    assert!(producer(-1, -1, -1, 0).is_ok());
    // Some clients leave the sequence 0 when they are not idempotent.
    assert!(producer(-1, -1, 0, 0).is_ok());
}

#[test]
fn times_before_none_are_refused() {
    for (base, max) in [(-2, 0), (0, -2), (i64::MIN, i64::MIN), (0, i64::MIN)] {
        let refused = forged(|h| {
            h.base_timestamp = Timestamp(base);
            h.max_timestamp = Timestamp(max);
        });
        assert_eq!(code(refused), ErrorCode::InvalidTimestamp);
    }
    assert!(forged(|h| h.max_timestamp = Timestamp(i64::MAX)).is_ok());
    assert!(forged(|h| h.base_timestamp = Timestamp::NONE).is_ok());
}
