//! Holding the session with the active controller by a stream beside the heartbeats: when this process dies the stream ends, and the
//! controller need not wait until it misses them.
//!
//! When only the connection broke, a heartbeat says so at once. A broker that reaches no controller any more must expect to be given up
//! within the time that the controller waits for it to come back, so it doubts its lease. Who still follows the metadata need not: it
//! learns of its successor.

use std::time::Duration;

use thalweg_types::Moment;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::tasks::Session;

/// Between two tries to open the stream; doubled after each that came to nothing.
const OPEN_INTERVAL_FIRST: Duration = Duration::from_millis(20);
const OPEN_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// A stream that lived for so long was not just turned away.
const HELD_TIME_MIN: Duration = Duration::from_secs(1);

/// Between two looks whether a controller tells anything while the session is not held.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Until it is aborted.
pub(crate) async fn hold_session(session: Session) {
    let (lost, told) = watch::channel(None);
    tokio::join!(keep_open(&session, lost), doubt_while_alone(&session, told));
}

/// Says in `lost` since when there is no stream; nothing is lost before there was one.
async fn keep_open(session: &Session, lost: watch::Sender<Option<Moment>>) {
    let mut interval = OPEN_INTERVAL_FIRST;
    loop {
        match session.controller.hold_session(session.node_id, session.broker_epoch).await {
            Ok(mut stream) => {
                let since = Instant::now();
                lost.send_replace(None);
                while let Ok(Some(_)) = stream.message().await {}
                lost.send_replace(Some(session.hub.now()));
                session.beat_now.notify_one();
                if since.elapsed() >= HELD_TIME_MIN {
                    interval = OPEN_INTERVAL_FIRST;
                }
            }
            Err(error) => tracing::debug!(%error, "the session is not held"),
        }
        sleep(interval).await;
        interval = (interval * 2).min(OPEN_INTERVAL_MAX);
    }
}

async fn doubt_while_alone(session: &Session, mut lost: watch::Receiver<Option<Moment>>) {
    let trouble = session.feed.trouble();
    loop {
        let lost_at = *lost.borrow_and_update();
        let is_alone = trouble.borrow().is_some();
        match lost_at.filter(|_| is_alone) {
            Some(at) => session.hub.lease.doubt(at),
            None => session.hub.lease.reassure(),
        }
        tokio::select! {
            changed = lost.changed() => if changed.is_err() { return },
            () = sleep(LOOK_INTERVAL), if lost_at.is_some() => {}
        }
    }
}
