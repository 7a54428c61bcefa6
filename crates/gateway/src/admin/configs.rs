//! Configs of topics and brokers: told by the brokers, changed by the controller.

use std::time::Duration;

use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::{Entry, Kind, Source, SourcedValue};
use thalweg_proto::admin::v1 as proto;
use thalweg_proto::internal::controller::v1 as controller;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{LogIndex, NodeId};

use crate::port::BrokerPort;
use crate::shared::{Shared, on_behalf};
use crate::words;

/// Resources in one call, and changes of each.
const ITEMS_MAX: usize = 1_000;

/// Longest time a change may take.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) async fn describe<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::DescribeConfigsRequest,
) -> Result<proto::DescribeConfigsResponse, Error> {
    words::some_but_at_most("resources", request.resources.len(), ITEMS_MAX)?;
    let mut resources = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let entries = match target(Some(&resource)) {
            Ok(target) => shared.broker.describe_configs(target).await,
            Err(error) => Err(error),
        };
        let (configs, error) = match entries {
            Ok(entries) => (entries.into_iter().map(described).collect(), None),
            Err(error) => (Vec::new(), Some(error.to_detail())),
        };
        resources.push(proto::DescribedResource { resource: Some(resource), configs, error });
    }
    Ok(proto::DescribeConfigsResponse { resources })
}

pub(super) async fn alter<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::AlterConfigsRequest,
    deadline: Deadline,
) -> Result<proto::AlterConfigsResponse, Error> {
    words::some_but_at_most("alterations", request.alterations.len(), ITEMS_MAX)?;
    let wanted: Vec<_> = request
        .alterations
        .into_iter()
        .map(|one| (one.resource.clone(), alteration(one)))
        .collect();
    let asked: Vec<_> = wanted.iter().filter_map(|(_, one)| one.as_ref().ok()).cloned().collect();
    let mut answers = match asked.is_empty() {
        true => Vec::new(),
        false => ask(shared, asked, request.validate_only, deadline).await?,
    }
    .into_iter();
    let resources = wanted
        .into_iter()
        .map(|(resource, one)| proto::AlteredResource {
            resource,
            error: match one {
                Ok(_) => answers.next().and_then(|answer| answer.error),
                Err(error) => Some(error.to_detail()),
            },
        })
        .collect();
    Ok(proto::AlterConfigsResponse { resources })
}

/// Has the controller decide, and waits until its decision is in force here.
async fn ask<B: BrokerPort>(
    shared: &Shared<B>,
    resources: Vec<controller::ConfigAlteration>,
    validate_only: bool,
    deadline: Deadline,
) -> Result<Vec<controller::AlteredResource>, Error> {
    let message = controller::AlterConfigsRequest { resources, validate_only };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().alter_configs(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    shared.broker.served(LogIndex(answer.index)).await;
    Ok(answer.resources)
}

fn alteration(alteration: proto::ConfigAlteration) -> Result<controller::ConfigAlteration, Error> {
    let target = target(alteration.resource.as_ref())?;
    words::some_but_at_most("changes", alteration.changes.len(), ITEMS_MAX)?;
    Ok(controller::ConfigAlteration {
        target: Some(controller::ConfigTarget { target: Some(wire_target(target)) }),
        changes: alteration.changes.into_iter().map(change).collect::<Result<_, _>>()?,
        replace: false,
    })
}

fn target(resource: Option<&proto::ConfigResource>) -> Result<ConfigTarget, Error> {
    use proto::config_resource::Resource;
    match resource.and_then(|resource| resource.resource.as_ref()) {
        Some(Resource::Topic(name)) => {
            Ok(ConfigTarget::Topic(words::topic_name(name)?.to_string()))
        }
        Some(Resource::Broker(id)) => Ok(ConfigTarget::Broker(NodeId(*id))),
        Some(Resource::AllBrokers(_)) => Ok(ConfigTarget::Cluster),
        None => Err(Error::invalid_request(
            "a resource must be a topic, a broker or all_brokers".to_owned(),
        )),
    }
}

fn wire_target(target: ConfigTarget) -> controller::config_target::Target {
    use controller::config_target::{Cluster, Target};
    match target {
        ConfigTarget::Topic(name) => Target::Topic(name),
        ConfigTarget::Broker(id) => Target::Broker(id.0),
        ConfigTarget::Cluster => Target::Cluster(Cluster {}),
    }
}

fn change(change: proto::ConfigChange) -> Result<controller::ConfigChange, Error> {
    use controller::ConfigEdit;
    use proto::config_change::Change;
    let name = change.name;
    let (value, edit) = match change.change {
        Some(Change::Set(value)) => (Some(value), ConfigEdit::Unspecified),
        Some(Change::Unset(_)) => (None, ConfigEdit::Unspecified),
        Some(Change::Append(items)) => (Some(items), ConfigEdit::Append),
        Some(Change::Subtract(items)) => (Some(items), ConfigEdit::Subtract),
        None => {
            let message =
                format!("the change of config {:?} does not say what", words::shown(&name));
            return Err(Error::invalid_request(message));
        }
    };
    Ok(controller::ConfigChange { name, value, edit: edit.into() })
}

fn described(entry: Entry) -> proto::DescribedConfig {
    proto::DescribedConfig {
        name: entry.name.to_owned(),
        value: entry.value,
        source: source(entry.source).into(),
        values: entry.synonyms.into_iter().map(value).collect(),
        read_only: entry.read_only,
        r#type: kind(entry.kind).to_owned(),
        documentation: entry.documentation.to_owned(),
    }
}

fn value(found: SourcedValue) -> proto::ConfigValue {
    proto::ConfigValue {
        name: found.name.to_owned(),
        value: found.value.unwrap_or_default(),
        source: source(found.source).into(),
    }
}

fn source(source: Source) -> proto::ConfigSource {
    match source {
        Source::Topic => proto::ConfigSource::Topic,
        Source::DynamicBroker => proto::ConfigSource::Broker,
        Source::DynamicDefaultBroker => proto::ConfigSource::AllBrokers,
        Source::StaticBroker => proto::ConfigSource::Settings,
        Source::Default => proto::ConfigSource::Default,
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "boolean",
        Kind::String => "string",
        Kind::Int => "int",
        Kind::Short => "short",
        Kind::Long => "long",
        Kind::Double => "double",
        Kind::List => "list",
    }
}
