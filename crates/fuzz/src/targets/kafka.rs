//! The Kafka protocol: each message in each version, and frames with their headers.
//!
//! A message's input begins with the call's number and the version, one byte each.

use bytes::{Bytes, BytesMut};
use thalweg_kafka::consumer_protocol::{Assignment, Subscription, TopicPartitions, VERSION_MAX};
use thalweg_kafka::fuzzing::{self, SampleMessage, samples};
use thalweg_kafka::{ApiKey, DecodeError, Reader, Request, Response, Writer};

use crate::{Seeds, peak};

pub(super) fn request(input: &[u8]) {
    let Some((key, version, body)) = split(input) else { return };
    let decode = |body: &[u8]| -> Result<Request, DecodeError> {
        let mut reader = Reader::new(BytesMut::from(body));
        let request = Request::decode(key, version, &mut reader)?;
        reader.finish().map(|()| request)
    };
    let Ok(request) = peak::within(allowed_bytes(body), || decode(body)) else { return };
    let mut writer = Writer::new();
    let said = request.clone().encode(version, &mut writer);
    said.expect("what was understood can be said in the same version");
    let again = decode(&writer.finish().to_bytes()).expect("what was said is understood");
    assert_eq!(again, request);
}

pub(super) fn response(input: &[u8]) {
    let Some((key, version, body)) = split(input) else { return };
    let decode = |body: &[u8]| -> Result<Response, DecodeError> {
        let mut reader = Reader::new(BytesMut::from(body));
        let response = Response::decode(key, version, &mut reader)?;
        reader.finish().map(|()| response)
    };
    let Ok(response) = peak::within(allowed_bytes(body), || decode(body)) else { return };
    let mut writer = Writer::new();
    let said = response.clone().encode(version, &mut writer);
    said.expect("what was understood can be said in the same version");
    let again = decode(&writer.finish().to_bytes()).expect("what was said is understood");
    assert_eq!(again, response);
}

pub(super) fn frame(input: &[u8]) {
    // The answer to ApiVersions lists every call, whatever is asked.
    peak::within(allowed_bytes(input) + 16 * 1024, || fuzzing::frame(input));
}

/// What members of a group tell each other. The first byte says which of the two it is.
pub(super) fn consumer_protocol(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    let allowed = allowed_bytes(&body);
    if kind & 1 == 0 {
        let Ok(said) = peak::within(allowed, || Subscription::decode(&body)) else { return };
        let again = said.encode(VERSION_MAX).expect("what was understood can be said");
        assert_eq!(Subscription::decode(&again), Ok(said));
    } else {
        let Ok(said) = peak::within(allowed, || Assignment::decode(&body)) else { return };
        let again = said.encode(VERSION_MAX).expect("what was understood can be said");
        assert_eq!(Assignment::decode(&again), Ok(said));
    }
}

/// What a message may take: eight times its bytes and 64 KiB, and if it is small 25 times more (see the codec's reader).
fn allowed_bytes(body: &[u8]) -> usize {
    8 * body.len() + 64 * 1024 + (25 * body.len()).min(4 << 20)
}

fn split(input: &[u8]) -> Option<(ApiKey, i16, &[u8])> {
    let [code, version, body @ ..] = input else { return None };
    let key = ApiKey::from_code(i16::from(*code))?;
    Some((key, i16::from(*version), body))
}

// ---- Seeds ----

fn seeds_of(is_request: bool, input: impl Fn(&SampleMessage) -> Vec<u8>) -> Seeds {
    let samples = samples().into_iter().filter(|sample| sample.is_request == is_request);
    let name = |sample: &SampleMessage| format!("{}-{}", sample.key.name(), sample.version);
    samples.map(|sample| (name(&sample), input(&sample))).collect()
}

fn message(sample: &SampleMessage) -> Vec<u8> {
    let code = u8::try_from(sample.key as i16).expect("the numbers of calls are small");
    let version = u8::try_from(sample.version).expect("versions are small");
    [&[code, version], &sample.body[..]].concat()
}

pub(super) fn request_seeds() -> Seeds {
    seeds_of(true, message)
}

pub(super) fn response_seeds() -> Seeds {
    seeds_of(false, message)
}

pub(super) fn frame_seeds() -> Seeds {
    seeds_of(true, fuzzing::request_frame)
}

pub(super) fn consumer_protocol_seeds() -> Seeds {
    let partitions = || vec![TopicPartitions { topic: "orders".into(), partitions: vec![0, 7] }];
    let subscription = Subscription {
        topics: vec!["orders".into(), "o2".into()],
        user_data: Some(Bytes::from_static(b"u")),
        owned_partitions: partitions(),
        generation_id: 5,
        rack_id: Some("r".into()),
    };
    let assignment = Assignment { assigned_partitions: partitions(), user_data: None };
    let versions = 0..=VERSION_MAX;
    let said = versions.flat_map(|version| {
        let subscription = subscription.encode(version).expect("a version there is");
        let assignment = assignment.encode(version).expect("a version there is");
        [[&[0], &subscription[..]].concat(), [&[1], &assignment[..]].concat()]
    });
    super::numbered(said)
}
