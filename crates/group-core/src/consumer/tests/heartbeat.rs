//! What a heartbeat may say, what it is answered, and how partitions change hands.

use thalweg_types::{ErrorCode, MemberEpoch, TopicName};

use super::world::{World, as_instance, beat, join, lists, owning};
use crate::GroupConfig;
use crate::request::ConsumerHeartbeat;

#[test]
fn the_first_member_gets_everything() {
    let mut world = World::new(&[("t", 3)]);
    let t = world.cluster.id("t");
    let answer = world.accepted(&join("a", &["t"]));
    assert_eq!(answer.member_epoch, MemberEpoch(1));
    assert_eq!(answer.heartbeat_interval_ms, 5_000);
    assert_eq!(answer.assignment, Some(lists(&[(t, &[0, 1, 2])])));
    world.check_log();
}

#[test]
fn a_heartbeat_without_news_stores_and_says_nothing() {
    let mut world = World::new(&[("t", 3)]);
    let t = world.cluster.id("t");
    world.accepted(&join("a", &["t"]));
    for request in [beat("a", 1), owning(&[(t, &[0, 1, 2])], beat("a", 1))] {
        let (answer, records) = world.heartbeat(&request);
        assert_eq!((answer.error, answer.assignment), (ErrorCode::None, None));
        assert_eq!(records, []);
    }
    // Everything said anew, as after an error: the answer is whole again, and nothing is stored.
    let full = ConsumerHeartbeat { member_epoch: MemberEpoch(1), ..join("a", &["t", "t"]) };
    let (answer, records) = world.heartbeat(&owning(&[(t, &[0, 1])], full));
    assert_eq!(answer.assignment, Some(lists(&[(t, &[0, 1, 2])])));
    assert_eq!(records, []);
}

#[test]
fn a_partition_is_given_on_when_its_owner_says_that_it_has_it_no_more() {
    let mut world = World::new(&[("t", 4)]);
    let t = world.cluster.id("t");
    world.accepted(&join("a", &["t"]));
    let answer = world.accepted(&join("b", &["t"]));
    assert_eq!((answer.member_epoch, answer.assignment), (MemberEpoch(2), Some(vec![])));

    let answer = world.accepted(&beat("a", 1));
    assert_eq!(answer.member_epoch, MemberEpoch(1), "it has to give up first");
    assert_eq!(answer.assignment, Some(lists(&[(t, &[0, 1])])));
    for silent in [beat("a", 1), owning(&[(t, &[0, 1, 2])], beat("a", 1))] {
        assert_eq!(world.accepted(&silent).member_epoch, MemberEpoch(1));
        assert_eq!(world.accepted(&beat("b", 2)).assignment, None);
    }

    let answer = world.accepted(&owning(&[(t, &[0, 1])], beat("a", 1)));
    assert_eq!((answer.member_epoch, answer.assignment), (MemberEpoch(2), None));
    let answer = world.accepted(&beat("b", 2));
    assert_eq!(answer.assignment, Some(lists(&[(t, &[2, 3])])));
    assert_eq!(world.describe().state, "Stable");
    world.check_log();
}

#[test]
fn a_member_whose_answer_was_lost_repeats_with_the_epoch_before() {
    let mut world = World::new(&[("t", 2)]);
    let t = world.cluster.id("t");
    world.accepted(&join("a", &["t"]));
    let again = world.accepted(&join("a", &["t"]));
    assert_eq!(again.member_epoch, MemberEpoch(1));
    assert_eq!(again.assignment, Some(lists(&[(t, &[0, 1])])));

    world.accepted(&join("b", &["t"]));
    world.accepted(&beat("a", 1));
    world.accepted(&owning(&[(t, &[0])], beat("a", 1)));
    // It is of epoch 2 now, and does not know.
    assert_eq!(world.accepted(&owning(&[(t, &[0])], beat("a", 1))).member_epoch, MemberEpoch(2));
    assert_eq!(world.refused(&beat("a", 1)), ErrorCode::FencedMemberEpoch, "it does not say");
    let strange = owning(&[(t, &[0, 1])], beat("a", 1));
    assert_eq!(world.refused(&strange), ErrorCode::FencedMemberEpoch, "more than it was given");
}

#[test]
fn other_epochs_are_fenced() {
    let mut world = World::new(&[("t", 2)]);
    world.accepted(&join("a", &["t"]));
    world.accepted(&join("b", &["t"]));
    assert_eq!(world.refused(&beat("b", 3)), ErrorCode::FencedMemberEpoch);
    assert_eq!(world.refused(&beat("b", 1)), ErrorCode::FencedMemberEpoch);
    assert_eq!(world.refused(&beat("c", 1)), ErrorCode::UnknownMemberId);
    let other = |request| ConsumerHeartbeat { group: "h".into(), ..request };
    assert_eq!(world.refused(&other(beat("a", 1))), ErrorCode::GroupIdNotFound);
    assert_eq!(world.refused(&other(beat("a", -1))), ErrorCode::GroupIdNotFound);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut world = World::new(&[("t", 2)]);
    world.accepted(&join("a", &["t"]));
    let full = join("b", &["t"]);
    let long: String = "x".repeat(32_768);
    for (what, request) in [
        ("no group", ConsumerHeartbeat { group: "".into(), ..full.clone() }),
        ("no member id", join("", &["t"])),
        ("no member id", ConsumerHeartbeat { requires_client_made_id: false, ..beat("", 1) }),
        ("no member id", ConsumerHeartbeat { requires_client_made_id: false, ..beat("", -1) }),
        ("empty instance", as_instance("", full.clone())),
        ("empty rack", ConsumerHeartbeat { rack: Some("".into()), ..full.clone() }),
        ("epoch -3", beat("a", -3)),
        ("away without instance", beat("a", -2)),
        ("no timeout", ConsumerHeartbeat { rebalance_timeout_ms: None, ..full.clone() }),
        ("timeout 0", ConsumerHeartbeat { rebalance_timeout_ms: Some(0), ..full.clone() }),
        ("timeout -5", ConsumerHeartbeat { rebalance_timeout_ms: Some(-5), ..beat("a", 1) }),
        ("nothing owned said", ConsumerHeartbeat { owned: None, ..full.clone() }),
        ("owned", owning(&[(world.cluster.id("t"), &[1])], full.clone())),
        ("no subscription", ConsumerHeartbeat { subscribed_names: None, ..full.clone() }),
        ("long id", join(&long, &["t"])),
        ("long instance", as_instance(&long, full.clone())),
    ] {
        assert_eq!(world.refused(&request), ErrorCode::InvalidRequest, "{what}");
    }
    let unknown = ConsumerHeartbeat { server_assignor: Some("sticky".into()), ..full.clone() };
    assert_eq!(world.refused(&unknown), ErrorCode::UnsupportedAssignor);
    let names = (0..2_000).map(|n| TopicName::new(&format!("{n:0>200}")).unwrap()).collect();
    let many = ConsumerHeartbeat { subscribed_names: Some(names), ..full };
    assert_eq!(world.refused(&many), ErrorCode::InvalidRequest);
}

#[test]
fn a_group_that_nobody_was_let_into_is_not_there() {
    let mut world = World::new(&[("t", 2)]);
    let bad = ConsumerHeartbeat { subscribed_regex: Some("(".into()), ..join("a", &[]) };
    assert_eq!(world.refused(&bad), ErrorCode::InvalidRegularExpression);
    assert_eq!(world.describe().error, ErrorCode::GroupIdNotFound);
}

#[test]
fn a_member_of_version_0_is_given_an_id() {
    let mut world = World::new(&[("t", 2)]);
    let request = ConsumerHeartbeat { requires_client_made_id: false, ..join("", &["t"]) };
    let first = world.accepted(&request).member.unwrap();
    let second = world.accepted(&request).member.unwrap();
    assert!(!first.is_empty() && first != second);
    assert_eq!(world.accepted(&beat(first.as_str(), 1)).error, ErrorCode::None);
}

#[test]
fn a_full_group_lets_nobody_in() {
    let config = GroupConfig { consumer_members_max: 2, ..GroupConfig::default() };
    let mut world = World::with_config(&[("t", 2)], config);
    world.accepted(&as_instance("one", join("a", &["t"])));
    world.accepted(&join("b", &["t"]));
    assert_eq!(world.refused(&join("c", &["t"])), ErrorCode::GroupMaxSizeReached);
    assert_eq!(world.accepted(&beat("b", 2)).error, ErrorCode::None);
    world.accepted(&as_instance("one", beat("a", -2)));
    assert_eq!(world.accepted(&as_instance("one", join("d", &["t"]))).error, ErrorCode::None);
}

#[test]
fn most_members_choose_the_assignor() {
    let mut world = World::new(&[("t", 4)]);
    let asking = |member: &str, assignor: &str| ConsumerHeartbeat {
        server_assignor: Some(assignor.into()),
        ..join(member, &["t"])
    };
    world.accepted(&join("a", &["t"]));
    assert_eq!(&*world.describe().assignor, "uniform");
    world.accepted(&asking("b", "range"));
    assert_eq!(&*world.describe().assignor, "range", "who asks for none does not vote");
    world.accepted(&asking("c", "uniform"));
    assert_eq!(&*world.describe().assignor, "uniform", "the first of equals");
    world.accepted(&asking("d", "range"));
    assert_eq!(&*world.describe().assignor, "range");
}

#[test]
fn another_assignor_shares_out_anew() {
    let mut world = World::new(&[("t", 4)]);
    world.accepted(&join("a", &["t"]));
    let asking = |assignor: &str, epoch| ConsumerHeartbeat {
        server_assignor: Some(assignor.into()),
        ..beat("a", epoch)
    };
    assert_eq!(world.accepted(&asking("uniform", 1)).member_epoch, MemberEpoch(1));
    assert_eq!(world.accepted(&asking("range", 1)).member_epoch, MemberEpoch(2));
    assert_eq!(world.accepted(&asking("range", 2)).member_epoch, MemberEpoch(2));
}
