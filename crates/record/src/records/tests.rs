//! Records at the edges of their encoding.

use bytes::{BufMut, BytesMut};
use thalweg_types::Timestamp;

use super::*;
use crate::BatchBuilder;

fn batch_of(records: &[u8], count: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(CompressionType::None);
    builder.push(Timestamp(100), None, None, &[]).unwrap();
    let bytes = builder.finish().unwrap();
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.batch_length = (HEADER_BYTES - 12 + records.len()) as i32;
    header.record_count = count;
    header.last_offset_delta = (count - 1).max(0);
    [&header.to_bytes(), records].concat()
}

fn outcome(records_bytes: &[u8], count: i32) -> Result<usize, BatchError> {
    let batch = batch_of(records_bytes, count);
    let records = records(&batch, &DecompressLimits::default())?;
    records.iter().try_fold(0, |count, record| record.map(|_| count + 1))
}

/// A record from raw parts: body without its length.
fn record(fields: &[i64], tail: &[u8]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    for field in fields {
        varint::put_i64(&mut body, *field);
    }
    body.put_slice(tail);
    let mut whole = BytesMut::new();
    varint::put_i64(&mut whole, body.len() as i64);
    whole.put_slice(&body);
    whole.to_vec()
}

#[test]
fn a_minimal_record_is_read() {
    assert_eq!(outcome(&record(&[0, 0, -1, -1, 0], &[]), 1), Ok(1));
}

#[test]
fn malformed_records_are_refused_with_their_position() {
    let good = record(&[0, 0, -1, -1, 0], &[]);
    let wrong: [(&str, Vec<u8>); 12] = [
        ("length", vec![0x80]),
        ("negative", vec![1]),
        ("exceeds the batch", vec![0x7e]),
        ("empty", vec![0]),
        ("exceeds its content", record(&[0, 1, -1, -1, 0], &[0])),
        ("key", record(&[0, 1, -2, -1, 0], &[])),
        ("key", record(&[0, 1, 1000, -1, 0], &[])),
        ("value", record(&[0, 1, -1, i64::from(i32::MAX), 0], &[])),
        ("header count is negative", record(&[0, 1, -1, -1, -1], &[])),
        ("header count exceeds", record(&[0, 1, -1, -1, i64::from(i32::MAX)], &[])),
        ("a header", record(&[0, 1, -1, -1, 1], &[1, 1])),
        ("offset does not follow", record(&[0, 0, -1, -1, 0], &[])),
    ];
    for (part, bytes) in wrong {
        match outcome(&[good.clone(), bytes].concat(), 2) {
            Err(BatchError::Record { index: 1, rule }) => {
                assert!(rule.contains(part), "{rule}, expected {part}");
            }
            other => panic!("{part}: {other:?}"),
        }
    }
}

#[test]
fn offsets_and_times_stay_within_the_batch_and_the_number_space() {
    let beyond_last = record(&[0, 1, -1, -1, 0], &[]);
    assert!(matches!(outcome(&beyond_last, 1), Err(BatchError::Record { index: 0, .. })));
    let too_late = record(&[i64::MAX, 0, -1, -1, 0], &[]);
    assert!(matches!(outcome(&too_late, 1), Err(BatchError::Record { index: 0, .. })));
}

#[test]
fn missing_and_surplus_records_are_refused() {
    let one = record(&[0, 0, -1, -1, 0], &[]);
    assert!(matches!(outcome(&one, 2), Err(BatchError::Record { index: 1, .. })));
    assert_eq!(outcome(&[one.clone(), one.clone()].concat(), 1), Err(BatchError::TrailingBytes(7)));
    assert_eq!(outcome(&[], 0), Ok(0));
}

#[test]
fn an_error_ends_the_iteration() {
    let batch = batch_of(&[0x80; 40], 5);
    let records = records(&batch, &DecompressLimits::default()).unwrap();
    assert_eq!(records.iter().count(), 1);
}

#[test]
fn holes_left_by_compaction_are_read() {
    let mut builder = BatchBuilder::new(CompressionType::None);
    builder.push(Timestamp(100), None, None, &[]).unwrap();
    let bytes = builder.finish().unwrap();
    let mut header = BatchHeader::parse(&bytes).unwrap();
    let kept = [record(&[5, 3, -1, -1, 0], &[]), record(&[6, 8, -1, -1, 0], &[])].concat();
    header.batch_length = (HEADER_BYTES - 12 + kept.len()) as i32;
    (header.record_count, header.last_offset_delta) = (2, 9);
    header.base_offset = Offset(1000);
    let batch = [&header.to_bytes()[..], &kept].concat();

    let records = records(&batch, &DecompressLimits::default()).unwrap();
    let offsets: Vec<_> = records.iter().map(|record| record.unwrap().offset.0).collect();
    assert_eq!(offsets, [1003, 1008]);
}
