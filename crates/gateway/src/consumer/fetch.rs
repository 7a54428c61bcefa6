//! One fetch: checked, asked of the brokers, answered in the form wanted.

use std::collections::HashSet;
use std::time::Duration;

use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{LeaderEpoch, Offset};

use super::decode::{self, Form};
use crate::port::{BrokerPort, FetchCall, FetchPartition, Fetched, FetchedPartition};
use crate::shared::Shared;
use crate::words;

pub(super) const PARTITIONS_MAX: usize = 10_000;
pub(super) const PARTITION_BYTES_DEFAULT: u32 = 1024 * 1024;
/// Stays below the 4 MiB that most gRPC clients accept unless told otherwise.
const ANSWER_BYTES_DEFAULT: u32 = 3 * 1024 * 1024;
pub(super) const BYTES_MAX: u32 = 32 * 1024 * 1024;
pub(super) const WAIT_MS_MAX: u32 = 60_000;

/// Time left to send an answer home when the caller's deadline ends a wait.
const ANSWER_MARGIN: Duration = Duration::from_millis(20);

pub(super) async fn fetch<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::FetchRequest,
    deadline: Deadline,
) -> Result<proto::FetchResponse, Error> {
    let form = Form::from_wire(request.format)?;
    let isolation = words::isolation_level(request.isolation_level)?;
    let max_bytes = bytes_or("max_bytes", request.max_bytes, ANSWER_BYTES_DEFAULT)?;
    let min_bytes = words::at_most("min_bytes", request.min_bytes, BYTES_MAX)?;
    let max_wait_ms = words::at_most("max_wait_ms", request.max_wait_ms, WAIT_MS_MAX)?;
    let partitions = partitions(request.partitions)?;
    let positions: Vec<Offset> = partitions.iter().map(|partition| partition.offset).collect();
    let limits: Vec<usize> = partitions.iter().map(|partition| partition.max_bytes).collect();

    let patience = deadline.remaining().saturating_sub(ANSWER_MARGIN);
    let call = FetchCall {
        partitions,
        // More than the answer may hold can never be there.
        min_bytes: min_bytes.min(max_bytes) as usize,
        max_bytes: max_bytes as usize,
        max_wait: Duration::from_millis(max_wait_ms.into()).min(patience),
        isolation,
        rack: words::rack(request.rack)?,
    };
    let fetched = shared.broker.fetch(call).await?;

    let mut budget = Budget { left_bytes: max_bytes as usize, is_used: false };
    let mut answers = Vec::with_capacity(fetched.len());
    for ((fetched, from), limit) in fetched.into_iter().zip(positions).zip(limits) {
        shared.metrics.fetched_bytes.inc_by(size_bytes(&fetched) as u64);
        answers.push(answer(form, fetched, from, limit, &mut budget).await);
    }
    Ok(proto::FetchResponse { partitions: answers })
}

/// What is left for the partitions further down.
struct Budget {
    left_bytes: usize,
    /// Something is in the answer: nothing needs to be let through any more.
    is_used: bool,
}

async fn answer(
    form: Form,
    fetched: FetchedPartition,
    from: Offset,
    limit_bytes: usize,
    budget: &mut Budget,
) -> proto::FetchedPartition {
    let FetchedPartition { topic, partition, result } = fetched;
    let blank = proto::FetchedPartition {
        topic: topic.to_string(),
        partition: partition.0,
        next_offset: from.0,
        ..Default::default()
    };
    let failed =
        |error: Error, blank| proto::FetchedPartition { error: Some(error.to_detail()), ..blank };
    let fetched = match result {
        Ok(fetched) => fetched,
        Err(error) => return failed(error, blank),
    };
    let answered = with_positions(blank, &fetched);
    if budget.is_used && budget.left_bytes == 0 {
        return answered;
    }
    let bytes_max = budget.left_bytes.min(limit_bytes);
    match decode::decode(form, fetched.batches, from, bytes_max).await {
        // Decompressed, even its first record is more than what is left, and others are in the answer.
        Ok(decoded) if budget.is_used && decoded.bytes > budget.left_bytes => {
            budget.left_bytes = 0;
            answered
        }
        Ok(decoded) => {
            budget.left_bytes = budget.left_bytes.saturating_sub(decoded.bytes);
            budget.is_used |= decoded.bytes > 0;
            with_load(answered, decoded)
        }
        Err(error) => failed(error, answered),
    }
}

/// Adds what is known of the partition.
pub(super) fn with_positions(
    answer: proto::FetchedPartition,
    fetched: &Fetched,
) -> proto::FetchedPartition {
    proto::FetchedPartition {
        high_watermark: fetched.high_watermark.0,
        last_stable_offset: fetched.last_stable_offset.0,
        log_start_offset: fetched.log_start_offset.0,
        ..answer
    }
}

/// Adds records or batches.
pub(super) fn with_load(
    answer: proto::FetchedPartition,
    decoded: decode::Decoded,
) -> proto::FetchedPartition {
    proto::FetchedPartition {
        next_offset: decoded.next_offset.map_or(answer.next_offset, |next| next.0),
        records: decoded.records,
        batches: decoded.batches,
        ..answer
    }
}

pub(super) fn size_bytes(fetched: &FetchedPartition) -> usize {
    let Ok(fetched) = &fetched.result else { return 0 };
    fetched.batches.iter().map(bytes::Bytes::len).sum()
}

/// `given`, or the default for 0; at most 32 MiB.
pub(super) fn bytes_or(field: &str, given: u32, default: u32) -> Result<u32, Error> {
    match given {
        0 => Ok(default),
        _ => words::at_most(field, given, BYTES_MAX),
    }
}

/// The positions to read from, checked: each partition once.
pub(super) fn partitions(given: Vec<proto::FetchPartition>) -> Result<Vec<FetchPartition>, Error> {
    words::some_but_at_most("partitions", given.len(), PARTITIONS_MAX)?;
    let mut seen = HashSet::with_capacity(given.len());
    let mut partitions = Vec::with_capacity(given.len());
    for given in given {
        let partition = check(given)?;
        if !seen.insert((partition.topic.clone(), partition.partition)) {
            let message = format!("{}-{} is given twice", partition.topic, partition.partition);
            return Err(Error::invalid_request(message));
        }
        partitions.push(partition);
    }
    Ok(partitions)
}

fn check(given: proto::FetchPartition) -> Result<FetchPartition, Error> {
    if given.offset < 0 {
        return Err(Error::new(
            thalweg_types::ErrorCode::OffsetOutOfRange,
            format!("offset must not be negative: {}", given.offset),
        ));
    }
    if given.leader_epoch.is_some_and(|epoch| epoch < 0) {
        return Err(Error::invalid_request("leader_epoch must not be negative"));
    }
    Ok(FetchPartition {
        topic: words::topic_name(&given.topic)?,
        partition: words::partition(given.partition)?,
        offset: Offset(given.offset),
        max_bytes: bytes_or("max_bytes", given.max_bytes, PARTITION_BYTES_DEFAULT)? as usize,
        current_leader_epoch: given.leader_epoch.map_or(LeaderEpoch::NONE, LeaderEpoch),
    })
}
