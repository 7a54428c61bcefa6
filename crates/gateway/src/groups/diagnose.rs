//! Watches a group for a while and says why it is behind.

mod rules;
#[cfg(test)]
mod tests;

use std::time::Duration;

use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use tokio::time::{Instant, sleep_until};

use super::{describe, lag};
use crate::port::BrokerPort;
use crate::shared::Shared;

/// Pause between two looks at the members.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What was seen of a group.
#[derive(Debug, Clone, Default)]
struct Watched {
    /// As it was at the beginning and at the end.
    first: proto::GroupLag,
    last: proto::GroupLag,
    /// Times it was looked at in between, and how often it was found handing partitions round.
    looks: u32,
    unsettled_looks: u32,
    /// How often members, assignments or the group's epoch had changed since the look before.
    changes: u32,
    time: Duration,
}

pub(crate) async fn diagnose<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    time: Duration,
    deadline: Deadline,
) -> Result<proto::DiagnoseGroupResponse, Error> {
    let start = Instant::now();
    let first = lag::lag(shared, group, true, deadline).await?;
    let mut watched = Watched { first, ..Watched::default() };
    let mut before: Option<proto::GroupDescription> = None;
    let end = start + time;
    while Instant::now() < end {
        let seen = describe::describe(shared, group, deadline).await?;
        watched.looks += 1;
        watched.unsettled_looks += u32::from(is_unsettled(&seen));
        watched.changes +=
            u32::from(before.as_ref().is_some_and(|before| has_changed(before, &seen)));
        before = Some(seen);
        sleep_until(end.min(Instant::now() + LOOK_PAUSE)).await;
    }
    watched.last = lag::lag(shared, group, true, deadline).await?;
    watched.time = start.elapsed();
    let diagnoses = rules::judge(&watched);
    Ok(proto::DiagnoseGroupResponse {
        diagnoses,
        lag_records_change: watched.last.lag_records - watched.first.lag_records,
        committed_records: rules::committed(&watched),
        watched_ms: u32::try_from(watched.time.as_millis()).unwrap_or(u32::MAX),
        lag: Some(watched.last),
    })
}

fn is_unsettled(group: &proto::GroupDescription) -> bool {
    matches!(
        group.state(),
        proto::GroupState::PreparingRebalance
            | proto::GroupState::CompletingRebalance
            | proto::GroupState::Assigning
            | proto::GroupState::Reconciling
    )
}

fn has_changed(before: &proto::GroupDescription, now: &proto::GroupDescription) -> bool {
    let shares = |group: &proto::GroupDescription| {
        let mut shares: Vec<_> = group
            .members
            .iter()
            .map(|member| (member.member_id.clone(), member.assignment.clone()))
            .collect();
        shares.sort_by(|one, other| one.0.cmp(&other.0));
        shares
    };
    before.group_epoch != now.group_epoch || shares(before) != shares(now)
}
