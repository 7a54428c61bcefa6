//! What other members ask of this one.
//!
//! Every call is checked before the library sees it (C2): it must be meant for this very member, by node id and disk, and a sender that
//! the membership knows must come with the disk it is known by. A sender that is not known is let through: a member that was away while
//! the membership changed learns of the change from exactly such a sender, which knows this disk's identity because the quorum told it.
//!
//! ```text
//! half a snapshot ──► a temporary file ──► checked whole ──► renamed, then loaded        (C4)
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_types::DirId;
use tokio::sync::OwnedSemaphorePermit;

use super::Quorum;
use crate::codec::{CodecError, membership_to_proto, peer_from_proto};
use crate::error::{PeerError, StartError};
use crate::network::{Member, convert};
use crate::snapshot::{Incoming, SnapshotError};
use crate::types::{Snapshot, SnapshotMeta, Vote};

/// Refused senders that are remembered, so that each is logged once. More than this are no mistake of an operator.
const REFUSED_MAX: usize = 64;

/// Largest snapshot that is received. Metadata of this size does not fit into memory.
const SNAPSHOT_BYTES_MAX: u64 = 16 << 30;

/// Tells the files of one life apart.
static INCOMING_COUNT: AtomicU64 = AtomicU64::new(0);

/// A snapshot on its way in. Let go of, it leaves nothing behind.
pub struct SnapshotReceiver {
    incoming: Option<Incoming>,
    vote: Vote,
    meta: SnapshotMeta,
    size_bytes: u64,
    _alone: OwnedSemaphorePermit,
}

impl Quorum {
    /// Who this is. The cluster's id is for the owner of the state to add.
    pub async fn identify(&self) -> Result<proto::IdentifyResponse, StartError> {
        let initialised = self.engine.is_initialised().await?;
        let metrics = self.metrics.borrow_watched();
        Ok(proto::IdentifyResponse {
            node_id: self.own.node_id,
            dir_id: Bytes::copy_from_slice(self.own.peer.dir_id.0.as_bytes()),
            cluster_id: Bytes::new(),
            initialised,
            membership: Some(membership_to_proto(metrics.membership_config.membership())),
        })
    }

    pub async fn serve_append_entries(
        &self,
        request: proto::AppendEntriesRequest,
    ) -> Result<proto::AppendEntriesResponse, PeerError> {
        self.check(request.envelope.as_ref())?;
        let request = convert::read_append_entries(request)?;
        let response = self.engine.append_entries(request).await?;
        *self.heard.lock() = Some(Instant::now());
        Ok(convert::write_append_response(response))
    }

    pub async fn serve_vote(
        &self,
        request: proto::VoteRequest,
    ) -> Result<proto::VoteResponse, PeerError> {
        let request = self.read_vote(&request)?;
        let response = self.engine.vote(request).await?;
        Ok(convert::write_vote_response(&response))
    }

    pub async fn serve_pre_vote(
        &self,
        request: proto::VoteRequest,
    ) -> Result<proto::VoteResponse, PeerError> {
        let request = self.read_vote(&request)?;
        let response = self.engine.pre_vote(request).await?;
        Ok(convert::write_vote_response(&response))
    }

    /// A candidate asks for itself only.
    fn read_vote(
        &self,
        request: &proto::VoteRequest,
    ) -> Result<openraft::raft::VoteRequest<crate::types::TypeConfig>, PeerError> {
        let source = self.check(request.envelope.as_ref())?;
        let request = convert::read_vote_request(request)?;
        let candidate = request.vote.leader_id.node_id;
        if candidate != source.node_id {
            let cause = format!("node {} asks for a vote for node {candidate}", source.node_id);
            return Err(PeerError::Unreadable(cause));
        }
        Ok(request)
    }

    pub async fn serve_transfer_leader(
        &self,
        request: proto::TransferLeaderRequest,
    ) -> Result<proto::TransferLeaderResponse, PeerError> {
        self.check(request.envelope.as_ref())?;
        let request = convert::read_transfer_leader(&request, self.own.node_id)?;
        let response = self.engine.take_leadership(request).await?;
        Ok(convert::write_transfer_response(response))
    }

    /// Begins to receive a snapshot: its pieces follow.
    pub fn receive_snapshot(
        &self,
        start: &proto::install_snapshot_request::Start,
    ) -> Result<SnapshotReceiver, PeerError> {
        self.check(start.envelope.as_ref())?;
        let (vote, meta) = convert::read_snapshot_start(start)?;
        if start.size_bytes > SNAPSHOT_BYTES_MAX {
            let cause = format!("a snapshot of {} bytes", start.size_bytes);
            return Err(PeerError::Unreadable(cause));
        }
        let alone = self.receiving.clone().try_acquire_owned().map_err(|_| PeerError::Busy)?;
        let incoming = self.snapshots.receive(INCOMING_COUNT.fetch_add(1, Ordering::Relaxed))?;
        let size_bytes = start.size_bytes;
        Ok(SnapshotReceiver { incoming: Some(incoming), vote, meta, size_bytes, _alone: alone })
    }

    /// Installs a snapshot whose pieces are all there. Until it is known to be whole, nothing is replaced by it.
    pub async fn install_snapshot(
        &self,
        mut receiver: SnapshotReceiver,
    ) -> Result<proto::InstallSnapshotResponse, PeerError> {
        let (incoming, offered) = (receiver.take()?, receiver.meta.clone());
        if incoming.size_bytes() != receiver.size_bytes {
            let found = incoming.size_bytes();
            let cause = format!("{found} bytes of a snapshot of {}", receiver.size_bytes);
            return Err(PeerError::Unreadable(cause));
        }
        let (incoming, checked) = on_blocking_thread(move || {
            let checked = incoming.finish(&offered);
            (incoming, checked)
        })
        .await?;
        self.check_snapshot_position(&receiver.meta)?;
        let snapshot = Snapshot { meta: receiver.meta.clone(), snapshot: checked? };
        let response = self.engine.install_snapshot(receiver.vote, snapshot).await;
        drop(incoming);
        Ok(convert::write_snapshot_response(&response?))
    }

    /// The library takes a snapshot that contradicts what is committed here for its own damage, and stops.
    fn check_snapshot_position(&self, meta: &SnapshotMeta) -> Result<(), PeerError> {
        let committed = self.metrics.borrow_watched().local_committed;
        match (committed, meta.last_log_id) {
            (Some(committed), Some(last)) if last > committed && last.index <= committed.index => {
                let cause = format!("a snapshot up to {last}, but {committed} is committed here");
                Err(PeerError::Unreadable(cause))
            }
            _ => Ok(()),
        }
    }

    /// Returns the sender.
    fn check(&self, envelope: Option<&proto::Envelope>) -> Result<Member, PeerError> {
        let missing = |what: &str| PeerError::Unreadable(format!("{what} of a message is missing"));
        let envelope = envelope.ok_or_else(|| missing("the envelope"))?;
        let read = |peer: Option<&proto::Peer>, what| {
            let (node_id, peer) = peer_from_proto(peer.ok_or_else(|| missing(what))?)?;
            Ok::<_, PeerError>(Member { node_id, peer })
        };
        let source = read(envelope.source.as_ref(), "the source")?;
        let target = read(envelope.target.as_ref(), "the target")?;
        let checked = self.check_members(&source, target);
        if let Err(error) = &checked {
            self.log_once(&source, error);
        }
        checked.map(|()| source)
    }

    fn check_members(&self, source: &Member, target: Member) -> Result<(), PeerError> {
        let own = &self.own;
        if target.node_id != own.node_id || target.peer.dir_id != own.peer.dir_id {
            let (target, own) = (Box::new(target), Box::new(own.clone()));
            return Err(PeerError::NotTheTarget { target, own });
        }
        let other_disk = |known: DirId| PeerError::AnotherDisk {
            node_id: source.node_id,
            known,
            found: source.peer.dir_id,
        };
        if source.node_id == own.node_id {
            return Err(other_disk(own.peer.dir_id));
        }
        let metrics = self.metrics.borrow_watched();
        match metrics.membership_config.membership().get_node(&source.node_id) {
            Some(known) if known.dir_id != source.peer.dir_id => Err(other_disk(known.dir_id)),
            _ => Ok(()),
        }
    }

    fn log_once(&self, source: &Member, error: &PeerError) {
        let mut refused = self.refused.lock();
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        if refused.insert((source.node_id, source.peer.dir_id)) {
            tracing::error!(node_id = source.node_id, %error, "refusing the messages of another controller");
        }
    }
}

impl SnapshotReceiver {
    /// The next bytes of the file. After an error there is no way on.
    pub async fn append(&mut self, piece: Bytes) -> Result<(), PeerError> {
        let mut incoming = self.take()?;
        let left = self.size_bytes.saturating_sub(incoming.size_bytes());
        if piece.len() as u64 > left {
            let cause = format!("more than the {} bytes of the snapshot", self.size_bytes);
            return Err(PeerError::Unreadable(cause));
        }
        let (incoming, appended) = on_blocking_thread(move || {
            let appended = incoming.append(&piece);
            (incoming, appended)
        })
        .await?;
        appended?;
        self.incoming = Some(incoming);
        Ok(())
    }

    fn take(&mut self) -> Result<Incoming, PeerError> {
        let ended = || PeerError::Storage("an earlier piece could not be stored".to_owned());
        self.incoming.take().ok_or_else(ended)
    }
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PeerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PeerError::Storage(error.to_string()))
}

impl From<CodecError> for PeerError {
    fn from(error: CodecError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<SnapshotError> for PeerError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Damaged { cause, .. } => Self::Unreadable(cause),
            error @ SnapshotError::Io { .. } => Self::Storage(error.to_string()),
        }
    }
}
