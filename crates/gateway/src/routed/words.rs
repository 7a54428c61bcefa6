//! The vocabulary to the wire between nodes, and back. Nothing here trusts the other side: what makes no sense is an error.

use thalweg_proto::common::v1 as common;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::{Error, LeaderHint};
use thalweg_types::{
    Acks, ErrorCode, IsolationLevel, LeaderEpoch, Offset, Outcome, Timestamp, TopicPartition,
};
use tonic::Code;

use super::EpochEnd;
use crate::port::{ListedOffset, OffsetQuery, Produced};

pub(super) fn acks(acks: Acks) -> proto::AppendAcks {
    match acks {
        Acks::All => proto::AppendAcks::All,
        Acks::Leader => proto::AppendAcks::Leader,
        Acks::None => proto::AppendAcks::None,
    }
}

pub(super) fn isolation_level(isolation: IsolationLevel) -> common::IsolationLevel {
    match isolation {
        IsolationLevel::ReadUncommitted => common::IsolationLevel::ReadUncommitted,
        IsolationLevel::ReadCommitted => common::IsolationLevel::ReadCommitted,
    }
}

pub(super) fn offset_place(query: OffsetQuery) -> (proto::OffsetPlace, Timestamp) {
    match query {
        OffsetQuery::Earliest => (proto::OffsetPlace::Earliest, Timestamp(0)),
        OffsetQuery::Latest => (proto::OffsetPlace::Latest, Timestamp(0)),
        OffsetQuery::MaxTimestamp => (proto::OffsetPlace::MaxTimestamp, Timestamp(0)),
        OffsetQuery::Timestamp(timestamp) => (proto::OffsetPlace::Timestamp, timestamp),
    }
}

pub(super) fn listed_offset(found: &proto::FindOffsetResponse) -> Option<ListedOffset> {
    found.offset.map(|offset| ListedOffset {
        offset: Offset(offset),
        timestamp: Timestamp(found.timestamp_ms),
        leader_epoch: LeaderEpoch(found.leader_epoch),
    })
}

/// The one answer to one question.
pub(super) fn epoch_end(answer: proto::FindEpochEndsResponse) -> Result<Option<EpochEnd>, Error> {
    let [found] = <[_; 1]>::try_from(answer.partitions).map_err(|_| another_number())?;
    match found.refusal {
        Some(refusal) => Err(error(refusal)),
        None if found.end_offset < 0 => Ok(None),
        None => Ok(Some(EpochEnd {
            epoch: LeaderEpoch(found.epoch),
            end_offset: Offset(found.end_offset),
        })),
    }
}

/// The log start after the one deletion that was asked for.
pub(super) fn deleted(answer: proto::DeleteRecordsResponse) -> Result<Offset, Error> {
    let [deleted] = <[_; 1]>::try_from(answer.partitions).map_err(|_| another_number())?;
    match deleted.refusal {
        Some(refusal) => Err(error(refusal)),
        None => Ok(Offset(deleted.log_start_offset)),
    }
}

fn another_number() -> Error {
    let message = "a broker answered about another number of partitions";
    Error::new(ErrorCode::UnknownServerError, message).outcome_unknown()
}

/// What became of one batch.
pub(super) fn produced(result: proto::AppendResult) -> Result<Produced, Error> {
    match result.refusal {
        Some(refusal) => Err(error(refusal)),
        None => Ok(Produced {
            base_offset: Offset(result.base_offset),
            log_append_time: result.log_append_time_ms.map(Timestamp),
            log_start_offset: Offset(result.log_start_offset),
        }),
    }
}

pub(super) fn error(refusal: proto::Refusal) -> Error {
    let status = i32::try_from(refusal.grpc_code).ok().filter(|code| *code != 0).map(Code::from);
    match refusal.detail {
        Some(detail) => Error { status, ..Error::from_detail(detail) },
        None => {
            let message = "a broker refused without saying why";
            Error::new(ErrorCode::UnknownServerError, message).outcome_unknown()
        }
    }
}

/// Whether a call was refused because of where it went: it may succeed elsewhere, or here a little later.
pub(super) fn is_about_place(error: &Error) -> bool {
    error.outcome == Outcome::NotApplied
        && matches!(
            error.code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::BrokerNotAvailable
                | ErrorCode::NetworkException
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownTopicOrPartition
        )
}

/// Whether a call that only reads failed because of where it went: another broker, or this one a little later, may answer it. That a reader
/// knows another leader epoch is for the reader to hear.
pub(super) fn is_read_elsewhere(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::BrokerNotAvailable
            | ErrorCode::NetworkException
            | ErrorCode::RequestTimedOut
            | ErrorCode::UnknownTopicOrPartition
    )
}

/// As clients are told: addresses between nodes are none of theirs.
pub(super) fn for_clients(error: Error) -> Error {
    let Error { leader, .. } = error;
    let leader = leader.map(|hint| Box::new(LeaderHint { endpoint: None, ..*hint }));
    Error { leader, ..error }
}

/// Who was asked cannot be reached at present; surely nothing was applied.
pub(super) fn unavailable(message: impl Into<String>) -> Error {
    let error = Error::new(ErrorCode::BrokerNotAvailable, message).not_applied();
    Error { retriable: true, ..error }
}

/// Nobody leads the partition at present.
pub(super) fn leaderless(at: &TopicPartition) -> Error {
    Error::new(ErrorCode::LeaderNotAvailable, format!("{at} has no leader at present"))
        .not_applied()
}

pub(super) fn unknown_partition(at: &TopicPartition) -> Error {
    Error::new(ErrorCode::UnknownTopicOrPartition, format!("there is no partition {at}"))
        .not_applied()
}
