//! Coming in, staying, going, and who is taken for whom.

use thalweg_types::{ErrorCode, GenerationId, MemberId};

use crate::request::Heartbeat;
use crate::testing::{GROUP, World, commit, join, sync};
use crate::{Request, Response};

#[test]
fn a_new_member_is_given_an_id_to_join_with() {
    let mut world = World::new(&[("t", 4)]);
    let token = world.call(Request::Join(join("")));
    let answer = world.joined(token);
    assert_eq!(answer.error, ErrorCode::MemberIdRequired);
    assert!(answer.member.as_str().starts_with("client-"));
    assert!(world.log.is_empty(), "nothing is stored for an id");
}

#[test]
fn an_id_nobody_comes_for_is_forgotten_and_the_group_with_it() {
    let mut world = World::new(&[("t", 4)]);
    world.call(Request::Join(join("")));
    assert_eq!(world.groups.counts().groups, 1);
    world.pass(10_000);
    assert_eq!(world.groups.counts().groups, 0);
    assert!(world.log.is_empty());
}

#[test]
fn an_id_that_was_never_given_is_unknown() {
    let mut world = World::new(&[("t", 4)]);
    let token = world.call(Request::Join(join("made-up")));
    assert_eq!(world.joined(token).error, ErrorCode::UnknownMemberId);
    world.stable(1);
    let token = world.call(Request::Join(join("made-up")));
    assert_eq!(world.joined(token).error, ErrorCode::UnknownMemberId);
    let token = world.call(Request::Sync(sync("made-up", GenerationId(1), Vec::new())));
    assert_eq!(world.synced(token).error, ErrorCode::UnknownMemberId);
    let error = world.heartbeat(&"made-up".into(), GenerationId(1));
    assert_eq!(error, ErrorCode::UnknownMemberId);
}

#[test]
fn old_versions_join_in_one_step() {
    let mut world = World::new(&[("t", 4)]);
    let mut request = join("");
    request.requires_known_member = false;
    let token = world.call(Request::Join(request));
    world.pass(3_000);
    let joined = world.joined(token);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, GenerationId(1)));
}

#[test]
fn a_one_step_member_whose_client_is_gone_is_not_waited_for() {
    let mut world = World::new(&[("t", 4)]);
    let mut request = join("");
    request.requires_known_member = false;
    let gone = world.call(Request::Join(request.clone()));
    let here = world.call(Request::Join(request));
    world.groups.cancel(gone);
    world.pass(6_000);
    assert_eq!(world.joined(here).members.len(), 1);
}

#[test]
fn a_silent_member_is_out_and_the_rest_is_called_back() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    for _ in 0..2 {
        world.pass(5_000);
        world.heartbeat(&members[0].member, GenerationId(1));
    }
    let error = world.heartbeat(&members[1].member, GenerationId(1));
    assert_eq!(error, ErrorCode::UnknownMemberId);
    let error = world.heartbeat(&members[0].member, GenerationId(1));
    assert_eq!(error, ErrorCode::RebalanceInProgress);
}

#[test]
fn heartbeats_keep_a_member_in_for_as_long_as_it_likes() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    for _ in 0..100 {
        world.pass(9_999);
        assert_eq!(world.heartbeat(&members[0].member, GenerationId(1)), ErrorCode::None);
    }
    assert_eq!(world.log.len(), 1, "heartbeats store nothing");
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    for offset in 0..5 {
        world.pass(9_000);
        let error = world.commit(members[0].member.as_str(), 1, "t", offset);
        assert_eq!(error, ErrorCode::None);
    }
    assert_eq!(world.state(), "Stable");
}

#[test]
fn another_generation_is_refused_everywhere() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    let member = &members[0].member;
    for generation in [-1, 0, 2] {
        let id = GenerationId(generation);
        assert_eq!(world.heartbeat(member, id), ErrorCode::IllegalGeneration);
        let token = world.call(Request::Sync(sync(member.as_str(), id, Vec::new())));
        assert_eq!(world.synced(token).error, ErrorCode::IllegalGeneration);
        let error = world.commit(member.as_str(), generation, "t", 5);
        assert_eq!(error, ErrorCode::IllegalGeneration);
    }
}

#[test]
fn another_protocol_is_refused() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    let mut connect = join("");
    connect.protocol_type = "connect".into();
    let token = world.call(Request::Join(connect));
    assert_eq!(world.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    let mut nothing_shared = join("");
    nothing_shared.protocols[0].name = "sticky".into();
    nothing_shared.protocols.truncate(1);
    let token = world.call(Request::Join(nothing_shared));
    assert_eq!(world.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    let mut other = sync(members[0].member.as_str(), GenerationId(1), Vec::new());
    other.protocol = Some("roundrobin".into());
    let token = world.call(Request::Sync(other));
    assert_eq!(world.synced(token).error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn a_first_member_without_protocols_is_refused() {
    let mut world = World::new(&[("t", 4)]);
    let mut request = join("");
    request.protocols.clear();
    let token = world.call(Request::Join(request));
    assert_eq!(world.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(world.groups.counts().groups, 0);
}

#[test]
fn leaving_says_for_each_whether_it_was_there() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    let leaving = |member: &MemberId| crate::request::LeavingMember {
        member: member.clone(),
        instance: None,
        reason: Some("closed".into()),
    };
    let leave = crate::request::Leave {
        group: GROUP.into(),
        members: vec![leaving(&members[1].member), leaving(&"stranger".into())],
    };
    let Response::Leave(left) = world.ask(Request::Leave(leave)) else { panic!("an answer") };
    let errors: Vec<_> = left.members.iter().map(|member| member.error).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_promised_id_can_leave() {
    let mut world = World::new(&[("t", 4)]);
    let token = world.call(Request::Join(join("")));
    let id = world.joined(token).member;
    assert_eq!(world.leave(id.as_str(), None).members[0].error, ErrorCode::None);
    assert_eq!(world.groups.counts().groups, 0);
}

#[test]
fn groups_that_are_not_there_know_nobody() {
    let mut world = World::new(&[("t", 4)]);
    let heartbeat = Heartbeat {
        group: "other".into(),
        member: "m".into(),
        instance: None,
        generation: GenerationId(1),
    };
    let answer = world.ask(Request::Heartbeat(heartbeat));
    assert_eq!(answer, Response::Heartbeat(ErrorCode::UnknownMemberId));
    assert_eq!(world.leave("m", None).members[0].error, ErrorCode::UnknownMemberId);
}

#[test]
fn commits_are_refused_between_the_generation_and_its_shares() {
    let mut world = World::new(&[("t", 4)]);
    let (member, token) = world.enter();
    world.pass(3_000);
    let joined = world.joined(token);
    let error = world.commit(member.as_str(), joined.generation.0, "t", 5);
    assert_eq!(error, ErrorCode::RebalanceInProgress);
    let token = world.sync(&joined, &[(&member, "all")]);
    assert_eq!(world.synced(token).error, ErrorCode::None);
    assert_eq!(world.commit(member.as_str(), joined.generation.0, "t", 5), ErrorCode::None);
}

#[test]
fn members_may_commit_while_they_are_called_back_until_the_next_generation() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    let (_, newcomer) = world.enter();
    let old = members[0].member.as_str();
    assert_eq!(world.commit(old, 1, "t", 5), ErrorCode::None);
    let back = world.call(Request::Join(join(old)));
    world.joined(newcomer);
    world.joined(back);
    assert_eq!(world.commit(old, 1, "t", 6), ErrorCode::IllegalGeneration);
    assert_eq!(world.committed("t").0, 5);
}

#[test]
fn a_commit_without_a_member_is_for_groups_without_members() {
    let mut world = World::new(&[("t", 4)]);
    assert_eq!(world.commit("", -1, "t", 5), ErrorCode::None);
    let members = world.stable(1);
    assert_eq!(world.commit("", -1, "t", 6), ErrorCode::UnknownMemberId);
    world.leave(members[0].member.as_str(), None);
    assert_eq!(world.commit("", -1, "t", 7), ErrorCode::None);
    assert_eq!(world.committed("t").0, 7);
}

#[test]
fn a_commit_of_a_generation_needs_its_group() {
    let mut world = World::new(&[("t", 4)]);
    assert_eq!(world.commit("m", 1, "t", 5), ErrorCode::GroupIdNotFound);
    let mut old = commit("m", 1, "t", 0, 5);
    old.knows_consumer_protocol = false;
    let Response::CommitOffsets(topics) = world.ask(Request::CommitOffsets(old)) else {
        panic!("an answer")
    };
    assert_eq!(topics[0].partitions[0].1, ErrorCode::IllegalGeneration);
}

#[test]
fn a_join_asked_twice_is_answered_twice() {
    let mut world = World::new(&[("t", 4)]);
    let (member, first) = world.enter();
    let second = world.call(Request::Join(join(member.as_str())));
    assert_eq!(world.joined(first).error, ErrorCode::RebalanceInProgress);
    world.pass(3_000);
    assert_eq!(world.joined(second).error, ErrorCode::None);
}
