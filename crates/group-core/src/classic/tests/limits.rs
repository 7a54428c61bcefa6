//! What is refused for its size, and how long a text may be (B41).

use bytes::Bytes;

use thalweg_types::{ErrorCode, GenerationId, MemberId};

use crate::request::Join;
use crate::testing::{World, join, protocol, static_join, sync};
use crate::{GroupConfig, Request};

/// Makes a good request bad; is given a text that is too long.
type Change = fn(&mut Join, &str);

fn refused(world: &mut World, request: Join) -> ErrorCode {
    let token = world.call(Request::Join(request));
    world.joined(token).error
}

#[test]
fn joins_out_of_bounds_are_refused() {
    let mut world = World::new(&[("t", 4)]);
    let long = "x".repeat(crate::ID_BYTES_MAX + 1);
    let cases: [(Change, ErrorCode); 9] = [
        (|join, _| join.group = "".into(), ErrorCode::InvalidGroupId),
        (|join, long| join.group = long.into(), ErrorCode::InvalidGroupId),
        (|join, _| join.session_timeout_ms = 5_999, ErrorCode::InvalidSessionTimeout),
        (|join, _| join.session_timeout_ms = -1, ErrorCode::InvalidSessionTimeout),
        (|join, _| join.session_timeout_ms = i32::MAX, ErrorCode::InvalidSessionTimeout),
        (|join, long| join.instance = Some(long.into()), ErrorCode::InvalidRequest),
        (|join, long| join.protocol_type = long.into(), ErrorCode::InvalidRequest),
        (|join, _| join.protocols = vec![protocol("p"); 65], ErrorCode::InvalidRequest),
        (
            |join, _| join.protocols[0].metadata = Bytes::from(vec![0; 300_000]),
            ErrorCode::MessageTooLarge,
        ),
    ];
    for (change, error) in cases {
        let mut request = join("");
        change(&mut request, &long);
        assert_eq!(refused(&mut world, request), error);
    }
    assert_eq!(world.groups.counts().groups, 0, "nothing is kept of them");
}

#[test]
fn a_full_group_takes_nobody_in() {
    let config = GroupConfig { group_members_max: 2, ..GroupConfig::default() };
    let mut world = World::with_config(&[("t", 4)], config);
    let members = world.stable(2);
    assert_eq!(refused(&mut world, join("")), ErrorCode::GroupMaxSizeReached);
    assert_eq!(world.state(), "Stable", "and is not disturbed");
    assert_eq!(world.heartbeat(&members[0].member, GenerationId(1)), ErrorCode::None);
}

#[test]
fn ids_are_not_promised_without_end() {
    let config = GroupConfig { group_members_max: 10, ..GroupConfig::default() };
    let mut world = World::with_config(&[("t", 4)], config);
    let errors: Vec<ErrorCode> = (0..20).map(|_| refused(&mut world, join(""))).collect();
    assert!(errors[..10].iter().all(|error| *error == ErrorCode::MemberIdRequired));
    assert!(errors[10..].iter().all(|error| *error == ErrorCode::GroupMaxSizeReached));
}

#[test]
fn groups_are_not_made_without_end() {
    let config = GroupConfig { groups_max: 3, ..GroupConfig::default() };
    let mut world = World::with_config(&[("t", 4)], config);
    for number in 0..5 {
        let request = Join { group: format!("g{number}").into(), ..join("") };
        let expected = if number < 3 {
            ErrorCode::MemberIdRequired
        } else {
            ErrorCode::CoordinatorNotAvailable
        };
        assert_eq!(refused(&mut world, request), expected);
    }
}

#[test]
fn all_metadata_of_a_group_together_is_limited() {
    let config = GroupConfig { group_metadata_bytes_max: 2_500, ..GroupConfig::default() };
    let mut world = World::with_config(&[("t", 4)], config);
    let big = || {
        let mut request = join("");
        request.requires_known_member = false;
        request.protocols[0].metadata = Bytes::from(vec![0; 1_000]);
        request
    };
    let first = world.call(Request::Join(big()));
    let second = world.call(Request::Join(big()));
    assert_eq!(refused(&mut world, big()), ErrorCode::GroupMaxSizeReached);
    world.pass(10_000);
    assert_eq!(world.joined(first).error, ErrorCode::None);
    assert_eq!(world.joined(second).error, ErrorCode::None);
}

#[test]
fn shares_that_cannot_be_stored_are_refused() {
    let mut world = World::new(&[("t", 4)]);
    let (member, token) = world.enter();
    world.pass(3_000);
    let joined = world.joined(token);
    let share = Bytes::from(vec![0; 1024 * 1024]);
    let request = sync(member.as_str(), joined.generation, vec![(member.clone(), share)]);
    let token = world.call(Request::Sync(request));
    assert_eq!(world.synced(token).error, ErrorCode::UnknownServerError);
    assert!(world.log.is_empty());
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_long_client_id_makes_a_member_id_that_can_be_stored() {
    let client = crate::Client { id: "ä".repeat(20_000).into(), host: "/127.0.0.1".into() };
    let fresh = thalweg_types::Uuid::ZERO;
    let id: MemberId = super::super::member::make_id(&client, None, fresh);
    assert!(id.as_str().len() < 300);
}

#[test]
fn a_protocol_named_twice_counts_once() {
    let mut world = World::new(&[("t", 4)]);
    let mut request = join("");
    request.requires_known_member = false;
    request.protocols = vec![protocol("a"), protocol("a"), protocol("b")];
    let first = world.call(Request::Join(request.clone()));
    request.protocols = vec![protocol("b")];
    let second = world.call(Request::Join(request));
    world.pass(10_000);
    assert_eq!(world.joined(first).protocol.as_deref(), Some("b"));
    assert_eq!(world.joined(second).protocol.as_deref(), Some("b"));
}

#[test]
fn a_static_member_finds_its_place_in_a_full_group() {
    let config = GroupConfig { group_members_max: 1, ..GroupConfig::default() };
    let mut world = World::with_config(&[("t", 4)], config);
    let token = world.call(Request::Join(static_join("one", "")));
    world.pass(3_000);
    let joined = world.joined(token);
    let token = world.sync(&joined, &[]);
    assert_eq!(world.synced(token).error, ErrorCode::None);
    assert_eq!(refused(&mut world, static_join("one", "")), ErrorCode::None);
    assert_eq!(refused(&mut world, static_join("two", "")), ErrorCode::GroupMaxSizeReached);
}

#[test]
fn members_that_want_no_wait_at_all_do_not_keep_the_coordinator_busy() {
    let mut world = World::new(&[("t", 4)]);
    let impatient = |instance| Join { rebalance_timeout_ms: -1, ..static_join(instance, "") };
    let token = world.call(Request::Join(impatient("one")));
    let other = world.call(Request::Join(impatient("two")));
    world.pass(3_000);
    let (one, two) = (world.joined(token), world.joined(other));
    let (leader, follower) = if one.members.is_empty() { (two, one) } else { (one, two) };
    let waiting = world.sync(&follower, &[]);
    let token = world.sync(&leader, &[]);
    assert_eq!(world.synced(token).error, ErrorCode::None);
    assert_eq!(world.synced(waiting).error, ErrorCode::None);
    // One goes for good, the other one is away: it is looked for, and not without end.
    world.leave(leader.member.as_str(), None);
    world.pass(9_000);
    assert_eq!(world.state(), "PreparingRebalance");
    world.pass(2_000);
    assert_eq!(world.state(), "Empty");
}
