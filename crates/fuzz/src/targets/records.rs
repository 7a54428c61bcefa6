//! Record batches, and the codecs inside of them.

use std::io::Write as _;

use bytes::BytesMut;
use thalweg_record::{
    BatchBuilder, BatchError, BatchHeader, Batches, DecompressLimits, HEADER_BYTES,
    LENGTH_PREFIX_BYTES, MAGIC, ProduceLimits, Record, RecordHeader, check_produced, records,
    stamp, stamp_log_append_time, verify_crc,
};
use thalweg_types::{CompressionType, LeaderEpoch, Offset, Timestamp};

use super::numbered;
use crate::{Seeds, peak};

/// Small enough for the fuzzer to run into.
const LIMITS: DecompressLimits = DecompressLimits {
    output_bytes_max: 256 * 1024,
    ratio_max: 1100,
    ratio_free_bytes: 64 * 1024,
    zstd_window_log_max: 23,
};

/// For what our own encoder made: it may compress better than whoever made the input.
const OWN: DecompressLimits = DecompressLimits { ratio_max: usize::MAX, ..LIMITS };

/// Most memory of a decompression: the output's buffer, which doubles as it grows, old and new at once; a decoder's own tables; and two
/// blocks of an lz4 frame, which may be of 4 MiB each because the frame says so.
const DECOMPRESS_BYTES_MAX: usize =
    3 * (LIMITS.output_bytes_max + 64 * 1024) + (1 << 20) + 2 * (4 << 20) + (64 << 10);

/// Where in a batch its checksum lies, and where begins what it covers.
const CRC: std::ops::Range<usize> = 17..21;

// ---- One batch ----

/// A batch as a client sends it. Length, magic and checksum are put right when the first byte says so.
pub(super) fn batch(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let mut batch = rest.to_vec();
    if mode & 1 == 1 {
        mend(&mut batch);
    }
    let limits = ProduceLimits { batch_bytes_max: 64 * 1024 };
    let checked = peak::within(4 * 1024, || check_produced(&batch, &limits));
    let walked = walk(&batch, &LIMITS);
    let Ok(header) = checked else { return };
    assert_eq!(header.size_bytes(), batch.len());
    assert!(batch.len() <= limits.batch_bytes_max);
    assert!(header.record_count > 0 && header.next_offset() > header.base_offset);
    stamps(&batch, &header);
    if header.attributes.compression() == Some(CompressionType::None) {
        assert!(walked.is_ok(), "what was let in cannot be read: {walked:?}");
    }
    if let Ok(walked) = walked {
        rebuilt(&header, &walked);
    }
}

/// A record that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn of(record: &Record<'_>) -> Self {
        let headers = record.headers.clone();
        Self {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// All records of a batch, whether its checksum is right or not: offsets rise, and stay in what the header says.
fn walk(batch: &[u8], limits: &DecompressLimits) -> Result<Vec<Owned>, BatchError> {
    let records = peak::within(DECOMPRESS_BYTES_MAX, || records(batch, limits))?;
    assert!(records.size_bytes() <= LIMITS.output_bytes_max.max(batch.len()));
    let header = *records.header();
    let mut walked: Vec<Owned> = Vec::new();
    for record in &records {
        let record = record?;
        assert!(record.offset >= header.base_offset && record.offset <= header.last_offset());
        assert!(walked.last().is_none_or(|last| last.offset < record.offset.0));
        assert_eq!(record.headers.len(), record.headers.clone().count());
        walked.push(Owned::of(&record));
    }
    assert_eq!(i32::try_from(walked.len()), Ok(header.record_count.max(0)));
    Ok(walked)
}

/// Assigning what the log decides changes that and nothing else.
fn stamps(batch: &[u8], header: &BatchHeader) {
    let mut stamped = batch.to_vec();
    stamp(&mut stamped, Offset(77), LeaderEpoch(5));
    let expected = BatchHeader { base_offset: Offset(77), leader_epoch: LeaderEpoch(5), ..*header };
    assert_eq!(BatchHeader::parse(&stamped).as_ref(), Ok(&expected));
    assert_eq!(expected.to_bytes(), stamped[..HEADER_BYTES]);
    assert!(verify_crc(&stamped, &expected).is_ok());
    assert_eq!(stamped[HEADER_BYTES..], batch[HEADER_BYTES..]);

    stamp_log_append_time(&mut stamped, Timestamp(123));
    let timed = BatchHeader::parse(&stamped).expect("a stamped batch");
    assert!(verify_crc(&stamped, &timed).is_ok());
    assert_eq!((timed.max_timestamp, timed.record_count), (Timestamp(123), header.record_count));
}

/// Records that are numbered as a client numbers them come out of a batch of ours as they went in.
fn rebuilt(header: &BatchHeader, walked: &[Owned]) {
    let codec = header.attributes.compression().expect("it was decompressed");
    let is_dense = (0..).zip(walked).all(|(number, record)| record.offset == number);
    if !is_dense {
        return;
    }
    let mut builder = BatchBuilder::new(codec);
    for record in walked {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| RecordHeader { key, value: value.as_deref() })
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        if builder.push(Timestamp(record.timestamp), key, value, &headers).is_err() {
            // Times too far apart from the first one.
            return;
        }
    }
    let again = builder.finish().expect("it has records");
    assert_eq!(walk(&again, &OWN).as_deref(), Ok(walked));
}

/// Makes length, magic and checksum those of a whole batch.
fn mend(batch: &mut [u8]) {
    if batch.len() < HEADER_BYTES {
        return;
    }
    let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES).expect("inputs are short");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = MAGIC.to_be_bytes()[0];
    let crc = crc_fast::crc32_iscsi(&batch[CRC.end..]);
    batch[CRC].copy_from_slice(&crc.to_be_bytes());
}

// ---- Several ----

/// Batches back to back: what is yielded lies back to back too, up to the first that is none.
pub(super) fn batches(input: &[u8]) {
    let mut batches = Batches::new(input);
    let mut end = 0;
    while let Some(item) = batches.next() {
        match item {
            Ok((header, batch)) => {
                assert_eq!(batch, &input[end..end + header.size_bytes()]);
                assert_eq!(header.to_bytes(), batch[..HEADER_BYTES]);
                end += batch.len();
            }
            Err(_) => assert!(batches.next().is_none(), "nothing comes after an error"),
        }
        assert_eq!(batches.position(), end);
    }
}

// ---- Codecs ----

pub(super) fn gzip(input: &[u8]) {
    decompress(CompressionType::Gzip, input);
}

pub(super) fn snappy(input: &[u8]) {
    decompress(CompressionType::Snappy, input);
}

pub(super) fn lz4(input: &[u8]) {
    decompress(CompressionType::Lz4, input);
}

pub(super) fn zstd(input: &[u8]) {
    decompress(CompressionType::Zstd, input);
}

/// A stream of one codec, as the records of a batch. What comes out is bounded, and survives our own encoder.
fn decompress(codec: CompressionType, stream: &[u8]) {
    let batch = around(codec, stream);
    let opened = peak::within(DECOMPRESS_BYTES_MAX, || records(&batch, &LIMITS));
    let Ok(opened) = opened else { return };
    let allowed = (stream.len() * LIMITS.ratio_max).max(LIMITS.ratio_free_bytes);
    assert!(opened.size_bytes() <= allowed.min(LIMITS.output_bytes_max));
    // The iterator stops at the first record that is none, wherever that is.
    let good = opened.iter().take_while(Result::is_ok).count();
    assert!(good <= opened.size_bytes());

    let value = vec![stream.first().copied().unwrap_or(7); opened.size_bytes().min(16 * 1024)];
    let mut builder = BatchBuilder::new(codec);
    let values = [stream, &value[..]];
    for value in values {
        builder.push(Timestamp(1), None, Some(value), &[]).expect("it is small");
    }
    let made = builder.finish().expect("it has records");
    let read: Vec<_> =
        walk(&made, &OWN).expect("our own").into_iter().map(|one| one.value).collect();
    assert_eq!(read, values.map(|value| Some(value.to_vec())));
}

/// A batch whose records are this stream.
fn around(codec: CompressionType, stream: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(CompressionType::None);
    builder.push(Timestamp(1), None, None, &[]).expect("it is small");
    let mut batch = builder.finish().expect("it has a record").to_vec();
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(stream);
    let codec = i16::from(codec.code());
    batch[21..23].copy_from_slice(&codec.to_be_bytes());
    mend(&mut batch);
    batch
}

// ---- Seeds ----

/// Batches of other people's clients, and of ours.
const STORED: [(&str, &[u8]); 12] = [
    ("java-none", include_bytes!("../../../record/tests/fixtures/java-none.batches")),
    ("java-gzip", include_bytes!("../../../record/tests/fixtures/java-gzip.batches")),
    ("java-snappy", include_bytes!("../../../record/tests/fixtures/java-snappy.batches")),
    ("java-lz4", include_bytes!("../../../record/tests/fixtures/java-lz4.batches")),
    ("java-zstd", include_bytes!("../../../record/tests/fixtures/java-zstd.batches")),
    ("java-transaction", include_bytes!("../../../record/tests/fixtures/java-transaction.batches")),
    ("librdkafka-none", include_bytes!("../../../record/tests/fixtures/librdkafka-none.batches")),
    (
        "librdkafka-plain",
        include_bytes!("../../../record/tests/fixtures/librdkafka-none-plain.batches"),
    ),
    ("librdkafka-gzip", include_bytes!("../../../record/tests/fixtures/librdkafka-gzip.batches")),
    (
        "librdkafka-snappy",
        include_bytes!("../../../record/tests/fixtures/librdkafka-snappy.batches"),
    ),
    ("librdkafka-lz4", include_bytes!("../../../record/tests/fixtures/librdkafka-lz4.batches")),
    ("librdkafka-zstd", include_bytes!("../../../record/tests/fixtures/librdkafka-zstd.batches")),
];

const CODECS: [CompressionType; 5] = [
    CompressionType::None,
    CompressionType::Gzip,
    CompressionType::Snappy,
    CompressionType::Lz4,
    CompressionType::Zstd,
];

/// A small batch with everything that records have.
pub(super) fn sample_batch(codec: CompressionType) -> BytesMut {
    let mut builder = BatchBuilder::new(codec);
    let headers =
        [RecordHeader { key: b"trace", value: Some(b"1") }, RecordHeader { key: b"", value: None }];
    for number in 0..4_u8 {
        let value = vec![number; usize::from(number) * 20];
        let key = [number];
        let headers = if number == 2 { &headers[..] } else { &[] };
        let (key, value) = ((number != 1).then_some(&key[..]), (number != 3).then_some(&value[..]));
        builder.push(Timestamp(1_000 + i64::from(number)), key, value, headers).expect("small");
    }
    builder.finish().expect("it has records")
}

pub(super) fn batch_seeds() -> Seeds {
    let made = CODECS.map(|codec| (format!("ours-{codec}"), sample_batch(codec).to_vec()));
    let mut seeds = Seeds::new();
    for (name, bytes) in made {
        seeds.push((name, [&[1], &bytes[..]].concat()));
    }
    for (name, bytes) in STORED {
        let first = Batches::new(bytes).next();
        let (_, batch) = first.expect("a fixture holds batches").expect("and whole ones");
        // As stored it has an offset, which a client does not send.
        seeds.push((name.to_owned(), [&[0], batch].concat()));
        let mut sent = batch.to_vec();
        stamp(&mut sent, Offset(0), LeaderEpoch(-1));
        seeds.push((format!("{name}-sent"), [&[1], &sent[..]].concat()));
    }
    seeds
}

pub(super) fn batches_seeds() -> Seeds {
    let ours = CODECS.map(sample_batch).concat();
    let stored = STORED.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    let mut seeds = Seeds::from(stored);
    seeds.push(("ours".to_owned(), ours));
    seeds
}

/// What went through a codec in the stored batches, and texts that compress well, badly and not at all.
fn streams(codec: CompressionType) -> Vec<Vec<u8>> {
    let stored = STORED.iter().filter_map(|(_, bytes)| {
        let (header, batch) = Batches::new(bytes).next()?.ok()?;
        (header.attributes.compression() == Some(codec)).then(|| batch[HEADER_BYTES..].to_vec())
    });
    stored.chain([sample_batch(codec)[HEADER_BYTES..].to_vec()]).collect()
}

const TEXTS: [&[u8]; 4] =
    [b"", b"a", &[0; 5_000], b"to be or not to be, that is to be the question"];

pub(super) fn gzip_seeds() -> Seeds {
    let stream = |text: &[u8], level| {
        let mut encoder =
            flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(text).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    };
    let levels = [0, 9];
    let made = TEXTS.iter().flat_map(|text| levels.map(|level| stream(text, level)));
    numbered(streams(CompressionType::Gzip).into_iter().chain(made))
}

pub(super) fn snappy_seeds() -> Seeds {
    let raw = |text: &[u8]| snap::raw::Encoder::new().compress_vec(text).expect("it is small");
    let framed = |text: &[u8]| {
        let block = raw(text);
        let length = u32::try_from(block.len()).expect("it is small").to_be_bytes();
        let header = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
        [&header[..], &length, &block, &length, &block].concat()
    };
    let made = TEXTS.iter().flat_map(|text| [raw(text), framed(text)]);
    numbered(streams(CompressionType::Snappy).into_iter().chain(made))
}

pub(super) fn lz4_seeds() -> Seeds {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let stream = |text: &[u8], mode, sums| {
        let info = FrameInfo::new()
            .block_size(BlockSize::Max64KB)
            .block_mode(mode)
            .block_checksums(sums)
            .content_checksum(sums);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(text).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    };
    let kinds = [(BlockMode::Independent, false), (BlockMode::Linked, true)];
    let made = TEXTS.iter().flat_map(|text| kinds.map(|(mode, sums)| stream(text, mode, sums)));
    numbered(streams(CompressionType::Lz4).into_iter().chain(made))
}

pub(super) fn zstd_seeds() -> Seeds {
    let stream = |text: &[u8], level, sums| {
        let mut encoder = zstd::Encoder::new(Vec::new(), level).expect("a known level");
        encoder.include_checksum(sums).expect("it has not begun");
        encoder.write_all(text).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    };
    let kinds = [(1, false), (19, true)];
    let made = TEXTS.iter().flat_map(|text| kinds.map(|(level, sums)| stream(text, level, sums)));
    numbered(streams(CompressionType::Zstd).into_iter().chain(made))
}
