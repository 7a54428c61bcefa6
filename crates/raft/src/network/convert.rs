//! The calls between members, between the library's types and our messages, in both directions: what a connection sends, a member
//! reads.
//!
//! The library trusts a request to come from one like it: entries without gaps, of leaders that do not go back, under the vote of a
//! leader. What is read here is checked for that first.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_types::LogIndex;

use super::Member;
use crate::codec::{
    CodecError, entry_from_proto, entry_to_proto, log_id_to_proto, optional_log_id_from_proto,
    optional_log_id_to_proto, peer_to_proto, required, snapshot_header_from_proto,
    snapshot_header_to_proto, vote_from_proto, vote_to_proto,
};
use crate::types::{LogId, Snapshot, SnapshotMeta, TypeConfig, Vote};

pub(super) fn envelope(source: &Member, target: &Member) -> proto::Envelope {
    proto::Envelope {
        source: Some(peer_to_proto(source.node_id, &source.peer)),
        target: Some(peer_to_proto(target.node_id, &target.peer)),
    }
}

fn vote(vote: Option<&proto::Vote>) -> Result<Vote, CodecError> {
    Ok(vote_from_proto(required("vote", vote)?))
}

/// The vote of a leader: granted by a quorum.
fn leader_vote(found: Option<&proto::Vote>) -> Result<Vote, CodecError> {
    let found = vote(found)?;
    if found.committed {
        Ok(found)
    } else {
        Err(invalid("vote", "a leader whose vote no quorum has granted".to_owned()))
    }
}

fn invalid(what: &'static str, cause: String) -> CodecError {
    CodecError::Invalid { what, cause }
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

/// A candidate's vote: nobody has granted it yet.
pub(crate) fn read_vote_request(
    request: &proto::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, CodecError> {
    let candidate = vote(request.vote.as_ref())?;
    if candidate.committed {
        return Err(invalid("vote", "a candidate with a leader's vote".to_owned()));
    }
    let last_log_id = optional_log_id_from_proto(request.last_log_id.as_ref());
    let leadership_transfer = request.leadership_transfer;
    Ok(VoteRequest { vote: candidate, last_log_id, leadership_transfer })
}

pub(crate) fn write_vote_response(response: &VoteResponse<TypeConfig>) -> proto::VoteResponse {
    proto::VoteResponse {
        vote: Some(vote_to_proto(&response.vote)),
        granted: response.vote_granted,
        last_log_id: optional_log_id_to_proto(response.last_log_id.as_ref()),
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

pub(crate) fn read_append_entries(
    request: proto::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    let vote = leader_vote(request.vote.as_ref())?;
    let prev_log_id = optional_log_id_from_proto(request.previous.as_ref());
    let mut before = prev_log_id;
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let entry = entry_from_proto(entry)?;
        let expected = before.map_or(0, |before| before.index.saturating_add(1));
        let LogId { leader_id, index } = entry.log_id;
        if index != expected {
            let cause = format!("index {index} where {expected} was expected");
            return Err(invalid("entry", cause));
        }
        if before.is_some_and(|before| leader_id < before.leader_id) || leader_id > vote.leader_id {
            let cause = format!("of leader {leader_id} in an append of leader {}", vote.leader_id);
            return Err(invalid("entry", cause));
        }
        before = Some(entry.log_id);
        entries.push(entry);
    }
    let leader_commit = optional_log_id_from_proto(request.leader_committed.as_ref());
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn write_append_response(
    response: AppendEntriesResponse<TypeConfig>,
) -> proto::AppendEntriesResponse {
    use proto::append_entries_response as answer;
    let result = match response {
        AppendEntriesResponse::Success => answer::Result::Success(answer::Success {}),
        AppendEntriesResponse::PartialSuccess(last) => {
            let last = optional_log_id_to_proto(last.as_ref());
            answer::Result::PartialSuccess(answer::PartialSuccess { last })
        }
        AppendEntriesResponse::Conflict => answer::Result::Conflict(answer::Conflict {}),
        AppendEntriesResponse::HigherVote(vote) => {
            let vote = Some(vote_to_proto(&vote));
            answer::Result::HigherVote(answer::HigherVote { vote })
        }
    };
    proto::AppendEntriesResponse { result: Some(result) }
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

pub(crate) fn read_transfer_leader(
    request: &proto::TransferLeaderRequest,
    own_id: u64,
) -> Result<TransferLeaderRequest<TypeConfig>, CodecError> {
    let from = leader_vote(request.from_leader.as_ref())?;
    let last_log_id = optional_log_id_from_proto(request.last_log_id.as_ref());
    Ok(TransferLeaderRequest::new(from, own_id, last_log_id))
}

pub(crate) fn write_transfer_response(
    response: TransferLeaderResponse<TypeConfig>,
) -> proto::TransferLeaderResponse {
    use proto::transfer_leader_response as answer;
    let result = match response {
        Ok(()) => answer::Result::Accepted(answer::Accepted {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            answer::Result::VoteChanged(answer::VoteChanged {
                expected: Some(vote_to_proto(&expected)),
                actual: Some(vote_to_proto(&actual)),
            })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            answer::Result::LogNotFlushed(answer::LogNotFlushed {
                expected: optional_log_id_to_proto(expected.as_ref()),
                actual: optional_log_id_to_proto(actual.as_ref()),
            })
        }
    };
    proto::TransferLeaderResponse { result: Some(result) }
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
        header: Some(snapshot_header_to_proto(&snapshot.meta, LogIndex::ZERO)),
        size_bytes: snapshot.snapshot.size_bytes(),
    }
}

/// The leader's vote, and what the snapshot is said to hold.
pub(crate) fn read_snapshot_start(
    start: &proto::install_snapshot_request::Start,
) -> Result<(Vote, SnapshotMeta), CodecError> {
    let vote = leader_vote(start.vote.as_ref())?;
    let meta = snapshot_header_from_proto(required("snapshot header", start.header.as_ref())?)?;
    let last = required("last log id of a snapshot", meta.last_log_id)?;
    if last.leader_id > vote.leader_id {
        let cause = format!("it ends at {last}, beyond the leader's vote {vote}");
        return Err(invalid("snapshot", cause));
    }
    Ok((vote, meta))
}

pub(crate) fn write_snapshot_response(
    response: &SnapshotResponse<TypeConfig>,
) -> proto::InstallSnapshotResponse {
    proto::InstallSnapshotResponse { vote: Some(vote_to_proto(&response.vote)) }
}

pub(super) fn snapshot_response(
    response: &proto::InstallSnapshotResponse,
) -> Result<SnapshotResponse<TypeConfig>, CodecError> {
    Ok(SnapshotResponse::new(vote(response.vote.as_ref())?))
}
