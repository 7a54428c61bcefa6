//! Compares every message in every version with another implementation of the protocol.
//!
//! Ours is encoded, read by the other side, compared field by field, written by it again (the bytes must not change) and read back by
//! us. Versions that the other side lacks go through our own code both ways and are printed.

#[path = "support/debug_tree.rs"]
mod debug_tree;
#[path = "support/sample.rs"]
#[macro_use]
mod sample;

use std::fmt::Debug;

use bytes::BytesMut;
use debug_tree::{Tree, tree};
use kafka_protocol::protocol as theirs;
use sample::{Sample, Source};
use thalweg_kafka::{EncodeError, Message, Reader, Writer};
use thalweg_types::Uuid;

const SEEDS: u64 = 40;

fn encode<M: Message>(message: M, version: i16) -> BytesMut {
    let mut writer = Writer::new();
    message.encode(version, &mut writer).expect("a sample can be said in its version");
    let segments = writer.finish();
    let whole = segments.to_bytes();
    assert_eq!(whole.len(), segments.bytes);
    BytesMut::from(whole)
}

fn decode<M: Message>(bytes: BytesMut, version: i16) -> M {
    let mut reader = Reader::new(bytes);
    let message = M::decode(version, &mut reader).expect("decodes");
    reader.finish().expect("nothing is left over");
    message
}

fn compare(name: &str, ours: &Tree, other: &Tree) {
    match (ours, other) {
        (Tree::Fields(ours), Tree::Fields(other)) => {
            for (field, value) in ours {
                let found = other.iter().find(|(known, _)| known == field);
                let (_, other) = found.unwrap_or_else(|| panic!("they lack {name}.{field}"));
                compare(&format!("{name}.{field}"), value, other);
            }
            for (field, _) in other.iter().filter(|(field, _)| field != "unknown_tagged_fields") {
                assert!(ours.iter().any(|(known, _)| known == field), "we lack {name}.{field}");
            }
        }
        (Tree::List(ours), other) if name.ends_with(".records") => {
            let empty = Tree::Atom("b\"\"".to_owned());
            assert_eq!(ours.first().unwrap_or(&empty), other, "{name}");
        }
        (Tree::List(ours), Tree::List(other)) => {
            assert_eq!(ours.len(), other.len(), "{name}");
            for (ours, other) in ours.iter().zip(other) {
                compare(name, ours, other);
            }
        }
        (Tree::Atom(ours), Tree::Atom(other)) if ours != other => {
            let hex: String = other.chars().filter(|character| *character != '-').collect();
            let bits =
                u128::from_str_radix(&hex, 16).unwrap_or_else(|_| panic!("{name}: {ours} {other}"));
            assert_eq!(ours.parse(), Ok(Uuid::from_bytes(bits.to_be_bytes())), "{name}");
        }
        _ => assert_eq!(ours, other, "{name}"),
    }
}

fn check_version<Ours, Theirs>(version: i16)
where
    Ours: Message + Sample + Clone + PartialEq + Debug,
    Theirs: theirs::Encodable + theirs::Decodable + theirs::Message + Debug,
{
    let known_to_them = (Theirs::VERSIONS.min..=Theirs::VERSIONS.max).contains(&version);
    if !known_to_them {
        println!("{} version {version} is checked against itself only", Ours::NAME);
    }
    for seed in 0..SEEDS {
        let message = Ours::sample(version, &mut Source::new(seed));
        let bytes = encode(message.clone(), version);
        if known_to_them {
            let mut input = bytes.clone().freeze();
            let other = Theirs::decode(&mut input, version)
                .unwrap_or_else(|error| panic!("{} v{version}: {error}\n{message:#?}", Ours::NAME));
            assert!(input.is_empty(), "{} v{version}: they read all of it", Ours::NAME);
            compare(&format!("{} v{version}", Ours::NAME), &tree(&message), &tree(&other));
            let mut again = BytesMut::new();
            other.encode(&mut again, version).expect("they can write what they have read");
            assert_eq!(again, bytes, "{} v{version}: {message:#?}", Ours::NAME);
            assert_eq!(decode::<Ours>(again, version), message, "{} v{version}", Ours::NAME);
        }
        assert_eq!(decode::<Ours>(bytes, version), message, "{} v{version}", Ours::NAME);
    }
}

#[test]
fn every_message_in_every_version_is_what_the_other_implementation_says() {
    macro_rules! check {
        ($name:ident) => {
            let versions = thalweg_kafka::messages::$name::VERSIONS;
            for version in versions.min..=versions.max {
                check_version::<thalweg_kafka::messages::$name, kafka_protocol::messages::$name>(
                    version,
                );
            }
        };
    }
    every_message!(check);
}

#[test]
fn a_message_of_defaults_is_the_same_bytes_on_both_sides() {
    macro_rules! check {
        ($name:ident) => {
            let ours = thalweg_kafka::messages::$name::VERSIONS;
            let other = <kafka_protocol::messages::$name as theirs::Message>::VERSIONS;
            for version in ours.min.max(other.min)..=ours.max.min(other.max) {
                let bytes = encode(thalweg_kafka::messages::$name::default(), version);
                let mut again = BytesMut::new();
                theirs::Encodable::encode(
                    &kafka_protocol::messages::$name::default(),
                    &mut again,
                    version,
                )
                .expect("defaults can be said");
                assert_eq!(bytes, again, "{} v{version}", stringify!($name));
            }
        };
    }
    every_message!(check);
}

/// A value of one version said in another: both sides must agree on what may be left out and what must not be lost.
fn check_downgrade<Ours, Theirs>(from: i16, to: i16)
where
    Ours: Message + Sample + Clone + PartialEq + Debug,
    Theirs: theirs::Encodable + theirs::Decodable,
{
    for seed in 0..SEEDS {
        let message = Ours::sample(from, &mut Source::new(seed));
        let mut input = encode(message.clone(), from).freeze();
        let other = Theirs::decode(&mut input, from).expect("checked above");
        let mut writer = Writer::new();
        let ours = message.clone().encode(to, &mut writer);
        let mut bytes = BytesMut::new();
        let other = other.encode(&mut bytes, to);
        let place = format!("{} v{from} as v{to}", Ours::NAME);
        match ours {
            // The other side writes null in versions that do not know it.
            Err(EncodeError::Null) => continue,
            // The one tagged field that must not be lost; the other side never asks that of tagged fields.
            Err(EncodeError::NotInVersion { field: "FetchRequest.replica_state", .. }) => continue,
            _ => {}
        }
        assert_eq!(ours.is_ok(), other.is_ok(), "{place}: {ours:?} {other:?} {message:#?}");
        if ours.is_ok() {
            assert_eq!(writer.finish().to_bytes(), bytes, "{place}: {message:#?}");
        }
    }
}

#[test]
fn both_sides_agree_on_what_an_older_version_cannot_say() {
    macro_rules! check {
        ($name:ident) => {
            let ours = thalweg_kafka::messages::$name::VERSIONS;
            let other = <kafka_protocol::messages::$name as theirs::Message>::VERSIONS;
            let versions = ours.min.max(other.min)..=ours.max.min(other.max);
            for (from, to) in versions.clone().flat_map(|a| versions.clone().map(move |b| (a, b))) {
                check_downgrade::<thalweg_kafka::messages::$name, kafka_protocol::messages::$name>(
                    from, to,
                );
            }
        };
    }
    every_message!(check);
}
