//! How far a group is behind, in records and in time.
//!
//! ```text
//!  log start        committed                 log end
//!      │────── read ──────│─────── lag ──────────│
//!                         ▲ its timestamp against now is the lag in time
//! ```
//!
//! Records are counted by their offsets: what compaction has removed counts as well. What retention has removed does not.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{
    ErrorCode, IsolationLevel, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicName,
};

use super::offsets::{Kept, Name};
use super::{describe, offsets};
use crate::consumer::first_timestamp;
use crate::port::{BrokerPort, FetchCall, FetchPartition, Fetched, OffsetQuery};
use crate::shared::Shared;
use crate::words;

/// Partitions whose positions are asked for in one call.
const POSITIONS_PER_CALL: usize = 1_000;
/// Partitions looked at one by one at the same time.
const LOOKS_IN_FLIGHT_MAX: usize = 16;

/// Where a partition's log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
}

/// The lag of one group.
pub(crate) async fn lag<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    with_time: bool,
    deadline: Deadline,
) -> Result<proto::GroupLag, Error> {
    let description = describe::describe(shared, group, deadline).await?;
    let committed = offsets::committed(shared, group, None, false, deadline).await?;
    let readers = readers(&description);
    let mut rows = rows(committed, &readers);
    let near = |(name, row): (&Name, &proto::PartitionLag)| {
        (name.clone(), row.committed_offset.unwrap_or(0))
    };
    let ends = ends(shared, rows.iter().map(near).collect()).await;
    for (name, row) in &mut rows {
        if let Some(ends) = ends.get(name) {
            with_ends(row, ends);
        }
    }
    if with_time {
        add_times(shared, &mut rows).await;
    }
    Ok(summed_up(description, rows.into_values().collect()))
}

/// Who reads what.
fn readers(description: &proto::GroupDescription) -> BTreeMap<Name, String> {
    let mut readers = BTreeMap::new();
    for member in &description.members {
        for list in &member.assignment {
            for partition in &list.partitions {
                readers.insert((list.topic.clone(), *partition), member.member_id.clone());
            }
        }
    }
    readers
}

fn rows(
    committed: BTreeMap<Name, Kept>,
    readers: &BTreeMap<Name, String>,
) -> BTreeMap<Name, proto::PartitionLag> {
    let mut rows: BTreeMap<Name, proto::PartitionLag> = BTreeMap::new();
    let row = |name: &Name| proto::PartitionLag {
        topic: name.0.clone(),
        partition: name.1,
        member_id: readers.get(name).cloned().unwrap_or_default(),
        ..Default::default()
    };
    for name in readers.keys() {
        rows.insert(name.clone(), row(name));
    }
    for (name, kept) in committed {
        let row = rows.entry(name.clone()).or_insert_with(|| row(&name));
        match kept {
            Ok(position) => row.committed_offset = position.map(|position| position.offset),
            Err(error) => row.error = Some(error.to_detail()),
        }
    }
    rows
}

fn with_ends(row: &mut proto::PartitionLag, ends: &Result<Ends, Error>) {
    match ends {
        Err(error) => row.error = Some(error.to_detail()),
        Ok(ends) => {
            row.log_start_offset = Some(ends.start.0);
            row.log_end_offset = Some(ends.end.0);
            row.lag_records = row.committed_offset.map(|committed| unread(committed, *ends));
        }
    }
}

/// What is there and not committed.
fn unread(committed: i64, ends: Ends) -> i64 {
    ends.end.0.saturating_sub(committed.max(ends.start.0)).max(0)
}

// ------------------------------------------------------------------- Positions

/// Where logs begin and end. They are looked up by a read near an offset that is probably there.
pub(crate) async fn ends<B: BrokerPort>(
    shared: &Shared<B>,
    names: Vec<(Name, i64)>,
) -> BTreeMap<Name, Result<Ends, Error>> {
    let mut found = BTreeMap::new();
    let mut wanted = Vec::new();
    for (name, near) in names {
        match checked(&name) {
            Ok((topic, partition)) => wanted.push((name, at(&topic, partition, near))),
            Err(error) => {
                found.insert(name, Err(error));
            }
        }
    }
    for chunk in wanted.chunks(POSITIONS_PER_CALL) {
        let positions = chunk.iter().map(|(_, position)| position.clone());
        match shared.broker.fetch(look(positions.collect(), 0)).await {
            Ok(answers) => {
                for ((name, _), answer) in chunk.iter().zip(answers) {
                    found.insert(name.clone(), answer.result.map(|fetched| ends_of(&fetched)));
                }
            }
            Err(error) => {
                let failed = chunk.iter().map(|(name, _)| (name.clone(), Err(error.clone())));
                found.extend(failed);
            }
        }
    }
    let gone = wanted.into_iter().filter(|(name, _)| is_out_of_range(&found, name));
    let looks: Vec<_> =
        gone.map(|(name, near)| async move {
            (name, listed_ends(shared, near.topic, near.partition).await)
        })
        .collect();
    found.extend(stream::iter(looks).buffered(LOOKS_IN_FLIGHT_MAX).collect::<Vec<_>>().await);
    found
}

fn is_out_of_range(found: &BTreeMap<Name, Result<Ends, Error>>, name: &Name) -> bool {
    matches!(found.get(name), Some(Err(error)) if error.code == ErrorCode::OffsetOutOfRange)
}

async fn listed_ends<B: BrokerPort>(
    shared: &Shared<B>,
    topic: TopicName,
    partition: PartitionIndex,
) -> Result<Ends, Error> {
    let ask = |at| {
        shared.broker.list_offset(topic.clone(), partition, at, IsolationLevel::ReadUncommitted)
    };
    let (start, end) = (ask(OffsetQuery::Earliest).await?, ask(OffsetQuery::Latest).await?);
    match (start, end) {
        (Some(start), Some(end)) => Ok(Ends { start: start.offset, end: end.offset }),
        _ => Err(Error::new(ErrorCode::OffsetNotAvailable, "the log has no known ends")),
    }
}

fn ends_of(fetched: &Fetched) -> Ends {
    Ends { start: fetched.log_start_offset, end: fetched.high_watermark }
}

fn checked((topic, partition): &Name) -> Result<(TopicName, PartitionIndex), Error> {
    Ok((words::topic_name(topic)?, words::partition(*partition)?))
}

fn at(topic: &TopicName, partition: PartitionIndex, offset: i64) -> FetchPartition {
    FetchPartition {
        topic: topic.clone(),
        partition,
        offset: Offset(offset),
        max_bytes: 1,
        current_leader_epoch: LeaderEpoch::NONE,
    }
}

/// A fetch that does not wait.
fn look(partitions: Vec<FetchPartition>, max_bytes: usize) -> FetchCall {
    FetchCall {
        partitions,
        min_bytes: 0,
        max_bytes,
        max_wait: Duration::ZERO,
        isolation: IsolationLevel::ReadUncommitted,
        rack: String::new(),
    }
}

// ------------------------------------------------------------------- Times

async fn add_times<B: BrokerPort>(
    shared: &Shared<B>,
    rows: &mut BTreeMap<Name, proto::PartitionLag>,
) {
    let now = shared.clock.now();
    let mut looks = Vec::new();
    for (name, row) in rows.iter_mut() {
        match (row.lag_records, row.committed_offset, row.log_start_offset) {
            (Some(0), ..) => row.lag_ms = Some(0),
            (Some(_), Some(committed), Some(start)) => {
                looks.push((name.clone(), committed.max(start)));
            }
            _ => {}
        }
    }
    let looks: Vec<_> = looks
        .into_iter()
        .map(|(name, offset)| async move {
            let written = first_unread(shared, &name, offset).await;
            (name, written)
        })
        .collect();
    let written = stream::iter(looks).buffered(LOOKS_IN_FLIGHT_MAX).collect::<Vec<_>>().await;
    for (name, written) in written {
        let Some(row) = rows.get_mut(&name) else { continue };
        match written {
            Ok(Some(written)) => row.lag_ms = Some(now.0.saturating_sub(written.0).max(0)),
            Ok(None) => {}
            Err(error) => row.error = Some(error.to_detail()),
        }
    }
}

/// When the first record at or behind an offset was written, if there is one with a time in the batch found there.
async fn first_unread<B: BrokerPort>(
    shared: &Shared<B>,
    name: &Name,
    offset: i64,
) -> Result<Option<Timestamp>, Error> {
    let (topic, partition) = checked(name)?;
    let call = look(vec![at(&topic, partition, offset)], 1);
    let Some(answer) = shared.broker.fetch(call).await?.pop() else { return Ok(None) };
    let fetched = answer.result?;
    first_timestamp(fetched.batches, Offset(offset)).await
}

// ------------------------------------------------------------------- Sums

fn summed_up(
    description: proto::GroupDescription,
    partitions: Vec<proto::PartitionLag>,
) -> proto::GroupLag {
    let members = description.members.iter().map(|member| {
        let mine = || partitions.iter().filter(|row| row.member_id == member.member_id);
        proto::MemberLag {
            member_id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            partition_count: u32::try_from(mine().count()).unwrap_or(u32::MAX),
            lag_records: mine().filter_map(|row| row.lag_records).sum(),
            lag_ms: mine().filter_map(|row| row.lag_ms).max(),
        }
    });
    proto::GroupLag {
        group_id: description.group_id.clone(),
        error: None,
        state: description.state,
        members: members.collect(),
        lag_records: partitions.iter().filter_map(|row| row.lag_records).sum(),
        lag_ms: partitions.iter().filter_map(|row| row.lag_ms).max(),
        partitions,
    }
}
