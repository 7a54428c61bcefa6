//! Sets where a group without members reads on.
//!
//! That it has no members is looked at first, to say who is in it; the coordinator checks it again with the commit itself, so that a member
//! that joins in between makes it fail and nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{ErrorCode, IsolationLevel, Offset, Timestamp};

use super::lag::{Ends, ends};
use super::offsets::{self, Member, Name, Position};
use super::{describe, nobody};
use crate::port::{BrokerPort, OffsetQuery};
use crate::shared::{Shared, unknown_topic};
use crate::words;
use proto::reset_group_offsets_request::To;

const LOOKUPS_IN_FLIGHT_MAX: usize = 16;
/// Partitions in one commit.
const PARTITIONS_PER_COMMIT: usize = 1_000;
/// Members named in a refusal.
const NAMED_MEMBERS_MAX: usize = 3;

type Row = proto::ResetPartition;

pub(crate) async fn reset<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    scopes: Vec<proto::ResetScope>,
    to: To,
    dry_run: bool,
    deadline: Deadline,
) -> Result<Vec<Row>, Error> {
    check_empty(shared, group, deadline).await?;
    let committed = offsets::committed(shared, group, None, false, deadline).await?;
    let names = match scopes.is_empty() {
        true => committed.keys().cloned().collect(),
        false => in_scope(shared, scopes)?,
    };
    let previous = |name: &Name| match committed.get(name) {
        Some(Ok(Some(position))) => Some(position.offset),
        _ => None,
    };
    let near = names.iter().map(|name| (name.clone(), previous(name).unwrap_or(0))).collect();
    let ends = ends(shared, near).await;
    let rows: Vec<_> = names
        .into_iter()
        .map(|name| {
            let (ends, previous) = (ends.get(&name).cloned(), previous(&name));
            async move {
                let target = match ends.unwrap_or_else(|| Err(super::unexpected())) {
                    Ok(ends) => target(shared, &name, to, previous, ends).await,
                    Err(error) => Err(error),
                };
                row(name, previous, target)
            }
        })
        .collect();
    let rows = stream::iter(rows).buffered(LOOKUPS_IN_FLIGHT_MAX).collect::<Vec<Row>>().await;
    match dry_run {
        true => Ok(rows),
        false => commit(shared, group, rows, deadline).await,
    }
}

/// A group that is not there has no members either: its offsets are set for readers to come.
async fn check_empty<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    deadline: Deadline,
) -> Result<(), Error> {
    let members = match describe::describe(shared, group, deadline).await {
        Ok(description) => description.members,
        Err(error) if error.code == ErrorCode::GroupIdNotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if members.is_empty() {
        return Ok(());
    }
    let named = members
        .iter()
        .take(NAMED_MEMBERS_MAX)
        .map(|member| format!("{} at {}", words::shown(&member.client_id), member.client_host));
    let named: Vec<_> = named.collect();
    let more = members.len() - named.len();
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!(
        "group {:?} has {} members ({}{and_more}): stop them first",
        words::shown(group),
        members.len(),
        named.join(", "),
    );
    Err(Error::new(ErrorCode::NonEmptyGroup, message).not_applied())
}

fn in_scope<B: BrokerPort>(
    shared: &Shared<B>,
    scopes: Vec<proto::ResetScope>,
) -> Result<BTreeSet<Name>, Error> {
    let mut names = BTreeSet::new();
    let mut topics = BTreeSet::new();
    for scope in scopes {
        let topic = words::topic_name(&scope.topic)?;
        if !topics.insert(topic.clone()) {
            return Err(Error::invalid_request(format!("topic {topic} is given twice")));
        }
        let count =
            i32::try_from(shared.partition_count(&topic)?).map_err(|_| unknown_topic(&topic))?;
        if scope.partitions.is_empty() {
            names.extend((0..count).map(|partition| (scope.topic.clone(), partition)));
        }
        for partition in scope.partitions {
            if !(0..count).contains(&partition) {
                let message = format!("{topic} has partitions 0 to {}: {partition}", count - 1);
                return Err(Error::new(ErrorCode::UnknownTopicOrPartition, message).not_applied());
            }
            names.insert((scope.topic.clone(), partition));
        }
    }
    Ok(names)
}

/// Where one partition shall be read on: always within its log.
async fn target<B: BrokerPort>(
    shared: &Shared<B>,
    (topic, partition): &Name,
    to: To,
    previous: Option<i64>,
    ends: Ends,
) -> Result<i64, Error> {
    let wanted = match to {
        To::Earliest(_) => ends.start.0,
        To::Latest(_) => ends.end.0,
        To::Offset(offset) => offset,
        To::Shift(records) => match previous {
            Some(previous) => previous.saturating_add(records),
            None => {
                let message = "nothing was committed that could be shifted";
                return Err(Error::invalid_request(message));
            }
        },
        To::TimestampMs(timestamp_ms) => {
            let (topic, partition) = (words::topic_name(topic)?, words::partition(*partition)?);
            let at = OffsetQuery::Timestamp(Timestamp(timestamp_ms));
            let isolation = IsolationLevel::ReadUncommitted;
            let found = shared.broker.list_offset(topic, partition, at, isolation).await?;
            found.map_or(ends.end, |found| found.offset).0
        }
    };
    Ok(Offset(wanted).clamp(ends.start, ends.end).0)
}

fn row((topic, partition): Name, previous: Option<i64>, target: Result<i64, Error>) -> Row {
    let row = Row { topic, partition, previous_offset: previous, ..Default::default() };
    match target {
        Ok(offset) => Row { offset, ..row },
        Err(error) => Row { error: Some(error.to_detail()), ..row },
    }
}

async fn commit<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    mut rows: Vec<Row>,
    deadline: Deadline,
) -> Result<Vec<Row>, Error> {
    for chunk in rows.chunks_mut(PARTITIONS_PER_COMMIT) {
        let positions: BTreeMap<Name, Position> = chunk
            .iter()
            .filter(|row| row.error.is_none())
            .map(|row| ((row.topic.clone(), row.partition), Position::at(row.offset)))
            .collect();
        if positions.is_empty() {
            continue;
        }
        let nobody_of_it = Member::default();
        let results =
            offsets::commit(shared, group, nobody(), nobody_of_it, positions, deadline).await?;
        for row in chunk {
            let name = (row.topic.clone(), row.partition);
            if let Some(Err(error)) = results.get(&name) {
                row.error = Some(in_other_words(error).to_detail());
            }
        }
    }
    Ok(rows)
}

/// To coordinators, whoever commits without being a member of a group that has some is unknown.
fn in_other_words(error: &Error) -> Error {
    match error.code {
        ErrorCode::UnknownMemberId => {
            Error::new(ErrorCode::NonEmptyGroup, "somebody has joined the group: stop it first")
                .not_applied()
        }
        _ => error.clone(),
    }
}
