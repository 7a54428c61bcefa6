//! Batches to records, and as they are.

use super::*;
use thalweg_record::{BatchBuilder, stamp};
use thalweg_types::{LeaderEpoch, Timestamp};

/// Values `base..base + count` as text, 100 bytes each.
fn batch(compression: CompressionType, base: i64, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for number in base..base + count {
        let value = format!("{number:0>100}");
        builder.push(Timestamp(number), Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
    }
    let mut bytes = builder.finish().unwrap();
    stamp(&mut bytes, Offset(base), LeaderEpoch(0));
    bytes.freeze()
}

fn offsets(decoded: &Decoded) -> Vec<i64> {
    decoded.records.iter().map(|record| record.offset).collect()
}

#[tokio::test]
async fn records_begin_exactly_where_the_reader_asked() {
    for compression in [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd] {
        let log = vec![batch(compression, 0, 5), batch(compression, 5, 5)];
        let decoded = decode(Form::Records, log, Offset(3), usize::MAX).await.unwrap();
        assert_eq!(offsets(&decoded), (3..10).collect::<Vec<_>>());
        assert_eq!(decoded.next_offset, Some(Offset(10)));
        assert_eq!(decoded.records[0].value.as_deref(), Some(format!("{:0>100}", 3).as_bytes()));
        assert!(!decoded.is_cut);
    }
}

#[tokio::test]
async fn a_budget_cuts_between_records_but_always_lets_one_through() {
    let log = vec![batch(CompressionType::Zstd, 0, 10)];
    let decoded = decode(Form::Records, log.clone(), Offset(2), 1).await.unwrap();
    assert_eq!(offsets(&decoded), [2]);
    assert_eq!((decoded.next_offset, decoded.is_cut), (Some(Offset(3)), true));
    assert_eq!(decoded.bytes, 1 + 100 + RECORD_OVERHEAD_BYTES);

    let decoded = decode(Form::Records, log, Offset(0), 3 * 133).await.unwrap();
    assert_eq!(offsets(&decoded), [0, 1, 2]);
}

#[tokio::test]
async fn payloads_of_uncompressed_batches_are_not_copied() {
    let bytes = batch(CompressionType::None, 0, 1);
    let range = bytes.as_ptr_range();
    let decoded = decode(Form::Records, vec![bytes.clone()], Offset(0), usize::MAX).await.unwrap();
    assert!(range.contains(&decoded.records[0].value.as_ref().unwrap().as_ptr()));
}

#[tokio::test]
async fn batches_pass_as_they_are_and_tell_where_to_read_on() {
    let both = [batch(CompressionType::Lz4, 0, 5), batch(CompressionType::None, 5, 5)].concat();
    let both = Bytes::from(both);
    let decoded = decode(Form::Batches, vec![both.clone()], Offset(3), 1).await.unwrap();
    assert_eq!(decoded.batches, std::slice::from_ref(&both));
    assert_eq!((decoded.bytes, decoded.next_offset), (both.len(), Some(Offset(10))));
}

#[tokio::test]
async fn a_damaged_batch_is_an_error_and_no_panic() {
    let mut bytes = batch(CompressionType::Zstd, 0, 5).to_vec();
    bytes.truncate(bytes.len() - 7);
    let error = decode(Form::Records, vec![bytes.into()], Offset(0), 1).await.unwrap_err();
    assert_eq!(error.code, thalweg_types::ErrorCode::CorruptMessage);
}
