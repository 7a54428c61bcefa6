//! Stopping in good order: first the leaderships go to others, then the logs are closed (R12).
//!
//! ```text
//!  hand over: nothing is appended any more ─► what was appended is committed ─► the controller moves the leaderships, and says when
//!             every other broker knows ─► listeners closed ─► shut down: logs flushed, written out and marked as clean
//! ```
//!
//! While the leaderships move, the listeners still answer: producers are told, definitely, that nothing was appended and who leads.

use std::sync::Arc;
use std::time::Duration;

use thalweg_rpc::Error;
use tokio::time::{Instant, sleep, timeout_at};

use crate::broker::Broker;
use crate::partition::AckError;

/// Between two looks at who still waits for an acknowledgement.
const DRAIN_INTERVAL: Duration = Duration::from_millis(2);

/// How long producers may wait for what is appended to be committed, before the leaderships move all the same.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// Between two heartbeats that ask whether the broker may go.
const ASK_INTERVAL_FIRST: Duration = Duration::from_millis(2);
const ASK_INTERVAL_MAX: Duration = Duration::from_millis(100);

/// How long no controller may answer before they are taken to be gone, and the broker goes without leave: longer than they take to elect
/// another active one.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(6);

impl Broker {
    /// Resolves when an operator has asked, through the controller, for this broker to stop.
    pub async fn shutdown_requested(&self) {
        let mut requested = self.session.shutdown_requested();
        if requested.wait_for(|requested| *requested).await.is_err() {
            std::future::pending().await
        }
    }

    /// Gives what is led here to others. Call before the listeners are closed, where there are other brokers. Says whether the controller
    /// has let this one go within `patience`; if it has not, stopping all the same is as if the process had died, for those who wait.
    pub async fn hand_over(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        for partition in self.hosted.all() {
            partition.stop_appending();
        }
        let drained = until.min(Instant::now() + DRAIN_TIME_MAX);
        while Instant::now() < drained && self.hosted.all().iter().any(|it| it.has_waiters()) {
            sleep(DRAIN_INTERVAL).await;
        }
        self.session.want_shutdown();
        let may_go = || async {
            let applied = *self.tasks.reconciled().borrow();
            self.session.heartbeat(applied).await.map(|answer| answer.may_shut_down)
        };
        let has_leave = ask_for_leave(may_go, until).await;
        self.replication.close();
        if !has_leave {
            tracing::warn!("the controller has not let this broker go; it stops all the same");
        }
        has_leave
    }

    /// Tells everyone who waits that the outcome is unknown, and closes the logs cleanly. The listeners must have been shut down before.
    pub async fn shutdown(&self) {
        self.tasks.stop().await;
        for partition in self.hosted.all() {
            partition.retire(AckError::ShuttingDown);
        }
        let log_dir = Arc::clone(&self.log_dir);
        // Writing out the tails may take a while; it must not hold up the other services' shutdown.
        let closed = tokio::task::spawn_blocking(move || log_dir.shutdown()).await;
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "logs could not be closed cleanly"),
            Err(error) => tracing::error!(%error, "closing the logs failed"),
        }
    }
}

/// Asks until the answer is yes; not longer than `until`, nor when nobody has answered for a while.
async fn ask_for_leave<A: Future<Output = Result<bool, Error>>>(
    mut ask: impl FnMut() -> A,
    until: Instant,
) -> bool {
    let mut interval = ASK_INTERVAL_FIRST;
    let mut silent_until = Instant::now() + SILENCE_TIME_MAX;
    loop {
        match timeout_at(until.min(silent_until), ask()).await {
            Ok(Ok(true)) => return true,
            Ok(Ok(false)) => silent_until = Instant::now() + SILENCE_TIME_MAX,
            Ok(Err(error)) => tracing::debug!(%error, "asked in vain whether this broker may stop"),
            Err(_elapsed) => return false,
        }
        if Instant::now() + interval >= until.min(silent_until) {
            return false;
        }
        sleep(interval).await;
        interval = (interval * 2).min(ASK_INTERVAL_MAX);
    }
}

#[cfg(test)]
mod tests {
    use thalweg_types::ErrorCode;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn gone() -> Error {
        Error::new(ErrorCode::NetworkException, "nobody is there")
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_wait_waits_for_leave() {
        let begun = Instant::now();
        let ask = || async { Ok(begun.elapsed() >= SILENCE_TIME_MAX * 2) };
        assert!(ask_for_leave(ask, begun + PATIENCE).await);
        assert!(begun.elapsed() < PATIENCE);
        assert!(!ask_for_leave(|| async { Ok(false) }, Instant::now() + PATIENCE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn leave_of_controllers_that_are_gone_is_not_waited_for() {
        for is_refused in [true, false] {
            let begun = Instant::now();
            let ask = || async {
                match is_refused {
                    true => Err(gone()),
                    false => std::future::pending().await,
                }
            };
            assert!(!ask_for_leave(ask, begun + PATIENCE).await);
            assert!(begun.elapsed() <= SILENCE_TIME_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_election_of_controllers_is_waited_for() {
        let begun = Instant::now();
        let ask = || async {
            match begun.elapsed() < Duration::from_secs(4) {
                true => Err(gone()),
                false => Ok(true),
            }
        };
        assert!(ask_for_leave(ask, begun + PATIENCE).await);
    }
}
