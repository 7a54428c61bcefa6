//! Configs as this broker sees them, on the wire. What a config means is in the catalogue that all nodes have, and is not sent.

use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::{Entry, Source, SourcedValue};
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::NodeId;

use crate::broker::Broker;
use proto::describe_configs_request::Target;

pub(super) fn describe(
    broker: &Broker,
    request: proto::DescribeConfigsRequest,
) -> Result<proto::DescribeConfigsResponse, Error> {
    let target = match request.target {
        Some(Target::Topic(name)) => ConfigTarget::Topic(name),
        Some(Target::Broker(id)) => ConfigTarget::Broker(NodeId(id)),
        None => return Err(Error::invalid_request("target must be a topic or a broker")),
    };
    let entries = broker
        .describe_configs(&target)
        .map_err(|error| Error::new(error.code(), error.to_string()).not_applied())?;
    Ok(proto::DescribeConfigsResponse { configs: entries.into_iter().map(config).collect() })
}

fn config(entry: Entry) -> proto::Config {
    proto::Config {
        name: entry.name.to_owned(),
        value: entry.value,
        source: source(entry.source).into(),
        synonyms: entry.synonyms.into_iter().map(sourced).collect(),
    }
}

fn sourced(value: SourcedValue) -> proto::SourcedValue {
    proto::SourcedValue {
        name: value.name.to_owned(),
        value: value.value,
        source: source(value.source).into(),
    }
}

fn source(source: Source) -> proto::ConfigSource {
    match source {
        Source::Topic => proto::ConfigSource::Topic,
        Source::DynamicBroker => proto::ConfigSource::DynamicBroker,
        Source::DynamicDefaultBroker => proto::ConfigSource::DynamicDefaultBroker,
        Source::StaticBroker => proto::ConfigSource::StaticBroker,
        Source::Default => proto::ConfigSource::Default,
    }
}
