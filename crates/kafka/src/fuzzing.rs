//! Frames as the listener reads them, and samples of every message, open to the fuzzer.

use bytes::BytesMut;

pub use crate::listener::fuzzing::frame;
use crate::{ApiKey, Message, Writer};
use sample::{Sample, Source};

#[path = "../tests/support/sample.rs"]
#[macro_use]
mod sample;

/// A message made up by our own encoder.
#[derive(Debug, Clone)]
pub struct SampleMessage {
    pub key: ApiKey,
    pub version: i16,
    pub is_request: bool,
    pub body: Vec<u8>,
}

/// Every message of the protocol, but for headers, in its first, middle and last version.
pub fn samples() -> Vec<SampleMessage> {
    let mut samples = Vec::new();
    macro_rules! take {
        ($name:ident) => {
            add::<crate::messages::$name>(&mut samples);
        };
    }
    every_message!(take);
    samples
}

fn add<M: Message + Sample>(samples: &mut Vec<SampleMessage>) {
    let Some(key) = M::API_KEY else { return };
    let (min, max) = (M::VERSIONS.min, M::VERSIONS.max);
    let mut versions = vec![min, min + (max - min) / 2, max];
    versions.dedup();
    for version in versions {
        let mut writer = Writer::new();
        let message = M::sample(version, &mut Source::new(11));
        message.encode(version, &mut writer).expect("a sample can be said in its version");
        let body = writer.finish().to_bytes().to_vec();
        samples.push(SampleMessage {
            key,
            version,
            is_request: M::NAME.ends_with("Request"),
            body,
        });
    }
}

/// A request's frame, without its length.
pub fn request_frame(sample: &SampleMessage) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&(sample.key as i16).to_be_bytes());
    frame.extend_from_slice(&sample.version.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 7, 0, 2, b'm', b'e']);
    if sample.version >= sample.key.request_flexible_from() {
        frame.extend_from_slice(&[0]);
    }
    frame.extend_from_slice(&sample.body);
    frame.to_vec()
}
