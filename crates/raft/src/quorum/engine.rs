//! The library's handle, whatever the state machine's and the transport's types: everything a quorum asks of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::metrics::WaitError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{ChangeMembers, Instant as _, Raft, RaftMetrics, ReadPolicy};
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_types::{LogIndex, NodeId};

use super::change::ChangeError;
use super::node_id_of;
use crate::apply::Applier;
use crate::error::{PeerError, ProposeError, ReadError, StartError};
use crate::machine::StateMachine;
use crate::network::{Member, Transport, TransportError};
use crate::types::{Facts, Peer, Snapshot, TypeConfig, Vote};

/// How long a snapshot on request waits for one that is being built, and how often it then asks again.
const SNAPSHOT_TRY_INTERVAL: Duration = Duration::from_millis(100);
const SNAPSHOT_TRIES_MAX: u32 = 600;

pub(super) type BoxFuture<'a, T> = futures_util::future::BoxFuture<'a, T>;

pub(super) type Metrics =
    openraft::type_config::alias::WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>;

/// What changes of the membership there are.
#[derive(Debug, Clone)]
pub(super) enum Change {
    AddLearner(Member),
    /// A learner becomes a voter.
    Promote(u64),
    /// A voter or learner is no member any more.
    Remove(u64),
    /// The same member is reached elsewhere.
    Move(Member),
}

pub(super) trait Engine: Send + Sync {
    fn propose(&self, facts: Facts) -> BoxFuture<'_, Result<LogIndex, ProposeError>>;
    fn ensure_linearizable(&self) -> BoxFuture<'_, Result<LogIndex, ReadError>>;
    fn snapshot(&self) -> BoxFuture<'_, Result<LogIndex, ReadError>>;
    fn shutdown(&self) -> BoxFuture<'_, ()>;

    fn is_initialised(&self) -> BoxFuture<'_, Result<bool, StartError>>;
    /// Voters and learners of the newest membership in the log, committed or not.
    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>, StartError>>;
    fn initialise(&self, voters: Vec<Member>) -> BoxFuture<'_, Result<(), StartError>>;
    fn allow_elections(&self);
    fn elect(&self) -> BoxFuture<'_, Result<(), StartError>>;
    /// Time since a majority last confirmed this leader; `None` if it is none.
    fn unconfirmed_for(&self) -> Option<Duration>;

    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), ChangeError>>;
    fn transfer_leadership(&self, target: u64) -> BoxFuture<'_, Result<(), ChangeError>>;

    fn identify<'a>(
        &'a self,
        endpoint: &'a str,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<proto::IdentifyResponse, TransportError>>;

    fn append_entries(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<AppendEntriesResponse<TypeConfig>, PeerError>>;
    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, PeerError>>;
    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, PeerError>>;
    fn take_leadership(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<TransferLeaderResponse<TypeConfig>, PeerError>>;
    fn install_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, Result<SnapshotResponse<TypeConfig>, PeerError>>;
}

struct Running<M: StateMachine, T> {
    raft: Raft<TypeConfig, Applier<M>>,
    transport: T,
}

pub(super) fn new<M: StateMachine, T: Transport>(
    raft: Raft<TypeConfig, Applier<M>>,
    transport: T,
) -> Box<dyn Engine> {
    Box::new(Running { raft, transport })
}

impl<M: StateMachine, T: Transport> Engine for Running<M, T> {
    fn propose(&self, facts: Facts) -> BoxFuture<'_, Result<LogIndex, ProposeError>> {
        Box::pin(async move {
            match self.raft.client_write(facts).await {
                Ok(written) => Ok(LogIndex(written.log_id.index)),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                    Err(ProposeError::NotLeader { leader: leader_of(&to) })
                }
                Err(error) => Err(ProposeError::OutcomeUnknown { cause: error.to_string() }),
            }
        })
    }

    fn ensure_linearizable(&self) -> BoxFuture<'_, Result<LogIndex, ReadError>> {
        Box::pin(async move {
            use LinearizableReadError::{ForwardToLeader, QuorumNotEnough};
            match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
                Ok(read) => Ok(LogIndex(read.log_id().index)),
                Err(RaftError::APIError(ForwardToLeader(to))) => {
                    Err(ReadError::NotLeader { leader: leader_of(&to) })
                }
                Err(RaftError::APIError(QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
                Err(RaftError::Fatal(error)) => {
                    Err(ReadError::Stopped { cause: error.to_string() })
                }
            }
        })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<LogIndex, ReadError>> {
        Box::pin(async move {
            let failed = |cause: String| ReadError::Stopped { cause };
            let raft = &self.raft;
            let wanted = raft.metrics().borrow_watched().last_applied.map_or(0, |id| id.index);
            for _ in 0..SNAPSHOT_TRIES_MAX {
                // While an earlier snapshot is being built, the request is dropped.
                raft.trigger().snapshot().await.map_err(|error| failed(error.to_string()))?;
                let built = raft
                    .wait(Some(SNAPSHOT_TRY_INTERVAL))
                    .metrics(|now| now.snapshot.is_some_and(|id| id.index >= wanted), "snapshot")
                    .await;
                match built {
                    Ok(now) => return Ok(LogIndex(now.snapshot.map_or(0, |id| id.index))),
                    Err(WaitError::Timeout(..)) => {}
                    Err(WaitError::ShuttingDown) => return Err(failed("shutting down".to_owned())),
                }
            }
            Err(failed("no snapshot was built in time".to_owned()))
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.raft.shutdown().await {
                tracing::warn!(%error, "the consensus engine did not end cleanly");
            }
        })
    }

    fn is_initialised(&self) -> BoxFuture<'_, Result<bool, StartError>> {
        Box::pin(
            async move { self.raft.is_initialized().await.map_err(|error| not_started(&error)) },
        )
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>, StartError>> {
        Box::pin(async move {
            let members = |membership: &crate::types::Membership| {
                let members = membership
                    .nodes()
                    .map(|(id, peer)| Member { node_id: *id, peer: peer.clone() });
                members.collect()
            };
            self.raft
                .with_raft_state(move |state| {
                    members(state.membership_state.effective().membership())
                })
                .await
                .map_err(|error| not_started(&error))
        })
    }

    fn initialise(&self, voters: Vec<Member>) -> BoxFuture<'_, Result<(), StartError>> {
        Box::pin(async move {
            let voters: BTreeMap<u64, Peer> =
                voters.into_iter().map(|voter| (voter.node_id, voter.peer)).collect();
            self.raft.initialize(voters).await.map_err(|error| not_started(&error))
        })
    }

    fn allow_elections(&self) {
        self.raft.runtime_config().elect(true);
    }

    fn elect(&self) -> BoxFuture<'_, Result<(), StartError>> {
        Box::pin(async move {
            self.raft.trigger().elect(false).await.map_err(|error| not_started(&error))
        })
    }

    fn unconfirmed_for(&self) -> Option<Duration> {
        Some(self.raft.as_leader().ok()?.last_quorum_acked()?.elapsed())
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), ChangeError>> {
        Box::pin(async move {
            let changed = match change {
                Change::AddLearner(member) => {
                    self.raft.add_learner(member.node_id, member.peer, false).await
                }
                Change::Promote(id) => {
                    let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
                    self.raft.change_membership(change, false).await
                }
                Change::Remove(id) => {
                    let ids = BTreeSet::from([id]);
                    let is_voter = self.raft.voter_ids().any(|voter| voter == id);
                    let change = match is_voter {
                        true => ChangeMembers::RemoveVoters(ids),
                        false => ChangeMembers::RemoveNodes(ids),
                    };
                    self.raft.change_membership(change, false).await
                }
                Change::Move(member) => {
                    let nodes = BTreeMap::from([(member.node_id, member.peer)]);
                    self.raft.change_membership(ChangeMembers::SetNodes(nodes), true).await
                }
            };
            match changed {
                Ok(_) => Ok(()),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                    Err(ChangeError::NotLeader { leader: leader_of(&to) })
                }
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                    Err(refused_change(&error))
                }
                Err(error) => Err(ChangeError::OutcomeUnknown { cause: error.to_string() }),
            }
        })
    }

    fn transfer_leadership(&self, target: u64) -> BoxFuture<'_, Result<(), ChangeError>> {
        Box::pin(async move {
            let transferred = self.raft.trigger().transfer_leader(target).await;
            transferred.map_err(|error| ChangeError::OutcomeUnknown { cause: error.to_string() })
        })
    }

    fn identify<'a>(
        &'a self,
        endpoint: &'a str,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<proto::IdentifyResponse, TransportError>> {
        Box::pin(self.transport.identify(endpoint, deadline))
    }

    fn append_entries(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<AppendEntriesResponse<TypeConfig>, PeerError>> {
        Box::pin(
            async move { self.raft.append_entries(request).await.map_err(|error| stopped(&error)) },
        )
    }

    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, PeerError>> {
        Box::pin(async move { self.raft.vote(request).await.map_err(|error| stopped(&error)) })
    }

    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<VoteResponse<TypeConfig>, PeerError>> {
        Box::pin(async move { self.raft.pre_vote(request).await.map_err(|error| stopped(&error)) })
    }

    fn take_leadership(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> BoxFuture<'_, Result<TransferLeaderResponse<TypeConfig>, PeerError>> {
        Box::pin(async move {
            self.raft.handle_transfer_leader(request).await.map_err(|error| stopped(&error))
        })
    }

    fn install_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, Result<SnapshotResponse<TypeConfig>, PeerError>> {
        Box::pin(async move {
            let installed = self.raft.install_full_snapshot(vote, snapshot).await;
            installed.map_err(|error| stopped(&error))
        })
    }
}

fn not_started(error: &dyn std::fmt::Display) -> StartError {
    StartError::Engine(error.to_string())
}

fn stopped(error: &dyn std::fmt::Display) -> PeerError {
    PeerError::Stopped(error.to_string())
}

fn refused_change(error: &ChangeMembershipError<crate::types::LeaderId, u64>) -> ChangeError {
    match error {
        ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
            ChangeError::UnderWay
        }
        ChangeMembershipError::EmptyMembership(_) => {
            ChangeError::WouldLoseQuorum { cause: "nobody would be left".to_owned() }
        }
        ChangeMembershipError::LearnerNotFound(missing) => {
            ChangeError::Unknown { node_id: missing.node_id }
        }
        other => ChangeError::Refused { cause: other.to_string() },
    }
}

pub(super) fn leader_of(forward: &ForwardToLeader<TypeConfig>) -> Option<NodeId> {
    forward.leader_id.and_then(node_id_of)
}
