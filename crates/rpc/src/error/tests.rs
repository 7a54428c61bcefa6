//! Errors through a status and back.

use super::*;
use thalweg_types::{PartitionIndex, TopicName};
use tonic::Code;

fn not_leader() -> Error {
    Error::new(ErrorCode::NotLeaderOrFollower, "node 3 does not lead orders-7").with_leader(
        LeaderHint {
            partition: TopicPartition {
                topic: TopicName::new("orders").unwrap(),
                partition: PartitionIndex(7),
            },
            node_id: NodeId(4),
            leader_epoch: LeaderEpoch(12),
            endpoint: Some("10.0.0.4:9190".to_owned()),
        },
    )
}

#[test]
fn an_error_survives_the_way_through_a_status() {
    for error in [
        not_leader(),
        Error::from(ErrorCode::RequestTimedOut).not_applied(),
        Error::from(ErrorCode::InvalidTxnState).outcome_unknown(),
    ] {
        assert_eq!(Error::from(Status::from(error.clone())), error);
        assert_eq!(Error::from_detail(error.to_detail()), error);
    }
}

#[test]
fn every_code_keeps_its_meaning_and_none_is_answered_as_success() {
    for code in ErrorCode::ALL.iter().copied().filter(|code| *code != ErrorCode::None) {
        let status = Status::from(Error::from(code));
        assert_ne!(status.code(), Code::Ok, "{code}");
        assert_eq!(Error::from(status), Error::from(code), "{code}");
    }
}

#[test]
fn a_status_without_detail_is_unknown_unless_it_cannot_have_reached_a_service() {
    let broken = Error::from(Status::unavailable("connection reset"));
    assert_eq!((broken.code, broken.outcome), (ErrorCode::NetworkException, Outcome::Unknown));
    assert!(broken.retriable);

    let unimplemented = Error::from(Status::unimplemented(""));
    assert_eq!(unimplemented.outcome, Outcome::NotApplied);
}

#[test]
fn garbage_details_are_ignored() {
    let status = Status::with_details(Code::Internal, "odd", vec![0xff; 40].into());
    assert_eq!(Error::from(status).code, ErrorCode::UnknownServerError);
}

#[test]
fn a_code_of_a_later_version_becomes_an_unknown_error_with_its_own_outcome() {
    let detail = proto::ErrorDetail {
        code: 31_000,
        outcome: proto::Outcome::NotApplied.into(),
        retriable: true,
        ..Default::default()
    };
    let error = Error::from_detail(detail);
    assert_eq!(error.code, ErrorCode::UnknownServerError);
    assert_eq!((error.outcome, error.retriable), (Outcome::NotApplied, true));
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let error = Error::invalid_request("ä".repeat(2000));
    assert_eq!(error.message.len(), 1024);
    let error = Error::invalid_request(format!("x{}", "ä".repeat(2000)));
    assert_eq!(error.message.len(), 1023);
}

#[test]
fn a_grpc_code_of_its_own_survives_the_wire() {
    let full = Error::new(ErrorCode::KafkaStorageError, "the disk is full").not_applied();
    assert_eq!(Status::from(full.clone()).code(), tonic::Code::Unavailable);

    let full = full.resource_exhausted();
    let status = Status::from(full.clone());
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(Error::from(status), full);
    assert!(full.retriable);

    let damaged = Error::new(ErrorCode::KafkaStorageError, "damaged").data_loss();
    let status = Status::from(damaged.clone());
    assert_eq!(status.code(), tonic::Code::DataLoss);
    assert_eq!(Error::from(status), damaged);
    assert!(!damaged.retriable);
}
