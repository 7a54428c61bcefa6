//! Wire words to the vocabulary and back, refusing what has no meaning. Nothing was applied of what is refused here.

use thalweg_metadata_core::Endpoint;
use thalweg_proto::common::v1 as common;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{
    Acks, CoordinatorEpoch, ErrorCode, IsolationLevel, LeaderEpoch, Offset, PartitionIndex,
    Timestamp, TopicName, TopicPartition,
};

use crate::broker::Broker;
use crate::error::{FetchError, ProduceError};
use crate::fetch::{ListedOffset, OffsetQuery};
use crate::partition::{Condition, CoordinatorCondition, LogStanding};

pub(super) fn partition(topic: &str, index: i32) -> Result<TopicPartition, Error> {
    let topic = TopicName::new(topic).map_err(|rule| {
        Error::new(ErrorCode::InvalidTopicException, rule.to_string()).not_applied()
    })?;
    if index < 0 {
        return Err(Error::invalid_request(format!("partition must not be negative: {index}")));
    }
    Ok(TopicPartition { topic, partition: PartitionIndex(index) })
}

pub(super) fn acks(value: i32) -> Result<Acks, Error> {
    match proto::AppendAcks::try_from(value) {
        Ok(proto::AppendAcks::All) => Ok(Acks::All),
        Ok(proto::AppendAcks::Leader) => Ok(Acks::Leader),
        Ok(proto::AppendAcks::None) => Ok(Acks::None),
        Ok(proto::AppendAcks::Unspecified) | Err(_) => {
            let message = format!("acks has no value {value}");
            Err(Error::new(ErrorCode::InvalidRequiredAcks, message).not_applied())
        }
    }
}

/// What a batch asks of the log, if anything. A condition that makes no sense is refused here, not compared.
pub(super) fn condition(
    condition: Option<proto::append_request::Condition>,
    has_batch: bool,
) -> Result<Option<Condition>, Error> {
    use proto::append_request::Condition as Asked;
    let refuse = |message: String| Err(Error::invalid_request(message).not_applied());
    let asked = match condition {
        None => return Ok(None),
        Some(Asked::ExpectedOffset(offset)) if offset < 0 => {
            return refuse(format!("expected_offset must not be negative: {offset}"));
        }
        Some(Asked::ExpectedOffset(offset)) => {
            return Ok(Some(Condition::Offset(Offset(offset))));
        }
        Some(Asked::Coordinator(asked)) => asked,
    };
    let (epoch, end) = (asked.leader_epoch, asked.expected_end);
    if epoch < 0 || end < 0 || asked.coordinator_epoch < 1 {
        let given = asked.coordinator_epoch;
        return refuse(format!(
            "a coordinator names a leader epoch ({epoch}), a log end ({end}) and its own epoch ({given})"
        ));
    }
    let chain = (asked.chain != 0).then_some(asked.chain);
    if has_batch && chain.is_none() {
        return refuse("a coordinator's batch belongs to a chain".to_owned());
    }
    if asked.opens_chain && !has_batch {
        return refuse("a chain is opened by a batch".to_owned());
    }
    Ok(Some(Condition::Coordinator(CoordinatorCondition {
        leader_epoch: LeaderEpoch(epoch),
        expected_end: Offset(end),
        coordinator_epoch: CoordinatorEpoch(asked.coordinator_epoch),
        chain,
        opens_chain: asked.opens_chain,
    })))
}

pub(super) fn log_standing(standing: LogStanding) -> proto::DescribeLogResponse {
    proto::DescribeLogResponse {
        leader_epoch: standing.epoch.0,
        epoch_start_offset: standing.epoch_start_offset.0,
        log_start_offset: standing.offsets.log_start().0,
        high_watermark: standing.offsets.high_watermark().0,
        log_end_offset: standing.offsets.log_end().0,
    }
}

pub(super) fn isolation_level(value: i32) -> Result<IsolationLevel, Error> {
    match common::IsolationLevel::try_from(value) {
        Ok(common::IsolationLevel::Unspecified | common::IsolationLevel::ReadUncommitted) => {
            Ok(IsolationLevel::ReadUncommitted)
        }
        Ok(common::IsolationLevel::ReadCommitted) => Ok(IsolationLevel::ReadCommitted),
        Err(_) => Err(Error::invalid_request(format!("isolation_level has no value {value}"))),
    }
}

pub(super) fn offset_query(request: &proto::FindOffsetRequest) -> Result<OffsetQuery, Error> {
    match proto::OffsetPlace::try_from(request.place) {
        Ok(proto::OffsetPlace::Earliest) => Ok(OffsetQuery::Earliest),
        Ok(proto::OffsetPlace::Latest) => Ok(OffsetQuery::Latest),
        Ok(proto::OffsetPlace::MaxTimestamp) => Ok(OffsetQuery::MaxTimestamp),
        Ok(proto::OffsetPlace::Timestamp) if request.timestamp_ms >= 0 => {
            Ok(OffsetQuery::Timestamp(Timestamp(request.timestamp_ms)))
        }
        Ok(proto::OffsetPlace::Timestamp) => Err(Error::invalid_request(format!(
            "timestamp_ms must not be negative: {}",
            request.timestamp_ms
        ))),
        Ok(proto::OffsetPlace::Unspecified) | Err(_) => {
            Err(Error::invalid_request(format!("place has no value {}", request.place)))
        }
    }
}

pub(super) fn found_offset(found: Option<ListedOffset>) -> proto::FindOffsetResponse {
    match found {
        None => proto::FindOffsetResponse::default(),
        Some(found) => proto::FindOffsetResponse {
            offset: Some(found.offset.0),
            timestamp_ms: found.timestamp.0,
            leader_epoch: found.leader_epoch.0,
        },
    }
}

pub(super) fn refusal(error: &Error) -> proto::Refusal {
    let grpc_code = error.status.map_or(0, |code| i32::from(code).unsigned_abs());
    proto::Refusal { detail: Some(error.to_detail()), grpc_code }
}

/// Leaders are named by their addresses between nodes.
pub(super) fn not_produced(broker: &Broker, error: &ProduceError, at: &TopicPartition) -> Error {
    broker.not_produced(error, at, Endpoint::INTERNAL)
}

/// Leaders are named by their addresses between nodes.
pub(super) fn unreadable(broker: &Broker, error: &FetchError, at: &TopicPartition) -> Error {
    broker.unreadable(error, at, Endpoint::INTERNAL)
}
