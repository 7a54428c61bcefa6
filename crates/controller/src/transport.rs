//! The way to other voters: gRPC, one connection each.
//!
//! A connection is opened at the first call and again after every loss. A call that is not answered within its deadline is given up; the
//! quorum decides whether to try again. A snapshot goes as a stream of pieces, read from the disk as the receiver takes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use parking_lot::Mutex;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_proto::internal::raft::v1::install_snapshot_request::{Message, Start};
use thalweg_proto::internal::raft::v1::raft_client::RaftClient;
use thalweg_raft::{Member, SnapshotFile, Transport, TransportError};
use thalweg_rpc::Error as RpcError;
use thalweg_types::ErrorCode;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// Largest message between voters: entries up to one proposal's limit, and what frames them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2 * thalweg_raft::PROPOSAL_BYTES_MAX;

/// Bytes of a snapshot in one message.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces read ahead of the receiver.
const PIECES_READY_MAX: usize = 4;

/// Channels to all voters. Cheap to clone; clones share the connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct GrpcTransport {
    /// By endpoint. Voters are few, and their addresses change rarely.
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl GrpcTransport {
    fn client(&self, endpoint: &str) -> Result<RaftClient<Channel>, TransportError> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(endpoint) {
            Some(channel) => channel.clone(),
            None => {
                let channel = thalweg_rpc::channel(endpoint)
                    .map_err(|error| TransportError::Unreachable(error.to_string()))?;
                channels.insert(endpoint.to_owned(), channel.clone());
                channel
            }
        };
        Ok(RaftClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

impl Transport for GrpcTransport {
    async fn append_entries(
        &self,
        target: &Member,
        request: proto::AppendEntriesRequest,
        deadline: Duration,
    ) -> Result<proto::AppendEntriesResponse, TransportError> {
        let mut client = self.client(&target.peer.endpoint)?;
        within(deadline, client.append_entries(timed(request, deadline))).await
    }

    async fn vote(
        &self,
        target: &Member,
        request: proto::VoteRequest,
        deadline: Duration,
    ) -> Result<proto::VoteResponse, TransportError> {
        let mut client = self.client(&target.peer.endpoint)?;
        within(deadline, client.vote(timed(request, deadline))).await
    }

    async fn pre_vote(
        &self,
        target: &Member,
        request: proto::VoteRequest,
        deadline: Duration,
    ) -> Result<proto::VoteResponse, TransportError> {
        let mut client = self.client(&target.peer.endpoint)?;
        within(deadline, client.pre_vote(timed(request, deadline))).await
    }

    async fn transfer_leader(
        &self,
        target: &Member,
        request: proto::TransferLeaderRequest,
        deadline: Duration,
    ) -> Result<proto::TransferLeaderResponse, TransportError> {
        let mut client = self.client(&target.peer.endpoint)?;
        within(deadline, client.transfer_leader(timed(request, deadline))).await
    }

    async fn install_snapshot(
        &self,
        target: &Member,
        start: Start,
        file: SnapshotFile,
        deadline: Duration,
    ) -> Result<proto::InstallSnapshotResponse, TransportError> {
        let mut client = self.client(&target.peer.endpoint)?;
        let (sender, receiver) = mpsc::channel(PIECES_READY_MAX);
        // Ends with the call: then nobody receives any more.
        tokio::task::spawn_blocking(move || send_pieces(start, &file, &sender));
        let pieces = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|message| (message, receiver))
        });
        within(deadline, client.install_snapshot(timed(pieces, deadline))).await
    }

    async fn identify(
        &self,
        endpoint: &str,
        deadline: Duration,
    ) -> Result<proto::IdentifyResponse, TransportError> {
        let mut client = self.client(endpoint)?;
        within(deadline, client.identify(timed(proto::IdentifyRequest {}, deadline))).await
    }
}

/// A file that cannot be read ends the stream early, and the receiver refuses the rest of it.
fn send_pieces(
    start: Start,
    file: &SnapshotFile,
    sender: &mpsc::Sender<proto::InstallSnapshotRequest>,
) {
    let message = |message| proto::InstallSnapshotRequest { message: Some(message) };
    if sender.blocking_send(message(Message::Start(start))).is_err() {
        return;
    }
    let mut position = 0;
    while position < file.size_bytes() {
        match read_piece(file, position) {
            Ok(piece) => {
                position += piece.len() as u64;
                if sender.blocking_send(message(Message::Piece(piece))).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot read a snapshot to send it");
                return;
            }
        }
    }
}

fn read_piece(file: &SnapshotFile, position: u64) -> std::io::Result<Bytes> {
    let left = usize::try_from(file.size_bytes() - position).unwrap_or(usize::MAX);
    let mut piece = BytesMut::zeroed(left.min(PIECE_BYTES));
    file.read_exact_at(&mut piece, position)?;
    Ok(piece.freeze())
}

fn timed<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, TransportError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failure(status)),
        Err(_) => Err(TransportError::DeadlineExceeded),
    }
}

fn failure(status: Status) -> TransportError {
    let code = status.code();
    let error = RpcError::from(status);
    match (code, error.code) {
        // Somebody else listens there, or it knows this member under another disk: no use in trying again soon.
        (_, ErrorCode::InvalidVoterKey) => TransportError::Unreachable(error.to_string()),
        (Code::Unavailable, _) => TransportError::Unreachable(error.to_string()),
        (Code::DeadlineExceeded | Code::Cancelled, _) => TransportError::DeadlineExceeded,
        _ => TransportError::Failed(error.to_string()),
    }
}
