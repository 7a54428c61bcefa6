//! What goes on in a broker without anybody asking: following the metadata, heartbeats, retention.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_env::Clock;
use thalweg_metadata_feed::{Change, Feed, Subscription};
use thalweg_rpc::Error;
use thalweg_types::{BrokerEpoch, ErrorCode, LogIndex, NodeId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::controller::ControllerClient;
use crate::hosting::{Hosted, Reconciler};
use crate::metrics::Metrics;
use crate::options::BrokerOptions;

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
}

impl Session {
    /// Whether the broker is still fenced, and the metadata log index at which that holds.
    pub(crate) async fn heartbeat(&self, applied: LogIndex) -> Result<(bool, LogIndex), Error> {
        self.controller.heartbeat(self.node_id, self.broker_epoch, applied).await
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
        let following = follow(session.feed.subscribe(), reconciler, metrics.clone(), progress);
        let beating = beat(session.clone(), reconciled.clone(), options.heartbeat_interval);
        let retaining = retain(hosted, clock, options.retention_check_interval);
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
    while let Ok(change) = changes.next().await {
        let index = change.image().position().index;
        let worker = Arc::clone(&reconciler);
        // Creating and deleting logs waits for the disk.
        let worked = tokio::task::spawn_blocking(move || take_over(&worker, &change)).await;
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
        Change::Replaced(image) => reconciler.follow(image),
        Change::Applied { image, records } => reconciler.follow_records(image, records),
    }
}

async fn beat(session: Session, reconciled: watch::Receiver<LogIndex>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
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

/// Lets retention take what it may, and producers that fell silent be forgotten.
async fn retain(hosted: Arc<Hosted>, clock: Arc<dyn Clock>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
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
