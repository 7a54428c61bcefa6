//! Bytes from nowhere: whatever is decoded, the answer is a value or a typed error, and memory stays in proportion to the input.

#[path = "support/peak.rs"]
mod peak;
#[path = "support/sample.rs"]
#[macro_use]
mod sample;

use bytes::{BufMut, BytesMut};
use sample::{Sample, Source};
use thalweg_kafka::messages::MetadataRequest;
use thalweg_kafka::messages::metadata::MetadataRequestTopic;
use thalweg_kafka::{ApiKey, DecodeError, Message, Reader, Request, Writer};

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

fn encode<M: Message + Sample>(version: i16, seed: u64) -> Vec<u8> {
    let mut writer = Writer::new();
    let message = M::sample(version, &mut Source::new(seed));
    message.encode(version, &mut writer).expect("a sample can be said in its version");
    writer.finish().to_bytes().to_vec()
}

/// Decodes under the allocation guard: at most 8 times the input and 64 KiB, and for a small input 25 times more, up to 4 MiB.
fn decode<M: Message>(version: i16, input: &[u8]) -> Result<(), DecodeError> {
    let (result, peak_bytes) = peak::of(|| {
        let mut reader = Reader::new(BytesMut::from(input));
        let message = M::decode(version, &mut reader);
        message.and_then(|message| reader.finish().map(|()| drop(message)))
    });
    let allowed = 8 * input.len() + 64 * 1024 + (25 * input.len()).min(4 * 1024 * 1024);
    assert!(
        peak_bytes <= allowed,
        "{} v{version}: {peak_bytes} bytes for an input of {}",
        M::NAME,
        input.len()
    );
    result
}

macro_rules! every_version {
    ($name:ident, $check:ident) => {
        let versions = thalweg_kafka::messages::$name::VERSIONS;
        for version in versions.min..=versions.max {
            $check::<thalweg_kafka::messages::$name>(version);
        }
    };
}

#[test]
fn a_message_cut_short_anywhere_or_with_a_byte_too_many_is_refused() {
    fn check_cuts<M: Message + Sample>(version: i16) {
        for seed in 0..8 {
            let whole = encode::<M>(version, seed);
            assert_eq!(decode::<M>(version, &whole), Ok(()), "{} v{version}", M::NAME);
            for length in 0..whole.len() {
                let cut = decode::<M>(version, &whole[..length]);
                assert!(cut.is_err(), "{} v{version} cut to {length} bytes", M::NAME);
            }
            let longer = [&whole[..], &[0]].concat();
            assert_eq!(decode::<M>(version, &longer), Err(DecodeError::TrailingBytes(1)));
        }
    }
    macro_rules! check {
        ($name:ident) => {
            every_version!($name, check_cuts);
        };
    }
    every_message!(check);
}

#[test]
fn changed_bytes_never_panic_nor_take_memory() {
    fn check_changes<M: Message + Sample>(version: i16) {
        for seed in 0..3 {
            let mut input = encode::<M>(version, seed);
            for position in 0..input.len() {
                let kept = input[position];
                for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                    input[position] = value;
                    let _ = decode::<M>(version, &input);
                }
                input[position] = kept;
            }
        }
    }
    macro_rules! check {
        ($name:ident) => {
            every_version!($name, check_changes);
        };
    }
    every_message!(check);
}

#[test]
fn counts_that_the_frame_can_just_hold_are_bounded_in_memory() {
    /// Every position of a small message in turn becomes a count, followed by zeros: the densest elements there are.
    fn check_counts<M: Message + Sample>(version: i16) {
        const TAIL_BYTES: usize = 96 * 1024;
        let whole = encode::<M>(version, 1);
        for position in 0..whole.len().min(48) {
            for count in [&16_000_i32.to_be_bytes()[..], &[0x81, 0x7d], &[0x81, 0xf4, 0x03]] {
                let mut input = whole[..position].to_vec();
                input.extend_from_slice(count);
                input.resize(position + TAIL_BYTES, 0);
                let _ = decode::<M>(version, &input);
            }
        }
    }
    macro_rules! check {
        ($name:ident) => {
            let versions = thalweg_kafka::messages::$name::VERSIONS;
            check_counts::<thalweg_kafka::messages::$name>(versions.min);
            check_counts::<thalweg_kafka::messages::$name>(versions.max);
        };
    }
    every_message!(check);
}

// ---- single faults, by name ----

fn metadata(version: i16, body: &[u8]) -> Result<Request, DecodeError> {
    let mut reader = Reader::new(BytesMut::from(body));
    let request = Request::decode(ApiKey::Metadata, version, &mut reader)?;
    reader.finish().map(|()| request)
}

#[test]
fn impossible_counts_are_refused_before_anything_is_allocated() {
    let (result, peak_bytes) = peak::of(|| metadata(0, &i32::MAX.to_be_bytes()));
    assert_eq!(result, Err(DecodeError::TooManyElements { count: 0x7fff_ffff, remaining: 0 }));
    assert!(peak_bytes < 1024, "{peak_bytes}");
    assert_eq!(metadata(0, &(-1_i32).to_be_bytes()), Err(DecodeError::Null));
    assert_eq!(metadata(0, &(-2_i32).to_be_bytes()), Err(DecodeError::NegativeLength(-2)));
    assert!(metadata(1, &(-1_i32).to_be_bytes()).is_ok());
}

#[test]
fn a_million_empty_names_are_refused_for_what_they_would_take() {
    let mut body = BytesMut::new();
    body.put_i32(1_000_000);
    body.put_bytes(0, 2_000_000);
    assert!(matches!(metadata(0, &body), Err(DecodeError::Expands { .. })));
}

/// Asks for `count` topics whose names have `letters` letters, under the allocation guard.
fn ask_for_topics(version: i16, count: usize, letters: usize) -> Result<(), DecodeError> {
    let topic = MetadataRequestTopic {
        name: Some("x".repeat(letters).as_str().into()),
        ..MetadataRequestTopic::default()
    };
    let topics = Some(vec![topic; count]);
    let mut writer = Writer::new();
    let request = MetadataRequest { topics, ..MetadataRequest::default() };
    request.encode(version, &mut writer).expect("can be said");
    decode::<MetadataRequest>(version, &writer.finish().to_bytes())
}

#[test]
fn ten_thousand_topics_with_names_of_one_or_two_letters_are_understood() {
    for version in MetadataRequest::VERSIONS.min..=MetadataRequest::VERSIONS.max {
        for letters in [1, 2] {
            assert_eq!(ask_for_topics(version, 10_000, letters), Ok(()), "v{version} {letters}");
        }
    }
}

#[test]
fn what_a_small_frame_may_take_more_ends_at_four_megabytes() {
    assert_eq!(ask_for_topics(1, 100_000, 2), Ok(()));
    let limit = 7 * 8_000_004 + 48 * 1024 + 4 * 1024 * 1024;
    assert_eq!(ask_for_topics(1, 2_000_000, 2), Err(DecodeError::Expands { limit }));
}

#[test]
fn a_hundred_thousand_topics_with_real_names_are_not() {
    let mut body = BytesMut::new();
    body.put_i32(100_000);
    for number in 0..100_000 {
        body.put_i16(12);
        body.put_slice(format!("topic-{number:06}").as_bytes());
    }
    assert!(metadata(0, &body).is_ok());
}

#[test]
fn variable_length_numbers_end_within_32_bits() {
    let read = |bytes: &[u8]| Reader::new(BytesMut::from(bytes)).unsigned_varint();
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(DecodeError::VarintTooLong));
    assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(DecodeError::VarintTooLong));
    assert_eq!(read(&[0x80, 0x00]), Ok(0));
    assert_eq!(read(&[0x80]), Err(DecodeError::Truncated { needed: 1, remaining: 0 }));
}

#[test]
fn strings_must_lie_within_the_frame_and_what_is_not_utf_8_is_replaced() {
    let one_topic = |name: &[u8]| [&[0, 0, 0, 1][..], name].concat();
    let mut reader = Reader::new(BytesMut::from(&[0, 3, b'a', 0xc3, b'('][..]));
    assert_eq!(reader.string(false).as_deref(), Ok("a\u{fffd}("));
    // Three bytes for each that is replaced, which count.
    let garbage = [&20_000_i16.to_be_bytes()[..], &[0xff; 20_000]].concat();
    assert!(metadata(0, &one_topic(&garbage)).is_ok());
    let beyond = metadata(0, &one_topic(&[0x7f, 0xff, b'x']));
    assert_eq!(beyond, Err(DecodeError::Truncated { needed: 0x7fff, remaining: 1 }));
    assert_eq!(metadata(0, &one_topic(&[0xff, 0xfe])), Err(DecodeError::NegativeLength(-2)));
    assert_eq!(metadata(0, &one_topic(&[0xff, 0xff])), Err(DecodeError::Null));
}

#[test]
fn unknown_tagged_fields_are_skipped_and_disorderly_ones_refused() {
    // Metadata 9 asking for all topics: null list, three flags, then the tagged fields.
    let with_tags = |tags: &[u8]| metadata(9, &[&[0, 1, 0, 0][..], tags].concat());
    assert!(with_tags(&[0]).is_ok());
    assert!(with_tags(&[2, 5, 1, 0xaa, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]).is_ok());
    assert_eq!(with_tags(&[2, 5, 0, 5, 0]), Err(DecodeError::TagOrder { tag: 5 }));
    assert_eq!(with_tags(&[2, 5, 0, 4, 0]), Err(DecodeError::TagOrder { tag: 4 }));
    let too_long = with_tags(&[1, 5, 9]);
    assert_eq!(too_long, Err(DecodeError::Truncated { needed: 9, remaining: 0 }));
    let many = with_tags(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(many, Err(DecodeError::Truncated { needed: 1, remaining: 0 }));
}

#[test]
fn a_known_tagged_field_must_be_as_long_as_it_says() {
    // Fetch 12, all empty, with a cluster id (tag 0) of one letter in a field of three bytes instead of two.
    let mut body = BytesMut::new();
    body.put_slice(&(-1_i32).to_be_bytes());
    body.put_bytes(0, 12);
    body.put_u8(0);
    body.put_bytes(0, 8);
    body.put_slice(&[1, 1, 1]);
    body.put_slice(&[1, 0, 3, 2, b'x', b'y']);
    let decoded = Request::decode(ApiKey::Fetch, 12, &mut Reader::new(body));
    assert_eq!(decoded, Err(DecodeError::TaggedFieldLeftOver(1)));
}

#[test]
fn old_produce_versions_are_refused_with_their_own_error() {
    for version in [-1, 0, 2, 14, i16::MAX] {
        let error = Request::decode(ApiKey::Produce, version, &mut Reader::new(BytesMut::new()));
        assert_eq!(error, Err(DecodeError::UnsupportedVersion { version, min: 3, max: 13 }));
    }
}
