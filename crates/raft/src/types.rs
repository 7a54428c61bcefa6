//! The consensus library's types as this system instantiates them.
//!
//! A leader is known by term *and* node: two nodes may lead in one term, the one with the higher id after the other. So a term alone
//! is no fencing number; a [`LogId`] or the index of a leader's first entry is.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_adv;
use thalweg_types::DirId;

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Facts,
        R = (),
        NodeId = u64,
        Node = Peer,
        AsyncRuntime = crate::runtime::Runtime,
);

pub(crate) type LeaderId = leader_id_adv::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, Peer>;
pub(crate) type Payload = openraft::EntryPayload<Facts, u64, Peer>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Peer>;
pub(crate) type Snapshot = openraft::Snapshot<LeaderId, u64, Peer, crate::snapshot::SnapshotFile>;

/// Facts that commit and apply together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts(pub(crate) Vec<Bytes>);

impl Facts {
    pub(crate) fn size_bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} facts, {} bytes", self.0.len(), self.size_bytes())
    }
}

/// How to reach a member of the quorum, and which disk it votes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Zero while not known.
    pub dir_id: DirId,
    /// Where its Raft service listens; empty when no other node needs to reach it.
    pub endpoint: String,
}
