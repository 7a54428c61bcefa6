//! `thalweg group`: list, describe, lag, reset, delete, diagnose.

mod lag;
mod reset;
mod words;

use serde_json::json;
use thalweg_proto::admin::v1 as proto;
use thalweg_proto::common::v1::ErrorDetail;
use thalweg_rpc::Error;

use crate::cli::OutputFormat;
use crate::cli::group::{Group, State, Type};
use crate::cli::values::Bootstrap;
use crate::client::{Failure, Server, output};

/// Groups asked for at a time when listing.
const PAGE: u32 = 1_000;

/// Longest watch the server accepts.
const WATCH_MS_MAX: u32 = 60_000;

pub(crate) async fn run(bootstrap: &Bootstrap, command: Group) -> Result<(), Failure> {
    let server = Server::at(bootstrap)?;
    match command {
        Group::List { states, types, output } => {
            list(&server, &states, &types, output.format).await
        }
        Group::Describe { groups, output } => describe(&server, groups.ids, output.format).await,
        Group::Lag { groups, members, output } => {
            lag::run(&server, groups.ids, members, output.format).await
        }
        Group::Reset(arguments) => reset::run(&server, arguments).await,
        Group::Delete { groups, output } => delete(&server, groups.ids, output.format).await,
        Group::Diagnose { group, watch, output } => {
            let watch_ms = u32::try_from(watch.0.as_millis()).unwrap_or(u32::MAX);
            if watch_ms == 0 || watch_ms > WATCH_MS_MAX {
                return Err(Failure::Usage("--watch must be from 1ms to 60s".to_owned()));
            }
            diagnose(&server, group, watch_ms, output.format).await
        }
    }
}

// ------------------------------------------------------------------- List

async fn list(
    server: &Server,
    states: &[State],
    types: &[Type],
    format: OutputFormat,
) -> Result<(), Failure> {
    let mut request = proto::ListGroupsRequest {
        states: states.iter().map(|state| words::state_of(*state).into()).collect(),
        types: types.iter().map(|r#type| words::type_of(*r#type).into()).collect(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut groups = Vec::new();
    let mut unreached = Vec::new();
    loop {
        let response = server
            .admin()
            .list_groups(request.clone())
            .await
            .map_err(|status| server.failed(status))?;
        let page = response.into_inner();
        groups.extend(page.groups);
        unreached = if page.unreached.is_empty() { unreached } else { page.unreached };
        if page.next_page_token.is_empty() {
            break;
        }
        if page.next_page_token == request.page_token {
            return Err(Failure::Protocol("the same page of groups twice".to_owned()));
        }
        request.page_token = page.next_page_token;
    }
    let facts: Vec<_> = groups
        .iter()
        .map(|group| {
            json!({
                "group": group.group_id,
                "type": words::group_type(group.r#type()),
                "state": words::state(group.state()),
                "protocol_type": group.protocol_type,
            })
        })
        .collect();
    let rows = groups.iter().map(|group| {
        vec![
            words::shown(&group.group_id),
            words::group_type(group.r#type()).to_owned(),
            words::state(group.state()).to_owned(),
        ]
    });
    output::write(format, &facts, &["group", "type", "state"], rows.collect())?;
    for missing in &unreached {
        let error = missing.error.clone().map(Error::from_detail);
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        eprintln!("thalweg: the groups of coordinator {} are missing: {error}", missing.node_id);
    }
    match unreached.len() {
        0 => Ok(()),
        count => Err(Failure::Protocol(format!("{count} coordinators did not answer"))),
    }
}

// ------------------------------------------------------------------- Describe

async fn describe(server: &Server, ids: Vec<String>, format: OutputFormat) -> Result<(), Failure> {
    let request = proto::DescribeGroupsRequest { group_ids: ids };
    let response =
        server.admin().describe_groups(request).await.map_err(|status| server.failed(status))?;
    let asked = response.into_inner().groups;
    let count = asked.len();
    let known = answered(asked, |group| (group.group_id.clone(), group.error.take()));
    let facts: Vec<_> = known.iter().map(description_facts).collect();
    let rows = known.iter().flat_map(description_rows).collect();
    let heading =
        ["group", "type", "state", "assignor", "member", "client", "host", "epoch", "partitions"];
    if !known.is_empty() {
        output::write(format, &facts, &heading, rows)?;
    }
    all_answered(known.len(), count)
}

fn description_facts(group: &proto::GroupDescription) -> serde_json::Value {
    let lists = |lists: &[proto::TopicPartitionList]| -> Vec<serde_json::Value> {
        let list = |list: &proto::TopicPartitionList| json!({ "topic": list.topic, "partitions": list.partitions });
        lists.iter().map(list).collect()
    };
    let members: Vec<_> = group
        .members
        .iter()
        .map(|member| {
            json!({
                "member": member.member_id,
                "instance": words::absent_if_empty(&member.instance_id),
                "client": member.client_id,
                "host": member.client_host,
                "epoch": member.member_epoch,
                "subscribed_topics": member.subscribed_topics,
                "subscribed_pattern": words::absent_if_empty(&member.subscribed_pattern),
                "assignment": lists(&member.assignment),
                "target_assignment": lists(&member.target_assignment),
            })
        })
        .collect();
    json!({
        "group": group.group_id,
        "type": words::group_type(group.r#type()),
        "state": words::state(group.state()),
        "assignor": group.assignor,
        "group_epoch": group.group_epoch,
        "assignment_epoch": group.assignment_epoch,
        "members": members,
    })
}

/// One row for each member; a group without members has one as well.
fn description_rows(group: &proto::GroupDescription) -> Vec<Vec<String>> {
    let about_group = || {
        vec![
            words::shown(&group.group_id),
            words::group_type(group.r#type()).to_owned(),
            words::state(group.state()).to_owned(),
            words::or_dash(&group.assignor),
        ]
    };
    if group.members.is_empty() {
        let nothing = std::iter::repeat_n("-".to_owned(), 5);
        return vec![about_group().into_iter().chain(nothing).collect()];
    }
    let row = |member: &proto::GroupMember| {
        let about_member = vec![
            words::shown(&member.member_id),
            words::or_dash(&member.client_id),
            words::or_dash(&member.client_host),
            words::number(member.member_epoch.map(i64::from)),
            words::partitions(&member.assignment),
        ];
        about_group().into_iter().chain(about_member).collect()
    };
    group.members.iter().map(row).collect()
}

// ------------------------------------------------------------------- Delete

async fn delete(server: &Server, ids: Vec<String>, format: OutputFormat) -> Result<(), Failure> {
    let request = proto::DeleteGroupsRequest { group_ids: ids };
    let response =
        server.admin().delete_groups(request).await.map_err(|status| server.failed(status))?;
    let answers: Vec<(String, Option<String>)> = response
        .into_inner()
        .groups
        .into_iter()
        .map(|group| (group.group_id, group.error.map(|it| Error::from_detail(it).to_string())))
        .collect();
    let result = |error: &Option<String>| error.clone().unwrap_or_else(|| "deleted".to_owned());
    let facts: Vec<_> = answers
        .iter()
        .map(|(id, error)| json!({ "group": id, "ok": error.is_none(), "result": result(error) }))
        .collect();
    let rows = answers.iter().map(|(id, error)| vec![words::shown(id), result(error)]).collect();
    output::write(format, &facts, &["group", "result"], rows)?;
    let failed = answers.iter().filter(|(_, error)| error.is_some()).count();
    all_answered(answers.len() - failed, answers.len())
}

// ------------------------------------------------------------------- Diagnose

async fn diagnose(
    server: &Server,
    group: String,
    watch_ms: u32,
    format: OutputFormat,
) -> Result<(), Failure> {
    let request = proto::DiagnoseGroupRequest { group_id: group.clone(), watch_ms };
    let response =
        server.admin().diagnose_group(request).await.map_err(|status| server.failed(status))?;
    let answer = response.into_inner();
    let found: Vec<_> = answer
        .diagnoses
        .iter()
        .map(|one| {
            json!({
                "kind": words::diagnosis(one.kind()),
                "finding": one.finding,
                "advice": one.advice,
                "member": words::absent_if_empty(&one.member_id),
                "topic": words::absent_if_empty(&one.topic),
                "partition": (!one.topic.is_empty()).then_some(one.partition),
            })
        })
        .collect();
    match format {
        OutputFormat::Json => output::write_json(&json!({
            "group": group,
            "diagnoses": found,
            "watched_ms": answer.watched_ms,
            "lag_records_change": answer.lag_records_change,
            "committed_records": answer.committed_records,
            "lag": answer.lag.as_ref().map(lag::facts),
        }))?,
        OutputFormat::Table => {
            for one in &answer.diagnoses {
                println!("{}", words::diagnosis(one.kind()));
                println!("  {}", words::shown(&one.finding));
                println!("  {}", words::shown(&one.advice));
            }
        }
    }
    let found_something = |one: &proto::Diagnosis| {
        !matches!(one.kind(), proto::DiagnosisKind::KeepsUp | proto::DiagnosisKind::IdleMember)
    };
    match answer.diagnoses.iter().find(|one| found_something(one)) {
        Some(first) => Err(Failure::Found(format!(
            "group {}: {}",
            words::shown(&group),
            words::diagnosis(first.kind())
        ))),
        None => Ok(()),
    }
}

// ------------------------------------------------------------------- Several at once

/// Those without an error; the errors are told one by one.
fn answered<T>(
    answers: Vec<T>,
    mut part: impl FnMut(&mut T) -> (String, Option<ErrorDetail>),
) -> Vec<T> {
    let mut known = Vec::new();
    for mut answer in answers {
        match part(&mut answer) {
            (id, Some(error)) => {
                eprintln!("thalweg: group {}: {}", words::shown(&id), Error::from_detail(error));
            }
            (_, None) => known.push(answer),
        }
    }
    known
}

fn all_answered(known: usize, asked: usize) -> Result<(), Failure> {
    match asked - known {
        0 => Ok(()),
        failed => Err(Failure::Partly { failed, asked }),
    }
}
