//! DescribeConfigs: every config of a topic or of a broker, with its default, source and documentation.

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
    DescribeConfigsSynonym,
};
use thalweg_kafka::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::{Entry, Source, SourcedValue};
use thalweg_types::{ErrorCode, NodeId};

use crate::{Member, Refusal};

/// Kafka's numbers for what a config can belong to.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;

pub(crate) async fn describe_configs<M: Member>(
    member: &M,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let (error_code, error_message, configs) = match entries(member, resource).await {
            Ok(entries) => (ErrorCode::None, None, select(entries, resource, request)),
            Err((code, message)) => (code, Some(KafkaString::from(message)), Vec::new()),
        };
        results.push(DescribeConfigsResult {
            error_code: error_code.code(),
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs,
        });
    }
    DescribeConfigsResponse { results, ..Default::default() }
}

async fn entries<M: Member>(
    member: &M,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Entry>, Refusal> {
    let target = target(resource.resource_type, &resource.resource_name)?;
    let mut entries = member.describe_configs(&target).await?;
    if target == ConfigTarget::Cluster {
        // Kafka's tools take everything that is told of all brokers for set.
        let is_set = |value: &SourcedValue| value.source == Source::DynamicDefaultBroker;
        entries.retain(|entry| entry.source == Source::DynamicDefaultBroker);
        entries.iter_mut().for_each(|entry| entry.synonyms.retain(is_set));
    }
    Ok(entries)
}

/// The resource that a request names by a number and a text. An empty broker name stands for the defaults of all brokers.
pub(crate) fn target(resource_type: i8, name: &str) -> Result<ConfigTarget, Refusal> {
    match resource_type {
        TOPIC => Ok(ConfigTarget::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(ConfigTarget::Cluster),
        BROKER => name.parse().map(|id| ConfigTarget::Broker(NodeId(id))).map_err(|_| {
            (ErrorCode::InvalidRequest, format!("{name:?} is not the number of a broker"))
        }),
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
