//! The service: starting it, its handle, stopping it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use thalweg_env::fs::Fs;
use thalweg_env::{Clock, Random, SystemClock};
use thalweg_metadata_core::{Image, Policy, SessionTiming, StaticConfigs};
use thalweg_metadata_feed::Feed;
use thalweg_proto::internal::controller::v1::controller_server::ControllerServer;
use thalweg_proto::internal::raft::v1::raft_server::RaftServer;
use thalweg_raft::{Leadership, Quorum, QuorumOptions, Voter};
use thalweg_types::{ClusterId, DirId, NodeId, Uuid};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::contact;
use crate::error::CallError;
use crate::machine::Machine;
use crate::server::Server;
use crate::task::{Active, Calls};
use crate::transport::{GrpcTransport, MESSAGE_BYTES_MAX};

/// Largest request that is read: many topics with manual assignments.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a shutdown waits for the decision under way.
const LAST_DECISION_TIME_MAX: Duration = Duration::from_secs(2);

/// As long as Kafka's.
const SESSION_TIMEOUT: Duration = Duration::from_secs(9);

/// Enough to connect again and to be heard, on a machine that does much else.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

/// Id of the only voter of a quorum of one, in the quorum's own id space.
const SINGLE_VOTER: NodeId = NodeId(1);

/// Namespace of [`Controller::start`].
#[derive(Debug)]
pub struct Controller;

/// What a controller needs.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// Home of the quorum's log and store.
    pub quorum: QuorumOptions,
    /// For identities and placement.
    pub random: Arc<dyn Random>,
    /// Defaults of topics and brokers, from the settings.
    pub configs: StaticConfigs,
    /// How long a node may be silent before it is fenced.
    pub session_timeout: Duration,
    /// How long a node may be silent after its stream to this controller has ended.
    pub return_timeout: Duration,
    /// For sessions.
    pub clock: Arc<dyn Clock>,
    /// The voters that a new quorum begins with, this one among them, and where others are found later. Empty: a quorum of one, which
    /// nobody else can reach.
    pub voters: Vec<Voter>,
}

impl ControllerOptions {
    /// A quorum of one in `dir`.
    pub fn new(dir: impl Into<PathBuf>, fs: Arc<dyn Fs>, random: Arc<dyn Random>) -> Self {
        let mut quorum = QuorumOptions::new(dir, fs, SINGLE_VOTER);
        quorum.new_dir_id = DirId(Uuid::from_random_bits(random.next_u128()));
        Self {
            quorum,
            random,
            configs: StaticConfigs::default(),
            session_timeout: SESSION_TIMEOUT,
            return_timeout: RETURN_TIMEOUT,
            clock: Arc::new(SystemClock::new()),
            voters: Vec::new(),
        }
    }

    /// One of several voters, reached by the others at `endpoint`.
    #[must_use]
    pub fn one_of(mut self, node_id: NodeId, endpoint: String, voters: Vec<Voter>) -> Self {
        self.quorum.node_id = node_id;
        self.quorum.endpoint = endpoint;
        self.voters = voters;
        self
    }
}

/// The controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Quorum(#[from] thalweg_raft::StartError),
    #[error("the controller could not take up work: {0}")]
    Activation(String),
}

/// A running controller. Dropping it stops it without waiting.
pub struct Handle {
    server: Server,
    quorum: Arc<Quorum>,
    voters: Vec<Voter>,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What part a controller has in its quorum at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It decides, and a majority has confirmed that lately.
    Active,
    /// It follows one who was heard of lately.
    Following(NodeId),
    /// Nobody is known to lead.
    Undecided,
    /// It decided last, but a majority does not answer.
    Unconfirmed,
    /// Who led last is not heard of, and nobody was elected.
    Leaderless(NodeId),
    /// Until the next start.
    Stopped,
}

/// Tells a controller's standing for as long as it runs, and does not keep it running.
#[derive(Clone)]
pub struct StandingWatch(Weak<Quorum>);

impl StandingWatch {
    pub fn now(&self) -> Standing {
        let Some(quorum) = self.0.upgrade() else { return Standing::Stopped };
        let leadership = *quorum.leadership().borrow();
        match leadership {
            Leadership::Stopped => Standing::Stopped,
            Leadership::Undecided => Standing::Undecided,
            Leadership::Leading { .. } if quorum.is_confirmed() => Standing::Active,
            Leadership::Leading { .. } => Standing::Unconfirmed,
            Leadership::Following { leader } if quorum.hears_leader() => {
                Standing::Following(leader)
            }
            Leadership::Following { leader } => Standing::Leaderless(leader),
        }
    }
}

impl Controller {
    /// Starts the controller. A quorum of one takes up work, a new directory as a new cluster, and calls can be served on return. One of
    /// several returns at once: it must be served for the others to find it, and takes part when [`Handle::join`] has ended.
    pub async fn start(options: ControllerOptions) -> Result<Handle, StartError> {
        let (machine, state) = Machine::new();
        let is_alone = options.voters.is_empty();
        let quorum = match is_alone {
            true => Quorum::start(options.quorum, machine).await?,
            false => Quorum::open(options.quorum, machine, GrpcTransport::default()).await?,
        };
        let quorum = Arc::new(quorum);
        let policy = Arc::new(Policy { settings: options.configs });
        let (calls, active) = Active::new(
            Arc::clone(&quorum),
            state.clone(),
            Arc::clone(&options.random),
            Arc::clone(&policy),
            options.clock,
            SessionTiming {
                timeout_ms: milliseconds(options.session_timeout),
                return_ms: milliseconds(options.return_timeout),
            },
        );
        let (stopping, stop) = watch::channel(false);
        let task = tokio::spawn(active.run(stop.clone()));
        if is_alone && let Err(error) = take_up_work(&calls).await {
            task.abort();
            quorum.shutdown().await;
            return Err(StartError::Activation(error.to_string()));
        }
        let (touch, in_touch) = watch::channel(true);
        tokio::spawn(contact::observe(Arc::downgrade(&quorum), touch));
        let quorum_of_server = Arc::clone(&quorum);
        let server =
            Server::new(calls, quorum_of_server, state, options.random, policy, in_touch, stop);
        Ok(Handle { server, quorum, voters: options.voters, stopping, task })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The first call makes the task find out where it stands, and make the cluster if there is none.
async fn take_up_work(calls: &Calls) -> Result<(), CallError> {
    let nothing =
        |_: &Image| Ok(thalweg_metadata_core::Decision { records: Vec::new(), response: () });
    calls.decide(nothing).await.map(|_| ())
}

impl Handle {
    /// The gRPC service `thalweg.internal.controller.v1.Controller`.
    pub fn service(&self) -> ControllerServer<Server> {
        ControllerServer::new(self.server.clone()).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// The gRPC service `thalweg.internal.raft.v1.Raft`, for the other voters.
    pub fn peer_service(&self) -> RaftServer<Server> {
        RaftServer::new(self.server.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Returns when this controller has a part in a quorum, which it makes with the others if there is none, and a leader is known. Until
    /// then its services must be served, and after an error the controller must be shut down. Waits as long as it takes.
    pub async fn join(&self) -> Result<(), StartError> {
        if !self.voters.is_empty() {
            self.quorum.form(&self.voters).await?;
        }
        let mut leadership = self.quorum.leadership();
        let decided = leadership.wait_for(|now| *now != Leadership::Undecided).await;
        match decided.map(|now| *now) {
            Ok(Leadership::Stopped) | Err(_) => {
                Err(StartError::Activation("the quorum member has stopped".to_owned()))
            }
            Ok(_) => Ok(()),
        }
    }

    /// What part it has in the quorum, for whoever watches it from outside.
    pub fn standing(&self) -> StandingWatch {
        StandingWatch(Arc::downgrade(&self.quorum))
    }

    /// Whether this node is the active controller, as far as it knows.
    pub fn is_active(&self) -> bool {
        matches!(*self.quorum.leadership().borrow(), Leadership::Leading { .. })
    }

    /// The applied state of this very node, without a stream in between.
    pub fn feed(&self) -> Feed {
        self.server.feed()
    }

    /// The cluster this controller belongs to.
    pub fn cluster_id(&self) -> ClusterId {
        self.feed().image().cluster_id().unwrap_or_default()
    }

    /// Ends the watchers' streams, refuses further calls, lets the decision under way finish, and closes the quorum's files.
    pub async fn shutdown(self) {
        let Self { server, quorum, stopping, mut task, .. } = self;
        stopping.send_replace(true);
        drop(server);
        if tokio::time::timeout(LAST_DECISION_TIME_MAX, &mut task).await.is_err() {
            tracing::warn!("the last decision was not committed in time; its outcome is unknown");
        }
        quorum.shutdown().await;
    }
}
