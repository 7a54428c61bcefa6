//! Subscriptions, and topics that come, grow and go.

use thalweg_types::{ErrorCode, MemberEpoch, TopicName};

use super::world::{World, beat, join, lists, owning};
use crate::request::ConsumerHeartbeat;

fn by_regex(member: &str, expression: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        subscribed_names: None,
        subscribed_regex: Some(expression.into()),
        ..join(member, &[])
    }
}

fn names(names: &[&str]) -> Option<Vec<TopicName>> {
    Some(names.iter().map(|name| TopicName::new(name).unwrap()).collect())
}

#[test]
fn a_topic_that_grows_is_shared_out_anew() {
    let mut world = World::new(&[("t", 1), ("u", 1)]);
    let t = world.cluster.id("t");
    world.accepted(&join("a", &["t"]));
    world.cluster.set("u", 5);
    world.metadata_changed();
    let (answer, records) = world.heartbeat(&beat("a", 1));
    assert_eq!((answer.assignment, records), (None, vec![]), "not its topic");
    world.cluster.set("t", 2);
    world.metadata_changed();
    let answer = world.accepted(&beat("a", 1));
    assert_eq!(answer.member_epoch, MemberEpoch(2));
    assert_eq!(answer.assignment, Some(lists(&[(t, &[0, 1])])));
    world.check_log();
}

#[test]
fn a_topic_that_is_deleted_is_nobodys_and_a_new_one_of_its_name_is_another() {
    let mut world = World::new(&[("t", 1), ("u", 1)]);
    let (t, u) = (world.cluster.id("t"), world.cluster.id("u"));
    world.accepted(&join("a", &["t", "u"]));
    world.cluster.delete("t");
    world.metadata_changed();
    let answer = world.accepted(&beat("a", 1));
    assert_eq!(answer.assignment, Some(lists(&[(u, &[0])])));
    world.accepted(&owning(&[(u, &[0])], beat("a", 1)));
    world.cluster.set("t", 1);
    world.metadata_changed();
    let again = world.cluster.id("t");
    assert_ne!(again, t);
    let answer = world.accepted(&beat("a", 2));
    assert_eq!(answer.assignment.map(|lists| lists.len()), Some(2));
}

#[test]
fn a_topic_that_does_not_exist_yet_may_be_subscribed_to() {
    let mut world = World::new(&[]);
    let answer = world.accepted(&join("a", &["t"]));
    assert_eq!((answer.member_epoch, answer.assignment), (MemberEpoch(1), Some(vec![])));
    world.cluster.set("t", 1);
    world.metadata_changed();
    assert_eq!(world.accepted(&beat("a", 1)).assignment.map(|lists| lists.len()), Some(1));
}

#[test]
fn a_member_that_subscribes_to_something_else_gives_up_the_rest() {
    let mut world = World::new(&[("t", 1), ("u", 1)]);
    let (t, u) = (world.cluster.id("t"), world.cluster.id("u"));
    world.accepted(&join("a", &["t"]));
    let change = ConsumerHeartbeat { subscribed_names: names(&["u"]), ..beat("a", 1) };
    let answer = world.accepted(&change);
    assert_eq!((answer.member_epoch, answer.assignment), (MemberEpoch(1), Some(vec![])));
    let answer = world.accepted(&owning(&[], beat("a", 1)));
    assert_eq!(answer.assignment, Some(lists(&[(u, &[0])])));
    let none = ConsumerHeartbeat { subscribed_names: names(&[]), ..beat("a", 2) };
    assert_eq!(world.accepted(&none).assignment, Some(vec![]));
    assert_ne!(t, u);
    world.check_log();
}

#[test]
fn an_expression_is_resolved_here_and_again_when_topics_change() {
    let mut world = World::new(&[("log-a", 1), ("log-b", 1), ("other", 1)]);
    let answer = world.accepted(&by_regex("a", "log-.*"));
    assert_eq!(answer.assignment.map(|lists| lists.len()), Some(2));
    world.cluster.set("log-c", 1);
    world.cluster.set("other-too", 1);
    world.metadata_changed();
    let answer = world.accepted(&beat("a", 1));
    assert_eq!(answer.assignment.map(|lists| lists.len()), Some(3));
    world.cluster.set("unrelated", 1);
    world.metadata_changed();
    let (_, records) = world.heartbeat(&beat("a", 2));
    assert_eq!(records, []);
    world.check_log();
    let group = world.group().unwrap();
    assert!(group.is_subscribed_to(&TopicName::new("log-c").unwrap()));
    assert!(!group.is_subscribed_to(&TopicName::new("other").unwrap()));
}

#[test]
fn an_expression_that_nobody_has_any_more_is_forgotten() {
    let mut world = World::new(&[("log-a", 1), ("t", 1)]);
    world.accepted(&by_regex("a", "log-.*"));
    world.accepted(&by_regex("b", "log-.*"));
    world.accepted(&by_regex("c", "t|log-a"));
    let expressions = |world: &World| world.group().unwrap().expressions.len();
    assert_eq!(expressions(&world), 2);
    world.accepted(&beat("a", -1));
    assert_eq!(expressions(&world), 2);
    let names = ConsumerHeartbeat {
        subscribed_regex: Some("".into()),
        subscribed_names: names(&["t"]),
        ..owning(&[], beat("b", 2))
    };
    world.accepted(&names);
    assert_eq!(expressions(&world), 1);
    world.pass(45_000);
    assert_eq!(expressions(&world), 0);
    world.check_log();
}

#[test]
fn a_wrong_expression_changes_nothing() {
    let mut world = World::new(&[("t", 1)]);
    world.accepted(&join("a", &["t"]));
    let wrong = ConsumerHeartbeat { subscribed_regex: Some("[".into()), ..beat("a", 1) };
    assert_eq!(world.refused(&wrong), ErrorCode::InvalidRegularExpression);
}

#[test]
fn a_description_says_what_is_and_what_shall_be() {
    let mut world = World::new(&[("t", 2)]);
    world.accepted(&by_regex("a", "t"));
    world.accepted(&join("b", &["t"]));
    world.accepted(&beat("a", 1));
    let group = world.describe();
    assert_eq!((group.state, group.group_epoch.0, group.assignment_epoch.0), ("Reconciling", 2, 2));
    let [a, b] = &group.members[..] else { panic!("{group:?}") };
    assert_eq!((a.assignment[0].partitions.len(), a.target[0].partitions.len()), (1, 1));
    assert_eq!((b.assignment.len(), b.target[0].partitions.len()), (0, 1));
    assert_eq!((a.subscribed_regex.as_deref(), a.member_type), (Some("t"), 1));
    assert_eq!((b.subscribed_names.len(), &*b.client_host), (1, "/127.0.0.1"));
    world.cluster.delete("t");
    assert_eq!(world.describe().members[0].target, []);
}
