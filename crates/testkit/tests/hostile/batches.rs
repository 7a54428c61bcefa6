//! B19-B33: record batches. What the header tells is refused before anything is stored. What only the records themselves tell is not
//! looked for unless the topic is compacted: such a batch is stored as it came and is its readers' to check.

use bytes::BufMut;
use thalweg_kafka::messages::ProduceRequest;
use thalweg_record::BatchBuilder;
use thalweg_types::{CompressionType, Timestamp};

use crate::case::Case;
use crate::wire::frame;
use crate::witness::{COMPACTED, VICTIM};
use crate::words::{PRODUCE, produce_request, produced, produced_3};

/// Positions of the fields in a batch.
mod at {
    pub(super) const BASE_OFFSET: usize = 0;
    pub(super) const LENGTH: usize = 8;
    pub(super) const LEADER_EPOCH: usize = 12;
    pub(super) const MAGIC: usize = 16;
    pub(super) const CRC: usize = 17;
    pub(super) const ATTRIBUTES: usize = 21;
    pub(super) const LAST_OFFSET_DELTA: usize = 23;
    pub(super) const BASE_TIMESTAMP: usize = 27;
    pub(super) const MAX_TIMESTAMP: usize = 35;
    pub(super) const PRODUCER_ID: usize = 43;
    pub(super) const PRODUCER_EPOCH: usize = 51;
    pub(super) const BASE_SEQUENCE: usize = 53;
    pub(super) const RECORD_COUNT: usize = 57;
    pub(super) const RECORDS: usize = 61;
}

const CODECS: [CompressionType; 4] =
    [CompressionType::Gzip, CompressionType::Snappy, CompressionType::Lz4, CompressionType::Zstd];

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(lengths());
    cases.extend(counts());
    cases.extend(attributes());
    cases.extend(producers());
    cases.extend(timestamps());
    cases.extend(codecs());
    cases.extend(bombs());
    cases.extend(records());
    cases.extend(wholes());
    cases
}

// ---- making batches ----

/// A valid batch of one record with a key.
pub(crate) fn one_record() -> Vec<u8> {
    with_value(CompressionType::None, b"value")
}

fn with_value(codec: CompressionType, value: &[u8]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(codec);
    batch.push(Timestamp(1), Some(b"key"), Some(value), &[]).expect("fits");
    batch.finish().expect("not empty").to_vec()
}

/// Puts `field` into a batch and makes the checksum right again.
fn changed(mut batch: Vec<u8>, position: usize, field: &[u8]) -> Vec<u8> {
    batch[position..position + field.len()].copy_from_slice(field);
    let crc = crc_fast::crc32_iscsi(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// A batch whose header is right for `count` records in `codec`, followed by any bytes.
fn around(codec: i16, count: i32, records: &[u8]) -> Vec<u8> {
    let mut batch = one_record();
    batch.truncate(at::RECORDS);
    batch.extend_from_slice(records);
    let length = i32::try_from(batch.len() - at::LEADER_EPOCH).expect("small");
    let batch = changed(batch, at::LENGTH, &length.to_be_bytes());
    let batch = changed(batch, at::ATTRIBUTES, &codec.to_be_bytes());
    let batch = changed(batch, at::LAST_OFFSET_DELTA, &(count - 1).to_be_bytes());
    changed(batch, at::RECORD_COUNT, &count.to_be_bytes())
}

fn produce(topic: &str, batch: &[u8]) -> Vec<u8> {
    frame(produce_request(topic, &[batch]), PRODUCE)
}

fn refused(id: &'static str, input: &str, batch: &[u8], code: &'static str) -> Case {
    Case::new(id, input, produce(VICTIM, batch), produced, code)
}

/// A record stored as it came in an ordinary topic, refused with `code` in a compacted one.
fn refused_if_compacted(
    id: &'static str,
    input: &str,
    batch: &[u8],
    code: &'static str,
) -> [Case; 2] {
    let compacted = format!("{input}, to a compacted topic");
    [
        refused(id, input, batch, "NONE").appending(1),
        Case::new(id, compacted, produce(COMPACTED, batch), produced, code),
    ]
}

// ---- headers ----

fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for magic in [0_u8, 1, 3, 255] {
        let batch = changed(one_record(), at::MAGIC, &[magic]);
        cases.push(refused("B19", &format!("magic {magic}"), &batch, "INVALID_RECORD"));
    }
    let mut wrong = one_record();
    wrong[at::CRC] ^= 1;
    cases.push(refused("B20", "a wrong checksum", &wrong, "CORRUPT_MESSAGE"));
    let mut flipped = one_record();
    *flipped.last_mut().expect("not empty") ^= 0x80;
    cases.push(refused("B20", "a flipped bit in a record", &flipped, "CORRUPT_MESSAGE"));
    for offset in [5_i64, -1, i64::MAX] {
        let batch = changed(one_record(), at::BASE_OFFSET, &offset.to_be_bytes());
        let input = format!("base offset {offset}, outside the checksum");
        cases.push(refused("B20", &input, &batch, "INVALID_RECORD"));
    }
    for epoch in [77_i32, -5] {
        let batch = changed(one_record(), at::LEADER_EPOCH, &epoch.to_be_bytes());
        let input = format!("leader epoch {epoch}, outside the checksum: overwritten");
        cases.push(refused("B20", &input, &batch, "NONE").appending(1));
    }
    cases
}

fn lengths() -> Vec<Case> {
    let right = i32::try_from(one_record().len() - at::LEADER_EPOCH).expect("small");
    let mut cases = Vec::new();
    for length in [48, 0, -1, i32::MIN, i32::MAX, right + 1] {
        let batch = changed(one_record(), at::LENGTH, &length.to_be_bytes());
        let input = format!("batch length {length} instead of {right}");
        cases.push(refused("B21", &input, &batch, "CORRUPT_MESSAGE"));
    }
    let short = changed(one_record(), at::LENGTH, &(right - 1).to_be_bytes());
    let input = format!("batch length {} instead of {right}", right - 1);
    cases.push(refused("B21", &input, &short, "INVALID_RECORD"));
    let cut = &one_record()[..at::RECORDS - 1];
    cases.push(refused("B21", "a header cut by a byte", cut, "CORRUPT_MESSAGE"));
    cases
}

fn counts() -> Vec<Case> {
    let both = |count: i32, delta: i32| {
        let batch = changed(one_record(), at::RECORD_COUNT, &count.to_be_bytes());
        changed(batch, at::LAST_OFFSET_DELTA, &delta.to_be_bytes())
    };
    [(1, 1), (1, -1), (2, 0), (0, 0), (0, -1), (-1, -2), (i32::MAX, i32::MAX - 1), (1000, 999)]
        .into_iter()
        .map(|(count, delta)| {
            let input = format!("record count {count}, last offset delta {delta}, one record");
            refused("B22", &input, &both(count, delta), "INVALID_RECORD")
        })
        .collect()
}

fn attributes() -> Vec<Case> {
    let with = |bits: i16| changed(one_record(), at::ATTRIBUTES, &bits.to_be_bytes());
    vec![
        refused("B23", "the control bit", &with(CONTROL), "INVALID_RECORD"),
        refused(
            "B23",
            "control and transactional",
            &with(CONTROL | TRANSACTIONAL),
            "INVALID_RECORD",
        ),
        refused("B23", "the delete horizon bit", &with(DELETE_HORIZON), "INVALID_RECORD"),
    ]
}

fn producers() -> Vec<Case> {
    let with = |id: i64, epoch: i16, sequence: i32, bits: i16| {
        let batch = changed(one_record(), at::PRODUCER_ID, &id.to_be_bytes());
        let batch = changed(batch, at::PRODUCER_EPOCH, &epoch.to_be_bytes());
        let batch = changed(batch, at::BASE_SEQUENCE, &sequence.to_be_bytes());
        changed(batch, at::ATTRIBUTES, &bits.to_be_bytes())
    };
    [
        ("transactional without a producer id", with(-1, -1, -1, TRANSACTIONAL)),
        ("producer id -2", with(-2, 0, 0, 0)),
        ("producer id without an epoch", with(1000, -1, 0, 0)),
        ("producer epoch -2", with(1000, -2, 0, 0)),
        ("producer id without a sequence", with(1000, 0, -1, 0)),
        ("base sequence -2", with(-1, -1, -2, 0)),
    ]
    .into_iter()
    .map(|(input, batch)| refused("B24", input, &batch, "INVALID_RECORD"))
    .collect()
}

fn timestamps() -> Vec<Case> {
    let with = |position, time: i64| changed(one_record(), position, &time.to_be_bytes());
    vec![
        refused("B29", "base timestamp -2", &with(at::BASE_TIMESTAMP, -2), "INVALID_TIMESTAMP"),
        refused(
            "B29",
            "base timestamp of the least 64 bits",
            &with(at::BASE_TIMESTAMP, i64::MIN),
            "INVALID_TIMESTAMP",
        ),
        refused("B29", "max timestamp -2", &with(at::MAX_TIMESTAMP, -2), "INVALID_TIMESTAMP"),
        refused(
            "B29",
            "max timestamp of the most 64 bits",
            &with(at::MAX_TIMESTAMP, i64::MAX),
            "INVALID_TIMESTAMP",
        ),
    ]
}

// ---- compression ----

fn codecs() -> Vec<Case> {
    let mut cases = Vec::new();
    for codec in [5, 6, 7] {
        let batch = around(codec, 1, b"anything");
        let input = format!("compression code {codec}");
        cases.push(refused("B25", &input, &batch, "UNSUPPORTED_COMPRESSION_TYPE"));
    }
    let zstd = with_value(CompressionType::Zstd, b"value");
    cases.push(Case::new(
        "B25",
        "zstd in Produce version 3, which cannot carry it",
        frame(produce_request(VICTIM, &[&zstd]), 3),
        produced_3,
        "UNSUPPORTED_COMPRESSION_TYPE",
    ));
    for codec in CODECS {
        let raw = &one_record()[at::RECORDS..];
        let batch = around(codec.code().into(), 1, raw);
        let input = format!("declared {codec}, not compressed");
        cases.extend(refused_if_compacted("B25", &input, &batch, "INVALID_RECORD"));
    }
    let gzip = with_value(CompressionType::Gzip, b"value");
    let declared_lz4 = around(CompressionType::Lz4.code().into(), 1, &gzip[at::RECORDS..]);
    let input = "declared lz4, is gzip";
    cases.extend(refused_if_compacted("B25", input, &declared_lz4, "INVALID_RECORD"));
    // The stream inside a stream is a record like any other bytes, and not a valid one.
    let nested = nested(CompressionType::Gzip, &gzip[at::RECORDS..]);
    cases.extend(refused_if_compacted("B25", "gzip in gzip", &nested, "INVALID_RECORD"));
    cases
}

/// Compresses what is compressed already: a stored gzip member around `stream`.
fn nested(codec: CompressionType, stream: &[u8]) -> Vec<u8> {
    let length = u16::try_from(stream.len()).expect("small");
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    member.put_u16_le(length);
    member.put_u16_le(!length);
    member.put_slice(stream);
    member.put_u32_le(crc_fast::crc32_iso_hdlc(stream));
    member.put_u32_le(length.into());
    around(codec.code().into(), 1, &member)
}

fn bombs() -> Vec<Case> {
    let zeros = vec![0; 48 * 1024 * 1024];
    let too_large = "MESSAGE_TOO_LARGE";
    let mut cases = Vec::new();
    for codec in [CompressionType::Gzip, CompressionType::Lz4, CompressionType::Zstd] {
        let batch = with_value(codec, &zeros);
        let input = format!("48 MiB of zeros in {codec}");
        let [stored, walked] = refused_if_compacted("B26", &input, &batch, too_large);
        // gzip and lz4 cannot expand beyond the ratio that is allowed: these are batches like any other.
        let walked = match codec {
            CompressionType::Zstd => walked,
            _ => Case { expected: "NONE", ..walked }.appending(1),
        };
        cases.extend([stored, walked]);
    }
    let snappy = with_value(CompressionType::Snappy, &zeros);
    let input = "48 MiB of zeros in snappy: above max.message.bytes as it is";
    cases.push(refused("B26", input, &snappy, too_large));

    let empty_zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0];
    let streams: [(&str, CompressionType, Vec<u8>); 7] = [
        (
            "a zstd window of 2^31",
            CompressionType::Zstd,
            vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 0x01, 0, 0],
        ),
        ("100,000 empty zstd frames", CompressionType::Zstd, empty_zstd.repeat(100_000)),
        (
            "an lz4 match before the beginning",
            CompressionType::Lz4,
            lz4_frame(&[0x14, b'a', 0xff, 0x7f, 0x50, 1, 2, 3, 4, 5]),
        ),
        (
            "an lz4 block of 2^31 - 1 bytes",
            CompressionType::Lz4,
            [&LZ4_HEADER[..], &[0xff, 0xff, 0xff, 0x7f]].concat(),
        ),
        (
            "a snappy stream that says 2^32 - 1 bytes",
            CompressionType::Snappy,
            vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0],
        ),
        (
            "a snappy chunk of 2^31 - 1 bytes",
            CompressionType::Snappy,
            [&XERIAL_HEADER[..], &[0x7f, 0xff, 0xff, 0xff]].concat(),
        ),
        (
            "50,000 snappy chunks without content",
            CompressionType::Snappy,
            [&XERIAL_HEADER[..], &[0, 0, 0, 1, 0].repeat(50_000)].concat(),
        ),
    ];
    for (input, codec, stream) in streams {
        let batch = around(codec.code().into(), 1, &stream);
        cases.extend(refused_if_compacted("B26", input, &batch, "INVALID_RECORD"));
    }
    cases
}

/// Magic, version and flags, block size of 64 KiB, and the checksum of both.
const LZ4_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];

/// What the Java snappy stream begins with.
const XERIAL_HEADER: [u8; 16] =
    [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];

fn lz4_frame(block: &[u8]) -> Vec<u8> {
    let length = u32::try_from(block.len()).expect("small").to_le_bytes();
    [&LZ4_HEADER[..], &length, block, &[0; 4]].concat()
}

// ---- records ----

/// A record of these bytes with its length in front, which must stay below 64.
fn record(body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("short");
    [&[length * 2][..], body].concat()
}

fn records() -> Vec<Case> {
    // Attributes, timestamp delta, offset delta, key length and key, value length and value, header count; all zigzag.
    let fine = |delta: u8| record(&[0, 0, delta * 2, 2, b'k', 2, b'v', 0]);
    let most = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    let inputs: Vec<(&str, &str, i32, Vec<u8>)> = vec![
        ("B27", "record length -1", 1, [&[1][..], &[0; 8]].concat()),
        ("B27", "record length 2^31 - 1", 1, [&most[..], &[0; 8]].concat()),
        ("B27", "record length of 11 bytes", 1, [0xff; 11].to_vec()),
        ("B27", "key length -2", 1, record(&[0, 0, 0, 3, 2, b'v', 0])),
        ("B27", "key beyond the record", 1, record(&[0, 0, 0, 100, b'k', 2, b'v', 0])),
        ("B27", "value length -2", 1, record(&[0, 0, 0, 2, b'k', 3, 0])),
        (
            "B27",
            "header count 2^31 - 1",
            1,
            record(&[&[0, 0, 0, 2, b'k', 2, b'v'][..], &most].concat()),
        ),
        ("B27", "header count -1", 1, record(&[0, 0, 0, 2, b'k', 2, b'v', 1])),
        ("B27", "header key null", 1, record(&[0, 0, 0, 2, b'k', 2, b'v', 2, 1, 0])),
        ("B27", "a byte left in a record", 1, record(&[0, 0, 0, 2, b'k', 2, b'v', 0, 9])),
        ("B27", "bytes after the last record", 1, [fine(0), vec![9; 3]].concat()),
        ("B27", "fewer records than the count", 2, [fine(0), vec![0; 7]].concat()),
        ("B28", "offset deltas 0, 0", 2, [fine(0), fine(0)].concat()),
        ("B28", "offset deltas 1, 0", 2, [fine(1), fine(0)].concat()),
        ("B28", "offset deltas 0, 5", 2, [fine(0), fine(5)].concat()),
        (
            "B29",
            "a timestamp delta that overflows",
            1,
            record(
                &[
                    &[0][..],
                    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                    &[0, 2, b'k', 2, b'v', 0],
                ]
                .concat(),
            ),
        ),
    ];
    let refuse = |(id, input, count, records): (&'static str, &str, i32, Vec<u8>)| {
        refused(id, input, &around(0, count, &records), "INVALID_RECORD")
    };
    inputs.into_iter().map(refuse).collect()
}

// ---- whole records fields ----

fn wholes() -> Vec<Case> {
    let two = one_record().repeat(2);
    let trailing = [one_record(), vec![0; 5]].concat();
    let mut keyless = BatchBuilder::new(CompressionType::None);
    keyless.push(Timestamp(1), None, Some(b"value"), &[]).expect("fits");
    let keyless = keyless.finish().expect("not empty");
    let large = with_value(CompressionType::None, &vec![7; 1024 * 1024]);
    let mut null: ProduceRequest = produce_request(VICTIM, &[&[]]);
    null.topic_data[0].partition_data[0].records = None;
    let mut acks = produce_request(VICTIM, &[&one_record()]);
    acks.acks = 2;
    let mut unanswered = produce_request(VICTIM, &[&two]);
    unanswered.acks = 0;
    vec![
        refused("B30", "two batches in one partition", &two, "INVALID_RECORD"),
        refused("B30", "5 bytes after a batch", &trailing, "INVALID_RECORD"),
        Case::new(
            "B31",
            "a record without a key, to a compacted topic",
            produce(COMPACTED, &keyless),
            produced,
            "INVALID_RECORD",
        ),
        refused("B32", "a batch above max.message.bytes", &large, "MESSAGE_TOO_LARGE"),
        Case::new("B33", "records null", frame(null, PRODUCE), produced, "INVALID_RECORD"),
        refused("B33", "records empty", &[], "INVALID_RECORD"),
        Case::new("B33", "acks 2", frame(acks, PRODUCE), produced, "INVALID_REQUIRED_ACKS"),
        Case::closes("B33", "two batches with acks 0", frame(unanswered, PRODUCE)),
    ]
}
