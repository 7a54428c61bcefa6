//! Errors of the way inside, as Kafka clients are told them.

use thalweg_metadata_core::Image;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, Outcome, TopicId, TopicName, Uuid};

/// A topic as the version of the request names it.
#[derive(Debug, Clone, Copy)]
pub(super) enum TopicRef<'a> {
    Name(&'a str),
    Id(Uuid),
}

impl TopicRef<'_> {
    /// Its name, if it exists.
    pub(super) fn find(self, image: &Image) -> Result<TopicName, ErrorCode> {
        let (found, unknown) = match self {
            Self::Name(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
            Self::Id(id) => (image.topic_by_id(TopicId(id)), ErrorCode::UnknownTopicId),
        };
        found.map(|topic| topic.name.clone()).ok_or(unknown)
    }
}

/// What a producer is told. Clients send again, by themselves, what may be in the log already only after codes that say so; and every code
/// here that a client can do something about makes it try again.
pub(super) fn produce_code(error: &Error) -> ErrorCode {
    use ErrorCode as Code;
    match (error.outcome, error.code) {
        (
            Outcome::Unknown,
            code @ (Code::RequestTimedOut
            | Code::NetworkException
            | Code::NotEnoughReplicasAfterAppend),
        ) => code,
        (Outcome::Unknown, _) => Code::RequestTimedOut,
        // A bound of this gateway: what a broker without room says.
        (_, Code::ThrottlingQuotaExceeded) => Code::KafkaStorageError,
        (_, code) => placed(code),
    }
}

/// What a reader is told.
pub(super) fn read_code(error: &Error) -> ErrorCode {
    match error.code {
        ErrorCode::RequestTimedOut => ErrorCode::NotLeaderOrFollower,
        code => placed(code),
    }
}

/// That nobody could be reached is told by the code on which every client looks for the leader again; some are at a loss with the others.
fn placed(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::LeaderNotAvailable
        | ErrorCode::BrokerNotAvailable
        | ErrorCode::NetworkException => ErrorCode::NotLeaderOrFollower,
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_never_called_undone_and_the_other_way_round() {
        for code in ErrorCode::ALL.iter().copied() {
            let unknown = Error::new(code, "").outcome_unknown();
            assert_eq!(produce_code(&unknown).outcome(), Outcome::Unknown, "{code:?}");
        }
        for code in [
            ErrorCode::LeaderNotAvailable,
            ErrorCode::BrokerNotAvailable,
            ErrorCode::NetworkException,
            ErrorCode::NotLeaderOrFollower,
        ] {
            let refused = Error::new(code, "").not_applied();
            assert_eq!(produce_code(&refused), ErrorCode::NotLeaderOrFollower, "{code:?}");
            assert_eq!(read_code(&refused), ErrorCode::NotLeaderOrFollower, "{code:?}");
        }
    }
}
