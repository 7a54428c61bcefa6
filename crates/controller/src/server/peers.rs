//! What other voters ask: handed to the quorum, which checks who asks and whom it means.

use std::time::Duration;

use thalweg_metadata_feed::codec::uuid_to_proto;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_proto::internal::raft::v1::install_snapshot_request::Message;
use thalweg_proto::internal::raft::v1::raft_server::Raft;
use thalweg_raft::PeerError;
use thalweg_rpc::Error as RpcError;
use thalweg_types::ErrorCode;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::Server;

/// How long the next piece of a snapshot may take: a sender that fell silent must not keep others from sending theirs.
const PIECE_TIME_MAX: Duration = Duration::from_secs(15);

#[tonic::async_trait]
impl Raft for Server {
    async fn append_entries(
        &self,
        request: Request<proto::AppendEntriesRequest>,
    ) -> Result<Response<proto::AppendEntriesResponse>, Status> {
        answer(self.quorum.serve_append_entries(request.into_inner()).await)
    }

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        answer(self.quorum.serve_vote(request.into_inner()).await)
    }

    async fn pre_vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        answer(self.quorum.serve_pre_vote(request.into_inner()).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderResponse>, Status> {
        answer(self.quorum.serve_transfer_leader(request.into_inner()).await)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::InstallSnapshotRequest>>,
    ) -> Result<Response<proto::InstallSnapshotResponse>, Status> {
        let mut pieces = request.into_inner();
        let Some(Message::Start(start)) = next(&mut pieces).await? else {
            return Err(unreadable("a snapshot begins with what it is"));
        };
        let mut receiver = self.quorum.receive_snapshot(&start).map_err(status)?;
        while let Some(message) = next(&mut pieces).await? {
            let Message::Piece(piece) = message else {
                return Err(unreadable("a snapshot begins once"));
            };
            receiver.append(piece).await.map_err(status)?;
        }
        answer(self.quorum.install_snapshot(receiver).await)
    }

    async fn identify(
        &self,
        _: Request<proto::IdentifyRequest>,
    ) -> Result<Response<proto::IdentifyResponse>, Status> {
        let identified = self.quorum.identify().await;
        let identified = identified.map_err(|error| PeerError::Stopped(error.to_string()));
        let cluster_id = self.state.feed.image().cluster_id();
        answer(identified.map(|who| proto::IdentifyResponse {
            cluster_id: cluster_id.map(|id| uuid_to_proto(id.0)).unwrap_or_default(),
            ..who
        }))
    }
}

/// `None`: there are no more.
async fn next(
    pieces: &mut Streaming<proto::InstallSnapshotRequest>,
) -> Result<Option<Message>, Status> {
    match timeout(PIECE_TIME_MAX, pieces.message()).await {
        Ok(Ok(Some(request))) => {
            request.message.map(Some).ok_or_else(|| unreadable("an empty piece of a snapshot"))
        }
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(RpcError::timed_out(PIECE_TIME_MAX).not_applied().into()),
    }
}

fn unreadable(message: &str) -> Status {
    RpcError::invalid_request(message).not_applied().into()
}

fn answer<T>(result: Result<T, PeerError>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(status)
}

fn status(error: PeerError) -> Status {
    let message = error.to_string();
    match error {
        PeerError::NotTheTarget { .. } | PeerError::AnotherDisk { .. } => {
            RpcError::new(ErrorCode::InvalidVoterKey, message).not_applied()
        }
        PeerError::Unreadable(_) => RpcError::invalid_request(message).not_applied(),
        PeerError::Busy => RpcError::new(ErrorCode::ThrottlingQuotaExceeded, message).not_applied(),
        PeerError::Storage(_) => RpcError::new(ErrorCode::KafkaStorageError, message).not_applied(),
        PeerError::Stopped(_) => RpcError::new(ErrorCode::BrokerNotAvailable, message),
    }
    .into()
}
