//! Bringing a broker up: register, take over the metadata, be unfenced, serve.
//!
//! ```text
//!  log dir opened (the mark of a clean stop read, and gone) ─► registered (node id, broker epoch; what is damaged) ─► storage.meta written ─► image at or past the registration
//!     ─► strays set aside ─► logs of the image hosted ─► heartbeat says so ─► unfenced, leaders elected ─► led here ─► ready
//! ```
//!
//! The disk decides who this node is (R13): an id is written once, and a directory that belongs to another cluster or node is refused.

use std::sync::Arc;
use std::time::Duration;

use thalweg_env::Clock;
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::Feed;
use thalweg_replication_core::{Identity, Timing};
use thalweg_rpc::Error;
use thalweg_storage::{LogDir, StorageError, StorageMeta};
use thalweg_types::{BrokerEpoch, ClusterId, ErrorCode, LogIndex, NodeId};

use crate::admission::Admission;
use crate::broker::Broker;
use crate::configs::own_configs;
use crate::hosting::Reconciler;
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::options::BrokerOptions;
use crate::producer_ids::ProducerIds;
use crate::replication::{Hub, Lease, ReplicationService};
use crate::tasks::{Session, Tasks};
use thalweg_controller_client::{ControllerClient, Registered, Registering};

/// Between two tries to register while no controller can take it, and between two lines that say so.
const REGISTER_INTERVAL: Duration = Duration::from_millis(200);
const REGISTER_TOLD_INTERVAL: Duration = Duration::from_secs(30);

/// Between two heartbeats while the broker waits to be unfenced.
const UNFENCE_INTERVAL: Duration = Duration::from_millis(5);

/// Heartbeats without being unfenced after which the start is given up.
const UNFENCE_ATTEMPTS_MAX: u32 = 2_000;

/// Why a broker does not come up. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "the log directory belongs to node {found_node} of cluster {found_cluster}, but the controller knows its disk as node \
         {node} of cluster {cluster}: mount the right volume, or point the broker at its own cluster"
    )]
    ForeignDirectory {
        found_cluster: ClusterId,
        found_node: NodeId,
        cluster: ClusterId,
        node: NodeId,
    },
    #[error("the controller refused the registration: {0}")]
    Refused(Error),
    #[error("the controller does not unfence this broker; look for errors in its log")]
    StillFenced,
    #[error("storage.meta could not be written: {0}")]
    Meta(#[from] StorageError),
    #[error("the metadata feed ended before the broker was up")]
    FeedEnded,
    #[error("the start was interrupted")]
    Interrupted,
}

/// What a broker is made of.
#[derive(Debug)]
pub struct Parts {
    pub options: BrokerOptions,
    pub log_dir: Arc<LogDir>,
    /// The observer that `log_dir` was opened with.
    pub events: Arc<LogEvents>,
    pub feed: Feed,
    pub controller: ControllerClient,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
}

impl Broker {
    /// Registers, for which it waits as long as no controller takes it, and returns when every partition led here is served.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, StartError> {
        let Parts { mut options, log_dir, events, feed, controller, metrics, clock } = parts;
        let meta = log_dir.meta();
        let registered = register(&controller, &options, &log_dir).await?;
        adopt(&log_dir, meta, registered)?;
        log_dir.begin_session(registered.broker_epoch);
        let configs = std::mem::take(&mut options.static_configs);
        options.static_configs =
            own_configs(configs, registered.node_id, log_dir.path(), options.rack.as_deref());

        let hub = Arc::new(hub(registered, &meta, &options, clock.clone()));
        let session = Session {
            node_id: registered.node_id,
            broker_epoch: registered.broker_epoch,
            controller: controller.clone(),
            feed: feed.clone(),
            events: Arc::clone(&events),
            hub: Arc::clone(&hub),
            shutdown: Arc::default(),
            beat_now: Arc::default(),
        };
        let reconciler = Reconciler::new(
            Arc::clone(&hub),
            Arc::clone(&log_dir),
            Arc::clone(&events.hosted),
            options.static_configs.clone(),
        );
        let registered_at = index_of(registered.broker_epoch);
        let image = feed.wait_for(registered_at).await.map_err(|_| StartError::FeedEnded)?;
        let reconciler = without_strays(reconciler, image).await?;
        let admission =
            Admission::new(Arc::clone(&log_dir), Arc::clone(&events), options.room_patience);
        let admission = Arc::new(admission);
        let shared = (&admission, Arc::clone(&clock));
        let tasks = Tasks::start(&session, reconciler, &options, &metrics, shared);
        tasks.wait_reconciled(registered_at).await.ok_or(StartError::FeedEnded)?;
        unfence(&session, &tasks).await?;

        Ok(Arc::new(Self {
            node_id: registered.node_id,
            broker_epoch: registered.broker_epoch,
            hosted: Arc::clone(&events.hosted),
            admission,
            replication: ReplicationService::new(hub, Arc::clone(&events.hosted), feed.clone()),
            producer_ids: ProducerIds::default(),
            options,
            feed,
            events,
            controller,
            metrics,
            log_dir,
            tasks,
            session,
            clock,
        }))
    }
}

fn hub(
    registered: Registered,
    meta: &StorageMeta,
    options: &BrokerOptions,
    clock: Arc<dyn Clock>,
) -> Hub {
    let Registered { node_id: node, broker_epoch, .. } = registered;
    let lag_ms = options.replica_lag_time_max.as_millis();
    let timing =
        Timing { lag_ms_max: u64::try_from(lag_ms).unwrap_or(u64::MAX), ..Timing::DEFAULT };
    let me = Identity { node, broker_epoch, dir_id: meta.dir_id };
    let lease = Lease::new(options.session_timeout, options.return_timeout);
    Hub::new(me, timing, lease, clock)
}

async fn register(
    controller: &ControllerClient,
    options: &BrokerOptions,
    log_dir: &LogDir,
) -> Result<Registered, StartError> {
    let meta = log_dir.meta();
    let registering = Registering {
        role: thalweg_metadata_core::NodeRole::Broker,
        dir_id: meta.dir_id,
        incarnation: options.incarnation,
        cluster_id: meta.cluster_id,
        node_id: meta.node_id,
        previous_broker_epoch: log_dir.clean_session(),
        endpoints: options.endpoints.clone(),
        rack: options.rack.clone(),
        suspect: log_dir.suspects().iter().filter_map(|suspect| suspect.id).collect(),
    };
    let mut told_at: Option<tokio::time::Instant> = None;
    loop {
        let error = match controller.register(registering.clone()).await {
            Ok(registered) => return Ok(registered),
            Err(error) => error,
        };
        // The last life of this broker may not have been missed yet, and controllers may come later than their brokers.
        if !error.retriable && error.code != ErrorCode::DuplicateBrokerRegistration {
            return Err(StartError::Refused(error));
        }
        if told_at.is_none_or(|at| at.elapsed() >= REGISTER_TOLD_INTERVAL) {
            told_at = Some(tokio::time::Instant::now());
            tracing::warn!(%error, "not registered yet");
        }
        tokio::time::sleep(REGISTER_INTERVAL).await;
    }
}

/// Writes the identity to an empty disk, and compares it on any other.
fn adopt(log_dir: &LogDir, meta: StorageMeta, registered: Registered) -> Result<(), StartError> {
    let Registered { cluster_id, node_id, .. } = registered;
    match (meta.cluster_id, meta.node_id) {
        (Some(found_cluster), Some(found_node)) => {
            if (found_cluster, found_node) == (cluster_id, node_id) {
                return Ok(());
            }
            Err(StartError::ForeignDirectory {
                found_cluster,
                found_node,
                cluster: cluster_id,
                node: node_id,
            })
        }
        _ => Ok(log_dir.write_meta(StorageMeta {
            cluster_id: Some(cluster_id),
            node_id: Some(node_id),
            dir_id: meta.dir_id,
        })?),
    }
}

/// Renames folders, which waits for the disk.
async fn without_strays(
    reconciler: Reconciler,
    image: Arc<Image>,
) -> Result<Reconciler, StartError> {
    let work = move || {
        reconciler.set_strays_aside(&image);
        reconciler
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| StartError::Interrupted)
}

async fn unfence(session: &Session, tasks: &Tasks) -> Result<(), StartError> {
    for _ in 0..UNFENCE_ATTEMPTS_MAX {
        let applied = *tasks.reconciled().borrow();
        match session.heartbeat(applied).await {
            Ok(answer) if !answer.fenced => {
                tasks.wait_reconciled(answer.index).await.ok_or(StartError::FeedEnded)?;
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.retriable => {}
            Err(error) => return Err(StartError::Refused(error)),
        }
        tokio::time::sleep(UNFENCE_INTERVAL).await;
    }
    Err(StartError::StillFenced)
}

fn index_of(epoch: BrokerEpoch) -> LogIndex {
    LogIndex(u64::try_from(epoch.0).unwrap_or(0))
}
