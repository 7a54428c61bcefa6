//! One member of the controller quorum: what its owner sees of it.
//!
//! Start finds the vote, the log, the snapshot and the stored state, checks that they belong together, and campaigns. Nothing is served
//! from what was found: only when a leader of this life has applied an entry of its own term is it known what was committed before (C3),
//! and only then does [`Leadership`] say so.

mod change;
mod engine;
mod form;
mod open;
mod serve;

pub use change::{ChangeError, MemberState, QuorumState};
pub use form::Voter;
pub use serve::SnapshotReceiver;

#[cfg(test)]
pub(crate) use open::{Opened, open};

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Config, Raft, RaftMetrics, SnapshotPolicy};
use thalweg_env::fs::Fs;
use thalweg_types::{DirId, LogIndex, NodeId};
use tokio::sync::{Semaphore, watch};

use self::engine::{Engine, Metrics};
use crate::apply::Progress;
use crate::error::{ProposeError, ReadError, StartError};
use crate::kv::{KvHandle, KvKind, KvThread};
use crate::log::{LogCounters, LogWriter};
use crate::machine::StateMachine;
use crate::network::{Member, Network, NoPeers, Transport};
use crate::snapshot::SnapshotStore;
use crate::types::{Facts, Peer, TypeConfig};

/// Facts of one proposal together: a topic with tens of thousands of partitions fits, and a follower's message stays small.
pub const PROPOSAL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Proposals between hand-over and apply; more wait outside. Keeps the group that one flush covers large and memory bounded.
const PROPOSALS_IN_FLIGHT_MAX: usize = 4096;

/// A quorum of one elects itself at once; a disk that takes longer than this for a handful of small writes is broken.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(30);

/// Between members: a leader is missed after some lost heartbeats, not after one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(150);
const ELECTION_TIMEOUT: Duration = Duration::from_millis(750);

/// Election timeouts after which a leader counts as silent: in most cases another one is elected before.
const LEADER_SILENCE_MAX: u32 = 4;

/// A snapshot may be large and the link slow.
const INSTALL_SNAPSHOT_TIMEOUT_MS: u64 = 60_000;

/// Entries in one message to a follower. A proposal is at most [`PROPOSAL_BYTES_MAX`] large, but nearly all are a few hundred bytes.
const ENTRIES_SENT_MAX: u64 = 64;

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
    /// Identity that the disk gets if it has none yet; random, and not zero.
    pub new_dir_id: DirId,
    /// Where other members reach this one; empty for a quorum of one.
    pub endpoint: String,
    pub kv: KvKind,
    /// A file of the log is closed at this size and another begun.
    pub log_file_bytes_max: u64,
    /// Entries after which a snapshot is taken.
    pub snapshot_after_entries: u64,
    /// Entries kept behind a snapshot, so that a member slightly behind need not load it.
    pub entries_kept: u64,
    /// How often a leader lets itself be heard.
    pub heartbeat_interval: Duration,
    /// A leader that is not heard of for this long, or up to twice as long, is replaced.
    pub election_timeout: Duration,
    /// Disks are written in the caller's thread and not in threads of their own: in a simulation, where nothing may happen beside it.
    /// Needs a simulated disk and [`KvKind::Memory`].
    pub is_simulated: bool,
}

impl QuorumOptions {
    pub fn new(dir: impl Into<PathBuf>, fs: Arc<dyn Fs>, node_id: NodeId) -> Self {
        Self {
            dir: dir.into(),
            fs,
            node_id,
            new_dir_id: DirId::ZERO,
            endpoint: String::new(),
            kv: KvKind::Sled,
            log_file_bytes_max: 16 * 1024 * 1024,
            snapshot_after_entries: 5000,
            entries_kept: 1000,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            election_timeout: ELECTION_TIMEOUT,
            is_simulated: thalweg_env::simulation::is_on(),
        }
    }

    /// In the quorum's own id space.
    fn voter_id(&self) -> Result<u64, StartError> {
        u64::try_from(self.node_id.0)
            .map_err(|_| StartError::InvalidNodeId { node_id: self.node_id })
    }
}

/// Who leads, as this member knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// No leader is known, or this member leads but has not applied an entry of its own term yet: nothing may be served.
    Undecided,
    Following {
        leader: NodeId,
    },
    /// This member leads and has applied an entry of its own in this life: everything committed before is applied too.
    Leading {
        /// Index of that leader's first entry. Higher for every later leader: the controller epoch.
        epoch: LogIndex,
    },
    /// The member has stopped, by request or by a failure; it does not come back in this process.
    Stopped,
}

/// A running member. Cheap to share behind an `Arc`; dropped without [`Quorum::shutdown`] it stops on its own a little later.
pub struct Quorum {
    node_id: NodeId,
    own: Member,
    /// Proposals go through a closure, so that the type of the state machine does not spread to whoever holds a quorum.
    engine: Box<dyn Engine>,
    metrics: Metrics,
    progress: Progress,
    snapshots: Arc<SnapshotStore>,
    /// One snapshot is received at a time.
    receiving: Arc<Semaphore>,
    /// And one change of the membership is made.
    changing: Semaphore,
    /// Senders that were refused, and logged once.
    refused: parking_lot::Mutex<BTreeSet<(u64, DirId)>>,
    election_timeout: Duration,
    /// When the leader was last heard of.
    heard: parking_lot::Mutex<Option<Instant>>,
    leadership: watch::Receiver<Leadership>,
    in_flight: Semaphore,
    counters: Arc<LogCounters>,
    threads: parking_lot::Mutex<Option<Threads>>,
}

/// What a shutdown must see end.
struct Threads {
    kv: KvHandle,
    kv_thread: KvThread,
    log_writer: LogWriter,
}

impl Quorum {
    /// Starts a quorum of one and returns once it leads and serves. An empty directory becomes a new quorum; otherwise everything that
    /// was committed is found again.
    pub async fn start<M: StateMachine>(
        options: QuorumOptions,
        machine: M,
    ) -> Result<Self, StartError> {
        let dir = options.dir.clone();
        let quorum = Self::open(options, machine, NoPeers).await?;
        let led = match quorum.lead_alone(dir).await {
            Ok(()) => quorum.wait_for_recovery(RECOVERY_DEADLINE).await,
            Err(error) => Err(error),
        };
        if let Err(error) = led {
            quorum.shutdown().await;
            return Err(error);
        }
        Ok(quorum)
    }

    /// Starts a member and returns at once: it answers other members from now on, takes part in what its disk knows it to be a member
    /// of, and otherwise waits to be made one ([`Quorum::form`]).
    pub async fn open<M: StateMachine, T: Transport>(
        options: QuorumOptions,
        machine: M,
        transport: T,
    ) -> Result<Self, StartError> {
        let engine_error = |error: &dyn std::fmt::Display| StartError::Engine(error.to_string());
        let node_id = options.voter_id()?;
        let config = config(&options)?;
        let opening = options.clone();
        let opened = match options.is_simulated {
            true => self::open::open(&opening, machine)?,
            false => tokio::task::spawn_blocking(move || self::open::open(&opening, machine))
                .await
                .map_err(|error| engine_error(&error))??,
        };
        let peer = Peer { dir_id: opened.dir_id, endpoint: options.endpoint };
        let own = Member { node_id, peer };
        let network = Network::new(transport.clone(), own.clone());
        let progress = opened.applier.progress();
        let raft = Raft::new(node_id, config, network, opened.log, opened.applier)
            .await
            .map_err(|error| engine_error(&error))?;
        let quorum = Self {
            node_id: options.node_id,
            leadership: follow_leadership(node_id, raft.metrics(), progress.clone()),
            metrics: raft.metrics(),
            progress,
            snapshots: opened.snapshots,
            receiving: Arc::new(Semaphore::new(1)),
            changing: Semaphore::new(1),
            refused: parking_lot::Mutex::default(),
            election_timeout: options.election_timeout,
            heard: parking_lot::Mutex::new(None),
            engine: engine::new(raft, transport),
            own,
            in_flight: Semaphore::new(PROPOSALS_IN_FLIGHT_MAX),
            counters: opened.counters,
            threads: parking_lot::Mutex::new(Some(opened.threads)),
        };
        if let Err(error) = quorum.take_part(&options.dir).await {
            quorum.shutdown().await;
            return Err(error);
        }
        Ok(quorum)
    }

    /// Only now may it campaign: what the log says about this member is what its disk says.
    async fn take_part(&self, dir: &std::path::Path) -> Result<(), StartError> {
        let known =
            self.engine.members().await?.into_iter().find(|it| it.node_id == self.own.node_id);
        match known {
            Some(known) if known.peer.dir_id == self.own.peer.dir_id => {}
            Some(_) if self.own.peer.dir_id.is_zero() => {
                return Err(StartError::IdentityLost { dir: dir.to_owned() });
            }
            // Made before disks had identities.
            Some(known) if known.peer.dir_id.is_zero() => {}
            Some(known) => {
                return Err(StartError::AnotherDisk {
                    node_id: known.node_id,
                    known: known.peer.dir_id,
                    found: self.own.peer.dir_id,
                    told_by: "its own log".to_owned(),
                });
            }
            None => {}
        }
        self.engine.allow_elections();
        Ok(())
    }

    /// Makes a new quorum of one, or takes the lead of the one that is there, without waiting for an election timeout.
    async fn lead_alone(&self, dir: PathBuf) -> Result<(), StartError> {
        if !self.engine.is_initialised().await? {
            return self.engine.initialise(vec![self.own.clone()]).await;
        }
        let voters = self.voter_ids();
        if voters != [self.own.node_id] {
            let found = format!("its voters are {voters:?}");
            return Err(StartError::NotAMember { dir, node_id: self.node_id, found });
        }
        self.engine.elect().await
    }

    fn voter_ids(&self) -> Vec<u64> {
        self.metrics.borrow_watched().membership_config.voter_ids().collect()
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

    /// This member, as others must address it.
    pub fn own(&self) -> &Member {
        &self.own
    }

    /// Whether a majority has confirmed this leader lately. An isolated leader goes on leading for a while; what it says meanwhile may
    /// be out of date.
    pub fn is_confirmed(&self) -> bool {
        if self.voter_ids() == [self.own.node_id] {
            return true;
        }
        let timeout = self.election_timeout * 2;
        self.engine.unconfirmed_for().is_some_and(|silence| silence < timeout)
    }

    /// Whether the leader was heard of lately, by one who follows it. While nobody is elected in its place, the last one counts as leader.
    pub fn hears_leader(&self) -> bool {
        let silence_max = self.election_timeout * LEADER_SILENCE_MAX;
        self.heard.lock().is_some_and(|heard| heard.elapsed() < silence_max)
    }

    /// Where the other members reach `node_id`, if it is one.
    pub fn endpoint_of(&self, node_id: NodeId) -> Option<String> {
        let id = u64::try_from(node_id.0).ok()?;
        let metrics = self.metrics.borrow_watched();
        let peer = metrics.membership_config.membership().get_node(&id)?;
        (!peer.endpoint.is_empty()).then(|| peer.endpoint.clone())
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
            threads.log_writer.close().await;
        }
    }
}

fn config(options: &QuorumOptions) -> Result<Arc<Config>, StartError> {
    let config = Config {
        cluster_name: "thalweg".to_owned(),
        heartbeat_interval: milliseconds(options.heartbeat_interval),
        election_timeout_min: milliseconds(options.election_timeout),
        election_timeout_max: milliseconds(options.election_timeout * 2),
        install_snapshot_timeout: INSTALL_SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: ENTRIES_SENT_MAX,
        // Until it is known that the disk is the one the log speaks of.
        enable_elect: false,
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// ---- Leadership ---------------------------------------------------------------------------------------------------------------

/// Follows the engine's own view until it ends.
fn follow_leadership(
    node_id: u64,
    mut metrics: Metrics,
    progress: Progress,
) -> watch::Receiver<Leadership> {
    let (publish, leadership) = watch::channel(Leadership::Undecided);
    tokio::spawn(async move {
        loop {
            let now = leadership_of(node_id, &metrics.borrow_watched(), &progress);
            publish.send_if_modified(|before| std::mem::replace(before, now) != now);
            if now == Leadership::Stopped || metrics.changed().await.is_err() {
                publish.send_replace(Leadership::Stopped);
                return;
            }
        }
    });
    leadership
}

fn leadership_of(
    node_id: u64,
    metrics: &RaftMetrics<TypeConfig>,
    progress: &Progress,
) -> Leadership {
    if metrics.running_state.is_err() {
        return Leadership::Stopped;
    }
    match metrics.current_leader {
        Some(leader) if leader == node_id => {
            let own_entry_applied =
                metrics.last_applied.is_some_and(|last| last.leader_id == metrics.vote.leader_id);
            match progress.epoch_of(metrics.vote.leader_id) {
                Some(epoch) if metrics.state.is_leader() && own_entry_applied => {
                    Leadership::Leading { epoch }
                }
                _ => Leadership::Undecided,
            }
        }
        Some(leader) => node_id_of(leader)
            .map_or(Leadership::Undecided, |leader| Leadership::Following { leader }),
        None => Leadership::Undecided,
    }
}

fn node_id_of(raft_id: u64) -> Option<NodeId> {
    i32::try_from(raft_id).ok().map(NodeId)
}
