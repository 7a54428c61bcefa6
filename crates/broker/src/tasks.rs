//! What goes on in a broker without anybody asking: following the metadata, heartbeats, retention.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_env::Clock;
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::{Change, Feed, Subscription};
use thalweg_rpc::Error;
use thalweg_storage::LogDir;
use thalweg_types::{BrokerEpoch, ErrorCode, LogIndex, NodeId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::admission::Admission;
use crate::hold;
use crate::hosting::{Hosted, Reconciler};
use crate::log_events::LogEvents;
use crate::metrics::Metrics;
use crate::options::BrokerOptions;
use crate::replication::{self, Hub};
use thalweg_controller_client::{Beat, BeatAnswer, ControllerClient};

/// After a heartbeat that was not heard.
const BEAT_RETRY_WAIT: Duration = Duration::from_millis(100);

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
    pub(crate) hub: Arc<Hub>,
    pub(crate) shutdown: Arc<Shutdown>,
    /// Somebody wants the controller to hear of this broker at once.
    pub(crate) beat_now: Arc<Notify>,
}

/// Who wants this broker to stop.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    /// It does itself: every heartbeat says so.
    is_wanted: AtomicBool,
    /// An operator does, through the controller.
    requested: watch::Sender<bool>,
}

impl Session {
    /// Shows the controller that this broker lives. If it is not fenced, its lease begins anew.
    pub(crate) async fn heartbeat(&self, applied: LogIndex) -> Result<BeatAnswer, Error> {
        let beat = Beat {
            node_id: self.node_id,
            broker_epoch: self.broker_epoch,
            applied,
            disk_full: *self.events.disk_low().borrow(),
            want_shutdown: self.shutdown.is_wanted.load(Ordering::Acquire),
        };
        let sent_at = self.hub.now();
        let answer = self.controller.heartbeat(beat).await?;
        if !answer.fenced {
            self.hub.lease.confirm(sent_at);
        }
        if answer.shutdown_requested {
            self.shutdown.requested.send_replace(true);
        }
        Ok(answer)
    }

    /// Resolves a moment after the lease has ended; never before it began.
    async fn lease_ended(&self) {
        match self.hub.lease.deadline() {
            Some(at) => {
                let left = Duration::from_millis(at.ms_since(self.hub.now()));
                tokio::time::sleep(left.max(BEAT_RETRY_WAIT)).await;
            }
            None => std::future::pending().await,
        }
    }

    /// From now on every heartbeat says that this broker wants to stop.
    pub(crate) fn want_shutdown(&self) {
        self.shutdown.is_wanted.store(true, Ordering::Release);
    }

    pub(crate) fn shutdown_requested(&self) -> watch::Receiver<bool> {
        self.shutdown.requested.subscribe()
    }
}

impl Drop for Tasks {
    /// Without [`Tasks::stop`], as if the process had died.
    fn drop(&mut self) {
        self.running.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Tasks {
    pub(crate) fn start(
        session: &Session,
        reconciler: Reconciler,
        options: &BrokerOptions,
        metrics: &Metrics,
        (admission, clock): (&Arc<Admission>, Arc<dyn Clock>),
    ) -> Self {
        let (progress, reconciled) = watch::channel(LogIndex::ZERO);
        let hosted = Arc::clone(&reconciler.hosted);
        let log_dir = Arc::clone(&reconciler.log_dir);
        let following = follow(session.feed.subscribe(), reconciler, metrics.clone(), progress);
        let disk_low = || session.events.disk_low();
        let times = (options.heartbeat_interval, options.session_timeout);
        let gauges = (log_dir, metrics.clone());
        let beating = beat(session.clone(), reconciled.clone(), gauges, disk_low(), times);
        let mut running = replicate(session, &hosted, admission);
        let retaining = retain(hosted, clock, disk_low(), options.retention_check_interval);
        let holding = hold::hold_session(session.clone());
        running.extend([tokio::spawn(following), tokio::spawn(beating), tokio::spawn(retaining)]);
        running.push(tokio::spawn(holding));
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

/// What goes on between the partitions here and their other replicas.
fn replicate(
    session: &Session,
    hosted: &Arc<Hosted>,
    admission: &Arc<Admission>,
) -> Vec<JoinHandle<()>> {
    let (hub, controller) = (&session.hub, &session.controller);
    let following = Arc::new(replication::Following {
        hub: Arc::clone(hub),
        hosted: Arc::clone(hosted),
        feed: session.feed.clone(),
        admission: Arc::clone(admission),
    });
    let proposing = replication::propose(Arc::clone(hub), Arc::clone(hosted), controller.clone());
    vec![
        tokio::spawn(replication::follow_leaders(following)),
        tokio::spawn(proposing),
        tokio::spawn(replication::report_unfit(Arc::clone(hub), controller.clone())),
        tokio::spawn(replication::make_cuts(Arc::clone(hub))),
        tokio::spawn(replication::watch_deadlines(Arc::clone(hub), Arc::clone(hosted))),
    ]
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

/// Shows the controller that this broker lives, at once when its disk runs full or has room again or its connection broke, and soon again
/// when it was not heard.
async fn beat(
    session: Session,
    reconciled: watch::Receiver<LogIndex>,
    (log_dir, metrics): (Arc<LogDir>, Metrics),
    mut disk_low: watch::Receiver<bool>,
    (interval, session_timeout): (Duration, Duration),
) {
    let patience = (session_timeout / 4).max(BEAT_RETRY_WAIT);
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Nothing was heard of the controller for so long that this broker speaks for no partition: any answer is welcome.
            () = session.lease_ended() => {}
            _ = disk_low.changed() => {}
            () = session.beat_now.notified() => {}
        }
        metrics.disk(log_dir.disk_space());
        metrics.damaged_places.set(i64::try_from(log_dir.damages().len()).unwrap_or(i64::MAX));
        metrics.log_dir_failed.set(i64::from(log_dir.failure().is_some()));
        let applied = *reconciled.borrow();
        wait = interval;
        match tokio::time::timeout(patience, session.heartbeat(applied)).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) if error.code == ErrorCode::StaleBrokerEpoch => {
                tracing::error!("another process has registered with this broker's disk");
                continue;
            }
            Ok(Err(error)) => tracing::warn!(%error, "heartbeat failed"),
            Err(_elapsed) => tracing::warn!(?patience, "heartbeat not answered"),
        }
        wait = interval.min(BEAT_RETRY_WAIT);
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
                if let Err(error) = partition.apply_retention(now) {
                    tracing::warn!(partition = %partition.name(), %error, "retention failed");
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%error, "retention ended unexpectedly");
        }
    }
}
