//! Whether this controller is in touch with its quorum: if not, what it knows grows old without its noticing.
//!
//! It may go on saying what it knows for a while, since an election takes its time, too. After that its watchers are better served by
//! another controller, and are sent away to look for one.

use std::sync::Weak;
use std::time::Duration;

use thalweg_raft::{Leadership, Quorum};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Longer than an election takes, also on a machine that does much else.
const ALONE_TIME_MAX: Duration = Duration::from_secs(5);

/// How often it is asked whether a majority follows, or whether a leader still calls.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Says in `in_touch` whether there is a leader that a majority follows, or was until just now. Ends with the process's part in the
/// quorum, or when nobody listens.
pub(crate) async fn observe(quorum: Weak<Quorum>, in_touch: watch::Sender<bool>) {
    let Some(mut leadership) = quorum.upgrade().map(|quorum| quorum.leadership()) else { return };
    let mut alone_since = None;
    loop {
        let is_led = match *leadership.borrow_and_update() {
            Leadership::Following { .. } => {
                quorum.upgrade().is_some_and(|quorum| quorum.hears_leader())
            }
            Leadership::Leading { .. } => {
                quorum.upgrade().is_some_and(|quorum| quorum.is_confirmed())
            }
            Leadership::Undecided => false,
            Leadership::Stopped => return,
        };
        alone_since = match is_led {
            true => None,
            false => Some(alone_since.unwrap_or_else(Instant::now)),
        };
        let is_old = alone_since.is_some_and(|since| since.elapsed() >= ALONE_TIME_MAX);
        in_touch.send_if_modified(|said| {
            let changes = *said == is_old;
            if changes && is_old {
                tracing::warn!(
                    "this controller has lost the quorum; its watchers are sent to others"
                );
            }
            *said = !is_old;
            changes
        });
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = sleep(LOOK_INTERVAL) => {}
            () = in_touch.closed() => return,
        }
    }
}
