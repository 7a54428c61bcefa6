//! `thalweg config`: describe, set, unset, append, subtract.

use serde_json::{Value, json};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;

use crate::cli::OutputFormat;
use crate::cli::config::{Change as ChangeArguments, Config, Describe, Resource};
use crate::cli::values::{Bootstrap, Config as Setting};
use crate::client::{Failure, Server, output};
use proto::config_change::{Change, Unset};

/// What is changed: name and change of each config.
type Changes = Vec<(String, Change)>;

pub(crate) async fn run(bootstrap: &Bootstrap, command: Config) -> Result<(), Failure> {
    let server = Server::at(bootstrap)?;
    let (arguments, (resource, changes)) = match command {
        Config::Describe(arguments) => return describe(&server, &arguments).await,
        Config::Set(arguments) => with(arguments, |arguments| settings(arguments, Change::Set))?,
        Config::Append(arguments) => {
            with(arguments, |arguments| settings(arguments, Change::Append))?
        }
        Config::Subtract(arguments) => {
            with(arguments, |arguments| settings(arguments, Change::Subtract))?
        }
        Config::Unset(arguments) => with(arguments, |arguments| {
            let (resource, names) = arguments.names()?;
            let unset = |name| (name, Change::Unset(Unset {}));
            Ok((resource, names.into_iter().map(unset).collect()))
        })?,
    };
    change(&server, &resource, changes, arguments.dry_run, arguments.output.format).await
}

fn with(
    arguments: ChangeArguments,
    read: impl FnOnce(&ChangeArguments) -> Result<(Resource, Changes), String>,
) -> Result<(ChangeArguments, (Resource, Changes)), Failure> {
    let changes = read(&arguments).map_err(Failure::Usage)?;
    Ok((arguments, changes))
}

fn settings(
    arguments: &ChangeArguments,
    change: fn(String) -> Change,
) -> Result<(Resource, Changes), String> {
    let (resource, settings) = arguments.settings()?;
    let changes = settings.into_iter().map(|Setting { name, value }| (name, change(value)));
    Ok((resource, changes.collect()))
}

// ---- Describing -----------------------------------------------------------------------------------------------------------------

async fn describe(server: &Server, arguments: &Describe) -> Result<(), Failure> {
    let resources = match arguments.resources().map_err(Failure::Usage)? {
        Some(resources) => resources,
        None => brokers(server).await?,
    };
    let described = described(server, &resources).await?;
    let asked = resources.len();
    let mut known = Vec::new();
    for (resource, answer) in resources.into_iter().zip(described) {
        match answer {
            Ok(mut configs) => {
                configs.retain(|config| arguments.all || is_set(config));
                if configs.is_empty() && arguments.output.format == OutputFormat::Table {
                    eprintln!("thalweg: {resource}: nothing is set; --all shows what holds");
                }
                known.push((resource, configs));
            }
            Err(error) => eprintln!("thalweg: {resource}: {error}"),
        }
    }
    if !known.is_empty() {
        write(arguments.output.format, &known)?;
    }
    match asked - known.len() {
        0 => Ok(()),
        failed => Err(Failure::Partly { failed, asked }),
    }
}

async fn brokers(server: &Server) -> Result<Vec<Resource>, Failure> {
    let request = proto::DescribeClusterRequest {};
    let response =
        server.admin().describe_cluster(request).await.map_err(|status| server.failed(status))?;
    let nodes = response.into_inner().nodes.into_iter();
    Ok(nodes
        .filter(|node| node.role == "broker")
        .map(|node| Resource::Broker(node.node_id))
        .collect())
}

/// The configs of each resource, or why they cannot be told.
async fn described(
    server: &Server,
    resources: &[Resource],
) -> Result<Vec<Result<Vec<proto::DescribedConfig>, Error>>, Failure> {
    let request = proto::DescribeConfigsRequest { resources: resources.iter().map(wire).collect() };
    let response =
        server.admin().describe_configs(request).await.map_err(|status| server.failed(status))?;
    let answers = response.into_inner().resources;
    if answers.len() != resources.len() {
        return Err(Failure::Protocol(format!(
            "{} answers about {} resources",
            answers.len(),
            resources.len()
        )));
    }
    let answer = |answer: proto::DescribedResource| match answer.error {
        Some(error) => Err(Error::from_detail(error)),
        None => Ok(answer.configs),
    };
    Ok(answers.into_iter().map(answer).collect())
}

fn is_set(config: &proto::DescribedConfig) -> bool {
    config.source() != proto::ConfigSource::Default
}

fn write(
    format: OutputFormat,
    known: &[(Resource, Vec<proto::DescribedConfig>)],
) -> Result<(), Failure> {
    let facts: Vec<_> = known.iter().map(|(resource, configs)| facts(resource, configs)).collect();
    let rows = known.iter().flat_map(|(resource, configs)| {
        configs.iter().map(|config| {
            vec![
                resource.to_string(),
                config.name.clone(),
                config.value.clone().unwrap_or_else(|| "-".to_owned()),
                source(config.source()).to_owned(),
                if config.read_only { "at a start" } else { "any time" }.to_owned(),
            ]
        })
    });
    let heading = ["resource", "config", "value", "from", "can change"];
    Ok(output::write(format, &facts, &heading, rows.collect())?)
}

fn facts(resource: &Resource, configs: &[proto::DescribedConfig]) -> Value {
    let (kind, name) = match resource {
        Resource::Topic(name) => ("topic", json!(name.as_str())),
        Resource::Broker(id) => ("broker", json!(id)),
        Resource::AllBrokers => ("cluster", Value::Null),
    };
    let configs: Vec<_> = configs.iter().map(config_facts).collect();
    json!({ "resource": kind, "name": name, "configs": configs })
}

fn config_facts(config: &proto::DescribedConfig) -> Value {
    let values: Vec<_> = config
        .values
        .iter()
        .map(|found| {
            json!({ "name": found.name, "value": found.value, "source": source(found.source()) })
        })
        .collect();
    json!({
        "name": config.name,
        "value": config.value,
        "source": source(config.source()),
        "type": config.r#type,
        "read_only": config.read_only,
        "values": values,
        "documentation": config.documentation,
    })
}

fn source(source: proto::ConfigSource) -> &'static str {
    match source {
        proto::ConfigSource::Topic => "topic",
        proto::ConfigSource::Broker => "broker",
        proto::ConfigSource::AllBrokers => "all brokers",
        proto::ConfigSource::Settings => "settings",
        proto::ConfigSource::Default => "default",
        proto::ConfigSource::Unspecified => "unknown",
    }
}

// ---- Changing -------------------------------------------------------------------------------------------------------------------

/// Changes the configs of one resource and shows how they stand then.
async fn change(
    server: &Server,
    resource: &Resource,
    changes: Changes,
    dry_run: bool,
    format: OutputFormat,
) -> Result<(), Failure> {
    let names: Vec<String> = changes.iter().map(|(name, _)| name.clone()).collect();
    let changes = changes
        .into_iter()
        .map(|(name, change)| proto::ConfigChange { name, change: Some(change) });
    let alteration =
        proto::ConfigAlteration { resource: Some(wire(resource)), changes: changes.collect() };
    let request =
        proto::AlterConfigsRequest { alterations: vec![alteration], validate_only: dry_run };
    let response =
        server.admin().alter_configs(request).await.map_err(|status| server.failed(status))?;
    match response.into_inner().resources.into_iter().next() {
        Some(proto::AlteredResource { error: Some(error), .. }) => {
            let failure = Failure::refused(resource.to_string(), error);
            if failure.is(ErrorCode::InvalidConfig) {
                let all = describe_all(resource);
                eprintln!("thalweg: nothing was changed; `{all}` lists every config and its value");
            }
            return Err(failure);
        }
        Some(_) => {}
        None => return Err(Failure::Protocol(format!("no answer about {resource}"))),
    }
    if dry_run {
        eprintln!("thalweg: {resource}: could be changed so; nothing was, as --dry-run asks");
    }
    let answers = described(server, std::slice::from_ref(resource)).await?;
    let mut configs = answers
        .into_iter()
        .next()
        .transpose()
        .map_err(|error| Failure::Refused { what: resource.to_string(), error })?
        .unwrap_or_default();
    configs.retain(|config| names.contains(&config.name));
    write(format, &[(resource.clone(), configs)])
}

/// The command that shows everything there is.
fn describe_all(resource: &Resource) -> String {
    let whose = match resource {
        Resource::AllBrokers => "cluster".to_owned(),
        named => named.to_string(),
    };
    format!("thalweg config describe {whose} --all")
}

fn wire(resource: &Resource) -> proto::ConfigResource {
    use proto::config_resource::{AllBrokers, Resource as Wire};
    let resource = match resource {
        Resource::Topic(name) => Wire::Topic(name.to_string()),
        Resource::Broker(id) => Wire::Broker(*id),
        Resource::AllBrokers => Wire::AllBrokers(AllBrokers {}),
    };
    proto::ConfigResource { resource: Some(resource) }
}
