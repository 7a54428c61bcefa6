//! Sessions with a controller that answers as the test wants.

use std::collections::VecDeque;
use std::sync::Mutex;

use thalweg_env::SimClock;
use thalweg_metadata_core::Image;
use thalweg_types::{BrokerEpoch, ClusterId, LogIndex, NodeId, Timestamp, Uuid};

use super::*;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers heartbeats by the script, and after it as for a live node.
#[derive(Debug, Clone, Default)]
struct Controller(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    registrations: VecDeque<ErrorCode>,
    heartbeats: VecDeque<Result<BeatAnswer, ErrorCode>>,
    registered: i64,
    beats: Vec<Beat>,
}

impl Controller {
    fn with<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn beats(&self) -> usize {
        self.with(|script| script.beats.len())
    }
}

impl Calls for Controller {
    async fn register(&self, node: Registering) -> Result<Registered, Error> {
        assert_eq!(node.role, NodeRole::Gateway);
        self.with(|script| match script.registrations.pop_front() {
            Some(code) => Err(Error::new(code, "scripted")),
            None => {
                script.registered += 1;
                Ok(Registered {
                    cluster_id: ClusterId::ZERO,
                    node_id: NodeId(7),
                    broker_epoch: BrokerEpoch(script.registered),
                })
            }
        })
    }

    async fn heartbeat(&self, beat: Beat) -> Result<BeatAnswer, Error> {
        let scripted = self.with(|script| {
            script.beats.push(beat);
            script.heartbeats.pop_front()
        });
        match scripted {
            Some(answer) => answer.map_err(|code| Error::new(code, "scripted")),
            None => Ok(BeatAnswer { may_shut_down: beat.want_shutdown, ..alive() }),
        }
    }
}

fn alive() -> BeatAnswer {
    BeatAnswer {
        fenced: false,
        may_shut_down: false,
        shutdown_requested: false,
        index: LogIndex(1),
    }
}

/// A controller, the node's clock, which stands still, and its session.
fn start(script: Script) -> (Controller, Arc<SimClock>, NodeSession) {
    let controller = Controller(Arc::new(Mutex::new(script)));
    let clock = Arc::new(SimClock::new(Timestamp(0)));
    clock.advance_ms(1_000);
    let options = SessionOptions {
        role: NodeRole::Gateway,
        identity: DirId(Uuid::from_bytes([1; 16])),
        incarnation: IncarnationId(Uuid::from_bytes([2; 16])),
        endpoints: Vec::new(),
        rack: None,
        heartbeat_interval: Duration::from_millis(5),
        session_timeout: Duration::from_millis(9_000),
        clock: Arc::clone(&clock) as _,
    };
    let (feed, _) = Feed::manual(Image::default());
    let session = NodeSession::start_with(controller.clone(), feed, options);
    (controller, clock, session)
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it takes far less than this");
}

async fn becomes(session: &NodeSession, wanted: Standing) {
    let mut standing = session.standing();
    let reached = standing.wait_for(|now| *now == wanted);
    timeout(PATIENCE, reached).await.expect("it takes far less than this").unwrap();
}

fn held(broker_epoch: i64) -> Standing {
    let (cluster_id, node_id) = (ClusterId::ZERO, NodeId(7));
    Standing::Held(Registered { cluster_id, node_id, broker_epoch: BrokerEpoch(broker_epoch) })
}

#[tokio::test]
async fn a_lease_holds_for_a_session_timeout_from_when_the_last_answered_heartbeat_was_sent() {
    let fenced = BeatAnswer { fenced: true, ..alive() };
    let heartbeats = VecDeque::from([
        Ok(fenced),
        Ok(fenced),
        Ok(alive()),
        Err(ErrorCode::NetworkException),
        Err(ErrorCode::NotController),
    ]);
    let (controller, clock, session) = start(Script { heartbeats, ..Script::default() });
    assert_eq!(session.lease_until(), None);
    until(|| controller.beats() >= 5).await;
    until(|| session.lease_until() == Some(Moment(10_000))).await;
    clock.advance_ms(500);
    until(|| session.lease_until() == Some(Moment(10_500))).await;
    assert_eq!(session.registered().await.unwrap().node_id, NodeId(7));
}

#[tokio::test]
async fn a_node_that_was_forgotten_registers_again_and_has_no_lease_meanwhile() {
    let heartbeats = VecDeque::from([Ok(alive()), Err(ErrorCode::BrokerIdNotRegistered)]);
    let (_controller, _clock, session) = start(Script { heartbeats, ..Script::default() });
    becomes(&session, held(2)).await;
    until(|| session.lease_until().is_some()).await;
}

#[tokio::test]
async fn a_node_that_was_replaced_knows_and_does_not_come_back() {
    let heartbeats = VecDeque::from([Ok(alive()), Err(ErrorCode::StaleBrokerEpoch)]);
    let (controller, _clock, session) = start(Script { heartbeats, ..Script::default() });
    becomes(&session, Standing::Replaced).await;
    assert_eq!(session.lease_until(), None);
    let beats = controller.beats();
    sleep(Duration::from_millis(50)).await;
    assert_eq!((controller.beats(), controller.with(|script| script.registered)), (beats, 1));
    assert!(session.registered().await.is_err());
}

#[tokio::test]
async fn a_registration_is_tried_until_it_is_granted_or_never_will_be() {
    let for_now =
        VecDeque::from([ErrorCode::DuplicateBrokerRegistration, ErrorCode::NotController]);
    let (_controller, _clock, session) =
        start(Script { registrations: for_now, ..Script::default() });
    becomes(&session, held(1)).await;

    let registrations = VecDeque::from([ErrorCode::InconsistentClusterId]);
    let (_controller, _clock, session) = start(Script { registrations, ..Script::default() });
    let refused = timeout(PATIENCE, session.registered()).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::InconsistentClusterId);
}

#[tokio::test]
async fn leaving_waits_until_the_node_may_go() {
    let heartbeats = VecDeque::from([Ok(BeatAnswer { shutdown_requested: true, ..alive() })]);
    let (controller, _clock, session) = start(Script { heartbeats, ..Script::default() });
    let mut asked = session.shutdown_requested();
    timeout(PATIENCE, asked.wait_for(|asked| *asked)).await.unwrap().unwrap();
    controller.with(|script| script.heartbeats.extend([Ok(alive()), Ok(alive()), Ok(alive())]));
    timeout(PATIENCE, session.leave()).await.unwrap();
    assert_eq!(*session.standing().borrow(), Standing::Left);
    assert_eq!(session.lease_until(), None);
    assert!(controller.with(|script| script.beats.last().unwrap().want_shutdown));
}

#[tokio::test]
async fn who_leaves_before_it_was_registered_waits_for_nothing() {
    let registrations = vec![ErrorCode::NotController; 1_000].into();
    let (_controller, _clock, session) = start(Script { registrations, ..Script::default() });
    timeout(PATIENCE, session.leave()).await.unwrap();
    assert_eq!(*session.standing().borrow(), Standing::Left);
}
