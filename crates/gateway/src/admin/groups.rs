//! Groups by the public protocol: checked, passed on, paged.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::{Deadline, Error};

use crate::groups::{
    describe as groups, diagnose as diagnosis, group_id, lag as lags, reset as resets,
};
use crate::port::BrokerPort;
use crate::shared::Shared;
use crate::words;
use proto::reset_group_offsets_request::To;

/// Groups in one call.
const GROUPS_MAX: usize = 100;
/// Topics in one reset.
const SCOPES_MAX: usize = 1_000;
/// Partitions named in one reset.
const SCOPE_PARTITIONS_MAX: usize = 10_000;
/// Coordinators asked at the same time.
const CALLS_IN_FLIGHT_MAX: usize = 8;

const PAGE_SIZE_DEFAULT: u32 = 1_000;
const PAGE_SIZE_MAX: u32 = 10_000;

/// Longer than consumers let pass between two commits.
const WATCH_MS_DEFAULT: u32 = 12_000;
const WATCH_MS_MAX: u32 = 60_000;

/// A page is named by the last group before it.
pub(super) async fn list<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ListGroupsRequest,
    deadline: Deadline,
) -> Result<proto::ListGroupsResponse, Error> {
    let page_size = match words::at_most("page_size", request.page_size, PAGE_SIZE_MAX)? {
        0 => PAGE_SIZE_DEFAULT,
        size => size,
    };
    for state in &request.states {
        known::<proto::GroupState>("states", *state)?;
    }
    for r#type in &request.types {
        known::<proto::GroupType>("types", *r#type)?;
    }
    let listed = groups::list(shared, deadline).await?;
    let passes = |filter: &[i32], value: i32| filter.is_empty() || filter.contains(&value);
    let mut rest = listed
        .groups
        .into_iter()
        .filter(|group| {
            passes(&request.states, group.state) && passes(&request.types, group.r#type)
        })
        .skip_while(|group| group.group_id <= request.page_token);
    let groups: Vec<_> = rest.by_ref().take(page_size as usize).collect();
    let next_page_token = match (rest.next(), groups.last()) {
        (Some(_), Some(last)) => last.group_id.clone(),
        _ => String::new(),
    };
    let unreached = listed.unreached.into_iter().map(|(node_id, error)| {
        proto::UnreachedCoordinator { node_id: node_id.0, error: Some(error.to_detail()) }
    });
    Ok(proto::ListGroupsResponse { groups, next_page_token, unreached: unreached.collect() })
}

fn known<T: TryFrom<i32>>(field: &str, value: i32) -> Result<(), Error> {
    match T::try_from(value) {
        Ok(_) if value != 0 => Ok(()),
        _ => Err(Error::invalid_request(format!("{field} has no value {value}"))),
    }
}

pub(super) async fn describe<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::DescribeGroupsRequest,
    deadline: Deadline,
) -> Result<proto::DescribeGroupsResponse, Error> {
    words::some_but_at_most("group_ids", request.group_ids.len(), GROUPS_MAX)?;
    let answers = request.group_ids.into_iter().map(|id| async move {
        let described = match group_id(&id) {
            Ok(group) => groups::describe(shared, group, deadline).await,
            Err(error) => Err(error),
        };
        described.unwrap_or_else(|error| proto::GroupDescription {
            group_id: id,
            error: Some(error.to_detail()),
            ..Default::default()
        })
    });
    let answers: Vec<_> = answers.collect();
    let groups = stream::iter(answers).buffered(CALLS_IN_FLIGHT_MAX).collect().await;
    Ok(proto::DescribeGroupsResponse { groups })
}

pub(super) async fn lag<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::GroupLagRequest,
    deadline: Deadline,
) -> Result<proto::GroupLagResponse, Error> {
    words::some_but_at_most("group_ids", request.group_ids.len(), GROUPS_MAX)?;
    let with_time = !request.records_only;
    let answers = request.group_ids.into_iter().map(|id| async move {
        let lag = match group_id(&id) {
            Ok(group) => lags::lag(shared, group, with_time, deadline).await,
            Err(error) => Err(error),
        };
        lag.unwrap_or_else(|error| proto::GroupLag {
            group_id: id,
            error: Some(error.to_detail()),
            ..Default::default()
        })
    });
    let answers: Vec<_> = answers.collect();
    let groups = stream::iter(answers).buffered(CALLS_IN_FLIGHT_MAX).collect().await;
    Ok(proto::GroupLagResponse { groups })
}

pub(super) async fn diagnose<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::DiagnoseGroupRequest,
    deadline: Deadline,
) -> Result<proto::DiagnoseGroupResponse, Error> {
    let group = group_id(&request.group_id)?;
    let watch_ms = match words::at_most("watch_ms", request.watch_ms, WATCH_MS_MAX)? {
        0 => WATCH_MS_DEFAULT,
        ms => ms,
    };
    diagnosis::diagnose(shared, group, Duration::from_millis(watch_ms.into()), deadline).await
}

pub(super) async fn reset<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ResetGroupOffsetsRequest,
    deadline: Deadline,
) -> Result<proto::ResetGroupOffsetsResponse, Error> {
    let group = group_id(&request.group_id)?;
    words::at_most("the number of scopes", request.scopes.len(), SCOPES_MAX)?;
    let named = request.scopes.iter().map(|scope| scope.partitions.len()).sum::<usize>();
    words::at_most("the number of partitions", named, SCOPE_PARTITIONS_MAX)?;
    let to = checked_target(request.to)?;
    let partitions =
        resets::reset(shared, group, request.scopes, to, request.dry_run, deadline).await?;
    Ok(proto::ResetGroupOffsetsResponse { partitions })
}

fn checked_target(to: Option<To>) -> Result<To, Error> {
    let wrong = match to {
        None => "one of earliest, latest, timestamp_ms, shift and offset must be given".to_owned(),
        Some(To::Earliest(false) | To::Latest(false)) => {
            "earliest and latest can only be true".to_owned()
        }
        Some(To::TimestampMs(ms)) if ms < 0 => {
            format!("timestamp_ms must not be negative: {ms}")
        }
        Some(To::Offset(offset)) if offset < 0 => format!("offset must not be negative: {offset}"),
        Some(to) => return Ok(to),
    };
    Err(Error::invalid_request(wrong))
}

pub(super) async fn delete<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::DeleteGroupsRequest,
    deadline: Deadline,
) -> Result<proto::DeleteGroupsResponse, Error> {
    words::some_but_at_most("group_ids", request.group_ids.len(), GROUPS_MAX)?;
    let mut answers = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        let deleted = match group_id(&id) {
            Ok(group) => groups::delete(shared, group, deadline).await,
            Err(error) => Err(error),
        };
        let error = deleted.err().map(|error| error.to_detail());
        answers.push(proto::DeletedGroup { group_id: id, error });
    }
    Ok(proto::DeleteGroupsResponse { groups: answers })
}
