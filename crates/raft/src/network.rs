//! What one member of the quorum says to another: the library's calls, turned into our messages and handed to a transport.
//!
//! Every message names the sender and the receiver it means, each with its disk, because a node id on an empty disk is not the voter
//! it claims to be. Pre-vote and leader transfer are passed through: the library's defaults would quietly switch them off. A call
//! that gets no answer within its deadline is an error, never a wait.

pub(crate) mod convert;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, RaftNetworkFactory, RaftNetworkV2};
use thalweg_proto::internal::raft::v1 as proto;

use crate::snapshot::SnapshotFile;
use crate::types::{Entry, Peer, Snapshot, TypeConfig, Vote};

/// Facts in one message to a follower, unless one entry alone has more.
const ENTRIES_BYTES_MAX: usize = 1024 * 1024;

/// A member, as another one knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub node_id: u64,
    pub peer: Peer,
}

/// Carries messages to other members. Implementations keep to the deadline they are given; they do not retry.
pub trait Transport: Clone + Send + Sync + 'static {
    fn append_entries(
        &self,
        target: &Member,
        request: proto::AppendEntriesRequest,
        deadline: Duration,
    ) -> impl Future<Output = Result<proto::AppendEntriesResponse, TransportError>> + Send;

    fn vote(
        &self,
        target: &Member,
        request: proto::VoteRequest,
        deadline: Duration,
    ) -> impl Future<Output = Result<proto::VoteResponse, TransportError>> + Send;

    fn pre_vote(
        &self,
        target: &Member,
        request: proto::VoteRequest,
        deadline: Duration,
    ) -> impl Future<Output = Result<proto::VoteResponse, TransportError>> + Send;

    fn transfer_leader(
        &self,
        target: &Member,
        request: proto::TransferLeaderRequest,
        deadline: Duration,
    ) -> impl Future<Output = Result<proto::TransferLeaderResponse, TransportError>> + Send;

    /// Sends `start`, then the bytes of the file in pieces. The file stays readable even when a newer snapshot replaces it.
    fn install_snapshot(
        &self,
        target: &Member,
        start: proto::install_snapshot_request::Start,
        file: SnapshotFile,
        deadline: Duration,
    ) -> impl Future<Output = Result<proto::InstallSnapshotResponse, TransportError>> + Send;

    /// Asks who is at an address, before it is known which member that is.
    fn identify(
        &self,
        endpoint: &str,
        deadline: Duration,
    ) -> impl Future<Output = Result<proto::IdentifyResponse, TransportError>> + Send;
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens there, now or at all: worth waiting before the next try.
    #[error("unreachable: {0}")]
    Unreachable(String),
    #[error("no answer within the deadline")]
    DeadlineExceeded,
    /// The connection broke, or the receiver refused or could not read the message.
    #[error("call failed: {0}")]
    Failed(String),
}

/// The transport of a quorum of one: there is nobody to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoPeers;

/// Makes one connection per member.
pub(crate) struct Network<T> {
    transport: T,
    source: Member,
}

/// The way to one member.
pub(crate) struct Connection<T> {
    transport: T,
    source: Member,
    target: Member,
}

impl<T> Network<T> {
    pub(crate) fn new(transport: T, source: Member) -> Self {
        Self { transport, source }
    }
}

// ---- Connection ---------------------------------------------------------------------------------------------------------------

impl<T: Transport> Connection<T> {
    fn envelope(&self) -> proto::Envelope {
        convert::envelope(&self.source, &self.target)
    }

    fn failed(
        &self,
        action: RPCTypes,
        deadline: Duration,
        error: TransportError,
    ) -> RPCError<TypeConfig> {
        match error {
            TransportError::Unreachable(_) => RPCError::Unreachable(Unreachable::new(&error)),
            TransportError::Failed(_) => unreadable(&error),
            TransportError::DeadlineExceeded => RPCError::Timeout(Timeout {
                action,
                id: self.source.node_id,
                target: self.target.node_id,
                timeout: deadline,
            }),
        }
    }
}

impl<T: Transport> RaftNetworkV2<TypeConfig> for Connection<T> {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let deadline = option.soft_ttl();
        let mut request = request;
        let rest_count = cut_to_size(&mut request.entries);
        let last = request.entries.last().map(|entry| entry.log_id);
        let request = convert::append_entries_request(self.envelope(), request);
        let response = self
            .transport
            .append_entries(&self.target, request, deadline)
            .await
            .map_err(|error| self.failed(RPCTypes::AppendEntries, deadline, error))?;
        match convert::append_entries_response(response).map_err(|error| unreadable(&error))? {
            AppendEntriesResponse::Success if rest_count > 0 => {
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            answer => Ok(answer),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let deadline = option.soft_ttl();
        let request = convert::vote_request(self.envelope(), &request);
        let response = self
            .transport
            .vote(&self.target, request, deadline)
            .await
            .map_err(|error| self.failed(RPCTypes::Vote, deadline, error))?;
        convert::vote_response(&response).map_err(|error| unreadable(&error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let deadline = option.soft_ttl();
        let request = convert::vote_request(self.envelope(), &request);
        let response = self
            .transport
            .pre_vote(&self.target, request, deadline)
            .await
            .map_err(|error| self.failed(RPCTypes::Vote, deadline, error))?;
        convert::vote_response(&response).map_err(|error| unreadable(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + openraft::OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let deadline = option.soft_ttl();
        let start = convert::snapshot_start(self.envelope(), &vote, &snapshot);
        let send =
            self.transport.install_snapshot(&self.target, start, snapshot.snapshot, deadline);
        let response = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answered = send => answered
                .map_err(|error| self.failed(RPCTypes::InstallSnapshot, deadline, error))?,
        };
        convert::snapshot_response(&response).map_err(|error| unreadable(&error).into())
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let deadline = option.soft_ttl();
        let request = convert::transfer_leader_request(self.envelope(), &request);
        let response = self
            .transport
            .transfer_leader(&self.target, request, deadline)
            .await
            .map_err(|error| self.failed(RPCTypes::TransferLeader, deadline, error))?;
        convert::transfer_leader_response(response).map_err(|error| unreadable(&error))
    }
}

/// Leaves what goes into one message: at least one entry, which alone fits, since proposals are bounded. Returns how many did not go.
fn cut_to_size(entries: &mut Vec<Entry>) -> usize {
    let mut size_bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        size_bytes += match &entry.payload {
            EntryPayload::Normal(facts) => facts.size_bytes(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        size_bytes <= ENTRIES_BYTES_MAX
    });
    let count = fitting.count().max(1).min(entries.len());
    entries.drain(count..).count()
}

fn unreadable(error: &(impl Error + 'static)) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(error))
}

// ---- Network ------------------------------------------------------------------------------------------------------------------

impl<T: Transport> RaftNetworkFactory<TypeConfig> for Network<T> {
    type Network = Connection<T>;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection<T> {
        Connection {
            transport: self.transport.clone(),
            source: self.source.clone(),
            target: Member { node_id: target, peer: node.clone() },
        }
    }
}

// ---- NoPeers ------------------------------------------------------------------------------------------------------------------

impl NoPeers {
    fn refuse<T>(target: &Member) -> Result<T, TransportError> {
        Err(TransportError::Unreachable(format!(
            "node {}: a quorum of one has no peers",
            target.node_id
        )))
    }
}

impl Transport for NoPeers {
    async fn append_entries(
        &self,
        target: &Member,
        _request: proto::AppendEntriesRequest,
        _deadline: Duration,
    ) -> Result<proto::AppendEntriesResponse, TransportError> {
        Self::refuse(target)
    }

    async fn vote(
        &self,
        target: &Member,
        _request: proto::VoteRequest,
        _deadline: Duration,
    ) -> Result<proto::VoteResponse, TransportError> {
        Self::refuse(target)
    }

    async fn pre_vote(
        &self,
        target: &Member,
        _request: proto::VoteRequest,
        _deadline: Duration,
    ) -> Result<proto::VoteResponse, TransportError> {
        Self::refuse(target)
    }

    async fn transfer_leader(
        &self,
        target: &Member,
        _request: proto::TransferLeaderRequest,
        _deadline: Duration,
    ) -> Result<proto::TransferLeaderResponse, TransportError> {
        Self::refuse(target)
    }

    async fn install_snapshot(
        &self,
        target: &Member,
        _start: proto::install_snapshot_request::Start,
        _file: SnapshotFile,
        _deadline: Duration,
    ) -> Result<proto::InstallSnapshotResponse, TransportError> {
        Self::refuse(target)
    }

    async fn identify(
        &self,
        endpoint: &str,
        _deadline: Duration,
    ) -> Result<proto::IdentifyResponse, TransportError> {
        Err(TransportError::Unreachable(format!("{endpoint}: a quorum of one has no peers")))
    }
}
