//! The catalogue against itself, and values at the edges of their ranges.

use thalweg_types::{ClusterId, Durability, TopicId, TopicName, Uuid};

use super::*;
use crate::{ConfigResource, Image, Position, Record};

const TOPIC: TopicId = TopicId(Uuid::from_bytes([7; 16]));

fn image_with(configs: &[(ConfigResource, &str, &str)]) -> Image {
    let mut records = vec![
        Record::ClusterCreated { cluster_id: ClusterId(Uuid::from_bytes([1; 16])) },
        Record::TopicCreated { topic_id: TOPIC, name: TopicName::new("t").unwrap() },
    ];
    records.extend(configs.iter().map(|(resource, name, value)| Record::ConfigSet {
        resource: *resource,
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    }));
    Image::restore(Position::START, &records)
}

#[test]
fn the_catalogue_is_in_order_of_name_and_every_default_is_valid() {
    for table in [topic_configs(), broker_configs()] {
        assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name));
        for definition in table {
            if let Some(default) = definition.default {
                assert_eq!(definition.check(default), Ok(()), "{}", definition.name);
            }
            assert!(!definition.doc.is_empty());
        }
    }
}

#[test]
fn every_synonym_is_a_broker_config_whose_default_agrees() {
    let image = Image::default();
    for entry in describe_topic(&image, TOPIC, None, &StaticConfigs::default()) {
        let definition = topic_config(entry.name).unwrap();
        assert_eq!(entry.value.as_deref(), definition.default, "{}", entry.name);
        assert_eq!(entry.source, Source::Default);
        for synonym in definition.synonyms {
            assert!(broker_config(synonym.name).is_some(), "{}", synonym.name);
        }
    }
}

#[test]
fn values_outside_their_range_are_refused_with_name_value_and_range() {
    let refusal = |name: &str, value: &str| {
        topic_config(name).unwrap().check(value).expect_err(value).to_string()
    };
    assert_eq!(
        refusal("min.insync.replicas", "0"),
        "invalid value \"0\" for config min.insync.replicas: it must be a whole number from 1 to 2147483647"
    );
    assert_eq!(
        refusal("cleanup.policy", "delete,shred"),
        "invalid value \"delete,shred\" for config cleanup.policy: it must be a list of one or more of compact, delete"
    );
    refusal("cleanup.policy", "");
    refusal("cleanup.policy", "delete,delete");
    refusal("retention.ms", "-2");
    refusal("retention.ms", "soon");
    refusal("segment.bytes", "99999999999");
    refusal("min.cleanable.dirty.ratio", "NaN");
    refusal("unclean.leader.election.enable", "true");
    refusal("compression.gzip.level", "0");
    refusal("thalweg.durability", "maybe");
    assert_eq!(topic_config("cleanup.policy").unwrap().check("compact, delete"), Ok(()));
    assert_eq!(topic_config("compression.gzip.level").unwrap().check("-1"), Ok(()));
}

#[test]
fn stronger_sources_win_and_weaker_ones_stay_visible() {
    let settings = StaticConfigs::new([("log.retention.hours", "2")]).unwrap();
    let image = image_with(&[]);
    let config = TopicConfig::resolve(&image, TOPIC, None, &settings);
    assert_eq!(config.retention_ms, Some(2 * 3_600_000));

    let image = image_with(&[
        (ConfigResource::Cluster, "log.retention.ms", "5"),
        (ConfigResource::Topic(TOPIC), "retention.ms", "-1"),
    ]);
    let config = TopicConfig::resolve(&image, TOPIC, None, &settings);
    assert_eq!(config.retention_ms, None);

    let entries = describe_topic(&image, TOPIC, None, &settings);
    let entry = entries.iter().find(|entry| entry.name == "retention.ms").unwrap();
    assert_eq!(entry.source, Source::Topic);
    let chain: Vec<_> =
        entry.synonyms.iter().map(|s| (s.name, s.value.as_deref(), s.source)).collect();
    assert_eq!(
        chain,
        [
            ("retention.ms", Some("-1"), Source::Topic),
            ("log.retention.ms", Some("5"), Source::DynamicDefaultBroker),
            ("log.retention.hours", Some("2"), Source::StaticBroker),
            ("log.retention.hours", Some("168"), Source::Default),
        ]
    );
}

#[test]
fn defaults_are_those_of_kafka_and_durable() {
    let config = TopicConfig::resolve(&Image::default(), TOPIC, None, &StaticConfigs::default());
    assert_eq!(config.durability, Durability::Fsync);
    assert_eq!(config.segment_bytes, 1 << 30);
    assert_eq!(config.retention_ms, Some(604_800_000));
    assert_eq!(config.retention_bytes, None);
    assert_eq!(config.compression_type, None);
    assert!(config.cleanup_delete && !config.cleanup_compact);
    assert_eq!(config.max_message_bytes, 1_048_588);
}

#[test]
fn a_broker_is_described_with_all_of_its_configs() {
    let settings = StaticConfigs::new([("num.partitions", "3")]).unwrap();
    let entries = describe_broker(&Image::default(), None, &settings);
    assert_eq!(entries.len(), broker_configs().len());
    let entry = entries.iter().find(|entry| entry.name == "num.partitions").unwrap();
    assert_eq!((entry.value.as_deref(), entry.source), (Some("3"), Source::StaticBroker));
    assert!(entry.read_only);
}

#[test]
fn unknown_names_in_settings_are_refused() {
    assert!(StaticConfigs::new([("no.such.config", "1")]).is_err());
    assert!(StaticConfigs::new([("num.partitions", "0")]).is_err());
}
