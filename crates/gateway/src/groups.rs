//! Calls about groups: asked of their coordinators in the Kafka protocol's messages, answered in the words of the public protocol.
//!
//! A coordinator that is being replaced, or still loads, is asked again for a while: it has applied nothing.

pub(crate) mod describe;
pub(crate) mod diagnose;
pub(crate) mod figures;
pub(crate) mod lag;
pub(crate) mod offsets;
pub(crate) mod reset;

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_kafka::messages::{Request, Response};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{ErrorCode, Outcome};
use tokio::time::{Instant, sleep, timeout_at};

use crate::port::{BrokerPort, ClientRef};
use crate::shared::Shared;
use crate::words;

/// How long another coordinator is waited for: a failed one is replaced when its session has ended, and the next one loads.
const COORDINATOR_WAIT_MAX: Duration = Duration::from_secs(20);
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

/// Longest wait for an answer that is not a member's: those are answered within a few round trips.
pub(crate) const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// Longest group id, as the Kafka protocol can say it.
const GROUP_ID_BYTES_MAX: usize = i16::MAX as usize;

/// What coordinators show of calls that are not a member's.
const CLIENT_ID: &str = "thalweg-gateway";

/// Asks the coordinator of `group` on nobody's behalf, and goes on asking while it only says that it is not the one, or not ready yet.
pub(crate) async fn ask<B: BrokerPort>(
    shared: &Shared<B>,
    group: &str,
    request: impl Into<Request>,
    version: i16,
    deadline: Deadline,
) -> Result<Response, Error> {
    let call = GroupCall { group, client: nobody(), request: request.into(), version };
    ask_as(shared, call, ANSWER_WAIT_MAX.min(deadline.remaining())).await
}

/// One call about one group.
pub(crate) struct GroupCall<'a> {
    pub(crate) group: &'a str,
    pub(crate) client: ClientRef,
    pub(crate) request: Request,
    pub(crate) version: i16,
}

/// The same on behalf of a client; an answer may take `answer_wait_max`.
pub(crate) async fn ask_as<B: BrokerPort>(
    shared: &Shared<B>,
    call: GroupCall<'_>,
    answer_wait_max: Duration,
) -> Result<Response, Error> {
    let GroupCall { group, client, request, version } = call;
    let start = Instant::now();
    let answer_by = start + answer_wait_max;
    let refusals_until = start + answer_wait_max.min(COORDINATOR_WAIT_MAX);
    loop {
        let asking = shared.coordinators.call(group, client.clone(), request.clone(), version);
        let refusal = match timeout_at(answer_by, asking).await {
            Err(_) => return Err(Error::timed_out(start.elapsed())),
            Ok(Ok(response)) => match routing_refusal(&response) {
                None => return Ok(response),
                Some(code) => refused(group, code),
            },
            Ok(Err(error)) if error.retriable && error.outcome == Outcome::NotApplied => error,
            Ok(Err(error)) => return Err(error),
        };
        if Instant::now() + COORDINATOR_PAUSE >= refusals_until {
            return Err(refusal);
        }
        sleep(COORDINATOR_PAUSE).await;
    }
}

pub(crate) fn nobody() -> ClientRef {
    ClientRef { id: CLIENT_ID.into(), host: "".into() }
}

fn refused(group: &str, code: ErrorCode) -> Error {
    let what = match code {
        ErrorCode::CoordinatorLoadInProgress => "is still loading",
        _ => "is not available",
    };
    Error::new(code, format!("the coordinator of group {:?} {what}", words::shown(group)))
        .not_applied()
}

/// The code by which a coordinator says that another one has to be asked, or that it will be ready later.
fn routing_refusal(response: &Response) -> Option<ErrorCode> {
    let code = match response {
        Response::OffsetCommit(response) => response
            .topics
            .first()
            .and_then(|topic| topic.partitions.first())
            .map_or(0, |partition| partition.error_code),
        Response::OffsetFetch(response) => {
            response.groups.first().map_or(response.error_code, |group| group.error_code)
        }
        Response::JoinGroup(response) => response.error_code,
        Response::SyncGroup(response) => response.error_code,
        Response::Heartbeat(response) => response.error_code,
        Response::LeaveGroup(response) => response.error_code,
        Response::ConsumerGroupHeartbeat(response) => response.error_code,
        Response::ConsumerGroupDescribe(response) => {
            response.groups.first().map_or(0, |group| group.error_code)
        }
        Response::DescribeGroups(response) => {
            response.groups.first().map_or(0, |group| group.error_code)
        }
        Response::DeleteGroups(response) => {
            response.results.first().map_or(0, |result| result.error_code)
        }
        Response::OffsetDelete(response) => response.error_code,
        _ => 0,
    };
    let code = ErrorCode::from_code(code)?;
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
    .then_some(code)
}

// ------------------------------------------------------------------- Words

/// The error of a code on the wire; `None` for 0. Codes this build does not know stay errors.
pub(crate) fn error_of(code: i16, message: Option<&str>, what: &str) -> Option<Error> {
    if code == 0 {
        return None;
    }
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    let message = match message {
        Some(message) if !message.is_empty() => format!("{what}: {message}"),
        _ => what.to_owned(),
    };
    Some(Error::new(code, message))
}

/// A coordinator answered with another message than was asked for.
pub(crate) fn unexpected() -> Error {
    Error::new(ErrorCode::UnknownServerError, "the coordinator answered with another message")
        .outcome_unknown()
}

/// `id`, if it can be one.
pub(crate) fn group_id(id: &str) -> Result<&str, Error> {
    let wrong = match id.len() {
        0 => "group_id must not be empty".to_owned(),
        length if length > GROUP_ID_BYTES_MAX => {
            format!("group_id must have at most {GROUP_ID_BYTES_MAX} bytes: {length}")
        }
        _ => return Ok(id),
    };
    Err(Error::new(ErrorCode::InvalidGroupId, wrong).not_applied())
}

/// Partitions by topic, in order, from single ones.
pub(crate) fn by_topic(
    partitions: impl IntoIterator<Item = (String, i32)>,
) -> Vec<proto::TopicPartitionList> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    let list = |(topic, mut partitions): (String, Vec<i32>)| {
        partitions.sort_unstable();
        proto::TopicPartitionList { topic, partitions }
    };
    topics.into_iter().map(list).collect()
}
