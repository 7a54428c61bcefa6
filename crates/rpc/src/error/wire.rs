//! [`Error`] to `google.rpc.Status` with an `ErrorDetail`, and back.

use bytes::Bytes;
use prost::Message as _;
use thalweg_proto::common::v1 as proto;
use thalweg_types::{
    ErrorCode, LeaderEpoch, NodeId, Outcome, PartitionIndex, TopicName, TopicPartition,
};
use tonic::{Code, Status};

use super::{Error, LeaderHint, MESSAGE_BYTES_MAX, codes, cut};

/// Names the type inside the `Any`, as protobuf's convention wants it.
const DETAIL_TYPE_URL: &str = "type.googleapis.com/thalweg.common.v1.ErrorDetail";

/// The well-known `google.rpc.Status`: three fields every gRPC library knows.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// The well-known `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

pub(super) fn to_status(error: &Error) -> Status {
    let code = error.status.unwrap_or_else(|| codes::grpc_code(error.code));
    let rich = RichStatus {
        code: code as i32,
        message: error.message.clone(),
        details: vec![AnyMessage {
            type_url: DETAIL_TYPE_URL.to_owned(),
            value: to_detail(error).encode_to_vec().into(),
        }],
    };
    Status::with_details(code, error.to_string(), rich.encode_to_vec().into())
}

pub(super) fn from_status(status: &Status) -> Error {
    match detail_of(status) {
        Some(detail) => {
            let error = from_detail(detail);
            let expected = codes::grpc_code(error.code);
            Error { status: (status.code() != expected).then_some(status.code()), ..error }
        }
        None if was_never_sent(status) => {
            Error::new(ErrorCode::NetworkException, status.message()).not_applied()
        }
        None if is_from_the_connection(status) => {
            Error::new(ErrorCode::NetworkException, status.message()).outcome_unknown()
        }
        None => {
            let (code, outcome) = codes::without_detail(status.code());
            Error { outcome, ..Error::new(code, status.message()) }
        }
    }
}

/// There was no connection, so nobody has seen the call.
fn was_never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The connection broke, which the library tells with the codes of faults. What came from the other side has no cause on this one.
fn is_from_the_connection(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Internal)
        && std::error::Error::source(status).is_some()
}

/// `None` also for details of another system, or garbage: then the status stands for itself.
fn detail_of(status: &Status) -> Option<proto::ErrorDetail> {
    let rich = RichStatus::decode(status.details()).ok()?;
    let detail = rich.details.iter().find(|detail| detail.type_url == DETAIL_TYPE_URL)?;
    proto::ErrorDetail::decode(detail.value.clone()).ok()
}

pub(super) fn to_detail(error: &Error) -> proto::ErrorDetail {
    proto::ErrorDetail {
        code: error.code.code().into(),
        name: error.code.name().to_owned(),
        outcome: match error.outcome {
            Outcome::NotApplied => proto::Outcome::NotApplied,
            Outcome::Unknown => proto::Outcome::Unknown,
        }
        .into(),
        retriable: error.retriable,
        message: error.message.clone(),
        leader: error.leader.as_deref().map(|leader| proto::LeaderHint {
            topic: leader.partition.topic.to_string(),
            partition: leader.partition.partition.0,
            node_id: leader.node_id.0,
            leader_epoch: leader.leader_epoch.0,
            endpoint: leader.endpoint.clone().unwrap_or_default(),
        }),
    }
}

pub(super) fn from_detail(detail: proto::ErrorDetail) -> Error {
    let code = i16::try_from(detail.code)
        .ok()
        .and_then(ErrorCode::from_code)
        .filter(|code| *code != ErrorCode::None)
        .unwrap_or(ErrorCode::UnknownServerError);
    let outcome = match detail.outcome() {
        proto::Outcome::NotApplied => Outcome::NotApplied,
        proto::Outcome::Unknown | proto::Outcome::Unspecified => Outcome::Unknown,
    };
    let mut message = detail.message;
    cut(&mut message, MESSAGE_BYTES_MAX);
    let leader = detail.leader.and_then(from_leader_hint).map(Box::new);
    Error { code, outcome, retriable: detail.retriable, message, status: None, leader }
}

/// A hint with an impossible topic name is no hint.
fn from_leader_hint(hint: proto::LeaderHint) -> Option<LeaderHint> {
    Some(LeaderHint {
        partition: TopicPartition {
            topic: TopicName::new(&hint.topic).ok()?,
            partition: PartitionIndex(hint.partition),
        },
        node_id: NodeId(hint.node_id),
        leader_epoch: LeaderEpoch(hint.leader_epoch),
        endpoint: (!hint.endpoint.is_empty()).then_some(hint.endpoint),
    })
}
