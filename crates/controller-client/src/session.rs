//! The session of a node that keeps no data: a coordinator or a gateway.
//!
//! ```text
//!  register ──► held: heartbeat, heartbeat, ... ──► forgotten by the controller ──► register
//!                 │                      │
//!                 │                      └── another process has registered with this identity: replaced, for good
//!                 └── leave: what it does is given to others, then it is forgotten
//! ```
//!
//! While heartbeats are answered the controller takes the node for alive. From outside, a node that is cut off cannot be told from one that
//! is gone: what it did is given to others a session timeout after the controller heard of it last. The node knows when that may be:
//! [`NodeSession::lease_until`]. That is not more than it says; a part of what a live node does may be given to another at any time, which
//! the metadata tells.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thalweg_env::Clock;
use thalweg_metadata_core::{Endpoint, NodeRole};
use thalweg_metadata_feed::Feed;
use thalweg_rpc::Error;
use thalweg_types::{DirId, ErrorCode, IncarnationId, Moment};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{Beat, BeatAnswer, ControllerClient, Registered, Registering};

/// After a call that was not answered, or refused for now.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// Between two heartbeats of a node that waits for its first metadata, or to be let go.
const IMPATIENT_INTERVAL: Duration = Duration::from_millis(50);

/// How long one registration may take to be answered: it waits for a flush of every controller.
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(10);

/// Who registers, and how it keeps its session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Of a broker it would be only half of what a broker tells.
    pub role: NodeRole,
    /// The node's identity: kept in its data directory, or one for this process.
    pub identity: DirId,
    /// This life of the process.
    pub incarnation: IncarnationId,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    pub heartbeat_interval: Duration,
    /// As the controllers have it, or shorter.
    pub session_timeout: Duration,
    pub clock: Arc<dyn Clock>,
}

/// What a node is to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet, or nothing any more: it tries.
    Registering,
    Held(Registered),
    /// The controller will not have it. It does not try again.
    Refused(Error),
    /// Another process has registered with its identity. It does not try again.
    Replaced,
    /// It left.
    Left,
}

/// A session that is kept until this is dropped, as if the process had died, or [`Self::leave`].
#[derive(Debug)]
pub struct NodeSession {
    shared: Arc<Shared>,
    standing: watch::Receiver<Standing>,
    shutdown_requested: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// In milliseconds; 0: there is none.
    lease_until: AtomicU64,
    leaving: watch::Sender<bool>,
}

/// The controller, as far as a session calls it.
trait Calls: Send + Sync + 'static {
    fn register(&self, node: Registering)
    -> impl Future<Output = Result<Registered, Error>> + Send;

    fn heartbeat(&self, beat: Beat) -> impl Future<Output = Result<BeatAnswer, Error>> + Send;
}

/// What keeps the session.
struct Keeper<C> {
    calls: C,
    feed: Feed,
    options: SessionOptions,
    shared: Arc<Shared>,
    standing: watch::Sender<Standing>,
    shutdown_requested: watch::Sender<bool>,
}

/// How a session came to its end.
enum End {
    Forgotten,
    Replaced,
    Left,
}

// ---------------------------------------------------------------------------------------------------------------------------------
// NodeSession
// ---------------------------------------------------------------------------------------------------------------------------------

impl NodeSession {
    /// Registers, now and whenever the session was lost. `feed` is what this node knows of the metadata.
    pub fn start(controller: ControllerClient, feed: Feed, options: SessionOptions) -> Self {
        Self::start_with(controller, feed, options)
    }

    fn start_with(calls: impl Calls, feed: Feed, options: SessionOptions) -> Self {
        let (standing_sender, standing) = watch::channel(Standing::Registering);
        let (shutdown_sender, shutdown_requested) = watch::channel(false);
        let (leaving, _) = watch::channel(false);
        let shared = Arc::new(Shared { lease_until: AtomicU64::new(0), leaving });
        let keeper = Keeper {
            calls,
            feed,
            options,
            shared: Arc::clone(&shared),
            standing: standing_sender,
            shutdown_requested: shutdown_sender,
        };
        Self { shared, standing, shutdown_requested, task: tokio::spawn(keeper.run()) }
    }

    /// What this node is to the cluster, and what it becomes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits, as long as it takes, until the node is registered.
    ///
    /// # Errors
    ///
    /// It never will be.
    pub async fn registered(&self) -> Result<Registered, Error> {
        let mut standing = self.standing();
        let decided = standing.wait_for(|now| *now != Standing::Registering).await;
        match decided.as_deref() {
            Ok(Standing::Held(registered)) => Ok(*registered),
            Ok(Standing::Refused(error)) => Err(error.clone()),
            Ok(Standing::Replaced) => Err(Error::new(
                ErrorCode::DuplicateBrokerRegistration,
                "another process has registered with this node's identity",
            )),
            Ok(Standing::Registering | Standing::Left) | Err(_) => {
                Err(Error::new(ErrorCode::BrokerIdNotRegistered, "the node's session has ended"))
            }
        }
    }

    /// Until when the controller surely takes this node for alive: a session timeout after the last answered heartbeat was sent. `None`: it
    /// does not, or not yet.
    pub fn lease_until(&self) -> Option<Moment> {
        match self.shared.lease_until.load(Ordering::Acquire) {
            0 => None,
            at => Some(Moment(at)),
        }
    }

    /// Turns true when an operator has asked for this node to stop.
    pub fn shutdown_requested(&self) -> watch::Receiver<bool> {
        self.shutdown_requested.clone()
    }

    /// Asks to be let go, and waits until what this node did was given to others and the brokers know. The caller bounds the wait.
    pub async fn leave(&self) {
        self.shared.leaving.send_replace(true);
        let mut standing = self.standing();
        // The keeper is gone: that is the same.
        let _ = standing
            .wait_for(|now| {
                matches!(now, Standing::Left | Standing::Replaced | Standing::Refused(_))
            })
            .await;
    }
}

impl Drop for NodeSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Keeper
// ---------------------------------------------------------------------------------------------------------------------------------

impl<C: Calls> Keeper<C> {
    async fn run(self) {
        let mut leaving = self.shared.leaving.subscribe();
        loop {
            let registered = tokio::select! {
                registered = self.register() => registered,
                _ = leaving.wait_for(|leaving| *leaving) => {
                    // If a registration is still on its way, it ends as one that is never heard of.
                    self.standing.send_replace(Standing::Left);
                    return;
                }
            };
            let registered = match registered {
                Ok(registered) => registered,
                Err(error) => {
                    tracing::error!(%error, "the controller refuses to register this node");
                    self.standing.send_replace(Standing::Refused(error));
                    return;
                }
            };
            tracing::info!(node_id = %registered.node_id, role = %self.options.role, "registered");
            self.standing.send_replace(Standing::Held(registered));
            let end = self.keep(registered).await;
            self.shared.lease_until.store(0, Ordering::Release);
            match end {
                End::Forgotten => {
                    tracing::warn!(node_id = %registered.node_id, "the session was lost");
                    self.standing.send_replace(Standing::Registering);
                }
                End::Replaced => {
                    tracing::error!("another process has registered with this node's identity");
                    self.standing.send_replace(Standing::Replaced);
                    return;
                }
                End::Left => {
                    self.standing.send_replace(Standing::Left);
                    return;
                }
            }
        }
    }

    /// Until it is registered.
    ///
    /// # Errors
    ///
    /// Trying again would not help.
    async fn register(&self) -> Result<Registered, Error> {
        loop {
            match timeout(REGISTRATION_PATIENCE, self.calls.register(self.registering())).await {
                Ok(Ok(registered)) => return Ok(registered),
                Ok(Err(error)) if is_final(error.code) => return Err(error),
                // Who holds the session may be this node's last life: the controller will notice.
                Ok(Err(error)) => tracing::warn!(%error, "not registered yet"),
                Err(_elapsed) => tracing::warn!("registration not answered"),
            }
            sleep(RETRY_WAIT).await;
        }
    }

    fn registering(&self) -> Registering {
        Registering {
            role: self.options.role,
            dir_id: self.options.identity,
            incarnation: self.options.incarnation,
            cluster_id: None,
            node_id: None,
            previous_broker_epoch: None,
            endpoints: self.options.endpoints.clone(),
            rack: self.options.rack.clone(),
            suspect: BTreeSet::new(),
        }
    }

    /// Heartbeats, until there is no session any more.
    async fn keep(&self, registered: Registered) -> End {
        let mut leaving = self.shared.leaving.subscribe();
        let patience = (self.options.session_timeout / 4).max(RETRY_WAIT);
        loop {
            let is_leaving = *leaving.borrow_and_update();
            let sent_at = Moment(self.options.clock.monotonic_ns() / 1_000_000);
            let beat = self.beat(registered, is_leaving);
            let wait = match timeout(patience, self.calls.heartbeat(beat)).await {
                Ok(Ok(answer)) if is_leaving && answer.may_shut_down => return End::Left,
                Ok(Ok(answer)) => {
                    self.heard(&answer, sent_at);
                    let is_waiting = is_leaving || answer.fenced;
                    if is_waiting { IMPATIENT_INTERVAL } else { self.options.heartbeat_interval }
                }
                Ok(Err(error)) => match error.code {
                    // The answer that let it go was lost.
                    ErrorCode::BrokerIdNotRegistered if is_leaving => return End::Left,
                    ErrorCode::BrokerIdNotRegistered => return End::Forgotten,
                    ErrorCode::StaleBrokerEpoch => return End::Replaced,
                    _ => {
                        tracing::warn!(%error, "heartbeat failed");
                        RETRY_WAIT.min(self.options.heartbeat_interval)
                    }
                },
                Err(_elapsed) => {
                    tracing::warn!(?patience, "heartbeat not answered");
                    RETRY_WAIT.min(self.options.heartbeat_interval)
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                _ = leaving.changed() => {}
            }
        }
    }

    fn beat(&self, registered: Registered, want_shutdown: bool) -> Beat {
        Beat {
            node_id: registered.node_id,
            broker_epoch: registered.broker_epoch,
            applied: self.feed.image().position().index,
            disk_full: false,
            want_shutdown,
        }
    }

    fn heard(&self, answer: &BeatAnswer, sent_at: Moment) {
        if !answer.fenced {
            let timeout_ms =
                u64::try_from(self.options.session_timeout.as_millis()).unwrap_or(u64::MAX);
            let until = sent_at.saturating_add_ms(timeout_ms);
            self.shared.lease_until.store(until.0, Ordering::Release);
        }
        if answer.shutdown_requested {
            self.shutdown_requested.send_replace(true);
        }
    }
}

impl Calls for ControllerClient {
    async fn register(&self, node: Registering) -> Result<Registered, Error> {
        Self::register(self, node).await
    }

    async fn heartbeat(&self, beat: Beat) -> Result<BeatAnswer, Error> {
        Self::heartbeat(self, beat).await
    }
}

/// Whether the controller would say the same again.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidRegistration
            | ErrorCode::InconsistentClusterId
            | ErrorCode::InvalidRequest
            | ErrorCode::ClusterAuthorizationFailed
    )
}

#[cfg(test)]
mod tests;
