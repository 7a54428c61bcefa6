//! Frames, open to the fuzzer.

use bytes::BytesMut;

use super::requests::{self, Parsed};
use crate::api::ApiTable;
use crate::backend::Features;
use crate::messages::{ApiKey, Request};

/// Reads a frame as a connection does. What can be read can be answered: the one call that the listener answers itself is.
pub fn frame(input: &[u8]) {
    let apis = ApiTable::of(ApiKey::ALL);
    let Ok(parsed) = requests::parse(BytesMut::from(input), &apis) else { return };
    let Parsed { question, request, .. } = parsed;
    assert_eq!(request.api_key(), question.key);
    if let Request::ApiVersions(request) = request {
        let _ = requests::client_software(&request);
        let (question, response) = requests::api_versions(question, &apis, Features::default());
        let answer = requests::encode(question, response).expect("an answer to ApiVersions");
        let length = answer.to_bytes().first_chunk().map(|length| i32::from_be_bytes(*length));
        assert_eq!(length, i32::try_from(answer.to_bytes().len() - 4).ok());
    }
}
