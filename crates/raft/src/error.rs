//! Why a quorum member does not start, and why a proposal did not end in a commit.

use std::io;
use std::path::{Path, PathBuf};

use thalweg_types::{DirId, NodeId, Outcome};

use crate::kv::KvError;
use crate::machine::CorruptState;
use crate::network::Member;

/// The member did not start. Nothing was changed that a later start would miss.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{dir} is in use by another process")]
    InUse { dir: PathBuf },

    /// A bad frame that was durable once: a vote or an acknowledged entry may be lost, so this directory must not vote.
    #[error(
        "the Raft log is damaged: {file} at byte {position}: {cause}. It held durable entries or votes there, so this node must not \
         vote with it. Do not edit the file. Restore the directory from a copy of this very node's disk, or move {dir} away and let the \
         node join again as a new member with a new identity"
    )]
    LogCorrupt { dir: PathBuf, file: PathBuf, position: u64, cause: String },

    /// The log starts behind what the stored state has, and no snapshot fills the gap.
    #[error(
        "the state up to log index {purged} is lost: the log starts behind it, and neither a readable snapshot nor the stored state \
         reaches that far ({found}). Restore {dir} from a copy of this node's disk, or move it away and let the node join again as a new \
         member with a new identity"
    )]
    StateLost { dir: PathBuf, purged: u64, found: String },

    /// The stored state knows entries that the log does not: the log was replaced or lost.
    #[error(
        "the stored state has applied log index {applied}, but the log ends at {last}: the log was lost or replaced, so this node \
         must not vote. Restore {dir} from a copy of this node's disk, or move it away and let the node join again as a new member with a \
         new identity"
    )]
    LogLost { dir: PathBuf, applied: u64, last: String },

    /// The directory has been a voter's, but its log is gone.
    #[error(
        "{dir} is a voter's, but the files of its log are gone, and with them its votes. Restore it from a copy of this very node's disk, \
         or move the whole directory away and let the node join again as a new member with a new node id"
    )]
    VoteLost { dir: PathBuf },

    /// The directory belongs to another member.
    #[error("{dir} holds the log of a quorum that node {node_id} is not a member of: {found}")]
    NotAMember { dir: PathBuf, node_id: NodeId, found: String },

    #[error(
        "{path} is damaged, so it is not known which voter this disk belongs to. Restore it from a copy of this very node's disk, or \
         move the whole directory away and let the node join again as a new member with a new node id"
    )]
    IdentityDamaged { path: PathBuf },

    /// A log without the file that says whose it is.
    #[error(
        "{dir} holds a voter's log, but quorum.meta beside it is gone, so it is not known whose it is. Restore the directory from a copy \
         of this very node's disk, or move it away and let the node join again as a new member with a new node id"
    )]
    IdentityLost { dir: PathBuf },

    /// The quorum knows this node id with another disk: what that disk has promised is not here.
    #[error(
        "node {node_id} is a member of the quorum with the disk {known}, but this disk is {found}. A voter's promises are on its disk, so \
         an id is never used again with another one. Bring the old disk back; or remove voter {node_id} from the quorum, and let this \
         node join as a new member with a node id that was never used (told by {told_by})"
    )]
    AnotherDisk { node_id: u64, known: DirId, found: DirId, told_by: String },

    #[error("a member of a quorum needs an identity for its disk, and none was given")]
    NoIdentity,

    #[error("{node_id} is not a node id that can vote")]
    InvalidNodeId { node_id: NodeId },

    #[error(transparent)]
    StoredState(#[from] KvError),

    /// Snapshot and log rebuilt a state that its owner cannot read.
    #[error(transparent)]
    StateUnreadable(#[from] CorruptState),

    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error("the consensus engine did not start: {0}")]
    Engine(String),

    #[error("no leader served within {waited_ms} ms")]
    NoLeader { waited_ms: u128 },
}

impl StartError {
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// A proposal did not end in a commit that this node saw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was appended; `leader` can take the proposal, if it is known.
    #[error("this node does not lead the quorum{}", leader.map(|node| format!("; node {node} does")).unwrap_or_default())]
    NotLeader { leader: Option<NodeId> },

    /// Nothing was appended.
    #[error("proposal of {size_bytes} bytes exceeds the limit of {size_bytes_max}")]
    TooLarge { size_bytes: usize, size_bytes_max: usize },

    /// The facts may have been committed, or may still be by another leader.
    #[error("the proposal's outcome is unknown: {cause}")]
    OutcomeUnknown { cause: String },

    /// The member had stopped before the proposal was handed in; nothing was appended.
    #[error("this quorum member has stopped: {cause}")]
    Stopped { cause: String },
}

impl ProposeError {
    /// Whether the facts may nevertheless have taken effect.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotLeader { .. } | Self::TooLarge { .. } | Self::Stopped { .. } => {
                Outcome::NotApplied
            }
            Self::OutcomeUnknown { .. } => Outcome::Unknown,
        }
    }
}

/// A read of the latest committed state is not possible here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("this node does not lead the quorum{}", leader.map(|node| format!("; node {node} does")).unwrap_or_default())]
    NotLeader { leader: Option<NodeId> },
    #[error("a majority of the quorum did not confirm this leader")]
    NoQuorum,
    #[error("this quorum member has stopped: {cause}")]
    Stopped { cause: String },
}

/// A call of another member was not carried out; nothing was changed by it, except where it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The call was meant for somebody else: another node, or this node with another disk.
    #[error("meant for node {} with disk {}, but this is node {} with disk {}", .target.node_id, .target.peer.dir_id, .own.node_id, .own.peer.dir_id)]
    NotTheTarget { target: Box<Member>, own: Box<Member> },

    /// The sender is a member, but not with this disk.
    #[error(
        "node {node_id} is a member with the disk {known}, not with {found}: a node id is not used again with another disk"
    )]
    AnotherDisk { node_id: u64, known: DirId, found: DirId },

    /// The message breaks a rule of the protocol.
    #[error("{0}")]
    Unreadable(String),

    #[error("another snapshot is being received")]
    Busy,

    /// What was received of a snapshot could not be stored.
    #[error("cannot store a snapshot: {0}")]
    Storage(String),

    /// It may have been carried out.
    #[error("this member has stopped: {0}")]
    Stopped(String),
}
