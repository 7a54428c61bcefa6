//! The catalogue against itself, and values at the edges of their ranges.

use thalweg_types::{ClusterId, CompressionType, Durability, NodeId, TopicId, TopicName, Uuid};

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
    for definition in broker_configs() {
        let own = definition.synonyms.first().is_none_or(|first| first.name == definition.name);
        assert!(own, "{} comes first among its own stand-ins", definition.name);
    }
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
fn a_broker_config_that_another_one_stands_in_for_is_shown_unset_with_both() {
    let settings = StaticConfigs::new([("log.retention.hours", "2")]).unwrap();
    let entry = |image: &Image| {
        let entries = describe_broker(image, None, &settings);
        entries.into_iter().find(|entry| entry.name == "log.retention.ms").unwrap()
    };
    let unset = entry(&Image::default());
    assert_eq!((unset.value, unset.source), (None, Source::StaticBroker));
    let set = entry(&image_with(&[(ConfigResource::Cluster, "log.retention.ms", "5")]));
    assert_eq!((set.value.as_deref(), set.source), (Some("5"), Source::DynamicDefaultBroker));
    let names: Vec<_> = set.synonyms.iter().map(|value| value.name).collect();
    assert_eq!(names, ["log.retention.ms", "log.retention.hours", "log.retention.hours"]);
}

#[test]
fn the_defaults_of_all_brokers_are_told_with_what_can_be_set() {
    let image = image_with(&[
        (ConfigResource::Cluster, "message.max.bytes", "9"),
        (ConfigResource::Broker(NodeId(1)), "log.segment.bytes", "2000000"),
    ]);
    let entries = describe_all_brokers(&image);
    assert!(
        entries.iter().all(|entry| broker_config(entry.name).unwrap().scope != Scope::ReadOnly)
    );
    let set: Vec<_> = entries.iter().filter(|entry| entry.source != Source::Default).collect();
    assert_eq!(set.len(), 1, "{set:?}");
    assert_eq!((set[0].name, set[0].value.as_deref()), ("message.max.bytes", Some("9")));
}

#[test]
fn one_brokers_config_is_stronger_than_that_of_all_and_concerns_that_broker_only() {
    let settings = StaticConfigs::new([("message.max.bytes", "7")]).unwrap();
    let image = image_with(&[
        (ConfigResource::Cluster, "message.max.bytes", "8"),
        (ConfigResource::Broker(NodeId(1)), "message.max.bytes", "9"),
        (ConfigResource::Broker(NodeId(1)), "producer.id.expiration.ms", "11"),
    ]);
    let on = |broker| TopicConfig::resolve(&image, TOPIC, Some(NodeId(broker)), &settings);
    assert_eq!((on(1).max_message_bytes, on(1).producer_id_expiration_ms), (9, 11));
    assert_eq!((on(2).max_message_bytes, on(2).producer_id_expiration_ms), (8, 86_400_000));
    let before = TopicConfig::resolve(&image_with(&[]), TOPIC, Some(NodeId(1)), &settings);
    assert_eq!(before.max_message_bytes, 7);
}

#[test]
fn what_the_controller_goes_by_is_the_same_on_every_broker() {
    // Such an entry cannot be written any more; an older version may have.
    let image = image_with(&[(ConfigResource::Broker(NodeId(1)), "min.insync.replicas", "2")]);
    let config = TopicConfig::resolve(&image, TOPIC, Some(NodeId(1)), &StaticConfigs::default());
    assert_eq!(config.min_in_sync_replicas, 1);
}

#[test]
fn the_level_is_that_of_the_codec() {
    let level = |codec: &str, more: &[(ConfigResource, &str, &str)]| {
        let codec = (ConfigResource::Topic(TOPIC), "compression.type", codec);
        let image = image_with(&[&[codec], more].concat());
        let config = TopicConfig::resolve(&image, TOPIC, None, &StaticConfigs::default());
        (config.compression_type, config.compression_level)
    };
    let five = [(ConfigResource::Cluster, "compression.gzip.level", "5")];
    assert_eq!(level("gzip", &[]), (Some(CompressionType::Gzip), None));
    assert_eq!(level("gzip", &five), (Some(CompressionType::Gzip), Some(5)));
    assert_eq!(level("zstd", &five), (Some(CompressionType::Zstd), Some(3)));
    assert_eq!(level("uncompressed", &[]), (Some(CompressionType::None), None));
    assert_eq!(level("producer", &[]), (None, None));
}

#[test]
fn an_unknown_name_is_told_with_what_it_is_called_elsewhere() {
    let of_brokers = |name| InvalidConfig::unknown_of_brokers(name).to_string();
    let of_topics = |name| InvalidConfig::unknown_of_topics(name).to_string();
    assert_eq!(
        of_brokers("retention.ms"),
        "unknown broker config name: retention.ms; of brokers it is log.retention.ms"
    );
    assert_eq!(
        of_topics("message.max.bytes"),
        "unknown topic config name: message.max.bytes; of topics it is max.message.bytes"
    );
    assert_eq!(of_topics("no.such"), "unknown topic config name: no.such");
}

#[test]
fn unknown_names_in_settings_are_refused() {
    assert!(StaticConfigs::new([("no.such.config", "1")]).is_err());
    assert!(StaticConfigs::new([("num.partitions", "0")]).is_err());
}
