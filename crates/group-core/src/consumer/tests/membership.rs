//! Coming, going, falling silent, coming back; and other coordinators.

use thalweg_types::{ErrorCode, MemberEpoch};

use super::world::{World, as_instance, beat, id, join, lists, owning};
use crate::Record;
use crate::request::{CommitOffsets, FetchOffsets};

#[test]
fn what_a_leaving_member_owned_is_shared_out_at_the_next_heartbeat() {
    let mut world = World::new(&[("t", 4)]);
    let t = world.cluster.id("t");
    world.accepted(&join("a", &["t"]));
    world.accepted(&join("b", &["t"]));
    let answer = world.accepted(&beat("a", -1));
    assert_eq!((answer.member, answer.member_epoch), (Some(id("a")), MemberEpoch(-1)));
    assert_eq!(world.describe().state, "Assigning");
    let answer = world.accepted(&beat("b", 2));
    assert_eq!(answer.assignment, Some(lists(&[(t, &[0, 1, 2, 3])])));
    assert_eq!(world.refused(&beat("a", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(world.refused(&beat("a", -1)), ErrorCode::UnknownMemberId);
    world.accepted(&beat("b", -1));
    assert_eq!(world.describe().state, "Empty");
    world.check_log();
}

#[test]
fn a_silent_member_is_removed() {
    let mut world = World::new(&[("t", 2)]);
    world.accepted(&join("a", &["t"]));
    world.accepted(&join("b", &["t"]));
    world.pass(30_000);
    world.accepted(&beat("b", 2));
    assert_ne!(world.pass(15_000), [], "a is removed");
    assert_eq!(world.refused(&beat("a", 1)), ErrorCode::UnknownMemberId);
    world.accepted(&beat("b", 2));
    assert_eq!(world.pass(44_999), []);
    assert_ne!(world.pass(1), []);
    assert_eq!(world.describe().state, "Empty");
    assert_eq!(world.groups.next_deadline(), None);
    world.check_log();
}

#[test]
fn several_silent_members_are_removed_with_one_epoch() {
    let mut world = World::new(&[("t", 2)]);
    for member in ["a", "b", "c"] {
        world.accepted(&join(member, &["t"]));
    }
    let records = world.pass(45_000);
    let epochs = records.iter().filter(|record| matches!(record, Record::ConsumerGroup(..)));
    assert_eq!(epochs.count(), 1);
}

#[test]
fn who_does_not_give_up_in_time_is_removed() {
    let mut world = World::new(&[("t", 2)]);
    world.accepted(&join("a", &["t"]));
    world.accepted(&join("b", &["t"]));
    world.accepted(&beat("a", 1));
    for _ in 0..2 {
        world.pass(14_999);
        world.accepted(&beat("a", 1));
        world.accepted(&beat("b", 2));
    }
    assert_ne!(world.pass(2), [], "its heartbeats do not help it");
    assert_eq!(world.refused(&beat("a", 1)), ErrorCode::UnknownMemberId);
    world.accepted(&beat("b", 2));
    assert_eq!(world.describe().state, "Stable");
}

#[test]
fn who_gives_up_in_time_stays() {
    let mut world = World::new(&[("t", 2)]);
    let t = world.cluster.id("t");
    world.accepted(&join("a", &["t"]));
    world.accepted(&join("b", &["t"]));
    world.accepted(&beat("a", 1));
    world.pass(29_999);
    world.accepted(&owning(&[(t, &[0])], beat("a", 1)));
    world.accepted(&beat("b", 2));
    assert_eq!(world.pass(20_000), []);
    assert_eq!(world.accepted(&beat("a", 2)).error, ErrorCode::None);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut world = World::new(&[("t", 4)]);
    let t = world.cluster.id("t");
    world.accepted(&as_instance("one", join("a", &["t"])));
    world.accepted(&join("b", &["t"]));
    world.accepted(&as_instance("one", beat("a", 1)));
    world.accepted(&as_instance("one", owning(&[(t, &[0, 1])], beat("a", 1))));
    world.accepted(&beat("b", 2));

    let answer = world.accepted(&as_instance("one", beat("a", -2)));
    assert_eq!((answer.member, answer.member_epoch), (Some(id("a")), MemberEpoch(-2)));
    assert_eq!(world.accepted(&beat("b", 2)).assignment, None, "nobody gets it meanwhile");
    let answer = world.accepted(&as_instance("one", join("c", &["t"])));
    assert_eq!((answer.member, answer.member_epoch), (Some(id("c")), MemberEpoch(2)));
    assert_eq!(answer.assignment, Some(lists(&[(t, &[0, 1])])));
    assert_eq!(world.accepted(&beat("b", 2)).assignment, None);
    assert_eq!(world.refused(&as_instance("one", beat("a", 2))), ErrorCode::FencedInstanceId);
    assert_eq!(world.refused(&beat("a", 2)), ErrorCode::UnknownMemberId);
    world.check_log();
}

#[test]
fn a_static_member_that_stays_away_is_removed() {
    let mut world = World::new(&[("t", 2)]);
    world.accepted(&as_instance("one", join("a", &["t"])));
    world.accepted(&as_instance("one", beat("a", -2)));
    assert_eq!(world.pass(44_999), []);
    assert_ne!(world.pass(1), []);
    assert_eq!(world.describe().state, "Empty");
    let answer = world.accepted(&as_instance("one", join("b", &["t"])));
    assert_eq!(answer.member_epoch, MemberEpoch(3));
}

#[test]
fn an_instance_has_one_member() {
    let mut world = World::new(&[("t", 2)]);
    world.accepted(&as_instance("one", join("a", &["t"])));
    world.accepted(&join("b", &["t"]));
    let other = as_instance("one", join("c", &["t"]));
    assert_eq!(world.refused(&other), ErrorCode::UnreleasedInstanceId);
    assert_eq!(world.refused(&as_instance("one", beat("c", 1))), ErrorCode::FencedInstanceId);
    assert_eq!(world.refused(&as_instance("one", beat("b", -1))), ErrorCode::FencedInstanceId);
    assert_eq!(world.refused(&as_instance("two", beat("c", 1))), ErrorCode::UnknownMemberId);
    assert_eq!(world.refused(&as_instance("two", beat("c", -2))), ErrorCode::UnknownMemberId);
    assert_eq!(world.refused(&as_instance("two", beat("b", 2))), ErrorCode::FencedInstanceId);
    // Its first answer was lost: it owns nothing, so it has nothing to give up for b.
    let again = world.accepted(&as_instance("one", join("a", &["t"])));
    assert_eq!(again.member_epoch, MemberEpoch(2));
    world.accepted(&as_instance("one", beat("a", -1)));
    assert_eq!(world.accepted(&other).error, ErrorCode::None);
}

#[test]
fn another_coordinator_goes_on_where_the_log_ends() {
    let mut world = World::new(&[("t", 4)]);
    let t = world.cluster.id("t");
    world.accepted(&join("a", &["t"]));
    world.accepted(&join("b", &["t"]));
    world.accepted(&beat("a", 1));
    for compacted in [false, true] {
        if compacted {
            world.compact();
        }
        world.fail_over();
        assert_eq!(world.accepted(&beat("a", 1)).member_epoch, MemberEpoch(1));
        assert_eq!(world.accepted(&beat("b", 2)).assignment, None);
    }
    world.pass(29_000);
    world.accepted(&beat("a", 1));
    world.accepted(&beat("b", 2));
    world.pass(1_001);
    assert_eq!(world.refused(&beat("a", 1)), ErrorCode::UnknownMemberId, "it had 30 s again");
    let answer = world.accepted(&beat("b", 2));
    assert_eq!(answer.assignment, Some(lists(&[(t, &[0, 1, 2, 3])])));
    world.fail_over();
    world.pass(45_000);
    assert_eq!(world.describe().state, "Empty", "nobody was heard of");
}

#[test]
fn a_group_is_removed_by_its_tombstones() {
    let mut world = World::new(&[("t", 4)]);
    world.accepted(&crate::request::ConsumerHeartbeat {
        subscribed_regex: Some("t.*".into()),
        ..join("a", &["t"])
    });
    let mut groups = world.replayed();
    for record in world.group().unwrap().tombstones() {
        groups.replay(record);
    }
    assert!(groups.groups.is_empty());
    for record in world.group().unwrap().tombstones() {
        groups.replay(record);
    }
    assert!(groups.groups.is_empty(), "tombstones make no group");
}

// ---- Offsets ----

fn commit(member: &str, epoch: i32) -> CommitOffsets {
    CommitOffsets {
        group: "g".into(),
        member: member.into(),
        instance: None,
        generation_or_epoch: epoch,
        retention_ms: None,
        knows_consumer_protocol: true,
        topics: Vec::new(),
    }
}

#[test]
fn only_members_of_their_present_epoch_commit() {
    let mut world = World::new(&[("t", 4)]);
    world.accepted(&as_instance("one", join("a", &["t"])));
    let group = |world: &World| world.group().unwrap().clone();
    let check = |world: &World, request: &CommitOffsets| group(world).check_commit(request);
    assert_eq!(check(&world, &commit("a", 1)), Ok(()));
    assert_eq!(check(&world, &commit("a", 0)), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(check(&world, &commit("a", 2)), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(check(&world, &commit("b", 1)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(check(&world, &commit("", -1)), Err(ErrorCode::UnknownMemberId));
    let old = CommitOffsets { knows_consumer_protocol: false, ..commit("a", 1) };
    assert_eq!(check(&world, &old), Err(ErrorCode::UnsupportedVersion));
    world.accepted(&join("b", &["t"]));
    let foreign = CommitOffsets { instance: Some("one".into()), ..commit("b", 2) };
    assert_eq!(check(&world, &foreign), Err(ErrorCode::FencedInstanceId));

    world.accepted(&as_instance("one", beat("a", -1)));
    world.accepted(&beat("b", -1));
    assert_eq!(check(&world, &commit("", -1)), Ok(()), "tools may, while nobody is there");
    assert_eq!(check(&world, &commit("a", 1)), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn who_says_who_it_is_must_be_it_to_fetch() {
    let mut world = World::new(&[("t", 4)]);
    world.accepted(&join("a", &["t"]));
    let fetch = |member: Option<&str>, epoch: i32| FetchOffsets {
        group: "g".into(),
        member: member.map(Into::into),
        member_epoch: MemberEpoch(epoch),
        topics: None,
        require_stable: false,
    };
    let check = |request: &FetchOffsets| world.group().unwrap().check_fetch(request);
    assert_eq!(check(&fetch(None, -1)), Ok(()));
    assert_eq!(check(&fetch(Some(""), -1)), Ok(()));
    assert_eq!(check(&fetch(Some("a"), 1)), Ok(()));
    assert_eq!(check(&fetch(Some("a"), 2)), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(check(&fetch(Some("b"), 1)), Err(ErrorCode::UnknownMemberId));
}
