//! DescribeConfigs: every config of a topic or of this broker, with its default, source and documentation.

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
    DescribeConfigsSynonym,
};
use thalweg_kafka::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use thalweg_metadata_core::config::{Entry, SourcedValue, describe_broker, describe_topic};
use thalweg_types::{ErrorCode, NodeId, TopicName};

use crate::broker::Broker;

/// Kafka's numbers for what a config can belong to.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// A request that cannot be answered, and what the client is told.
pub(super) type Refusal = (ErrorCode, String);

pub(super) fn describe_configs(
    broker: &Broker,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request
        .resources
        .iter()
        .map(|resource| {
            let (error_code, error_message, configs) = match entries(broker, resource) {
                Ok(entries) => (ErrorCode::None, None, select(entries, resource, request)),
                Err((code, message)) => (code, Some(KafkaString::from(message)), Vec::new()),
            };
            DescribeConfigsResult {
                error_code: error_code.code(),
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs,
            }
        })
        .collect();
    DescribeConfigsResponse { results, ..Default::default() }
}

fn entries(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
    let image = broker.image();
    let name = resource.resource_name.as_str();
    let settings = &broker.options().static_configs;
    match resource.resource_type {
        TOPIC => match image.topic(name) {
            Some(topic) => Ok(describe_topic(&image, topic.id, Some(broker.node_id()), settings)),
            None => Err(match TopicName::new(name) {
                Ok(_) => (ErrorCode::UnknownTopicOrPartition, format!("no topic {name:?}")),
                Err(invalid) => (ErrorCode::InvalidTopicException, invalid.to_string()),
            }),
        },
        // An empty name asks for the defaults of all brokers.
        BROKER if name.is_empty() => Ok(describe_broker(&image, None, settings)),
        BROKER => match name.parse().map(NodeId) {
            Ok(id) if id == broker.node_id() => Ok(describe_broker(&image, Some(id), settings)),
            _ => Err((
                ErrorCode::InvalidRequest,
                format!(
                    "this is broker {}, it does not know the settings of {name:?}",
                    broker.node_id()
                ),
            )),
        },
        other => Err((
            ErrorCode::InvalidRequest,
            format!("resource type {other} has no configs here; 2 (topic) and 4 (broker) have"),
        )),
    }
}

fn select(
    entries: Vec<Entry>,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResourceResult> {
    let wanted = |entry: &Entry| match &resource.configuration_keys {
        // Old clients ask for everything by an empty list, newer ones by null.
        Some(names) if !names.is_empty() => names.iter().any(|name| name == entry.name),
        _ => true,
    };
    entries.into_iter().filter(wanted).map(|entry| result(entry, request)).collect()
}

fn result(entry: Entry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(KafkaString::from),
        read_only: entry.read_only,
        config_source: entry.source.wire_code(),
        is_sensitive: false,
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: entry.kind.wire_code(),
        documentation: request.include_documentation.then(|| entry.documentation.into()),
    }
}

fn synonym(value: SourcedValue) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: value.name.into(),
        value: value.value.map(KafkaString::from),
        source: value.source.wire_code(),
    }
}
