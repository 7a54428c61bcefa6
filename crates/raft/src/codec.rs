//! Between the consensus library's types and our protobuf, both ways.
//!
//! Only these messages reach a disk or another node, so that the library can change its types without changing what we have stored.
//! Decoding checks everything the library takes for granted: a message that breaks it is an error, never a panic.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::vote::RaftVote as _;
use prost::Message;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_types::{DirId, LogIndex, Uuid};

use crate::types::{
    Entry, Facts, LeaderId, LogId, Membership, Payload, Peer, SnapshotMeta, StoredMembership, Vote,
};

/// Bytes or a message that do not mean what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("{what} is not a readable message: {cause}")]
    Unreadable { what: &'static str, cause: String },
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("{what} is not valid: {cause}")]
    Invalid { what: &'static str, cause: String },
}

/// Decodes a whole buffer as one message.
pub(crate) fn decode<M: Message + Default>(
    what: &'static str,
    bytes: Bytes,
) -> Result<M, CodecError> {
    M::decode(bytes).map_err(|error| CodecError::Unreadable { what, cause: error.to_string() })
}

pub(crate) fn required<T>(what: &'static str, value: Option<T>) -> Result<T, CodecError> {
    value.ok_or(CodecError::Missing { what })
}

// ---- Positions and votes ------------------------------------------------------------------------------------------------------

pub(crate) fn log_id_to_proto(id: &LogId) -> proto::LogId {
    proto::LogId { term: id.leader_id.term, node_id: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id_from_proto(id: &proto::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.node_id }, index: id.index }
}

pub(crate) fn optional_log_id_to_proto(id: Option<&LogId>) -> Option<proto::LogId> {
    id.map(log_id_to_proto)
}

pub(crate) fn optional_log_id_from_proto(id: Option<&proto::LogId>) -> Option<LogId> {
    id.map(log_id_from_proto)
}

pub(crate) fn vote_to_proto(vote: &Vote) -> proto::Vote {
    proto::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_proto(vote: &proto::Vote) -> Vote {
    Vote::from_leader_id(LeaderId { term: vote.term, node_id: vote.node_id }, vote.committed)
}

// ---- Membership ---------------------------------------------------------------------------------------------------------------

pub(crate) fn peer_to_proto(node_id: u64, peer: &Peer) -> proto::Peer {
    proto::Peer {
        node_id,
        dir_id: Bytes::copy_from_slice(peer.dir_id.0.as_bytes()),
        endpoint: peer.endpoint.clone(),
    }
}

pub(crate) fn peer_from_proto(peer: &proto::Peer) -> Result<(u64, Peer), CodecError> {
    let dir_id = match <[u8; 16]>::try_from(peer.dir_id.as_ref()) {
        Ok(bytes) => DirId(Uuid::from_bytes(bytes)),
        Err(_) if peer.dir_id.is_empty() => DirId::ZERO,
        Err(_) => {
            let cause = format!("{} bytes, expected 16", peer.dir_id.len());
            return Err(CodecError::Invalid { what: "directory id of a peer", cause });
        }
    };
    Ok((peer.node_id, Peer { dir_id, endpoint: peer.endpoint.clone() }))
}

pub(crate) fn membership_to_proto(membership: &Membership) -> proto::Membership {
    let voter_sets = membership
        .get_joint_config()
        .iter()
        .map(|voters| proto::VoterSet { node_ids: voters.iter().copied().collect() })
        .collect();
    let peers = membership.nodes().map(|(id, peer)| peer_to_proto(*id, peer)).collect();
    proto::Membership { voter_sets, peers }
}

pub(crate) fn membership_from_proto(
    membership: &proto::Membership,
) -> Result<Membership, CodecError> {
    let voter_sets: Vec<BTreeSet<u64>> =
        membership.voter_sets.iter().map(|set| set.node_ids.iter().copied().collect()).collect();
    let peers: BTreeMap<u64, Peer> =
        membership.peers.iter().map(peer_from_proto).collect::<Result<_, _>>()?;
    Membership::new(voter_sets, peers)
        .map_err(|error| CodecError::Invalid { what: "membership", cause: error.to_string() })
}

pub(crate) fn stored_membership_to_proto(stored: &StoredMembership) -> proto::StoredMembership {
    proto::StoredMembership {
        log_id: optional_log_id_to_proto(stored.log_id().as_ref()),
        membership: Some(membership_to_proto(stored.membership())),
    }
}

/// An absent message is the membership before the first one.
pub(crate) fn stored_membership_from_proto(
    stored: Option<&proto::StoredMembership>,
) -> Result<StoredMembership, CodecError> {
    let Some(stored) = stored else { return Ok(StoredMembership::default()) };
    let membership = required("membership", stored.membership.as_ref())?;
    Ok(StoredMembership::new(
        optional_log_id_from_proto(stored.log_id.as_ref()),
        membership_from_proto(membership)?,
    ))
}

// ---- Entries ------------------------------------------------------------------------------------------------------------------

/// Facts are referenced, not copied.
pub(crate) fn entry_to_proto(entry: &Entry) -> proto::Entry {
    use proto::entry::Payload as Encoded;
    let payload = match &entry.payload {
        EntryPayload::Blank => Encoded::Blank(proto::Blank {}),
        EntryPayload::Normal(facts) => Encoded::Facts(proto::Facts { facts: facts.0.clone() }),
        EntryPayload::Membership(membership) => {
            Encoded::Membership(membership_to_proto(membership))
        }
    };
    proto::Entry { log_id: Some(log_id_to_proto(&entry.log_id)), payload: Some(payload) }
}

pub(crate) fn entry_from_proto(entry: proto::Entry) -> Result<Entry, CodecError> {
    use proto::entry::Payload as Encoded;
    let log_id = log_id_from_proto(&required("log id of an entry", entry.log_id)?);
    let payload = match required("payload of an entry", entry.payload)? {
        Encoded::Blank(_) => Payload::Blank,
        Encoded::Facts(facts) => Payload::Normal(Facts(facts.facts)),
        Encoded::Membership(membership) => Payload::Membership(membership_from_proto(&membership)?),
    };
    Ok(Entry { log_id, payload })
}

// ---- Snapshots ----------------------------------------------------------------------------------------------------------------

/// `epoch` is known to whoever reads or writes the file; zero where a snapshot is only offered.
pub(crate) fn snapshot_header_to_proto(
    meta: &SnapshotMeta,
    epoch: LogIndex,
) -> proto::SnapshotHeader {
    proto::SnapshotHeader {
        format: crate::snapshot::FORMAT,
        last: optional_log_id_to_proto(meta.last_log_id.as_ref()),
        membership: Some(stored_membership_to_proto(&meta.last_membership)),
        epoch: epoch.0,
    }
}

pub(crate) fn snapshot_header_from_proto(
    header: &proto::SnapshotHeader,
) -> Result<SnapshotMeta, CodecError> {
    Ok(SnapshotMeta {
        last_log_id: optional_log_id_from_proto(header.last.as_ref()),
        last_membership: stored_membership_from_proto(header.membership.as_ref())?,
    })
}
