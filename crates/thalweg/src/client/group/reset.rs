//! `thalweg group reset`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;

use super::words;
use crate::cli::group::Reset;
use crate::cli::values::StartAt;
use crate::client::{Failure, Server, output};
use proto::reset_group_offsets_request::To;

pub(super) async fn run(server: &Server, arguments: Reset) -> Result<(), Failure> {
    let Reset { group, to, shift, topics, partitions, dry_run, output } = arguments;
    let to = match (to, shift) {
        (Some(to), None) => target(to),
        (None, Some(records)) => To::Shift(records),
        _ => return Err(Failure::Usage("give one of --to and --shift".to_owned())),
    };
    let mut scopes: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for one in partitions {
        scopes.entry(one.topic.to_string()).or_default().insert(one.index);
    }
    for topic in topics {
        // The whole topic, whatever else is said of it.
        scopes.insert(topic.to_string(), BTreeSet::new());
    }
    let scope = |(topic, partitions): (String, BTreeSet<i32>)| proto::ResetScope {
        topic,
        partitions: partitions.into_iter().collect(),
    };
    let request = proto::ResetGroupOffsetsRequest {
        group_id: group.clone(),
        scopes: scopes.into_iter().map(scope).collect(),
        dry_run,
        to: Some(to),
    };
    let response = server
        .admin()
        .reset_group_offsets(request)
        .await
        .map_err(|status| server.failed(status))?;
    let rows = response.into_inner().partitions;
    if rows.is_empty() {
        let group = words::shown(&group);
        let message = format!("group {group} has committed nothing: name topics with --topic");
        return Err(Failure::Usage(message));
    }
    let result = |row: &proto::ResetPartition| match &row.error {
        Some(error) => Error::from_detail(error.clone()).to_string(),
        None if dry_run => "would be set".to_owned(),
        None => "set".to_owned(),
    };
    let facts: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "topic": row.topic,
                "partition": row.partition,
                "ok": row.error.is_none(),
                "previous_offset": row.previous_offset,
                "offset": row.error.is_none().then_some(row.offset),
                "dry_run": dry_run,
                "result": result(row),
            })
        })
        .collect();
    let table = rows.iter().map(|row| {
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            words::number(row.previous_offset),
            words::number(row.error.is_none().then_some(row.offset)),
            result(row),
        ]
    });
    let heading = ["topic", "partition", "previous", "offset", "result"];
    output::write(output.format, &facts, &heading, table.collect())?;
    let failed = rows.iter().filter(|row| row.error.is_some()).count();
    super::all_answered(rows.len() - failed, rows.len())
}

fn target(to: StartAt) -> To {
    match to {
        StartAt::Earliest => To::Earliest(true),
        StartAt::Latest => To::Latest(true),
        StartAt::Offset(offset) => To::Offset(offset.0),
        StartAt::Timestamp(timestamp) => To::TimestampMs(timestamp.0),
    }
}
