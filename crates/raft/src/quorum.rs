//! One member of the controller quorum: what its owner sees of it.
//!
//! Start finds the vote, the log, the snapshot and the stored state, checks that they belong together, and campaigns. Nothing is served
//! from what was found: only when a leader of this life has applied an entry of its own term is it known what was committed before (C3),
//! and only then does [`Leadership`] say so.

mod open;

#[cfg(test)]
pub(crate) use open::{Opened, open};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::metrics::WaitError;
use openraft::{Config, Raft, RaftMetrics, ReadPolicy, SnapshotPolicy};
use thalweg_env::fs::Fs;
use thalweg_types::{DirId, LogIndex, NodeId};
use tokio::sync::{Semaphore, watch};

use crate::apply::Applier;
use crate::error::{ProposeError, ReadError, StartError};
use crate::kv::{KvHandle, KvKind, KvThread};
use crate::log::{FlusherThread, LogCounters};
use crate::machine::StateMachine;
use crate::network::{Member, Network, NoPeers};
use crate::types::{Facts, Peer, TypeConfig};

/// Facts of one proposal together: a topic with tens of thousands of partitions fits, and a follower's message stays small.
pub const PROPOSAL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Proposals between hand-over and apply; more wait outside. Keeps the group that one flush covers large and memory bounded.
const PROPOSALS_IN_FLIGHT_MAX: usize = 4096;

/// A quorum of one elects itself at once; a disk that takes longer than this for a handful of small writes is broken.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(30);

/// Between members: a leader is missed after some lost heartbeats, not after one.
const HEARTBEAT_MS: u64 = 150;
const ELECTION_TIMEOUT_MS: std::ops::Range<u64> = 750..1500;

/// A snapshot may be large and the link slow.
const INSTALL_SNAPSHOT_TIMEOUT_MS: u64 = 60_000;

/// How long a snapshot on request waits for one that is being built, and how often it then asks again.
const SNAPSHOT_TRY_INTERVAL: Duration = Duration::from_millis(100);
const SNAPSHOT_TRIES_MAX: u32 = 600;

/// Purging costs a flush: not for a handful of entries.
const PURGE_BATCH_ENTRIES: u64 = 256;

/// How to start a member.
#[derive(Debug, Clone)]
pub struct QuorumOptions {
    /// The member's own directory; created if missing.
    pub dir: PathBuf,
    /// Where log and snapshots live. With a simulated one, choose [`KvKind::Memory`].
    pub fs: Arc<dyn Fs>,
    pub node_id: NodeId,
    /// The disk this member votes from; zero while unknown.
    pub dir_id: DirId,
    pub kv: KvKind,
    /// A file of the log is closed at this size and another begun.
    pub log_file_bytes_max: u64,
    /// Entries after which a snapshot is taken.
    pub snapshot_after_entries: u64,
    /// Entries kept behind a snapshot, so that a member slightly behind need not load it.
    pub entries_kept: u64,
}

impl QuorumOptions {
    pub fn new(dir: impl Into<PathBuf>, fs: Arc<dyn Fs>, node_id: NodeId) -> Self {
        Self {
            dir: dir.into(),
            fs,
            node_id,
            dir_id: DirId::ZERO,
            kv: KvKind::Sled,
            log_file_bytes_max: 16 * 1024 * 1024,
            snapshot_after_entries: 5000,
            entries_kept: 1000,
        }
    }
}

/// Who leads, as this member knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// No leader is known, or this member leads but has not applied an entry of its own term yet: nothing may be served.
    Undecided,
    Following {
        leader: NodeId,
        term: u64,
    },
    /// This member leads and has applied an entry of its term in this life: everything committed before is applied too.
    Leading {
        term: u64,
    },
    /// The member has stopped, by request or by a failure; it does not come back in this process.
    Stopped,
}

/// A running member. Cheap to share behind an `Arc`; dropped without [`Quorum::shutdown`] it stops on its own a little later.
pub struct Quorum {
    node_id: NodeId,
    /// Proposals go through a closure, so that the type of the state machine does not spread to whoever holds a quorum.
    engine: Box<dyn Engine>,
    leadership: watch::Receiver<Leadership>,
    in_flight: Semaphore,
    counters: Arc<LogCounters>,
    threads: parking_lot::Mutex<Option<Threads>>,
}

/// What a shutdown must see end.
struct Threads {
    kv: KvHandle,
    kv_thread: KvThread,
    log_thread: FlusherThread,
}

impl Quorum {
    /// Starts a quorum of one and returns once it leads and serves. An empty directory becomes a new quorum; otherwise everything that
    /// was committed is found again.
    pub async fn start<M: StateMachine>(
        options: QuorumOptions,
        machine: M,
    ) -> Result<Self, StartError> {
        let node_id = u64::try_from(options.node_id.0)
            .map_err(|_| StartError::InvalidNodeId { node_id: options.node_id })?;
        let source =
            Member { node_id, peer: Peer { dir_id: options.dir_id, endpoint: String::new() } };
        let opening = options.clone();
        let opened = tokio::task::spawn_blocking(move || self::open::open(&opening, machine))
            .await
            .map_err(|error| StartError::Engine(error.to_string()))??;
        let network = Network::new(NoPeers, source.clone());
        let raft = Raft::new(node_id, config(&options)?, network, opened.log, opened.applier)
            .await
            .map_err(|error| StartError::Engine(error.to_string()))?;
        let quorum = Self {
            node_id: options.node_id,
            leadership: follow_leadership(node_id, &raft),
            engine: Box::new(raft.clone()),
            in_flight: Semaphore::new(PROPOSALS_IN_FLIGHT_MAX),
            counters: opened.counters,
            threads: parking_lot::Mutex::new(Some(opened.threads)),
        };
        let led = match campaign(&options, &raft, source).await {
            Ok(()) => quorum.wait_for_recovery(RECOVERY_DEADLINE).await,
            Err(error) => Err(error),
        };
        if let Err(error) = led {
            quorum.shutdown().await;
            return Err(error);
        }
        Ok(quorum)
    }

    /// Proposes facts that commit and apply together or not at all. Returns their position after both.
    ///
    /// Dropping the future leaves the outcome unknown.
    pub async fn propose(&self, facts: Vec<Bytes>) -> Result<LogIndex, ProposeError> {
        let facts = Facts(facts);
        let size_bytes = facts.size_bytes();
        if size_bytes > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge { size_bytes, size_bytes_max: PROPOSAL_BYTES_MAX });
        }
        let stopped = |cause: &str| ProposeError::Stopped { cause: cause.to_owned() };
        let _permit = self.in_flight.acquire().await.map_err(|_| stopped("shut down"))?;
        if *self.leadership.borrow() == Leadership::Stopped {
            return Err(stopped("see the log for the reason"));
        }
        self.engine.propose(facts).await
    }

    /// Who leads. A value may be skipped, the latest never.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Returns when this member is still the leader and has applied everything committed by now: a read after it sees the latest.
    pub async fn ensure_linearizable(&self) -> Result<LogIndex, ReadError> {
        self.engine.ensure_linearizable().await
    }

    /// Returns when this member may serve, as leader.
    pub async fn wait_for_recovery(&self, deadline: Duration) -> Result<(), StartError> {
        let mut leadership = self.leadership();
        let decided = leadership
            .wait_for(|now| matches!(now, Leadership::Leading { .. } | Leadership::Stopped));
        match tokio::time::timeout(deadline, decided).await {
            Ok(Ok(now)) if *now != Leadership::Stopped => Ok(()),
            Ok(_) => Err(StartError::Engine("it stopped; see the log for the reason".to_owned())),
            Err(_) => Err(StartError::NoLeader { waited_ms: deadline.as_millis() }),
        }
    }

    /// Takes a snapshot now, whatever the number of entries since the last one, and returns its last position when it is on disk.
    pub async fn snapshot(&self) -> Result<LogIndex, ReadError> {
        self.engine.snapshot().await
    }

    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// What the log has written in this life.
    pub fn log_counters(&self) -> &LogCounters {
        &self.counters
    }

    /// Stops the member: proposals end, the stored state and the log are flushed and closed. A second call does nothing.
    pub async fn shutdown(&self) {
        self.in_flight.close();
        self.engine.shutdown().await;
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            drop(threads.kv);
            threads.kv_thread.close().await;
            threads.log_thread.close().await;
        }
    }
}

fn config(options: &QuorumOptions) -> Result<Arc<Config>, StartError> {
    let config = Config {
        cluster_name: "thalweg".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_TIMEOUT_MS.start,
        election_timeout_max: ELECTION_TIMEOUT_MS.end,
        install_snapshot_timeout: INSTALL_SNAPSHOT_TIMEOUT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_after_entries),
        max_in_snapshot_log_to_keep: options.entries_kept,
        purge_batch_size: PURGE_BATCH_ENTRIES.min(options.snapshot_after_entries).max(1),
        enable_pre_vote: Some(true),
        // A restarted leader goes through an election and a new term: only that proves what was committed (C3).
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| StartError::Engine(error.to_string()))
}

/// Makes a new quorum of one, or takes the lead of the one that is there, without waiting for an election timeout.
async fn campaign<M: StateMachine>(
    options: &QuorumOptions,
    raft: &Raft<TypeConfig, Applier<M>>,
    member: Member,
) -> Result<(), StartError> {
    let engine = |error: &dyn std::fmt::Display| StartError::Engine(error.to_string());
    if !raft.is_initialized().await.map_err(|error| engine(&error))? {
        let members = BTreeMap::from([(member.node_id, member.peer)]);
        return raft.initialize(members).await.map_err(|error| engine(&error));
    }
    let voters: Vec<u64> = raft.voter_ids().collect();
    if voters != [member.node_id] {
        return Err(StartError::NotAMember {
            dir: options.dir.clone(),
            node_id: options.node_id,
            found: format!("its voters are {voters:?}"),
        });
    }
    raft.trigger().elect(false).await.map_err(|error| engine(&error))
}

// ---- Leadership ---------------------------------------------------------------------------------------------------------------

/// Follows the engine's own view until it ends.
fn follow_leadership<M: StateMachine>(
    node_id: u64,
    raft: &Raft<TypeConfig, Applier<M>>,
) -> watch::Receiver<Leadership> {
    let mut metrics = raft.metrics();
    let (publish, leadership) = watch::channel(Leadership::Undecided);
    tokio::spawn(async move {
        loop {
            let now = leadership_of(node_id, &metrics.borrow_watched());
            publish.send_if_modified(|before| std::mem::replace(before, now) != now);
            if now == Leadership::Stopped || metrics.changed().await.is_err() {
                publish.send_replace(Leadership::Stopped);
                return;
            }
        }
    });
    leadership
}

fn leadership_of(node_id: u64, metrics: &RaftMetrics<TypeConfig>) -> Leadership {
    if metrics.running_state.is_err() {
        return Leadership::Stopped;
    }
    let term = metrics.vote.leader_id.term;
    match metrics.current_leader {
        Some(leader) if leader == node_id => {
            let own_entry_applied =
                metrics.last_applied.is_some_and(|last| last.leader_id == metrics.vote.leader_id);
            if metrics.state.is_leader() && own_entry_applied {
                Leadership::Leading { term }
            } else {
                Leadership::Undecided
            }
        }
        Some(leader) => node_id_of(leader)
            .map_or(Leadership::Undecided, |leader| Leadership::Following { leader, term }),
        None => Leadership::Undecided,
    }
}

fn node_id_of(raft_id: u64) -> Option<NodeId> {
    i32::try_from(raft_id).ok().map(NodeId)
}

// ---- Engine -------------------------------------------------------------------------------------------------------------------

type BoxFuture<'a, T> = futures_util::future::BoxFuture<'a, T>;

/// The library's handle, whatever the state machine's type.
trait Engine: Send + Sync {
    fn propose(&self, facts: Facts) -> BoxFuture<'_, Result<LogIndex, ProposeError>>;
    fn ensure_linearizable(&self) -> BoxFuture<'_, Result<LogIndex, ReadError>>;
    fn snapshot(&self) -> BoxFuture<'_, Result<LogIndex, ReadError>>;
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

impl<M: StateMachine> Engine for Raft<TypeConfig, Applier<M>> {
    fn propose(&self, facts: Facts) -> BoxFuture<'_, Result<LogIndex, ProposeError>> {
        Box::pin(async move {
            match self.client_write(facts).await {
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
            match Raft::ensure_linearizable(self, ReadPolicy::ReadIndex).await {
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
            let wanted = self.metrics().borrow_watched().last_applied.map_or(0, |id| id.index);
            for _ in 0..SNAPSHOT_TRIES_MAX {
                // While an earlier snapshot is being built, the request is dropped.
                self.trigger().snapshot().await.map_err(|error| failed(error.to_string()))?;
                let built = self
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
            if let Err(error) = Raft::shutdown(self).await {
                tracing::warn!(%error, "the consensus engine did not end cleanly");
            }
        })
    }
}

fn leader_of(forward: &ForwardToLeader<TypeConfig>) -> Option<NodeId> {
    forward.leader_id.and_then(node_id_of)
}
