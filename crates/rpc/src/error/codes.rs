//! Which gRPC code stands for which of Kafka's, and the other way round for statuses that carry no detail.
//!
//! The gRPC code is for generic clients, proxies and dashboards; programs that know this system read the detail.

use thalweg_types::{ErrorCode, Outcome};
use tonic::{Code, Status};

/// The gRPC code that describes an error best. `Unavailable` only where nothing can have been applied by the code alone, because
/// generic retry policies repeat it blindly.
pub(super) fn grpc_code(code: ErrorCode) -> Code {
    use ErrorCode as E;
    match code {
        E::None => Code::Ok,
        E::UnknownServerError => Code::Internal,
        E::RequestTimedOut => Code::DeadlineExceeded,
        E::OffsetOutOfRange => Code::OutOfRange,
        E::UnknownTopicOrPartition
        | E::UnknownTopicId
        | E::GroupIdNotFound
        | E::LogDirNotFound
        | E::ResourceNotFound
        | E::TransactionalIdNotFound => Code::NotFound,
        E::TopicAlreadyExists => Code::AlreadyExists,
        E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::TransactionalIdAuthorizationFailed => Code::PermissionDenied,
        E::SaslAuthenticationFailed | E::IllegalSaslState => Code::Unauthenticated,
        E::ThrottlingQuotaExceeded => Code::ResourceExhausted,
        E::UnsupportedVersion => Code::Unimplemented,
        E::NotEnoughReplicasAfterAppend | E::ConcurrentTransactions => Code::Aborted,
        E::LeaderNotAvailable
        | E::NotLeaderOrFollower
        | E::BrokerNotAvailable
        | E::ReplicaNotAvailable
        | E::NetworkException
        | E::CoordinatorLoadInProgress
        | E::CoordinatorNotAvailable
        | E::NotCoordinator
        | E::NotEnoughReplicas
        | E::NotController
        | E::KafkaStorageError
        | E::FencedLeaderEpoch
        | E::UnknownLeaderEpoch
        | E::OffsetNotAvailable
        | E::InconsistentTopicId => Code::Unavailable,
        E::CorruptMessage
        | E::InvalidFetchSize
        | E::MessageTooLarge
        | E::InvalidTopicException
        | E::RecordListTooLarge
        | E::InvalidRequiredAcks
        | E::InvalidTimestamp
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::InvalidConfig
        | E::InvalidRequest
        | E::InvalidRecord
        | E::UnsupportedCompressionType => Code::InvalidArgument,
        _ => Code::FailedPrecondition,
    }
}

/// What a status without a detail means to a caller: it comes from the transport, a proxy or the gRPC library itself.
pub(super) fn without_detail(code: Code) -> (ErrorCode, Outcome) {
    use ErrorCode as E;
    match code {
        // The library refuses these before a service sees them, or a service means them so.
        Code::Unimplemented => (E::UnsupportedVersion, Outcome::NotApplied),
        Code::InvalidArgument | Code::AlreadyExists => (E::InvalidRequest, Outcome::NotApplied),
        Code::NotFound => (E::ResourceNotFound, Outcome::NotApplied),
        Code::PermissionDenied => (E::ClusterAuthorizationFailed, Outcome::NotApplied),
        Code::Unauthenticated => (E::SaslAuthenticationFailed, Outcome::NotApplied),
        Code::FailedPrecondition => (E::PolicyViolation, Outcome::NotApplied),
        // Too large for one side: if it was the answer, the request had been served.
        Code::OutOfRange | Code::ResourceExhausted => (E::MessageTooLarge, Outcome::Unknown),
        Code::DeadlineExceeded | Code::Cancelled => (E::RequestTimedOut, Outcome::Unknown),
        Code::Unavailable | Code::Aborted => (E::NetworkException, Outcome::Unknown),
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
            (E::UnknownServerError, Outcome::Unknown)
        }
    }
}

/// How the library begins its messages about a request it could not read. It has one code for these and for all its other faults.
const UNREADABLE: &[&str] = &[
    "failed to decode Protobuf message",
    "Error decompressing",
    "protocol error",
    "Unexpected EOF decoding stream",
    "Missing request message",
];

/// Why the library refused to read a message, if that is what a status without detail says.
pub(super) fn refused_message(status: &Status) -> Option<ErrorCode> {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Some(ErrorCode::MessageTooLarge),
        Code::Unimplemented => Some(ErrorCode::UnsupportedVersion),
        Code::Internal if UNREADABLE.iter().any(|start| status.message().starts_with(start)) => {
            Some(ErrorCode::InvalidRequest)
        }
        _ => None,
    }
}
