//! From one generation to the next.

use thalweg_types::{ErrorCode, GenerationId};

use crate::testing::{World, join, protocol, subscription};
use crate::{Record, Request};

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

#[test]
fn members_that_do_not_come_back_in_time_are_out() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    let (_, newcomer) = world.enter();
    let back = world.call(Request::Join(join(members[0].member.as_str())));
    // The other one is alive, but does not join.
    for _ in 0..12 {
        world.pass(5_000);
        world.heartbeat(&members[1].member, GenerationId(1));
    }
    assert_eq!(world.joined(back).members.len(), 2, "who is back, and the newcomer");
    assert_eq!(world.joined(newcomer).generation, GenerationId(2));
    let error = world.heartbeat(&members[1].member, GenerationId(1));
    assert_eq!(error, ErrorCode::UnknownMemberId);
}

#[test]
fn who_is_told_to_join_leads_when_the_leader_is_gone() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(3);
    assert_eq!(world.leave(members[0].member.as_str(), None).members[0].error, ErrorCode::None);
    let tokens: Vec<_> = members[1..]
        .iter()
        .map(|old| world.call(Request::Join(join(old.member.as_str()))))
        .collect();
    let joined: Vec<_> = tokens.into_iter().map(|token| world.joined(token)).collect();
    assert_eq!(joined[0].leader, joined[1].leader);
    assert!(joined.iter().any(|joined| joined.member == joined.leader));
    assert_eq!(joined.iter().map(|joined| joined.members.len()).sum::<usize>(), 2);
}

#[test]
fn the_last_one_to_leave_empties_the_group() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    world.leave(members[0].member.as_str(), None);
    let Some(Record::Group(_, Some(stored))) = world.last_record() else {
        panic!("the empty generation is stored")
    };
    assert_eq!((stored.generation, stored.members.len()), (GenerationId(2), 0));
    assert_eq!((stored.protocol, stored.leader), (None, None));
    assert_eq!(world.state(), "Empty");
}

#[test]
fn a_leader_that_joins_again_makes_a_rebalance_and_a_follower_does_not() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    let follower = world.call(Request::Join(join(members[1].member.as_str())));
    let told = world.joined(follower);
    assert_eq!((told.error, told.generation), (ErrorCode::None, GenerationId(1)));
    assert_eq!(world.state(), "Stable");
    let leader = world.call(Request::Join(join(members[0].member.as_str())));
    assert!(world.waits(leader));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_follower_with_new_metadata_makes_a_rebalance() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    let mut changed = join(members[1].member.as_str());
    changed.protocols[0].metadata = subscription(&["t", "u"]);
    let token = world.call(Request::Join(changed));
    assert!(world.waits(token));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_lost_answer_to_join_is_given_again() {
    let mut world = World::new(&[("t", 4)]);
    let (_, token) = world.enter();
    world.pass(3_000);
    let first = world.joined(token);
    let again = world.call(Request::Join(join(first.member.as_str())));
    assert_eq!(world.joined(again), first, "the same generation, members included");
}

#[test]
fn a_lost_answer_to_sync_is_given_again() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    let token = world.sync(&members[1], &[]);
    assert_eq!(world.synced(token).assignment, members[1].member.as_str());
}

#[test]
fn whoever_waits_for_a_share_is_called_back_when_somebody_comes() {
    let mut world = World::new(&[("t", 4)]);
    let (_, token) = world.enter();
    let (_, other) = world.enter();
    world.pass(6_000);
    let (one, two) = (world.joined(token), world.joined(other));
    let follower = if one.members.is_empty() { &one } else { &two };
    let waiting = world.sync(follower, &[]);
    world.enter();
    assert_eq!(world.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert_eq!(world.heartbeat(&one.member, GenerationId(1)), ErrorCode::RebalanceInProgress);
    let late = world.sync(follower, &[]);
    assert_eq!(world.synced(late).error, ErrorCode::RebalanceInProgress);
}

#[test]
fn a_member_that_never_fetches_its_share_is_out() {
    let mut world = World::new(&[("t", 4)]);
    let (_, token) = world.enter();
    let (_, other) = world.enter();
    world.pass(6_000);
    let (one, two) = (world.joined(token), world.joined(other));
    let (leader, lazy) = if one.members.is_empty() { (two, one) } else { (one, two) };
    let synced = world.sync(&leader, &[]);
    assert_eq!(world.synced(synced).error, ErrorCode::None);
    for _ in 0..12 {
        world.heartbeat(&lazy.member, GenerationId(1));
        world.heartbeat(&leader.member, GenerationId(1));
        world.pass(5_000);
    }
    let error = world.heartbeat(&lazy.member, GenerationId(1));
    assert_eq!(error, ErrorCode::UnknownMemberId);
    let error = world.heartbeat(&leader.member, GenerationId(1));
    assert_eq!(error, ErrorCode::RebalanceInProgress);
}

#[test]
fn the_protocol_most_members_like_best_is_chosen_among_those_all_have() {
    let mut world = World::new(&[("t", 4)]);
    let mut tokens = Vec::new();
    for names in [["a", "b", "c"], ["b", "c", "x"], ["c", "b", "y"]] {
        let mut request = join("");
        request.requires_known_member = false;
        request.protocols = names.map(protocol).to_vec();
        tokens.push(world.call(Request::Join(request)));
    }
    world.pass(10_000);
    for token in tokens {
        assert_eq!(world.joined(token).protocol.as_deref(), Some("b"));
    }
}

#[test]
fn shares_for_strangers_go_nowhere_and_the_forgotten_get_nothing() {
    let mut world = World::new(&[("t", 4)]);
    let (_, token) = world.enter();
    world.pass(3_000);
    let joined = world.joined(token);
    let stranger = "stranger".into();
    let token = world.sync(&joined, &[(&stranger, "all of it")]);
    assert!(world.synced(token).assignment.is_empty());
    let Some(Record::Group(_, Some(stored))) = world.last_record() else { panic!("stored") };
    assert_eq!(stored.members.len(), 1);
    assert_eq!(stored.members[0].member, joined.member);
}
