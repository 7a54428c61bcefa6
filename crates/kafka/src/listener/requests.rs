//! From a frame to a request and from a reply to segments: headers, versions, and ApiVersions, which the listener answers itself.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;

use thalweg_types::ErrorCode;

use crate::api::ApiTable;
use crate::backend::{ClientSoftware, Features, RequestContext};
use crate::codec::{DecodeError, EncodeError, KafkaString, Reader, Segments, Writer};
use crate::messages::api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use crate::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, Request, RequestHeader, Response,
    ResponseHeader,
};

/// First version of ApiVersions whose readers understand features that may be at level 0.
const LEVEL_0_SINCE: i16 = 4;

/// A request that nobody can be given. Kafka closes the connection, since it could not word an answer that the client understands.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("api key {0} is not served")]
    Api(i16),
    #[error("version {version} of {} is not served", key.name())]
    Version { key: ApiKey, version: i16 },
    #[error("malformed {} version {version}: {error}", key.name())]
    Malformed { key: ApiKey, version: i16, error: DecodeError },
}

/// What must be known of a request to answer it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
}

/// A frame that has been read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) question: Question,
    pub(super) client_id: Option<KafkaString>,
    pub(super) request: Request,
}

/// The two ends of a connection and what the client has said about itself.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    pub(super) listener: SocketAddr,
    pub(super) connection: u64,
    pub(super) software: Option<ClientSoftware>,
}

impl Client {
    pub(super) fn context(
        &self,
        question: Question,
        client_id: Option<KafkaString>,
        received_at: Instant,
    ) -> RequestContext {
        RequestContext {
            api_key: question.key,
            api_version: question.version,
            correlation_id: question.correlation_id,
            client_id,
            client_software: self.software.clone(),
            peer: self.peer,
            listener: self.listener,
            connection: self.connection,
            received_at,
        }
    }
}

/// Reads header and body. An ApiVersions request of an unknown version comes out as one of version 0 whose question keeps that version.
pub(super) fn parse(frame: BytesMut, apis: &ApiTable) -> Result<Parsed, Refused> {
    let Some(&[key0, key1, version0, version1, c0, c1, c2, c3]) = frame.first_chunk::<8>() else {
        return Err(Refused::Api(-1));
    };
    let code = i16::from_be_bytes([key0, key1]);
    let version = i16::from_be_bytes([version0, version1]);
    let correlation_id = i32::from_be_bytes([c0, c1, c2, c3]);
    let key = ApiKey::from_code(code).ok_or(Refused::Api(code))?;
    let advertised = apis.get(key).ok_or(Refused::Api(code))?;
    let question = Question { key, version, correlation_id };
    if !advertised.contains(version) {
        if key == ApiKey::ApiVersions {
            // KIP-511: nothing beyond these bytes can be relied on, and nothing more is needed to answer.
            let request = ApiVersionsRequest::default().into();
            return Ok(Parsed { question, client_id: None, request });
        }
        return Err(Refused::Version { key, version });
    }
    let malformed = |error| match error {
        DecodeError::UnsupportedVersion { .. } => Refused::Version { key, version },
        error => Refused::Malformed { key, version, error },
    };
    let header_version = if version >= key.request_flexible_from() { 2 } else { 1 };
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(header_version, &mut reader).map_err(malformed)?;
    let request = Request::decode(key, version, &mut reader).map_err(malformed)?;
    if !is_all_topics_of_librdkafka(&request, version, reader.remaining()) {
        reader.finish().map_err(malformed)?;
    }
    Ok(Parsed { question, client_id: header.client_id, request })
}

/// librdkafka asks for all topics with four bytes of zeros where flexible versions have one for "no list" (librdkafka #5049), so that
/// three bytes too many follow. The flags between are misread by that; they mean nothing without a list.
fn is_all_topics_of_librdkafka(request: &Request, version: i16, left_bytes: usize) -> bool {
    let Request::Metadata(metadata) = request else { return false };
    version >= ApiKey::Metadata.request_flexible_from()
        && metadata.topics.is_none()
        && left_bytes == 3
}

/// The answer with its header and length, ready to be sent.
pub(super) fn encode(question: Question, response: Response) -> Result<Segments, EncodeError> {
    let Question { key, version, correlation_id } = question;
    // ApiVersions keeps the first header for ever, so that a client which cannot know better understands it (KIP-511).
    let flexible = key != ApiKey::ApiVersions && version >= key.response_flexible_from();
    let mut writer = Writer::frame();
    ResponseHeader { correlation_id }.encode(i16::from(flexible), &mut writer)?;
    response.encode(version, &mut writer)?;
    writer.finish_frame()
}

/// The listener's own answer to ApiVersions; in version 0 and with the ranges when the version asked for is unknown (KIP-511).
pub(super) fn api_versions(
    mut question: Question,
    apis: &ApiTable,
    features: Features,
) -> (Question, Response) {
    let is_known = apis.get(ApiKey::ApiVersions).is_some_and(|all| all.contains(question.version));
    let error = if is_known { ErrorCode::None } else { ErrorCode::UnsupportedVersion };
    if !is_known {
        question.version = 0;
    }
    let api_keys = apis.ranges().iter().map(|range| ApiVersion {
        api_key: range.key as i16,
        min_version: range.versions.min,
        max_version: range.versions.max,
    });
    let response = ApiVersionsResponse {
        error_code: error.code(),
        api_keys: api_keys.collect(),
        supported_features: supported(&features, question.version),
        finalized_features_epoch: features.epoch,
        finalized_features: features.finalized.into_iter().map(finalized).collect(),
        ..ApiVersionsResponse::default()
    };
    (question, response.into())
}

/// Clients of older versions cannot read a feature that may be at level 0.
fn supported(features: &Features, version: i16) -> Vec<SupportedFeatureKey> {
    let readable =
        features.supported.iter().filter(|(_, min, _)| version >= LEVEL_0_SINCE || *min > 0);
    let key = |(name, min_version, max_version): &(&str, i16, i16)| SupportedFeatureKey {
        name: KafkaString::from(*name),
        min_version: *min_version,
        max_version: *max_version,
    };
    readable.map(key).collect()
}

fn finalized((name, level): (String, i16)) -> FinalizedFeatureKey {
    FinalizedFeatureKey {
        name: KafkaString::from(name),
        max_version_level: level,
        min_version_level: level,
    }
}

/// What the client calls itself, if it keeps to KIP-511's rules. Others are served all the same, without a name.
pub(super) fn client_software(request: &ApiVersionsRequest) -> Option<ClientSoftware> {
    let (name, version) = (&request.client_software_name, &request.client_software_version);
    (is_software_word(name) && is_software_word(version))
        .then(|| ClientSoftware { name: name.clone(), version: version.clone() })
}

/// Letters, digits, `-` and `.`, beginning and ending with a letter or digit.
fn is_software_word(word: &str) -> bool {
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && ends_well(bytes.first())
        && ends_well(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_words_follow_kip_511() {
        for word in ["librdkafka", "apache-kafka-java", "2.13.0", "x", "1.0-rc.1"] {
            assert!(is_software_word(word), "{word}");
        }
        for word in ["", "-x", "x.", "a b", "a\n", "ä", "a_b"] {
            assert!(!is_software_word(word), "{word:?}");
        }
    }

    /// As librdkafka 2.16 sends it.
    #[test]
    fn librdkafkas_question_for_all_topics_is_understood_and_other_surplus_is_not() {
        let header = b"\x00\x03\x00\x0d\x00\x00\x00\x03\x00\x07rdkafka\x00";
        let apis = ApiTable::of(&[ApiKey::Metadata]);
        let read = |body: &[u8]| {
            let frame = [header.as_slice(), body].concat();
            parse(BytesMut::from(&frame[..]), &apis).map(|parsed| parsed.request)
        };
        let all = read(&[0, 0, 0, 0, 1, 0, 0]).expect("understood");
        assert!(matches!(all, Request::Metadata(request) if request.topics.is_none()));
        for surplus in [&[0, 0, 0, 0, 1, 0, 0, 0][..], &[0, 0, 0, 0, 1], &[1, 0, 0, 0, 1, 0, 0]] {
            assert!(matches!(read(surplus), Err(Refused::Malformed { .. })), "{surplus:?}");
        }
    }

    #[test]
    fn features_that_may_be_off_are_hidden_from_those_who_cannot_read_that() {
        let apis = ApiTable::of(&[ApiKey::Produce]);
        let told = |version| {
            let question = Question { key: ApiKey::ApiVersions, version, correlation_id: 7 };
            let features = Features {
                supported: vec![("group.version", 0, 1), ("other.version", 1, 3)],
                epoch: 9,
                finalized: vec![("group.version".to_owned(), 1)],
            };
            let (question, response) = api_versions(question, &apis, features);
            encode(question, response.clone()).expect("encodes");
            let Response::ApiVersions(response) = response else { panic!("another answer") };
            let names = response.supported_features.iter().map(|key| key.name.to_string());
            let on = response.finalized_features.iter().map(|key| key.max_version_level);
            (names.collect::<Vec<_>>(), response.finalized_features_epoch, on.collect::<Vec<_>>())
        };
        assert_eq!(told(4), (vec!["group.version".into(), "other.version".into()], 9, vec![1]));
        assert_eq!(told(3), (vec!["other.version".into()], 9, vec![1]));
    }

    #[test]
    fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
        let apis = ApiTable::of(&[ApiKey::Produce]);
        let question = Question { key: ApiKey::ApiVersions, version: 99, correlation_id: 7 };
        let (question, response) = api_versions(question, &apis, Features::default());
        let bytes = encode(question, response).expect("encodes").to_bytes();
        // Length, correlation id, error 35, two ranges: Produce 0-13 and ApiVersions 0-4.
        let expected =
            [0, 0, 0, 22, 0, 0, 0, 7, 0, 35, 0, 0, 0, 2, 0, 0, 0, 0, 0, 13, 0, 18, 0, 0, 0, 4];
        assert_eq!(&bytes[..], expected);
    }
}
