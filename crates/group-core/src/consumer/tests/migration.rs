//! Clients of both protocols in one group, and groups that change from one to the other.

use bytes::Bytes;
use thalweg_types::{ErrorCode, GenerationId, InstanceId, MemberEpoch, TopicId, TopicName};

use super::world::{World, as_instance, beat, id, join, lists, owning};
use crate::record::embedded::{self, NamedPartitions};
use crate::request::{self, Leave, LeavingMember, Protocol, Request, Sync};
use crate::response::{Joined, Left, Response, Synced};
use crate::{GroupConfig, Migration, Token};

/// What a client of the classic protocol sends as its subscription.
pub(super) fn subscription(topics: &[&str], owned: &[(&str, &[i32])]) -> Bytes {
    let mut bytes = vec![0, 1];
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u16).to_be_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend((topics.len() as u32).to_be_bytes());
    topics.iter().for_each(|topic| text(&mut bytes, topic));
    bytes.extend([0xff; 4]);
    bytes.extend((owned.len() as u32).to_be_bytes());
    for (topic, partitions) in owned {
        text(&mut bytes, topic);
        bytes.extend((partitions.len() as u32).to_be_bytes());
        partitions.iter().for_each(|partition| bytes.extend(partition.to_be_bytes()));
    }
    Bytes::from(bytes)
}

fn classic_join(member: &str, owned: &[(&str, &[i32])]) -> request::Join {
    let metadata = subscription(&["t"], owned);
    request::Join {
        group: "g".into(),
        member: member.into(),
        instance: None,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "cooperative-sticky".into(), metadata }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        requires_known_member: true,
        supports_skipping_assignment: true,
        reason: None,
    }
}

fn static_join(instance: &str, member: &str) -> request::Join {
    request::Join { instance: Some(InstanceId::from(instance)), ..classic_join(member, &[]) }
}

fn partitions(bytes: &Bytes) -> Vec<(String, Vec<i32>)> {
    let named = embedded::decode_assignment(bytes).unwrap();
    let plain = |(topic, partitions): &(TopicName, Vec<thalweg_types::PartitionIndex>)| {
        (topic.to_string(), partitions.iter().map(|index| index.0).collect())
    };
    named.iter().map(plain).collect()
}

fn t(list: &[i32]) -> Vec<(String, Vec<i32>)> {
    vec![("t".to_owned(), list.to_vec())]
}

fn named(list: &[i32]) -> NamedPartitions {
    let topic = TopicName::new("t").unwrap();
    vec![(topic, list.iter().map(|index| thalweg_types::PartitionIndex(*index)).collect())]
}

impl World {
    fn joined(&mut self, token: Token) -> Joined {
        match self.answer(token) {
            Some(Response::Join(joined)) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn join_classic(&mut self, join: request::Join) -> Joined {
        let (token, _) = self.send(Request::Join(join));
        self.joined(token)
    }

    fn sync_classic(
        &mut self,
        member: &str,
        generation: i32,
        shares: &[(&str, &[i32])],
    ) -> (Token, Option<Synced>) {
        let share = |(member, list): &(&str, &[i32])| {
            (id(member), embedded::encode_assignment(1, &named(list)))
        };
        let sync = Sync {
            group: "g".into(),
            member: member.into(),
            instance: None,
            generation: GenerationId(generation),
            protocol_type: Some("consumer".into()),
            protocol: Some("cooperative-sticky".into()),
            assignments: shares.iter().map(share).collect(),
        };
        let (token, _) = self.send(Request::Sync(sync));
        let synced = self.answer(token).map(|response| match response {
            Response::Sync(synced) => synced,
            other => panic!("{other:?}"),
        });
        (token, synced)
    }

    fn synced(&mut self, member: &str, generation: i32) -> Synced {
        self.sync_classic(member, generation, &[]).1.expect("answered at once")
    }

    fn beat_classic(&mut self, member: &str, generation: i32) -> ErrorCode {
        let heartbeat = request::Heartbeat {
            group: "g".into(),
            member: member.into(),
            instance: None,
            generation: GenerationId(generation),
        };
        match self.call(Request::Heartbeat(heartbeat)).0 {
            Response::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        }
    }

    fn leave_classic(&mut self, member: &str, instance: Option<&str>) -> Left {
        let instance = instance.map(InstanceId::from);
        let leaving = LeavingMember { member: member.into(), instance, reason: None };
        let leave = Leave { group: "g".into(), members: vec![leaving] };
        match self.call(Request::Leave(leave)).0 {
            Response::Leave(left) => left,
            other => panic!("{other:?}"),
        }
    }

    /// A stable group of the classic protocol whose members own these partitions of `t`; their ids.
    fn classic_group(&mut self, owned: &[&[i32]]) -> Vec<String> {
        let promise =
            |world: &mut Self| world.join_classic(classic_join("", &[])).member.as_str().to_owned();
        let ids: Vec<String> = owned.iter().map(|_| promise(self)).collect();
        let tokens: Vec<Token> =
            ids.iter().map(|id| self.send(Request::Join(classic_join(id, &[]))).0).collect();
        self.pass(6_000);
        let joined: Vec<Joined> = tokens.into_iter().map(|token| self.joined(token)).collect();
        assert!(joined.iter().all(|joined| joined.generation == GenerationId(1)));
        let leader = joined[0].leader.as_str().to_owned();
        let shares: Vec<(&str, &[i32])> =
            ids.iter().map(String::as_str).zip(owned.iter().copied()).collect();
        self.sync_classic(&leader, 1, &shares);
        ids
    }
}

#[test]
fn a_classic_group_is_upgraded_by_its_first_member_of_the_new_protocol() {
    let mut world = World::new(&[("t", 6)]);
    let topic = world.cluster.id("t");
    let ids = world.classic_group(&[&[0, 1, 2], &[3, 4, 5]]);
    let [a, b] = [ids[0].as_str(), ids[1].as_str()];
    let answer = world.accepted(&join("new", &["t"]));
    assert_eq!((answer.member_epoch, answer.assignment), (MemberEpoch(2), Some(vec![])));
    world.check_log();
    let described = world.describe();
    assert_eq!(described.state, "Reconciling");
    let types = described.members.iter().map(|member| member.member_type);
    assert_eq!(types.sum::<i8>(), 1, "the others are classic");

    // Both are called back, give up one partition each, and say so by joining again.
    for (member, old, kept) in [(a, [0, 1, 2], [0, 1]), (b, [3, 4, 5], [3, 4])] {
        assert_eq!(world.beat_classic(member, 1), ErrorCode::RebalanceInProgress);
        let joined = world.join_classic(classic_join(member, &[("t", &old)]));
        assert_eq!((joined.error, joined.generation), (ErrorCode::None, GenerationId(1)));
        assert_eq!((joined.leader.is_empty(), joined.members.len()), (true, 0), "it does not lead");
        assert_eq!(partitions(&world.synced(member, 1).assignment), t(&kept));
        assert_eq!(world.accepted(&beat("new", 2)).assignment.map_or(0, |lists| lists.len()), 0);
        let joined = world.join_classic(classic_join(member, &[("t", &kept)]));
        assert_eq!(joined.generation, GenerationId(2));
        assert_eq!(partitions(&world.synced(member, 2).assignment), t(&kept));
        assert_eq!(world.beat_classic(member, 2), ErrorCode::None);
        if member == a {
            let answer = world.accepted(&beat("new", 2));
            assert_eq!(answer.assignment, Some(lists(&[(topic, &[2])])));
        }
    }
    let answer = world.accepted(&owning(&[(topic, &[2])], beat("new", 2)));
    assert_eq!(answer.assignment, Some(lists(&[(topic, &[2, 5])])));
    assert_eq!(world.describe().state, "Stable");
    world.check_log();
}

#[test]
fn the_group_goes_back_when_the_last_member_of_the_new_protocol_has_gone() {
    let mut world = World::new(&[("t", 4)]);
    let ids = world.classic_group(&[&[0, 1, 2, 3]]);
    world.accepted(&join("new", &["t"]));
    assert!(!world.is_classic());
    world.accepted(&beat("new", -1));
    assert!(world.is_classic());
    world.check_log();
    world.fail_over();
    assert!(world.is_classic(), "the log says so too");
    // The generation went on: 1, 2 with the new member, 3 without it.
    assert_eq!(world.beat_classic(&ids[0], 1), ErrorCode::IllegalGeneration);
    let (token, _) = world.send(Request::Join(classic_join(&ids[0], &[])));
    world.pass(30_000);
    let joined = world.joined(token);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, GenerationId(4)));
    assert_eq!(joined.leader, joined.member);
}

#[test]
fn a_silent_last_member_of_the_new_protocol_is_enough_to_go_back() {
    let mut world = World::new(&[("t", 4)]);
    world.accepted(&join("new", &["t"]));
    let member = world.join_classic(classic_join("", &[])).member.as_str().to_owned();
    let joined = world.join_classic(classic_join(&member, &[]));
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, GenerationId(2)));
    world.synced(&member, 2);
    for _ in 0..9 {
        world.pass(5_000);
        if !world.is_classic() {
            assert_eq!(world.beat_classic(&member, 2), ErrorCode::None);
        }
    }
    assert!(world.is_classic());
    assert_eq!(world.describe().error, ErrorCode::GroupIdNotFound);
}

#[test]
fn an_upgrade_that_fails_leaves_the_group_as_it_was() {
    let mut world = World::new(&[("t", 4)]);
    let ids = world.classic_group(&[&[0, 1, 2, 3]]);
    let bad = request::ConsumerHeartbeat { subscribed_regex: Some("(".into()), ..join("n", &[]) };
    assert_eq!(world.refused(&bad), ErrorCode::InvalidRegularExpression);
    assert_eq!(world.refused(&beat("n", 1)), ErrorCode::GroupIdNotFound);
    assert!(world.is_classic());
    assert_eq!(world.beat_classic(&ids[0], 1), ErrorCode::None);
}

#[test]
fn groups_that_may_not_change_do_not() {
    for (migration, upgrades, downgrades) in [
        (Migration::Disabled, false, false),
        (Migration::Upgrade, true, false),
        (Migration::Downgrade, false, true),
        (Migration::Bidirectional, true, true),
    ] {
        let config = || GroupConfig { consumer_migration: migration, ..GroupConfig::default() };
        let mut world = World::with_config(&[("t", 4)], config());
        world.classic_group(&[&[0, 1, 2, 3]]);
        let (answer, _) = world.heartbeat(&join("new", &["t"]));
        assert_eq!(answer.error == ErrorCode::None, upgrades, "{migration:?}");

        let mut world = World::with_config(&[("t", 4)], config());
        world.accepted(&join("new", &["t"]));
        let member = world.join_classic(classic_join("", &[])).member.as_str().to_owned();
        world.join_classic(classic_join(&member, &[]));
        world.accepted(&beat("new", -1));
        assert_eq!(world.is_classic(), downgrades, "{migration:?}");
        // Where it may not, the coordinator assigns for classic members alone.
        if !downgrades {
            assert_eq!(world.beat_classic(&member, 2), ErrorCode::RebalanceInProgress);
            let joined = world.join_classic(classic_join(&member, &[]));
            assert_eq!(
                partitions(&world.synced(&member, joined.generation.0).assignment),
                t(&[0, 1, 2, 3])
            );
        }
    }
}

#[test]
fn only_groups_that_consume_topics_are_upgraded() {
    let mut world = World::new(&[("t", 4)]);
    let connect = |member: &str| request::Join {
        protocol_type: "connect".into(),
        requires_known_member: false,
        ..classic_join(member, &[])
    };
    world.send(Request::Join(connect("")));
    assert_eq!(world.refused(&join("new", &["t"])), ErrorCode::GroupIdNotFound);

    let mut world = World::new(&[("t", 4)]);
    let strange = Protocol { name: "range".into(), metadata: Bytes::from_static(b"\0\0\xff") };
    let join_strangely = request::Join {
        protocols: vec![strange],
        requires_known_member: false,
        ..classic_join("", &[])
    };
    world.send(Request::Join(join_strangely));
    world.pass(6_000);
    assert_eq!(world.refused(&join("new", &["t"])), ErrorCode::GroupIdNotFound);
}

#[test]
fn whoever_waits_when_a_group_is_upgraded_is_told_to_join_again() {
    let mut world = World::new(&[("t", 4)]);
    let ids = world.classic_group(&[&[0, 1], &[2, 3]]);
    let (waiting, _) = world.send(Request::Join(classic_join(&ids[0], &[])));
    let promised = world.join_classic(classic_join("", &[])).member;
    let (new, _) = world.send(Request::Join(classic_join(promised.as_str(), &[])));
    world.accepted(&join("new", &["t"]));
    for token in [waiting, new] {
        assert_eq!(world.joined(token).error, ErrorCode::RebalanceInProgress);
    }
    let group = world.group().unwrap();
    assert!(group.members.contains_key(ids[0].as_str()) && !group.members.contains_key(&promised));
    let joined = world.join_classic(classic_join(promised.as_str(), &[]));
    assert_eq!(joined.error, ErrorCode::None);
}

#[test]
fn an_empty_group_becomes_what_the_next_member_speaks() {
    let mut world = World::new(&[("t", 4)]);
    let ids = world.classic_group(&[&[0, 1, 2, 3]]);
    world.leave_classic(&ids[0], None);
    assert!(world.is_classic());
    world.accepted(&join("new", &["t"]));
    world.accepted(&beat("new", -1));
    world.check_log();
    let member = world.join_classic(classic_join("", &[]));
    assert_eq!(member.error, ErrorCode::MemberIdRequired);
    assert!(world.is_classic());
    world.check_log();
    world.fail_over();
    assert_eq!(world.groups.counts().groups, 0, "nothing is left of either in the log");
}

// ---- Classic members among others ----

/// A group with the member `new`, and a classic one; its id. Its generation is 2, and it owns nothing yet.
fn mixed() -> (World, String, TopicId) {
    let mut world = World::new(&[("t", 4)]);
    let topic = world.cluster.id("t");
    world.accepted(&join("new", &["t"]));
    let member = world.join_classic(classic_join("", &[])).member.as_str().to_owned();
    world.join_classic(classic_join(&member, &[]));
    (world, member, topic)
}

#[test]
fn a_classic_member_gets_what_others_gave_up_by_joining_again() {
    let (mut world, member, topic) = mixed();
    assert_eq!(partitions(&world.synced(&member, 2).assignment), []);
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::None, "there is nothing to get yet");
    world.accepted(&beat("new", 1));
    world.accepted(&owning(&[(topic, &[0, 1])], beat("new", 1)));
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::RebalanceInProgress);
    let joined = world.join_classic(classic_join(&member, &[]));
    assert_eq!(joined.generation, GenerationId(2));
    assert_eq!(partitions(&world.synced(&member, 2).assignment), t(&[2, 3]));
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::None);
    world.check_log();
}

#[test]
fn a_classic_member_must_sync_and_join_in_time() {
    let (mut world, member, _) = mixed();
    for _ in 0..4 {
        world.pass(4_990);
        world.accepted(&beat("new", 1));
        assert_eq!(world.beat_classic(&member, 2), ErrorCode::None);
    }
    world.pass(100);
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::UnknownMemberId, "it never synced");

    let (mut world, member, topic) = mixed();
    world.synced(&member, 2);
    world.accepted(&beat("new", 1));
    world.accepted(&owning(&[(topic, &[0, 1])], beat("new", 1)));
    for _ in 0..4 {
        assert_eq!(world.beat_classic(&member, 2), ErrorCode::RebalanceInProgress);
        world.pass(5_000);
    }
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::UnknownMemberId, "it never joined");
}

#[test]
fn a_classic_member_has_a_session_of_its_own_length() {
    let (mut world, member, _) = mixed();
    world.synced(&member, 2);
    world.pass(9_999);
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::None);
    world.pass(10_000);
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_classic_member_that_was_removed_gives_up_before_it_joins() {
    let (mut world, member, _) = mixed();
    world.synced(&member, 2);
    world.pass(10_000);
    let joined = world.join_classic(classic_join(&member, &[("t", &[2, 3])]));
    assert_eq!(joined.error, ErrorCode::UnknownMemberId);
    assert_eq!(world.join_classic(classic_join(&member, &[])).error, ErrorCode::None);
}

#[test]
fn calls_of_classic_members_are_checked() {
    let (mut world, member, _) = mixed();
    assert_eq!(world.beat_classic(&member, 1), ErrorCode::IllegalGeneration);
    assert_eq!(world.beat_classic("nobody", 2), ErrorCode::UnknownMemberId);
    assert_eq!(world.beat_classic("new", 1), ErrorCode::UnknownMemberId, "it speaks otherwise");
    assert_eq!(world.synced(&member, 3).error, ErrorCode::IllegalGeneration);
    let other = request::Join { protocol_type: "connect".into(), ..classic_join(&member, &[]) };
    assert_eq!(world.join_classic(other).error, ErrorCode::InconsistentGroupProtocol);
    let mut other = classic_join("x", &[]);
    other.protocols[0].name = "range".into();
    assert_eq!(world.join_classic(other).error, ErrorCode::InconsistentGroupProtocol);
    let mut broken = classic_join(&member, &[]);
    broken.protocols[0].metadata = Bytes::from_static(b"\0");
    assert_eq!(world.join_classic(broken).error, ErrorCode::InconsistentGroupProtocol);
    // Another one joins: its generation is over.
    world.accepted(&join("more", &["t"]));
    assert_eq!(world.synced(&member, 2).error, ErrorCode::RebalanceInProgress);
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_topic_that_grows_calls_classic_members_back() {
    let (mut world, member, _) = mixed();
    world.synced(&member, 2);
    world.cluster.set("t", 8);
    world.metadata_changed();
    assert_eq!(world.beat_classic(&member, 2), ErrorCode::RebalanceInProgress);
}

#[test]
fn static_members_change_their_protocol_when_they_restart() {
    let mut world = World::new(&[("t", 4)]);
    let topic = world.cluster.id("t");
    world.accepted(&join("new", &["t"]));
    let joined = world.join_classic(static_join("one", ""));
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, GenerationId(2)));
    let old = joined.member.as_str().to_owned();
    world.synced(&old, 2);
    let stranger = static_join("two", "x");
    assert_eq!(world.join_classic(stranger).error, ErrorCode::UnknownMemberId);
    assert_eq!(world.join_classic(static_join("one", "x")).error, ErrorCode::FencedInstanceId);

    // It comes back with the consumer protocol, without having left: classic clients do not say so.
    let answer = world.accepted(&as_instance("one", join("b", &["t"])));
    assert_eq!((answer.member, answer.member_epoch), (Some(id("b")), MemberEpoch(2)));
    assert_eq!(world.beat_classic(&old, 2), ErrorCode::UnknownMemberId);
    assert!(world.group().unwrap().members.values().all(|member| member.classic().is_none()));

    // And back again; the last one that speaks the consumer protocol makes the group classic.
    let again = world.join_classic(static_join("one", ""));
    assert_eq!(again.error, ErrorCode::None);
    assert!(!world.is_classic());
    world.accepted(&beat("new", 1));
    world.accepted(&owning(&[(topic, &[0, 1])], beat("new", 1)));
    world.accepted(&beat("new", -1));
    assert!(world.is_classic());
    world.check_log();
}

#[test]
fn classic_members_leave_by_id_or_by_instance() {
    let mut world = World::new(&[("t", 4)]);
    world.accepted(&join("new", &["t"]));
    let fixed = world.join_classic(static_join("one", "")).member;
    let promised = world.join_classic(classic_join("", &[])).member;
    world.join_classic(classic_join(promised.as_str(), &[]));
    let error = |left: Left| left.members[0].error;
    assert_eq!(error(world.leave_classic("new", None)), ErrorCode::UnknownMemberId);
    assert_eq!(error(world.leave_classic("x", Some("one"))), ErrorCode::FencedInstanceId);
    assert_eq!(error(world.leave_classic("", Some("two"))), ErrorCode::UnknownMemberId);
    assert_eq!(error(world.leave_classic("", Some("one"))), ErrorCode::None);
    assert_eq!(error(world.leave_classic(promised.as_str(), None)), ErrorCode::None);
    let group = world.group().unwrap();
    assert!(group.members.len() == 1 && !group.members.contains_key(&fixed));
    world.check_log();
}
