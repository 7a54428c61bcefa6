//! The calls between members, between the library's types and our messages, in both directions: what a connection sends, a service
//! reads.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use thalweg_proto::internal::raft::v1 as proto;

use super::Member;
use crate::codec::{
    CodecError, entry_to_proto, log_id_to_proto, optional_log_id_from_proto,
    optional_log_id_to_proto, peer_to_proto, required, snapshot_header_to_proto, vote_from_proto,
    vote_to_proto,
};
use crate::types::{Snapshot, TypeConfig, Vote};

pub(super) fn envelope(source: &Member, target: &Member) -> proto::Envelope {
    proto::Envelope {
        source: Some(peer_to_proto(source.node_id, &source.peer)),
        target: Some(peer_to_proto(target.node_id, &target.peer)),
    }
}

fn vote(vote: Option<&proto::Vote>) -> Result<Vote, CodecError> {
    Ok(vote_from_proto(required("vote", vote)?))
}

// ---- Votes --------------------------------------------------------------------------------------------------------------------

pub(super) fn vote_request(
    envelope: proto::Envelope,
    request: &VoteRequest<TypeConfig>,
) -> proto::VoteRequest {
    proto::VoteRequest {
        envelope: Some(envelope),
        vote: Some(vote_to_proto(&request.vote)),
        last_log_id: optional_log_id_to_proto(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_response(
    response: &proto::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, CodecError> {
    Ok(VoteResponse {
        vote: vote(response.vote.as_ref())?,
        vote_granted: response.granted,
        last_log_id: optional_log_id_from_proto(response.last_log_id.as_ref()),
    })
}

// ---- Entries ------------------------------------------------------------------------------------------------------------------

pub(super) fn append_entries_request(
    envelope: proto::Envelope,
    request: AppendEntriesRequest<TypeConfig>,
) -> proto::AppendEntriesRequest {
    proto::AppendEntriesRequest {
        envelope: Some(envelope),
        vote: Some(vote_to_proto(&request.vote)),
        previous: optional_log_id_to_proto(request.prev_log_id.as_ref()),
        entries: request.entries.iter().map(entry_to_proto).collect(),
        leader_committed: optional_log_id_to_proto(request.leader_commit.as_ref()),
    }
}

pub(super) fn append_entries_response(
    response: proto::AppendEntriesResponse,
) -> Result<AppendEntriesResponse<TypeConfig>, CodecError> {
    use proto::append_entries_response::Result as Answer;
    Ok(match required("result of an append", response.result)? {
        Answer::Success(_) => AppendEntriesResponse::Success,
        Answer::PartialSuccess(partial) => {
            AppendEntriesResponse::PartialSuccess(optional_log_id_from_proto(partial.last.as_ref()))
        }
        Answer::Conflict(_) => AppendEntriesResponse::Conflict,
        Answer::HigherVote(higher) => {
            AppendEntriesResponse::HigherVote(vote(higher.vote.as_ref())?)
        }
    })
}

// ---- Leader transfer ----------------------------------------------------------------------------------------------------------

pub(super) fn transfer_leader_request(
    envelope: proto::Envelope,
    request: &TransferLeaderRequest<TypeConfig>,
) -> proto::TransferLeaderRequest {
    proto::TransferLeaderRequest {
        envelope: Some(envelope),
        from_leader: Some(vote_to_proto(request.from_leader())),
        last_log_id: request.last_log_id().map(log_id_to_proto),
    }
}

pub(super) fn transfer_leader_response(
    response: proto::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<TypeConfig>, CodecError> {
    use proto::transfer_leader_response::Result as Answer;
    Ok(match required("result of a leader transfer", response.result)? {
        Answer::Accepted(_) => Ok(()),
        Answer::VoteChanged(changed) => Err(TransferLeaderError::VoteChanged {
            expected: vote(changed.expected.as_ref())?,
            actual: vote(changed.actual.as_ref())?,
        }),
        Answer::LogNotFlushed(behind) => Err(TransferLeaderError::LogNotFlushed {
            expected: optional_log_id_from_proto(behind.expected.as_ref()),
            actual: optional_log_id_from_proto(behind.actual.as_ref()),
        }),
    })
}

// ---- Snapshots ----------------------------------------------------------------------------------------------------------------

pub(super) fn snapshot_start(
    envelope: proto::Envelope,
    vote: &Vote,
    snapshot: &Snapshot,
) -> proto::install_snapshot_request::Start {
    proto::install_snapshot_request::Start {
        envelope: Some(envelope),
        vote: Some(vote_to_proto(vote)),
        header: Some(snapshot_header_to_proto(&snapshot.meta)),
        size_bytes: snapshot.snapshot.size_bytes(),
    }
}

pub(super) fn snapshot_response(
    response: &proto::InstallSnapshotResponse,
) -> Result<SnapshotResponse<TypeConfig>, CodecError> {
    Ok(SnapshotResponse::new(vote(response.vote.as_ref())?))
}
