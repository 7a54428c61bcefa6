//! Another coordinator takes over, and knows what is in the log.

use thalweg_types::{ErrorCode, GenerationId};

use crate::Request;
use crate::testing::{World, join};

#[test]
fn a_stable_group_goes_on_as_if_nothing_had_been() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(3);
    world.reload();
    for member in &members {
        assert_eq!(world.heartbeat(&member.member, GenerationId(1)), ErrorCode::None);
        let token = world.sync(member, &[]);
        assert_eq!(world.synced(token).assignment, member.member.as_str());
    }
    assert_eq!(world.commit(members[2].member.as_str(), 1, "t", 9), ErrorCode::None);
}

#[test]
fn members_that_the_failure_took_along_are_out_after_their_session() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    world.pass(9_000);
    world.reload();
    world.pass(9_000);
    let alive = &members[0].member;
    assert_eq!(world.heartbeat(alive, GenerationId(1)), ErrorCode::None, "a whole session");
    world.pass(1_000);
    let error = world.heartbeat(alive, GenerationId(1));
    assert_eq!(error, ErrorCode::RebalanceInProgress);
}

#[test]
fn a_generation_that_was_never_stored_is_unknown_afterwards() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    let (_, newcomer) = world.enter();
    let back = world.call(Request::Join(join(members[0].member.as_str())));
    assert_eq!(world.joined(back).generation, GenerationId(2));
    let newcomer = world.joined(newcomer);
    world.reload();
    let old = &members[0].member;
    assert_eq!(world.heartbeat(old, GenerationId(2)), ErrorCode::IllegalGeneration);
    assert_eq!(world.commit(old.as_str(), 2, "t", 5), ErrorCode::IllegalGeneration);
    let error = world.heartbeat(&newcomer.member, GenerationId(2));
    assert_eq!(error, ErrorCode::UnknownMemberId);
    assert_eq!(world.commit(old.as_str(), 1, "t", 5), ErrorCode::None);
}

#[test]
fn an_empty_group_keeps_its_generation() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    world.leave(members[0].member.as_str(), None);
    world.reload();
    assert_eq!(world.stable(1)[0].generation, GenerationId(3));
}
