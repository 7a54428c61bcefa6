//! What all services of a process share, and what its readiness says of them.

use std::sync::Arc;

use thalweg_broker::Broker;
use thalweg_controller::{Standing, StandingWatch};
use thalweg_controller_client::{NodeSession, Standing as NodeStanding};
use thalweg_env::fs::{Fs, RealFs};
use thalweg_env::{Clock, OsRandom, Random, SystemClock};
use thalweg_metadata_feed::Feed;
use thalweg_telemetry::{Readiness, Registry};
use thalweg_types::LogIndex;

/// The real one: disks, clock, dice.
pub(super) struct Machine {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) registry: Arc<Registry>,
    pub(super) readiness: Readiness,
}

impl Machine {
    pub(super) fn real() -> Self {
        Self {
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
            registry: Arc::new(Registry::new()),
            readiness: Readiness::new(),
        }
    }

    /// Whether the cluster is known and goes on being told.
    pub(super) fn check_metadata(&self, feed: &Feed) {
        // Not the feed itself, which ends with its last owner.
        let (applied, trouble) = (feed.changed(), feed.trouble());
        self.readiness.check("metadata", move || match (&*trouble.borrow(), *applied.borrow()) {
            (Some(trouble), LogIndex::ZERO) => Err(format!("no controller answers: {trouble}")),
            (Some(trouble), index) => Err(format!("known up to {index}, but: {trouble}")),
            (None, LogIndex::ZERO) => Err("nothing received from the controller yet".to_owned()),
            (None, _) => Ok(()),
        });
    }

    /// Whether there is an active controller, and this one has a part in the quorum.
    pub(super) fn check_quorum(&self, standing: StandingWatch) {
        let needed = "a majority of controller.voters must be up and reach each other";
        self.readiness.check("quorum", move || match standing.now() {
            Standing::Active | Standing::Following(_) => Ok(()),
            Standing::Undecided => Err(format!("no active controller is known: {needed}")),
            Standing::Unconfirmed => Err(format!("this controller cannot decide: {needed}")),
            Standing::Leaderless(last) => Err(format!(
                "no active controller: {last} is not heard of, and nobody was elected; {needed}"
            )),
            Standing::Stopped => {
                Err("this controller's part in it has ended; see its log, and restart it"
                    .to_owned())
            }
        });
    }

    /// Whether the controllers take this node for alive.
    pub(super) fn check_session(&self, session: &NodeSession) {
        let standing = session.standing();
        self.readiness.check("session", move || match &*standing.borrow() {
            NodeStanding::Held(_) => Ok(()),
            NodeStanding::Registering => Err("registering with the controllers".to_owned()),
            NodeStanding::Refused(error) => Err(format!("refused: {error}")),
            NodeStanding::Replaced => Err("another process has taken its place".to_owned()),
            NodeStanding::Left => Err("it has left".to_owned()),
        });
    }

    pub(super) fn check_broker(&self, broker: &Arc<Broker>) {
        // Weak, so that an answer under way does not keep the log directory open.
        let weak = Arc::downgrade(broker);
        self.readiness.check("log directory", move || match weak.upgrade() {
            Some(broker) if broker.log_dir_failed() => {
                Err("failed; nothing is acknowledged until a restart".to_owned())
            }
            Some(_) => Ok(()),
            None => Err("closed".to_owned()),
        });
        let weak = Arc::downgrade(broker);
        self.readiness.check("session", move || {
            let Some(broker) = weak.upgrade() else { return Err("closed".to_owned()) };
            match broker.image().is_live(broker.node_id()) {
                true => Ok(()),
                false => {
                    Err("fenced: the controllers have not heard of this broker in time".to_owned())
                }
            }
        });
    }
}
