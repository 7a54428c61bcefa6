//! What people see: ListGroups, DescribeGroups, DeleteGroups.

use thalweg_types::{ErrorCode, GroupId};

use crate::request::ListGroups;
use crate::response::DescribedGroup;
use crate::testing::{GROUP, World};
use crate::{Counts, Record, Request, Response};

fn describe(world: &mut World, group: &str) -> DescribedGroup {
    match world.ask(Request::DescribeGroups(vec![group.into()])) {
        Response::DescribeGroups(mut groups) => groups.remove(0),
        other => panic!("{other:?}"),
    }
}

fn list(world: &mut World, states: &[&str], types: &[&str]) -> Vec<(GroupId, &'static str)> {
    let list = ListGroups {
        states: states.iter().map(|state| (*state).into()).collect(),
        types: types.iter().map(|word| (*word).into()).collect(),
    };
    match world.ask(Request::ListGroups(list)) {
        Response::ListGroups(listed) => {
            listed.groups.into_iter().map(|group| (group.group, group.state)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn delete(world: &mut World, group: &str) -> ErrorCode {
    match world.ask(Request::DeleteGroups(vec![group.into()])) {
        Response::DeleteGroups(groups) => groups[0].1,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stable_group_is_shown_with_what_everybody_wants_and_has() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(2);
    let shown = describe(&mut world, GROUP);
    assert_eq!((shown.error, shown.state), (ErrorCode::None, "Stable"));
    assert_eq!((&*shown.protocol_type, &*shown.protocol), ("consumer", "range"));
    assert_eq!(shown.members.len(), 2);
    for member in &shown.members {
        assert_eq!(member.assignment, member.member.as_str());
        assert_eq!((&*member.client_id, &*member.client_host), ("client", "/127.0.0.1"));
        assert!(!member.metadata.is_empty());
    }
    world.leave(members[1].member.as_str(), None);
    let shown = describe(&mut world, GROUP);
    assert_eq!((shown.state, &*shown.protocol), ("PreparingRebalance", ""));
    assert!(shown.members[0].metadata.is_empty());
}

#[test]
fn a_group_that_is_not_there_is_dead() {
    let mut world = World::new(&[("t", 4)]);
    let shown = describe(&mut world, "nobody");
    assert_eq!((shown.error, shown.state), (ErrorCode::GroupIdNotFound, "Dead"));
    assert!(shown.error_message.is_some_and(|message| message.contains("nobody")));
}

#[test]
fn a_group_that_only_commits_is_shown_empty() {
    let mut world = World::new(&[("t", 4)]);
    world.commit("", -1, "t", 5);
    let shown = describe(&mut world, GROUP);
    assert_eq!((shown.error, shown.state, &*shown.protocol_type), (ErrorCode::None, "Empty", ""));
    assert_eq!(list(&mut world, &[], &[]), [(GROUP.into(), "Empty")]);
}

#[test]
fn filters_let_states_and_types_pass_in_any_case() {
    let mut world = World::new(&[("t", 4)]);
    world.stable(1);
    let stable = vec![(GroupId::from(GROUP), "Stable")];
    assert_eq!(list(&mut world, &["STABLE", "Empty"], &[]), stable);
    assert_eq!(list(&mut world, &[], &["Classic"]), stable);
    assert_eq!(list(&mut world, &["Empty"], &[]), []);
    assert_eq!(list(&mut world, &["Stable"], &["consumer"]), []);
    assert_eq!(list(&mut world, &["no such state"], &[]), []);
}

#[test]
fn only_groups_without_members_are_deleted_and_their_offsets_with_them() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    world.commit(members[0].member.as_str(), 1, "t", 5);
    assert_eq!(delete(&mut world, GROUP), ErrorCode::NonEmptyGroup);
    world.leave(members[0].member.as_str(), None);
    assert_eq!(delete(&mut world, GROUP), ErrorCode::None);
    assert_eq!(world.last_record(), Some(Record::Group(GROUP.into(), None)));
    assert_eq!(world.committed("t").0, -1);
    assert_eq!(delete(&mut world, GROUP), ErrorCode::GroupIdNotFound);
    world.reload();
    assert_eq!(list(&mut world, &[], &[]), []);
    assert_eq!(world.committed("t").0, -1);
}

#[test]
fn what_there_is_can_be_counted() {
    let mut world = World::new(&[("t", 4), ("u", 4)]);
    let members = world.stable(3);
    world.commit(members[0].member.as_str(), 1, "t", 5);
    world.commit(members[0].member.as_str(), 1, "u", 6);
    let counts = Counts { groups: 1, members: 3, offsets: 2, rebalances: 1 };
    assert_eq!(world.groups.counts(), counts);
    world.reload();
    assert_eq!(world.groups.counts(), Counts { rebalances: 0, ..counts });
}
