//! Static members (KIP-345): restarts without rebalances.

use thalweg_types::{ErrorCode, GenerationId, MemberId};

use crate::request::Heartbeat;
use crate::testing::{GROUP, World, join, protocol, static_join};
use crate::{Record, Request, Response};

/// A stable group of one static member, or of one and a dynamic one.
fn stable(world: &mut World, with_dynamic: bool) -> Vec<crate::response::Joined> {
    let mut tokens = vec![world.call(Request::Join(static_join("one", "")))];
    if with_dynamic {
        tokens.push(world.enter().1);
    }
    while tokens.iter().any(|token| world.waits(*token)) {
        world.pass(500);
    }
    let joined: Vec<_> = tokens.into_iter().map(|token| world.joined(token)).collect();
    let shares: Vec<(&MemberId, &str)> =
        joined.iter().map(|joined| (&joined.member, joined.member.as_str())).collect();
    let mut order: Vec<_> = joined.iter().collect();
    order.sort_by_key(|joined| !joined.members.is_empty());
    let tokens: Vec<_> = order.iter().map(|joined| world.sync(joined, &shares)).collect();
    for token in tokens {
        assert_eq!(world.synced(token).error, ErrorCode::None);
    }
    joined
}

fn heartbeat(world: &mut World, member: &str, generation: i32) -> ErrorCode {
    let heartbeat = Heartbeat {
        group: GROUP.into(),
        member: member.into(),
        instance: Some("one".into()),
        generation: GenerationId(generation),
    };
    match world.ask(Request::Heartbeat(heartbeat)) {
        Response::Heartbeat(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_static_member_joins_in_one_step() {
    let mut world = World::new(&[("t", 4)]);
    let members = stable(&mut world, false);
    assert!(members[0].member.as_str().starts_with("one-"));
    assert_eq!(members[0].members[0].instance, Some("one".into()));
}

#[test]
fn a_restart_takes_the_place_of_the_former_life_without_a_rebalance() {
    let mut world = World::new(&[("t", 4)]);
    let members = stable(&mut world, true);
    let records = world.log.len();
    let token = world.call(Request::Join(static_join("one", "")));
    let back = world.joined(token);
    assert_eq!((back.error, back.generation), (ErrorCode::None, GenerationId(1)));
    assert_ne!(back.member, members[0].member);
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.log.len(), records + 1, "its new id is stored");
    let token = world.sync(&back, &[]);
    assert_eq!(world.synced(token).assignment, members[0].member.as_str(), "its former share");
    let former = members[0].member.clone();
    assert_eq!(heartbeat(&mut world, former.as_str(), 1), ErrorCode::FencedInstanceId);
    assert_eq!(world.heartbeat(&former, GenerationId(1)), ErrorCode::UnknownMemberId);
    assert_eq!(heartbeat(&mut world, back.member.as_str(), 1), ErrorCode::None);
}

#[test]
fn a_leader_that_restarts_is_told_not_to_assign() {
    let mut world = World::new(&[("t", 4)]);
    let members = stable(&mut world, false);
    let token = world.call(Request::Join(static_join("one", "")));
    let back = world.joined(token);
    assert!(back.skips_assignment);
    assert_eq!((&back.leader, back.members.len()), (&back.member, 1));

    let mut old_version = static_join("one", "");
    old_version.supports_skipping_assignment = false;
    let token = world.call(Request::Join(old_version));
    let again = world.joined(token);
    assert!(!again.skips_assignment && again.members.is_empty());
    assert_eq!(again.leader, back.member, "its former life leads, as far as it can know");
    assert_ne!(again.member, members[0].member);
}

#[test]
fn a_restart_with_other_protocols_makes_a_rebalance() {
    let mut world = World::new(&[("t", 4)]);
    stable(&mut world, false);
    let mut other = static_join("one", "");
    other.protocols = vec![protocol("sticky"), protocol("range")];
    let token = world.call(Request::Join(other));
    let joined = world.joined(token);
    assert_eq!(joined.generation, GenerationId(2), "alone, it need not wait");
    assert_eq!(joined.protocol.as_deref(), Some("sticky"));
}

#[test]
fn a_restart_between_generation_and_shares_makes_a_rebalance() {
    let mut world = World::new(&[("t", 4)]);
    let token = world.call(Request::Join(static_join("one", "")));
    let (_, dynamic) = world.enter();
    world.pass(6_000);
    let (former, other) = (world.joined(token), world.joined(dynamic));
    let token = world.call(Request::Join(static_join("one", "")));
    assert!(world.waits(token));
    assert_eq!(world.state(), "PreparingRebalance");
    let back = world.call(Request::Join(join(other.member.as_str())));
    let joined = world.joined(token);
    assert_eq!(joined.generation, GenerationId(2));
    assert_ne!(joined.member, former.member);
    assert_eq!(world.joined(back).generation, GenerationId(2));
}

#[test]
fn the_former_life_that_still_waits_is_fenced() {
    let mut world = World::new(&[("t", 4)]);
    let former = world.call(Request::Join(static_join("one", "")));
    let newer = world.call(Request::Join(static_join("one", "")));
    assert_eq!(world.joined(former).error, ErrorCode::FencedInstanceId);
    world.pass(6_000);
    assert_eq!(world.joined(newer).members.len(), 1);
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_for_its_session() {
    let mut world = World::new(&[("t", 4)]);
    let members = stable(&mut world, true);
    let (_, newcomer) = world.enter();
    // A generation without it: it is away, but not out.
    let back = world.call(Request::Join(join(members[1].member.as_str())));
    world.pass(9_000);
    assert!(world.waits(newcomer) && world.waits(back), "its session is waited for");
    world.pass(2_000);
    assert_eq!(world.joined(newcomer).generation, GenerationId(2));
    assert_eq!(world.joined(back).generation, GenerationId(2));
    let error = heartbeat(&mut world, members[0].member.as_str(), 1);
    assert_eq!(error, ErrorCode::UnknownMemberId);
}

#[test]
fn an_operator_sends_a_static_member_away_by_its_name() {
    let mut world = World::new(&[("t", 4)]);
    stable(&mut world, false);
    assert_eq!(world.leave("", Some("two")).members[0].error, ErrorCode::UnknownMemberId);
    assert_eq!(world.leave("", Some("one")).members[0].error, ErrorCode::None);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn instance_ids_survive_a_change_of_coordinator() {
    let mut world = World::new(&[("t", 4)]);
    let members = stable(&mut world, false);
    world.reload();
    let member = members[0].member.as_str();
    assert_eq!(heartbeat(&mut world, member, 1), ErrorCode::None);
    let token = world.call(Request::Join(static_join("one", "")));
    assert_eq!(world.joined(token).generation, GenerationId(1));
    assert_eq!(heartbeat(&mut world, member, 1), ErrorCode::FencedInstanceId);
    assert!(matches!(world.last_record(), Some(Record::Group(_, Some(_)))));
}
