//! The quick look against the thorough reader.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_types::{CompressionType, Timestamp};

use super::*;
use crate::{BatchBuilder, DecompressLimits, RecordHeader, records};

const HEADERS: [RecordHeader<'_>; 2] =
    [RecordHeader { key: b"name", value: Some(b"value") }, RecordHeader { key: b"", value: None }];

/// Short and long fields, so that there are numbers of one, two and three bytes, and some of every kind.
fn batch(lengths: &[usize]) -> BytesMut {
    let mut builder = BatchBuilder::new(CompressionType::None);
    for (index, length) in lengths.iter().enumerate() {
        let field = vec![0; *length];
        let key = (index % 2 == 0).then_some(&b"key"[..]);
        let value = (index % 5 != 4).then_some(&field[..]);
        let time = Timestamp(1_000 - 300 * i64::try_from(index % 3).unwrap());
        builder.push(time, key, value, &HEADERS[..index % 3]).unwrap();
    }
    builder.finish().unwrap()
}

fn quick(batch: &[u8]) -> bool {
    let header = BatchHeader::parse(batch).unwrap();
    let count = u32::try_from(header.record_count).unwrap();
    is_well_formed(&batch[HEADER_BYTES..], count, header.base_timestamp.0)
}

/// As a reader sees it. The header's counts agree, so offsets that increase are 0, 1, 2, ...
fn thorough(batch: &[u8]) -> bool {
    let all = records(batch, &DecompressLimits::default()).unwrap();
    all.iter().all(|record| record.is_ok())
}

#[test]
fn what_is_built_is_well_formed_and_every_cut_of_it_is_not() {
    let good = batch(&[0, 1, 63, 64, 8191, 8192, 20_000, 5]);
    assert!(quick(&good));
    let header = BatchHeader::parse(&good).unwrap();
    for cut in HEADER_BYTES..good.len() {
        assert!(!is_well_formed(&good[HEADER_BYTES..cut], 8, header.base_timestamp.0), "{cut}");
    }
    assert!(!is_well_formed(&good[HEADER_BYTES..], 7, header.base_timestamp.0));
    assert!(!is_well_formed(&good[HEADER_BYTES..], 9, header.base_timestamp.0));
}

#[test]
fn numbers_longer_than_they_need_be_are_numbers() {
    // As a reader, which takes them too.
    let mut good = batch(&[10]);
    let length = good[HEADER_BYTES];
    let body = good.split_off(HEADER_BYTES + 1);
    good[HEADER_BYTES] = length | MORE;
    good.extend_from_slice(&[MORE, 0]);
    good.extend_from_slice(&body);
    let bytes = i32::try_from(good.len() - crate::LENGTH_PREFIX_BYTES).unwrap();
    good[8..12].copy_from_slice(&bytes.to_be_bytes());
    assert!(thorough(&good));
    assert!(quick(&good));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_quick_look_and_the_reader_agree_on_damaged_records(
        lengths in vec(prop_oneof![0_usize..4, 60_usize..70, Just(200), Just(9000)], 1..12),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        small in any::<bool>(),
    ) {
        let mut bytes = batch(&lengths);
        for (place, byte) in damage {
            // Numbers stand at the beginning of records; further in there is mostly content.
            let end = if small { (HEADER_BYTES + 24).min(bytes.len()) } else { bytes.len() };
            let place = HEADER_BYTES + place.index(end - HEADER_BYTES);
            bytes[place] = byte;
        }
        prop_assert_eq!(quick(&bytes), thorough(&bytes));
    }

    #[test]
    fn anything_at_all_is_looked_at_without_harm(bytes in vec(any::<u8>(), 0..200), count in 0_u32..40) {
        is_well_formed(&bytes, count, i64::MAX);
    }
}
