//! Batches that real clients produced and a real broker stored (see `fixtures/README.md`): parsed, verified, compared record by record.

use thalweg_record::{
    BatchHeader, Batches, DecompressLimits, ProduceLimits, RecordHeader, check_produced, records,
    stamp, verify_crc,
};
use thalweg_types::{CompressionType, LeaderEpoch, Offset, Timestamp};

const RECORDS: i64 = 8;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}.batches", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn batches(bytes: &[u8]) -> Vec<(BatchHeader, &[u8])> {
    Batches::new(bytes).map(|item| item.expect("a whole batch")).collect()
}

/// Checks one file: checksums, codec, dense offsets and every field of every record. Returns the headers of its data batches.
fn check(name: &str, codec: CompressionType) -> Vec<BatchHeader> {
    let bytes = fixture(name);
    let mut next = 0;
    let mut headers = Vec::new();
    for (header, batch) in batches(&bytes) {
        assert_eq!(verify_crc(batch, &header), Ok(()), "{name}");
        if header.attributes.is_control() {
            continue;
        }
        assert_eq!(header.attributes.compression(), Some(codec), "{name}");
        assert_eq!(header.base_offset, Offset(next), "{name}");
        let records = records(batch, &DecompressLimits::default()).expect("readable");
        for record in &records {
            check_record(name, next, &record.expect("well-formed"));
            next += 1;
        }
        assert_eq!(header.next_offset(), Offset(next), "{name}");
        assert_eq!(header.max_timestamp, time(next - 1), "{name}");
        headers.push(header);
    }
    assert_eq!(next, RECORDS, "{name}");
    headers
}

fn check_record(name: &str, i: i64, record: &thalweg_record::Record<'_>) {
    let key = format!("key-{i}");
    let value = format!("value {i} ").repeat(40);
    let trace = format!("t-{i}");
    assert_eq!(record.offset, Offset(i), "{name}");
    assert_eq!(record.timestamp, time(i), "{name}");
    assert_eq!(record.key, (i % 3 != 2).then_some(key.as_bytes()), "{name}");
    assert_eq!(record.value, (i != 3).then_some(value.as_bytes()), "{name}");
    let expected = [
        RecordHeader { key: b"trace", value: Some(trace.as_bytes()) },
        RecordHeader { key: b"empty", value: Some(b"") },
        RecordHeader { key: b"none", value: None },
    ];
    let expected = if i % 2 == 0 { expected.as_slice() } else { &[] };
    assert_eq!(record.headers.clone().collect::<Vec<_>>(), expected, "{name}");
}

fn time(i: i64) -> Timestamp {
    Timestamp(1_700_000_000_000 + 10 * i)
}

const CODECS: [CompressionType; 5] = [
    CompressionType::None,
    CompressionType::Gzip,
    CompressionType::Snappy,
    CompressionType::Lz4,
    CompressionType::Zstd,
];

#[test]
fn batches_of_librdkafka_hold_what_was_produced() {
    for codec in CODECS {
        for header in check(&format!("librdkafka-{codec}"), codec) {
            assert!(header.has_producer() && header.producer_epoch.0 == 0);
            assert_eq!(i64::from(header.base_sequence.0), header.base_offset.0);
        }
    }
}

#[test]
fn batches_of_the_java_client_hold_what_was_produced() {
    for codec in CODECS {
        for header in check(&format!("java-{codec}"), codec) {
            assert!(header.has_producer() && header.producer_epoch.0 == 0);
            assert_eq!(i64::from(header.base_sequence.0), header.base_offset.0);
        }
    }
}

#[test]
fn batches_without_idempotence_carry_no_producer() {
    let headers = check("librdkafka-none-plain", CompressionType::None);
    assert!(headers.iter().all(|header| !header.has_producer()));
}

#[test]
fn a_transaction_ends_with_a_marker_in_a_control_batch() {
    let headers = check("java-transaction", CompressionType::None);
    assert!(headers.iter().all(|header| header.attributes.is_transactional()));

    let bytes = fixture("java-transaction");
    let all = batches(&bytes);
    let (header, batch) = all.last().copied().expect("not empty");
    assert!(header.attributes.is_control() && header.attributes.is_transactional());
    assert_eq!(header.base_offset, Offset(RECORDS));
    assert_eq!(header.last_sequence(), thalweg_types::Sequence::NONE);
    let records = records(batch, &DecompressLimits::default()).expect("readable");
    let marker = records.iter().next().expect("one record").expect("well-formed");
    // KIP-98: version 0, type 1 = commit.
    assert_eq!(marker.key, Some([0, 0, 0, 1].as_slice()));
}

/// Producers send base offset 0; with that put back, what the broker stored is what the client sent.
#[test]
fn batches_as_clients_sent_them_pass_the_produce_checks() {
    for client in ["java", "librdkafka"] {
        for codec in CODECS {
            let bytes = fixture(&format!("{client}-{codec}"));
            for (_, batch) in batches(&bytes) {
                let mut sent = batch.to_vec();
                stamp(&mut sent, Offset::ZERO, LeaderEpoch::NONE);
                let checked = check_produced(&sent, &ProduceLimits::default());
                assert!(checked.is_ok(), "{client} {codec}: {checked:?}");
            }
        }
    }
}

/// Every codec's bytes from the real encoders, flipped one bit at a time from the CRC field on.
#[test]
fn every_flipped_bit_from_the_checksum_on_is_found() {
    for name in ["java-gzip", "java-snappy", "librdkafka-lz4", "librdkafka-zstd", "java-none"] {
        let bytes = fixture(name);
        let (header, batch) = batches(&bytes)[0];
        let mut damaged = batch.to_vec();
        for bit in 17 * 8..damaged.len() * 8 {
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = BatchHeader::parse(&damaged)
                .and_then(|header| verify_crc(&damaged, &header))
                .is_err();
            assert!(found, "{name}: bit {bit}");
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(verify_crc(&damaged, &header), Ok(()));
    }
}
