//! `thalweg group lag`.

use serde_json::json;
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;

use super::words;
use crate::cli::OutputFormat;
use crate::client::{Failure, Server, output};

pub(super) async fn run(
    server: &Server,
    ids: Vec<String>,
    by_member: bool,
    format: OutputFormat,
) -> Result<(), Failure> {
    let request = proto::GroupLagRequest { group_ids: ids, records_only: false };
    let response =
        server.admin().group_lag(request).await.map_err(|status| server.failed(status))?;
    let asked = response.into_inner().groups;
    let count = asked.len();
    let known = super::answered(asked, |group| (group.group_id.clone(), group.error.take()));
    let facts: Vec<_> = known.iter().map(facts).collect();
    let (heading, rows): (&[&str], Vec<_>) = match by_member {
        true => (
            &["group", "member", "client", "host", "partitions", "lag", "behind"],
            known.iter().flat_map(member_rows).collect(),
        ),
        false => (
            &["group", "topic", "partition", "committed", "end", "lag", "behind", "member"],
            known.iter().flat_map(partition_rows).collect(),
        ),
    };
    if !known.is_empty() {
        output::write(format, &facts, heading, rows)?;
    }
    let mut failed = 0;
    for partition in known.iter().flat_map(|group| &group.partitions) {
        if let Some(error) = partition.error.clone() {
            failed += 1;
            let error = Error::from_detail(error);
            eprintln!("thalweg: {}-{}: {error}", partition.topic, partition.partition);
        }
    }
    super::all_answered(known.len(), count)?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Partly {
            failed,
            asked: known.iter().map(|group| group.partitions.len()).sum(),
        }),
    }
}

pub(super) fn facts(lag: &proto::GroupLag) -> serde_json::Value {
    let partitions: Vec<_> = lag
        .partitions
        .iter()
        .map(|row| {
            json!({
                "topic": row.topic,
                "partition": row.partition,
                "committed_offset": row.committed_offset,
                "log_start_offset": row.log_start_offset,
                "log_end_offset": row.log_end_offset,
                "lag_records": row.lag_records,
                "lag_ms": row.lag_ms,
                "member": words::absent_if_empty(&row.member_id),
                "error": row.error.clone().map(|error| Error::from_detail(error).to_string()),
            })
        })
        .collect();
    let members: Vec<_> = lag
        .members
        .iter()
        .map(|member| {
            json!({
                "member": member.member_id,
                "instance": words::absent_if_empty(&member.instance_id),
                "client": member.client_id,
                "host": member.client_host,
                "partitions": member.partition_count,
                "lag_records": member.lag_records,
                "lag_ms": member.lag_ms,
            })
        })
        .collect();
    json!({
        "group": lag.group_id,
        "state": words::state(lag.state()),
        "lag_records": lag.lag_records,
        "lag_ms": lag.lag_ms,
        "partitions": partitions,
        "members": members,
    })
}

fn partition_rows(lag: &proto::GroupLag) -> Vec<Vec<String>> {
    let row = |row: &proto::PartitionLag| {
        vec![
            words::shown(&lag.group_id),
            row.topic.clone(),
            row.partition.to_string(),
            words::number(row.committed_offset),
            words::number(row.log_end_offset),
            words::number(row.lag_records),
            words::age(row.lag_ms),
            words::or_dash(&row.member_id),
        ]
    };
    lag.partitions.iter().map(row).collect()
}

fn member_rows(lag: &proto::GroupLag) -> Vec<Vec<String>> {
    let row = |member: &proto::MemberLag| {
        vec![
            words::shown(&lag.group_id),
            words::shown(&member.member_id),
            words::or_dash(&member.client_id),
            words::or_dash(&member.client_host),
            member.partition_count.to_string(),
            member.lag_records.to_string(),
            words::age(member.lag_ms),
        ]
    };
    lag.members.iter().map(row).collect()
}
