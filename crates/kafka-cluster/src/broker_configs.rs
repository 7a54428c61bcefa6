//! Configs as brokers tell them, put together with the catalogue that every node has.

use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::{
    Definition, Entry, Scope, Source, SourcedValue, broker_config, topic_config,
};
use thalweg_proto::internal::broker::v1 as proto;

/// The entries of a broker's answer about `target`. What this node's catalogue does not know is left out: a newer broker's configs cannot be explained here.
pub fn entries_told(target: &ConfigTarget, configs: Vec<proto::Config>) -> Vec<Entry> {
    let definition = match target {
        ConfigTarget::Topic(_) => topic_config,
        ConfigTarget::Broker(_) | ConfigTarget::Cluster => broker_config,
    };
    configs.into_iter().filter_map(|config| entry(definition(&config.name)?, config)).collect()
}

fn entry(definition: &'static Definition, config: proto::Config) -> Option<Entry> {
    Some(Entry {
        name: definition.name,
        source: source(config.source())?,
        value: config.value,
        synonyms: config.synonyms.into_iter().filter_map(synonym).collect(),
        kind: definition.kind,
        read_only: definition.scope == Scope::ReadOnly,
        documentation: definition.doc,
    })
}

fn synonym(value: proto::SourcedValue) -> Option<SourcedValue> {
    let source = source(value.source())?;
    let definition = match source {
        Source::Topic => topic_config(&value.name)?,
        _ => broker_config(&value.name)?,
    };
    Some(SourcedValue { name: definition.name, value: value.value, source })
}

fn source(source: proto::ConfigSource) -> Option<Source> {
    match source {
        proto::ConfigSource::Unspecified => None,
        proto::ConfigSource::Topic => Some(Source::Topic),
        proto::ConfigSource::DynamicBroker => Some(Source::DynamicBroker),
        proto::ConfigSource::DynamicDefaultBroker => Some(Source::DynamicDefaultBroker),
        proto::ConfigSource::StaticBroker => Some(Source::StaticBroker),
        proto::ConfigSource::Default => Some(Source::Default),
    }
}
