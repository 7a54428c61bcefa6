//! The messages of consumers to each other, held against another implementation, and cut, changed and exaggerated.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::{Decodable, Encodable};
use thalweg_kafka::consumer_protocol::{Assignment, Subscription, TopicPartitions, VERSION_MAX};
use thalweg_kafka::{DecodeError, EncodeError, KafkaString};

fn subscription() -> Subscription {
    Subscription {
        topics: vec!["orders".into(), "größe".into()],
        user_data: Some(Bytes::from_static(b"\0\x01sticky")),
        owned_partitions: owned(),
        generation_id: 7,
        rack_id: Some("rack-a".into()),
    }
}

fn owned() -> Vec<TopicPartitions> {
    vec![
        TopicPartitions { topic: "orders".into(), partitions: vec![0, 5, 2] },
        TopicPartitions { topic: KafkaString::default(), partitions: vec![] },
    ]
}

/// What version `version` can say of it.
fn in_version(version: i16, whole: Subscription) -> Subscription {
    let nothing = Subscription::default();
    Subscription {
        owned_partitions: if version >= 1 { whole.owned_partitions } else { Vec::new() },
        generation_id: if version >= 2 { whole.generation_id } else { nothing.generation_id },
        rack_id: if version >= 3 { whole.rack_id } else { None },
        ..whole
    }
}

#[test]
fn subscriptions_are_what_the_other_implementation_says() {
    for (version, ours) in (0..=VERSION_MAX)
        .flat_map(|version| [(version, subscription()), (version, Subscription::default())])
    {
        let bytes = ours.encode(version).expect("can be said");
        let mut rest = bytes.slice(2..);
        let theirs = ConsumerProtocolSubscription::decode(&mut rest, version).expect("they read");
        assert!(rest.is_empty(), "they read all of it");
        let mut again = BytesMut::new();
        again.put_i16(version);
        theirs.encode(&mut again, version).expect("they can write what they have read");
        assert_eq!(again, bytes);
        assert_eq!(theirs.topics.len(), ours.topics.len());
        assert_eq!(Subscription::decode(&bytes), Ok(in_version(version, ours)));
    }
}

#[test]
fn assignments_are_what_the_other_implementation_says() {
    let user_data = Some(Bytes::from_static(b"x"));
    let full = Assignment { assigned_partitions: owned(), user_data };
    for (version, ours) in (0..=VERSION_MAX)
        .flat_map(|version| [(version, full.clone()), (version, Assignment::default())])
    {
        let bytes = ours.encode(version).expect("can be said");
        let mut rest = bytes.slice(2..);
        let theirs = ConsumerProtocolAssignment::decode(&mut rest, version).expect("they read");
        assert!(rest.is_empty(), "they read all of it");
        let mut again = BytesMut::new();
        again.put_i16(version);
        theirs.encode(&mut again, version).expect("they can write what they have read");
        assert_eq!(again, bytes);
        assert_eq!(Assignment::decode(&bytes), Ok(ours));
    }
}

#[test]
fn a_later_version_is_read_as_the_last_that_is_known() {
    let mut later = BytesMut::from(&subscription().encode(3).expect("can be said")[..]);
    later[1] = 9;
    later.put_slice(b"what version 9 adds");
    assert_eq!(Subscription::decode(&later.freeze()), Ok(subscription()));
}

#[test]
fn no_bytes_are_no_assignment_and_no_subscription() {
    assert_eq!(Assignment::decode(&Bytes::new()), Ok(Assignment::default()));
    let error = DecodeError::Truncated { needed: 2, remaining: 0 };
    assert_eq!(Subscription::decode(&Bytes::new()), Err(error));
}

#[test]
fn versions_that_there_are_not_are_refused() {
    for version in [-1, 4] {
        let error = EncodeError::UnsupportedVersion { version, min: 0, max: 3 };
        assert_eq!(subscription().encode(version), Err(error));
        assert_eq!(Assignment::default().encode(version), Err(error));
    }
    let error = DecodeError::UnsupportedVersion { version: -1, min: 0, max: 3 };
    assert_eq!(Subscription::decode(&Bytes::from_static(&[0xff; 12])), Err(error));
    assert_eq!(Assignment::decode(&Bytes::from_static(&[0xff; 12])), Err(error));
}

#[test]
fn a_subscription_cut_short_anywhere_is_refused() {
    let whole = subscription().encode(3).expect("can be said");
    for length in 0..whole.len() {
        let cut = Subscription::decode(&whole.slice(..length));
        assert!(cut.is_err(), "cut to {length} bytes: {cut:?}");
    }
}

#[test]
fn counts_that_cannot_be_are_refused_before_memory_is_taken() {
    let claims = [i32::MAX, 1 << 20, -2];
    for claim in claims {
        let mut bytes = BytesMut::new();
        bytes.put_i16(3);
        bytes.put_i32(claim);
        bytes.put_slice(&[0; 64]);
        let bytes = bytes.freeze();
        let refused = |error: DecodeError| {
            matches!(error, DecodeError::TooManyElements { .. } | DecodeError::NegativeLength(-2))
        };
        assert!(Subscription::decode(&bytes).is_err_and(refused));
        assert!(Assignment::decode(&bytes).is_err_and(refused));
    }
}
