//! The network of a test: calls between members in one process, which can be lost, late, or cut off in either direction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_proto::internal::raft::v1::install_snapshot_request::Start;
use thalweg_raft::{Member, PeerError, Quorum, SnapshotFile, Transport, TransportError};

/// Bytes of a snapshot in one message: small, so that one has several.
const PIECE_BYTES: usize = 512;

/// All wires of a cluster. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Wires(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    members: BTreeMap<u64, Weak<Quorum>>,
    /// Source and target.
    cut: BTreeSet<(u64, u64)>,
    lost_percent: u64,
    delay_max: Duration,
    random: u64,
}

/// One member's end.
#[derive(Clone)]
pub(crate) struct Wire {
    wires: Wires,
    own_id: u64,
}

impl Wires {
    pub(crate) fn wire(&self, own_id: u64) -> Wire {
        Wire { wires: self.clone(), own_id }
    }

    pub(crate) fn plug_in(&self, id: u64, quorum: &Arc<Quorum>) {
        self.0.lock().members.insert(id, Arc::downgrade(quorum));
    }

    pub(crate) fn unplug(&self, id: u64) {
        self.0.lock().members.remove(&id);
    }

    /// Nothing gets from `source` to `target` any more.
    pub(crate) fn cut(&self, source: u64, target: u64) {
        self.0.lock().cut.insert((source, target));
    }

    /// Nothing gets to or from `id` any more.
    pub(crate) fn isolate(&self, id: u64, others: impl IntoIterator<Item = u64>) {
        for other in others {
            self.cut(id, other);
            self.cut(other, id);
        }
    }

    pub(crate) fn disturb(&self, lost_percent: u64, delay_max: Duration) {
        let mut state = self.0.lock();
        state.lost_percent = lost_percent;
        state.delay_max = delay_max;
    }

    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        state.cut.clear();
        state.lost_percent = 0;
        state.delay_max = Duration::ZERO;
    }

    /// One way of a message, with what may happen to it.
    async fn carry(&self, source: u64, target: u64) -> Result<(), TransportError> {
        let (arrives, delay) = {
            let mut state = self.0.lock();
            state.random =
                state.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let dice = state.random >> 33;
            let arrives =
                !state.cut.contains(&(source, target)) && dice % 100 >= state.lost_percent;
            let delay_us = u64::try_from(state.delay_max.as_micros()).unwrap();
            (arrives, Duration::from_micros(if delay_us == 0 { 0 } else { dice % delay_us }))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match arrives {
            true => Ok(()),
            // The sender waits in vain.
            false => std::future::pending().await,
        }
    }

    fn member(&self, id: u64) -> Result<Arc<Quorum>, TransportError> {
        let member = self.0.lock().members.get(&id).and_then(Weak::upgrade);
        member.ok_or_else(|| TransportError::Unreachable(format!("member {id} is down")))
    }
}

impl Wire {
    async fn call<T>(
        &self,
        target: u64,
        deadline: Duration,
        call: impl AsyncFnOnce(Arc<Quorum>) -> Result<T, PeerError>,
    ) -> Result<T, TransportError> {
        let carried = async {
            self.wires.carry(self.own_id, target).await?;
            let answer = call(self.wires.member(target)?).await;
            self.wires.carry(target, self.own_id).await?;
            answer.map_err(|error| TransportError::Failed(error.to_string()))
        };
        let answered = tokio::time::timeout(deadline, carried).await;
        answered.unwrap_or(Err(TransportError::DeadlineExceeded))
    }
}

impl Transport for Wire {
    async fn append_entries(
        &self,
        target: &Member,
        request: proto::AppendEntriesRequest,
        deadline: Duration,
    ) -> Result<proto::AppendEntriesResponse, TransportError> {
        let call = async |member: Arc<Quorum>| member.serve_append_entries(request).await;
        self.call(target.node_id, deadline, call).await
    }

    async fn vote(
        &self,
        target: &Member,
        request: proto::VoteRequest,
        deadline: Duration,
    ) -> Result<proto::VoteResponse, TransportError> {
        let call = async |member: Arc<Quorum>| member.serve_vote(request).await;
        self.call(target.node_id, deadline, call).await
    }

    async fn pre_vote(
        &self,
        target: &Member,
        request: proto::VoteRequest,
        deadline: Duration,
    ) -> Result<proto::VoteResponse, TransportError> {
        let call = async |member: Arc<Quorum>| member.serve_pre_vote(request).await;
        self.call(target.node_id, deadline, call).await
    }

    async fn transfer_leader(
        &self,
        target: &Member,
        request: proto::TransferLeaderRequest,
        deadline: Duration,
    ) -> Result<proto::TransferLeaderResponse, TransportError> {
        let call = async |member: Arc<Quorum>| member.serve_transfer_leader(request).await;
        self.call(target.node_id, deadline, call).await
    }

    async fn install_snapshot(
        &self,
        target: &Member,
        start: Start,
        file: SnapshotFile,
        deadline: Duration,
    ) -> Result<proto::InstallSnapshotResponse, TransportError> {
        let wire = self.clone();
        let call = async |member: Arc<Quorum>| {
            let mut receiver = member.receive_snapshot(&start)?;
            let mut position = 0;
            while position < file.size_bytes() {
                let left = usize::try_from(file.size_bytes() - position).unwrap();
                let mut piece = vec![0; left.min(PIECE_BYTES)];
                file.read_exact_at(&mut piece, position).unwrap();
                position += piece.len() as u64;
                // The wire may be cut in the middle.
                let carried = wire.wires.carry(wire.own_id, member.own().node_id).await;
                carried.map_err(|error| PeerError::Unreadable(error.to_string()))?;
                receiver.append(Bytes::from(piece)).await?;
            }
            member.install_snapshot(receiver).await
        };
        self.call(target.node_id, deadline, call).await
    }

    async fn identify(
        &self,
        endpoint: &str,
        deadline: Duration,
    ) -> Result<proto::IdentifyResponse, TransportError> {
        let id = endpoint.strip_prefix("member-").and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| TransportError::Unreachable(endpoint.to_owned()))?;
        let call = async |member: Arc<Quorum>| {
            member.identify().await.map_err(|error| PeerError::Stopped(error.to_string()))
        };
        self.call(id, deadline, call).await
    }
}
