//! Sessions on a cluster of two brokers.

use std::collections::BTreeSet;

use thalweg_invariants::Plant;
use thalweg_types::{ClusterId, DirId, IncarnationId, Uuid};

use super::*;
use crate::decide::{Heartbeat, Policy};
use crate::image::Position;
use crate::record::{Endpoint, NodeRole, Record};

const TIMING: SessionTiming = SessionTiming { timeout_ms: 9_000, return_ms: 1_000 };

fn uuid(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn registration(disk: u8, process: u8) -> RegisterNode {
    RegisterNode {
        role: NodeRole::Broker,
        dir_id: DirId(uuid(disk)),
        incarnation: IncarnationId(uuid(process)),
        cluster_id: None,
        node_id: None,
        previous_broker_epoch: None,
        endpoints: vec![Endpoint {
            listener: Endpoint::KAFKA.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }],
        rack: None,
        suspect: BTreeSet::new(),
    }
}

fn commit(image: &mut Image, records: &[Record]) {
    let index = LogIndex(image.position().index.0 + 1);
    let position = Position { index, ..image.position() };
    records.iter().for_each(|record| image.apply(position, record));
}

/// Nodes 1 and 2, unfenced, registered by processes 11 and 12.
fn cluster() -> Image {
    let mut image = Image::default();
    let created = image.decide_activate(ClusterId(uuid(1)), &Policy::default());
    commit(&mut image, &created.records);
    for disk in [1, 2] {
        let registered = image.decide_register_node(&registration(disk, disk + 10)).unwrap();
        commit(&mut image, &registered.records);
        let node = image.node(registered.response.node_id).unwrap();
        let heartbeat = Heartbeat {
            node_id: node.id,
            broker_epoch: node.broker_epoch,
            applied: image.position().index,
            want_shutdown: false,
            others_applied: None,
        };
        let unfenced = image.decide_heartbeat(&heartbeat).unwrap();
        commit(&mut image, &unfenced.records);
    }
    image
}

fn hear(sessions: &mut Sessions, image: &Image, node: i32, applied: u64, now: u64) {
    let node = image.node(NodeId(node)).unwrap();
    sessions.heard(node.id, node.broker_epoch, LogIndex(applied), Moment(now));
}

#[test]
fn who_is_not_heard_of_for_a_timeout_is_to_be_fenced_once() {
    let image = cluster();
    let mut sessions = Sessions::take_over(&image, TIMING, Moment(100));
    assert_eq!(sessions.next_deadline(), Some(Moment(9_100)));
    hear(&mut sessions, &image, 1, 5, 5_000);
    assert!(sessions.take_expired(&image, Moment(9_099)).is_empty());
    assert_eq!(sessions.take_expired(&image, Moment(9_100)), [NodeId(2)]);
    assert!(sessions.take_expired(&image, Moment(9_101)).is_empty());
    assert_eq!(sessions.next_deadline(), Some(Moment(14_000)));
}

#[test]
fn who_is_unfenced_after_its_session_was_forgotten_gets_a_new_one() {
    let mut image = cluster();
    let unfenced = Record::NodeUnfenced { node_id: NodeId(1) };
    commit(&mut image, &[Record::NodeFenced { node_id: NodeId(1) }]);
    let mut sessions = Sessions::take_over(&image, TIMING, Moment(0));
    hear(&mut sessions, &image, 1, 5, 0);
    hear(&mut sessions, &image, 2, 5, 8_000);
    assert!(sessions.take_expired(&image, Moment(9_000)).is_empty(), "it is fenced");
    commit(&mut image, &[unfenced]);
    assert!(sessions.take_expired(&image, Moment(9_100)).is_empty());
    assert_eq!(sessions.take_expired(&image, Moment(18_100)), [NodeId(1), NodeId(2)]);
}

#[test]
fn a_late_heartbeat_of_an_older_session_keeps_nobody_alive() {
    let image = cluster();
    let mut sessions = Sessions::take_over(&image, TIMING, Moment(0));
    sessions.heard(NodeId(2), BrokerEpoch(0), LogIndex(5), Moment(8_000));
    assert_eq!(sessions.take_expired(&image, Moment(9_000)), [NodeId(1), NodeId(2)]);
}

/// R12.
#[test]
fn a_broker_that_was_not_heard_of_may_have_applied_nothing() {
    let image = cluster();
    let mut sessions = Sessions::take_over(&image, TIMING, Moment(0));
    assert_eq!(sessions.others_applied(&image, NodeId(1)), Some(LogIndex(0)));
    hear(&mut sessions, &image, 2, 7, 10);
    assert_eq!(sessions.others_applied(&image, NodeId(1)), Some(LogIndex(7)));
    assert_eq!(sessions.others_applied(&Image::default(), NodeId(1)), None);
}

/// R13.4.
#[test]
fn another_process_does_not_take_over_a_session_that_is_heard_of() {
    let image = cluster();
    let mut sessions = Sessions::take_over(&image, TIMING, Moment(0));
    let other = registration(1, 99);
    let check = |sessions: &Sessions, request: &RegisterNode, now| {
        sessions.check_registration(&image, request, Moment(now)).map_err(|error| error.code())
    };
    assert_eq!(check(&sessions, &other, 0), Ok(()), "nobody was heard of since the take-over");
    hear(&mut sessions, &image, 1, 7, 10);
    let refused = Err(thalweg_types::ErrorCode::DuplicateBrokerRegistration);
    assert_eq!(check(&sessions, &other, 11), refused);
    assert_eq!(check(&sessions, &registration(1, 11), 11), Ok(()), "the same process");
    assert_eq!(check(&sessions, &registration(7, 99), 11), Ok(()), "a new disk");
    assert_eq!(check(&sessions, &other, 9_010), Ok(()), "the session is over");
}

#[test]
fn a_node_without_data_that_is_never_heard_of_is_to_be_forgotten() {
    let mut image = cluster();
    let mut sessions = Sessions::take_over(&image, TIMING, Moment(0));
    let coordinator = RegisterNode { role: NodeRole::Coordinator, ..registration(9, 99) };
    let registered = image.decide_register_node(&coordinator).unwrap();
    sessions.expect(&image, &coordinator, Moment(500));
    commit(&mut image, &registered.records);
    hear(&mut sessions, &image, 1, 5, 8_000);
    hear(&mut sessions, &image, 2, 5, 8_000);
    assert_eq!(sessions.next_deadline(), Some(Moment(9_500)));
    assert_eq!(sessions.take_expired(&image, Moment(9_500)), [NodeId(3)]);
    let forgotten = image.decide_fence(NodeId(3)).unwrap();
    assert_eq!(forgotten.records, [Record::NodeUnregistered { node_id: NodeId(3) }]);

    // A controller that takes over in between gives it a timeout, too.
    let mut sessions = Sessions::take_over(&image, TIMING, Moment(0));
    hear(&mut sessions, &image, 1, 5, 8_000);
    hear(&mut sessions, &image, 2, 5, 8_000);
    assert_eq!(sessions.take_expired(&image, Moment(9_000)), [NodeId(3)]);
}

fn hold(sessions: &mut Sessions, image: &Image, node: i32, hold: u64) {
    let node = image.node(NodeId(node)).unwrap();
    sessions.held(node.id, node.broker_epoch, HoldId(hold));
}

fn let_go(sessions: &mut Sessions, image: &Image, node: i32, hold: u64, now: u64) {
    let node = image.node(NodeId(node)).unwrap();
    sessions.let_go(node.id, node.broker_epoch, HoldId(hold), Moment(now));
}

/// Both heard of at 100, node 1 holding its session by stream 1.
fn held(image: &Image) -> Sessions {
    let mut sessions = Sessions::take_over(image, TIMING, Moment(0));
    hear(&mut sessions, image, 1, 5, 100);
    hear(&mut sessions, image, 2, 5, 100);
    hold(&mut sessions, image, 1, 1);
    sessions
}

#[test]
fn who_lets_go_and_does_not_come_back_is_fenced_early() {
    let image = cluster();
    let mut sessions = held(&image);
    let_go(&mut sessions, &image, 1, 1, 2_000);
    assert_eq!(sessions.next_deadline(), Some(Moment(3_000)));
    assert!(sessions.take_expired(&image, Moment(2_999)).is_empty());
    assert_eq!(sessions.take_expired(&image, Moment(3_000)), [NodeId(1)]);
    assert_eq!(sessions.next_deadline(), Some(Moment(9_100)), "the other one is not concerned");
}

#[test]
fn letting_go_gives_nobody_more_time() {
    let image = cluster();
    let mut sessions = held(&image);
    let_go(&mut sessions, &image, 1, 1, 8_900);
    assert_eq!(sessions.next_deadline(), Some(Moment(9_100)));
}

#[test]
fn who_is_heard_of_after_letting_go_has_a_whole_timeout() {
    let image = cluster();
    let mut sessions = held(&image);
    let_go(&mut sessions, &image, 1, 1, 2_000);
    hear(&mut sessions, &image, 1, 5, 2_900);
    assert!(sessions.take_expired(&image, Moment(9_099)).is_empty());
    assert_eq!(sessions.take_expired(&image, Moment(11_900)), [NodeId(1), NodeId(2)]);

    let _plant = Plant::new(Mutant::M31);
    let mut sessions = held(&image);
    let_go(&mut sessions, &image, 1, 1, 2_000);
    hear(&mut sessions, &image, 1, 5, 2_900);
    assert_eq!(sessions.take_expired(&image, Moment(3_000)), [NodeId(1)], "found out");
}

#[test]
fn a_new_hold_takes_the_place_of_one_that_ends_later() {
    let image = cluster();
    let mut sessions = held(&image);
    hold(&mut sessions, &image, 1, 2);
    let_go(&mut sessions, &image, 1, 1, 2_000);
    assert_eq!(sessions.next_deadline(), Some(Moment(9_100)), "an older stream's end says nothing");
    hold(&mut sessions, &image, 1, 1);
    let_go(&mut sessions, &image, 1, 1, 2_500);
    assert_eq!(sessions.next_deadline(), Some(Moment(9_100)), "whichever is told of first");
    let_go(&mut sessions, &image, 1, 2, 3_000);
    assert_eq!(sessions.next_deadline(), Some(Moment(4_000)));
    hold(&mut sessions, &image, 1, 3);
    assert_eq!(sessions.next_deadline(), Some(Moment(9_100)), "it has come back");
}

#[test]
fn the_end_of_an_earlier_session_says_nothing_about_the_present_one() {
    let image = cluster();
    let mut sessions = held(&image);
    let present = image.node(NodeId(1)).unwrap().broker_epoch;
    let next = BrokerEpoch(present.0 + 100);
    sessions.heard(NodeId(1), next, LogIndex(5), Moment(1_000));
    let_go(&mut sessions, &image, 1, 1, 2_000);
    assert_eq!(sessions.next_deadline(), Some(Moment(9_100)));
}

#[test]
fn who_was_fenced_and_lives_again_still_holds_its_session() {
    let image = cluster();
    let mut sessions = held(&image);
    hear(&mut sessions, &image, 2, 5, 8_000);
    assert_eq!(sessions.take_expired(&image, Moment(9_100)), [NodeId(1)]);
    hear(&mut sessions, &image, 1, 5, 9_200);
    let_go(&mut sessions, &image, 1, 1, 9_300);
    assert_eq!(sessions.take_expired(&image, Moment(10_300)), [NodeId(1)]);
}

/// R13.4: a broker that is killed and started again does not wait out the session of its last life.
#[test]
fn another_process_takes_over_a_session_that_was_let_go() {
    let image = cluster();
    let mut sessions = held(&image);
    let other = registration(1, 99);
    let_go(&mut sessions, &image, 1, 1, 2_000);
    assert!(sessions.check_registration(&image, &other, Moment(2_999)).is_err());
    assert!(sessions.check_registration(&image, &other, Moment(3_000)).is_ok());
}
