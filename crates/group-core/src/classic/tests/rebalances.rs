//! From one generation to the next.

use thalweg_types::{ErrorCode, GenerationId};

use crate::Request;
use crate::testing::{World, join};

#[test]
fn first_members_are_waited_for_and_then_all_are_told() {
    let mut world = World::new(&[("t", 4)]);
    let (first, first_token) = world.enter();
    world.pass(2_000);
    let (second, second_token) = world.enter();
    assert!(world.waits(first_token) && world.waits(second_token));
    world.pass(3_999);
    assert!(world.waits(first_token), "the second one has lengthened the wait");
    world.pass(1);
    let first_joined = world.joined(first_token);
    let second_joined = world.joined(second_token);
    assert_eq!(first_joined.generation, GenerationId(1));
    assert_eq!(second_joined.generation, GenerationId(1));
    assert_eq!((&first_joined.leader, &second_joined.leader), (&first, &first));
    assert_eq!(first_joined.members.len(), 2);
    assert!(second_joined.members.is_empty());

    let second_sync = world.sync(&second_joined, &[]);
    assert!(world.waits(second_sync));
    let first_sync = world.sync(&first_joined, &[(&first, "one"), (&second, "two")]);
    assert_eq!(world.synced(first_sync).assignment, "one");
    assert_eq!(world.synced(second_sync).assignment, "two");
    assert_eq!(world.log.len(), 1, "one record: the generation with everybody's share");
}

#[test]
fn a_newcomer_calls_everybody_back() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    let (_, newcomer) = world.enter();
    for old in &members {
        let error = world.heartbeat(&old.member, old.generation);
        assert_eq!(error, ErrorCode::RebalanceInProgress);
    }
    let back: Vec<_> =
        members.iter().map(|old| world.call(Request::Join(join(old.member.as_str())))).collect();
    for token in back {
        assert_eq!(world.joined(token).generation, GenerationId(2));
    }
    assert_eq!(world.joined(newcomer).generation, GenerationId(2));
    assert_eq!(world.heartbeat(&members[0].member, GenerationId(1)), ErrorCode::IllegalGeneration);
}
