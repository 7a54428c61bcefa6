//! What goes on in a broker without anybody asking: following the metadata, heartbeats, retention.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_env::Clock;
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::{Change, Feed, Subscription};
use thalweg_rpc::Error;
use thalweg_storage::LogDir;
use thalweg_types::{BrokerEpoch, ErrorCode, LogIndex, NodeId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::controller::{Beat, ControllerClient};
use crate::hosting::{Hosted, Reconciler};
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::options::BrokerOptions;

/// Between two attempts to host a partition whose log could not be created.
const HOSTING_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks for what retention takes while the disk is full.
const FULL_DISK_RETENTION_INTERVAL: Duration = Duration::from_secs(2);

/// The broker's tasks; they end with it.
#[derive(Debug)]
pub(crate) struct Tasks {
    reconciled: watch::Receiver<LogIndex>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

/// This broker's registration, as heartbeats prove it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) node_id: NodeId,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) controller: ControllerClient,
    pub(crate) feed: Feed,
    pub(crate) events: Arc<LogEvents>,
}

impl Session {
    /// Whether the broker is still fenced, and the metadata log index at which that holds.
    pub(crate) async fn heartbeat(&self, applied: LogIndex) -> Result<(bool, LogIndex), Error> {
        let disk_full = *self.events.disk_low().borrow();
        let beat = Beat {
            node_id: self.node_id,
            broker_epoch: self.broker_epoch,
            applied,
            disk_full,
            want_shutdown: false,
        };
        self.controller.heartbeat(beat).await.map(|answer| (answer.fenced, answer.index))
    }
}

impl Tasks {
    pub(crate) fn start(
        session: &Session,
        reconciler: Reconciler,
        options: &BrokerOptions,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (progress, reconciled) = watch::channel(LogIndex::ZERO);
        let hosted = Arc::clone(&reconciler.hosted);
        let log_dir = Arc::clone(&reconciler.log_dir);
        let following = follow(session.feed.subscribe(), reconciler, metrics.clone(), progress);
        let disk_low = || session.events.disk_low();
        let beating = beat(
            session.clone(),
            reconciled.clone(),
            log_dir,
            disk_low(),
            metrics.clone(),
            options.heartbeat_interval,
        );
        let retaining = retain(hosted, clock, disk_low(), options.retention_check_interval);
        let running = vec![tokio::spawn(following), tokio::spawn(beating), tokio::spawn(retaining)];
        Self { reconciled, running: Mutex::new(running) }
    }

    /// The metadata log index up to which the hosted partitions follow the image.
    pub(crate) fn reconciled(&self) -> watch::Receiver<LogIndex> {
        self.reconciled.clone()
    }

    /// `None` when the feed has ended before that.
    pub(crate) async fn wait_reconciled(&self, index: LogIndex) -> Option<()> {
        self.reconciled().wait_for(|reached| *reached >= index).await.ok().map(|_| ())
    }

    pub(crate) async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        for task in &running {
            task.abort();
        }
        for task in running {
            // A task that was aborted ends with an error that says so.
            let _ = task.await;
        }
    }
}

/// Makes the hosted partitions follow every change, one after the other.
async fn follow(
    mut changes: Subscription,
    reconciler: Reconciler,
    metrics: Metrics,
    progress: watch::Sender<LogIndex>,
) {
    let reconciler = Arc::new(reconciler);
    let mut image = Arc::<Image>::default();
    loop {
        let change = tokio::select! {
            change = changes.next() => match change {
                Ok(change) => Some(change),
                Err(_ended) => return,
            },
            // A full disk may have room by now.
            () = tokio::time::sleep(HOSTING_RETRY_INTERVAL), if reconciler.has_failed() => None,
        };
        if let Some(change) = &change {
            image = Arc::clone(change.image());
        }
        let index = image.position().index;
        let (worker, image) = (Arc::clone(&reconciler), Arc::clone(&image));
        // Creating and deleting logs waits for the disk.
        let work = move || match &change {
            Some(change) => take_over(&worker, change),
            None => worker.retry(&image),
        };
        let worked = tokio::task::spawn_blocking(work).await;
        if let Err(error) = worked {
            tracing::error!(%error, %index, "taking over metadata failed");
            return;
        }
        let count = reconciler.hosted.count();
        metrics.partitions.set(i64::try_from(count.partitions).unwrap_or(i64::MAX));
        metrics.leaders.set(i64::try_from(count.leaders).unwrap_or(i64::MAX));
        progress.send_replace(index);
    }
}

fn take_over(reconciler: &Reconciler, change: &Change) {
    match change {
        Change::Replaced { image, deleted } => {
            deleted.iter().for_each(|topic_id| reconciler.delete_topic(*topic_id));
            reconciler.follow(image);
        }
        Change::Applied { image, records } => reconciler.follow_records(image, records),
    }
}

/// Shows the controller that this broker lives, and at once when its disk runs full or has room again.
async fn beat(
    session: Session,
    reconciled: watch::Receiver<LogIndex>,
    log_dir: Arc<LogDir>,
    mut disk_low: watch::Receiver<bool>,
    metrics: Metrics,
    interval: Duration,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = disk_low.changed() => {}
        }
        metrics.disk(log_dir.disk_space());
        metrics.damaged_places.set(i64::try_from(log_dir.damages().len()).unwrap_or(i64::MAX));
        metrics.log_dir_failed.set(i64::from(log_dir.failure().is_some()));
        let applied = *reconciled.borrow();
        match session.heartbeat(applied).await {
            Ok(_) => {}
            Err(error) if error.code == ErrorCode::StaleBrokerEpoch => {
                tracing::error!("another process has registered with this broker's disk");
            }
            Err(error) => tracing::warn!(%error, "heartbeat failed"),
        }
    }
}

/// Lets retention take what it may, and producers that fell silent be forgotten. More often while the disk is full: then a lower bound
/// is likely to be set, and to be waited for.
async fn retain(
    hosted: Arc<Hosted>,
    clock: Arc<dyn Clock>,
    mut disk_low: watch::Receiver<bool>,
    interval: Duration,
) {
    loop {
        let is_low = *disk_low.borrow_and_update();
        let interval = if is_low { interval.min(FULL_DISK_RETENTION_INTERVAL) } else { interval };
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = disk_low.changed() => match changed {
                Ok(()) if *disk_low.borrow() => {}
                Ok(()) => continue,
                Err(_ended) => return,
            },
        }
        let (hosted, now) = (Arc::clone(&hosted), clock.now());
        let work = move || {
            for partition in hosted.all() {
                if let Err(error) = partition.log().apply_retention(now) {
                    tracing::warn!(partition = %partition.name(), %error, "retention failed");
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%error, "retention ended unexpectedly");
        }
    }
}
