//! `thalweg topic`: create, delete, list, describe, add partitions.

use serde::Serialize;
use serde_json::json;
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, TopicName};

use crate::cli::values::{Bootstrap, Config};
use crate::cli::{OutputFormat, Topic};
use crate::client::{Failure, Server, output};

/// Topics asked for at a time when listing.
const PAGE: u32 = 1000;

pub(crate) async fn run(bootstrap: &Bootstrap, command: Topic) -> Result<(), Failure> {
    let server = Server::at(bootstrap)?;
    match command {
        Topic::Create { name, partitions, replication_factor, configs, if_not_exists, output } => {
            let topic = new_topic(&name, partitions, replication_factor, configs);
            create(&server, topic, if_not_exists, output.format).await
        }
        Topic::Delete { names, output } => delete(&server, &names, output.format).await,
        Topic::List { internal, output } => list(&server, internal, output.format).await,
        Topic::Describe { names, output } => describe(&server, &names, output.format).await,
        Topic::AddPartitions { name, partitions, output } => {
            add_partitions(&server, &name, partitions, output.format).await
        }
    }
}

/// A topic with the cluster's defaults where nothing is said.
pub(crate) fn new_topic(
    name: &TopicName,
    partitions: Option<u32>,
    replication_factor: Option<u32>,
    configs: Vec<Config>,
) -> proto::NewTopic {
    proto::NewTopic {
        name: name.to_string(),
        partition_count: partitions.unwrap_or_default(),
        replication_factor: replication_factor.unwrap_or_default(),
        assignments: Vec::new(),
        configs: configs.into_iter().map(|config| (config.name, config.value)).collect(),
    }
}

/// Makes one topic; `None` when it was there already and that is allowed.
pub(crate) async fn create_one(
    server: &Server,
    topic: proto::NewTopic,
    if_not_exists: bool,
) -> Result<Option<proto::CreatedTopic>, Failure> {
    let name = topic.name.clone();
    let request = proto::CreateTopicsRequest { topics: vec![topic], validate_only: false };
    let response =
        server.admin().create_topics(request).await.map_err(|status| server.failed(status))?;
    let mut created = response
        .into_inner()
        .topics
        .into_iter()
        .next()
        .ok_or_else(|| Failure::Protocol(format!("no answer about topic {name}")))?;
    let Some(error) = created.error.take() else { return Ok(Some(created)) };
    let failure = Failure::refused(format!("topic {name}"), error);
    if if_not_exists && failure.is(ErrorCode::TopicAlreadyExists) {
        return Ok(None);
    }
    Err(failure)
}

async fn create(
    server: &Server,
    topic: proto::NewTopic,
    if_not_exists: bool,
    format: OutputFormat,
) -> Result<(), Failure> {
    let name = topic.name.clone();
    let Some(created) = create_one(server, topic, if_not_exists).await? else {
        let facts = json!({ "name": name, "created": false });
        let row = vec![name, "exists already".to_owned()];
        return Ok(output::write(format, &facts, &["name", "result"], vec![row])?);
    };
    let facts = json!({
        "name": created.name,
        "created": true,
        "topic_id": created.topic_id,
        "partitions": created.partition_count,
        "replication_factor": created.replication_factor,
    });
    let row = vec![
        created.name,
        created.topic_id,
        created.partition_count.to_string(),
        created.replication_factor.to_string(),
    ];
    let heading = ["name", "topic id", "partitions", "replication factor"];
    Ok(output::write(format, &facts, &heading, vec![row])?)
}

async fn delete(server: &Server, names: &[TopicName], format: OutputFormat) -> Result<(), Failure> {
    let request = proto::DeleteTopicsRequest {
        names: names.iter().map(ToString::to_string).collect(),
        topic_ids: Vec::new(),
    };
    let response =
        server.admin().delete_topics(request).await.map_err(|status| server.failed(status))?;
    let answers: Vec<Answer> = response
        .into_inner()
        .topics
        .into_iter()
        .map(|topic| Answer::new(topic.name, "deleted", topic.error))
        .collect();
    write_answers(format, &answers)
}

async fn add_partitions(
    server: &Server,
    name: &TopicName,
    partitions: u32,
    format: OutputFormat,
) -> Result<(), Failure> {
    let topic = proto::NewPartitions {
        topic: name.to_string(),
        partition_count: partitions,
        assignments: Vec::new(),
    };
    let request = proto::CreatePartitionsRequest { topics: vec![topic], validate_only: false };
    let response =
        server.admin().create_partitions(request).await.map_err(|status| server.failed(status))?;
    let result = format!("{partitions} partitions");
    let answers: Vec<Answer> = response
        .into_inner()
        .topics
        .into_iter()
        .map(|topic| Answer::new(topic.topic, &result, topic.error))
        .collect();
    write_answers(format, &answers)
}

async fn list(server: &Server, internal: bool, format: OutputFormat) -> Result<(), Failure> {
    let mut topics = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListTopicsRequest {
            include_internal: internal,
            page_size: PAGE,
            page_token: page_token.clone(),
        };
        let response =
            server.admin().list_topics(request).await.map_err(|status| server.failed(status))?;
        let page = response.into_inner();
        topics.extend(page.topics);
        if page.next_page_token.is_empty() {
            break;
        }
        if page.next_page_token == page_token {
            return Err(Failure::Protocol("the same page of topics twice".to_owned()));
        }
        page_token = page.next_page_token;
    }
    let facts: Vec<_> = topics
        .iter()
        .map(|topic| {
            json!({
                "name": topic.name,
                "topic_id": topic.topic_id,
                "partitions": topic.partition_count,
                "replication_factor": topic.replication_factor,
                "internal": topic.internal,
            })
        })
        .collect();
    let rows = topics
        .into_iter()
        .map(|topic| {
            vec![
                topic.name,
                topic.partition_count.to_string(),
                topic.replication_factor.to_string(),
                topic.topic_id,
            ]
        })
        .collect();
    let heading = ["name", "partitions", "replication factor", "topic id"];
    Ok(output::write(format, &facts, &heading, rows)?)
}

async fn describe(
    server: &Server,
    names: &[TopicName],
    format: OutputFormat,
) -> Result<(), Failure> {
    let request = proto::DescribeTopicsRequest {
        names: names.iter().map(ToString::to_string).collect(),
        topic_ids: Vec::new(),
    };
    let response =
        server.admin().describe_topics(request).await.map_err(|status| server.failed(status))?;
    let topics = response.into_inner().topics;
    let asked = topics.len();
    let mut known = Vec::new();
    for mut topic in topics {
        match topic.error.take() {
            Some(error) => {
                eprintln!("thalweg: topic {}: {}", topic.name, Error::from_detail(error));
            }
            None => known.push(topic),
        }
    }
    let facts: Vec<_> = known.iter().map(description_facts).collect();
    let rows = known.iter().flat_map(description_rows).collect();
    let heading =
        ["topic", "partition", "leader", "leader epoch", "replicas", "in sync", "configs"];
    if !known.is_empty() {
        output::write(format, &facts, &heading, rows)?;
    }
    match asked - known.len() {
        0 => Ok(()),
        failed => Err(Failure::Partly { failed, asked }),
    }
}

fn description_facts(topic: &proto::TopicDescription) -> serde_json::Value {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition,
                "leader": partition.leader,
                "leader_epoch": partition.leader_epoch,
                "partition_epoch": partition.partition_epoch,
                "replicas": partition.replicas,
                "in_sync_replicas": partition.in_sync_replicas,
                "eligible_leader_replicas": partition.eligible_leader_replicas,
            })
        })
        .collect();
    let configs: serde_json::Map<_, _> =
        topic.configs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "name": topic.name,
        "topic_id": topic.topic_id,
        "internal": topic.internal,
        "partitions": partitions,
        "configs": configs,
    })
}

/// One row for each partition; the configs stand in the first one.
fn description_rows(topic: &proto::TopicDescription) -> Vec<Vec<String>> {
    let ids = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut configs: Vec<_> =
        topic.configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    configs.sort_unstable();
    topic
        .partitions
        .iter()
        .enumerate()
        .map(|(row, partition)| {
            vec![
                topic.name.clone(),
                partition.partition.to_string(),
                if partition.leader < 0 { "none".to_owned() } else { partition.leader.to_string() },
                partition.leader_epoch.to_string(),
                ids(&partition.replicas),
                ids(&partition.in_sync_replicas),
                if row == 0 { configs.join(" ") } else { String::new() },
            ]
        })
        .collect()
}

/// What became of one topic of a call about several.
#[derive(Debug, Serialize)]
struct Answer {
    name: String,
    ok: bool,
    result: String,
}

impl Answer {
    fn new(
        name: String,
        done: &str,
        error: Option<thalweg_proto::common::v1::ErrorDetail>,
    ) -> Self {
        match error {
            None => Self { name, ok: true, result: done.to_owned() },
            Some(error) => Self { name, ok: false, result: Error::from_detail(error).to_string() },
        }
    }
}

/// Writes every answer; a failure if any of them is one.
fn write_answers(format: OutputFormat, answers: &[Answer]) -> Result<(), Failure> {
    let rows = answers.iter().map(|answer| vec![answer.name.clone(), answer.result.clone()]);
    output::write(format, &answers, &["name", "result"], rows.collect())?;
    match answers.iter().filter(|answer| !answer.ok).count() {
        0 => Ok(()),
        failed => Err(Failure::Partly { failed, asked: answers.len() }),
    }
}
