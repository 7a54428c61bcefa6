//! The quorum's members: between messages and the quorum.

use thalweg_metadata_feed::codec::uuid_to_proto;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_raft::{ChangeError, MemberState, QuorumState};
use thalweg_rpc::Error as RpcError;
use thalweg_types::{ErrorCode, LogIndex};

pub(super) fn described(answering_id: u64, state: QuorumState) -> proto::DescribeQuorumResponse {
    let index = |index: Option<LogIndex>| index.map_or(0, |index| index.0);
    proto::DescribeQuorumResponse {
        leader_id: state.leader.and_then(|id| u64::try_from(id.0).ok()),
        controller_epoch: i64::try_from(index(state.epoch)).unwrap_or(i64::MAX),
        applied_index: index(state.applied),
        last_index: index(state.last),
        committed_index: index(state.committed),
        answering_id,
        members: state.members.into_iter().map(member).collect(),
    }
}

fn member(state: MemberState) -> proto::QuorumMember {
    let heard_ms = state.last_heard.map(|heard| heard.as_millis());
    proto::QuorumMember {
        node_id: state.member.node_id,
        dir_id: uuid_to_proto(state.member.peer.dir_id.0),
        endpoint: state.member.peer.endpoint,
        voter: state.is_voter,
        matched_index: state.matched.map(|index| index.0),
        last_heard_ms: heard_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
    }
}

/// A change of the quorum that did not happen.
pub(super) fn refused(error: ChangeError) -> RpcError {
    let message = error.to_string();
    let not_applied = |code| RpcError::new(code, message.clone()).not_applied();
    match error {
        ChangeError::NotLeader { .. } => not_applied(ErrorCode::NotController),
        ChangeError::UnderWay => not_applied(ErrorCode::ReassignmentInProgress),
        ChangeError::WouldLoseQuorum { .. } => not_applied(ErrorCode::PolicyViolation),
        ChangeError::Unknown { .. } => not_applied(ErrorCode::VoterNotFound),
        ChangeError::AlreadyVoter { .. } => not_applied(ErrorCode::DuplicateVoter),
        ChangeError::AnotherDisk { .. } | ChangeError::AnotherNode { .. } => {
            not_applied(ErrorCode::InvalidVoterKey)
        }
        ChangeError::AnotherQuorum { .. } => not_applied(ErrorCode::InconsistentClusterId),
        ChangeError::Unreachable { .. } => not_applied(ErrorCode::BrokerNotAvailable),
        ChangeError::NotCaughtUp { .. } => {
            RpcError::new(ErrorCode::RequestTimedOut, message).outcome_unknown()
        }
        ChangeError::Refused { .. } => not_applied(ErrorCode::InvalidRequest),
        ChangeError::OutcomeUnknown { .. } => {
            RpcError::new(ErrorCode::RequestTimedOut, message).outcome_unknown()
        }
    }
}
