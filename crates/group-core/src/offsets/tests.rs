//! What is committed, found again, and forgotten.

use thalweg_types::{ErrorCode, MemberEpoch, Offset, PartitionIndex, TopicId, Uuid};

use crate::request::{
    CommitOffsets, DeleteOffsets, FetchOffsets, PartitionCommit, TopicPartitions, TopicRef,
};
use crate::response::{FetchedOffsets, TopicErrors};
use crate::testing::{GROUP, World, commit, join, sync};
use crate::{GroupConfig, Record, Request, Response};

const WEEK_MS: u64 = 7 * 24 * 3_600_000;

fn ask_commit(world: &mut World, commit: CommitOffsets) -> Vec<TopicErrors> {
    match world.ask(Request::CommitOffsets(commit)) {
        Response::CommitOffsets(topics) => topics,
        other => panic!("{other:?}"),
    }
}

fn fetch(world: &mut World, topics: Option<Vec<TopicPartitions>>) -> FetchedOffsets {
    let fetch = FetchOffsets {
        group: GROUP.into(),
        member: None,
        member_epoch: MemberEpoch::NONE,
        topics,
        require_stable: false,
    };
    match world.ask(Request::FetchOffsets(fetch)) {
        Response::FetchOffsets(fetched) => fetched,
        other => panic!("{other:?}"),
    }
}

fn delete(world: &mut World, topic: &str) -> (ErrorCode, Option<ErrorCode>) {
    let topics = vec![TopicPartitions {
        topic: TopicRef::Name(topic.into()),
        partitions: vec![PartitionIndex(0)],
    }];
    let delete = DeleteOffsets { group: GROUP.into(), topics };
    match world.ask(Request::DeleteOffsets(delete)) {
        Response::DeleteOffsets(deleted) => {
            (deleted.error, deleted.topics.first().map(|topic| topic.partitions[0].1))
        }
        other => panic!("{other:?}"),
    }
}

fn id_of(world: &World, topic: &str) -> TopicId {
    world.topics.0[topic].id
}

#[test]
fn what_was_committed_is_found_again_with_all_that_goes_with_it() {
    let mut world = World::new(&[("t", 4)]);
    assert_eq!(world.commit("", -1, "t", 42), ErrorCode::None);
    for _ in 0..2 {
        let fetched = fetch(&mut world, None);
        assert_eq!(fetched.error, ErrorCode::None);
        let found = &fetched.topics[0].partitions[0];
        assert_eq!((found.offset, found.leader_epoch.0), (Offset(42), 3));
        assert_eq!((&*found.metadata, found.error), ("note", ErrorCode::None));
        world.reload();
    }
}

#[test]
fn what_was_never_committed_is_nothing_and_no_error() {
    let mut world = World::new(&[("t", 4)]);
    world.commit("", -1, "t", 42);
    let topics = vec![
        TopicPartitions {
            topic: TopicRef::Name("t".into()),
            partitions: [-1, 0, 1, 99].map(PartitionIndex).to_vec(),
        },
        TopicPartitions {
            topic: TopicRef::Name("not a name!".into()),
            partitions: vec![PartitionIndex(0)],
        },
    ];
    let fetched = fetch(&mut world, Some(topics));
    let offsets: Vec<_> = fetched
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|found| (found.offset.0, found.error)))
        .collect();
    let nothing = (-1, ErrorCode::None);
    assert_eq!(offsets, [nothing, (42, ErrorCode::None), nothing, nothing, nothing]);
}

#[test]
fn bad_offsets_are_refused_one_by_one() {
    let mut world = World::new(&[("t", 2)]);
    let mut request = commit("", -1, "t", 0, 7);
    let item = |partition, offset, metadata: &str| PartitionCommit {
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        metadata: metadata.into(),
        ..request.topics[0].partitions[0].clone()
    };
    let long = "x".repeat(4_097);
    let items = vec![
        item(0, 7, ""),
        item(1, -1, ""),
        item(1, i64::MIN, ""),
        item(2, 7, ""),
        item(-1, 7, ""),
        item(1, 7, &long),
    ];
    request.topics[0].partitions = items;
    let mut foreign = request.topics[0].clone();
    foreign.topic = TopicRef::Name("foreign".into());
    foreign.partitions.truncate(1);
    let mut unknown = foreign.clone();
    unknown.topic = TopicRef::Id(TopicId(Uuid::from_bytes([9; 16])));
    request.topics.extend([foreign, unknown]);
    let answer = ask_commit(&mut world, request);
    let errors: Vec<Vec<ErrorCode>> = answer
        .iter()
        .map(|topic| topic.partitions.iter().map(|(_, error)| *error).collect())
        .collect();
    assert_eq!(
        errors,
        [
            vec![
                ErrorCode::None,
                ErrorCode::OffsetOutOfRange,
                ErrorCode::OffsetOutOfRange,
                ErrorCode::UnknownTopicOrPartition,
                ErrorCode::UnknownTopicOrPartition,
                ErrorCode::OffsetMetadataTooLarge,
            ],
            vec![ErrorCode::UnknownTopicOrPartition],
            vec![ErrorCode::UnknownTopicId],
        ]
    );
    assert_eq!(world.log.len(), 1, "only what was good is stored");
}

#[test]
fn more_than_one_append_can_hold_is_refused_as_a_whole() {
    let mut world = World::new(&[("t", 100_000)]);
    let mut request = commit("", -1, "t", 0, 7);
    let one = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..20_000)
        .map(|partition| PartitionCommit { partition: PartitionIndex(partition), ..one.clone() })
        .collect();
    let answer = ask_commit(&mut world, request);
    let mut errors = answer[0].partitions.iter().map(|(_, error)| *error);
    assert!(errors.all(|error| error == ErrorCode::InvalidCommitOffsetSize));
    assert!(world.log.is_empty());
    assert_eq!(world.committed("t").0, -1);
}

#[test]
fn topics_can_be_named_by_id() {
    let mut world = World::new(&[("t", 4)]);
    let id = TopicRef::Id(id_of(&world, "t"));
    let mut request = commit("", -1, "t", 0, 7);
    request.topics[0].topic = id.clone();
    let answer = ask_commit(&mut world, request);
    assert_eq!((&answer[0].topic, answer[0].partitions[0].1), (&id, ErrorCode::None));
    assert_eq!(world.committed("t").0, 7);
    let topics = vec![TopicPartitions { topic: id.clone(), partitions: vec![PartitionIndex(0)] }];
    let fetched = fetch(&mut world, Some(topics));
    assert_eq!((&fetched.topics[0].topic, fetched.topics[0].partitions[0].offset.0), (&id, 7));
}

#[test]
fn offsets_of_a_simple_group_expire_a_retention_after_their_commit() {
    let mut world = World::new(&[("t", 4), ("u", 4)]);
    world.commit("", -1, "t", 42);
    world.pass(WEEK_MS / 2);
    world.commit("", -1, "u", 43);
    world.pass(WEEK_MS / 2 - 1);
    assert_eq!(world.committed("t").0, 42);
    world.pass(600_001);
    assert_eq!((world.committed("t").0, world.committed("u").0), (-1, 43));
    world.reload();
    assert_eq!((world.committed("t").0, world.committed("u").0), (-1, 43));
}

#[test]
fn offsets_of_a_group_expire_a_retention_after_it_became_empty_however_old_they_are() {
    let mut world = World::new(&[("t", 4)]);
    let members = world.stable(1);
    world.commit(members[0].member.as_str(), 1, "t", 42);
    // Two retentions of use: nothing expires.
    for _ in 0..(2 * WEEK_MS / 9_000_000) {
        world.keep(&members[0], 9_000_000);
    }
    assert_eq!(world.committed("t").0, 42);
    world.leave(members[0].member.as_str(), None);
    world.pass(WEEK_MS - 1);
    assert_eq!(world.committed("t").0, 42);
    // The time counts on over a change of coordinators.
    world.reload();
    world.pass(700_000);
    assert_eq!(world.committed("t").0, -1);
    assert_eq!(world.last_record(), Some(Record::Group(GROUP.into(), None)), "the group as well");
    assert_eq!(world.groups.counts().groups, 0);
}

#[test]
fn topics_that_nobody_reads_any_more_expire_while_the_group_lives() {
    let config = GroupConfig { offsets_retention_ms: 3_600_000, ..GroupConfig::default() };
    let mut world = World::with_config(&[("t", 4), ("u", 4)], config);
    let members = world.stable(1);
    let member = members[0].member.as_str();
    assert_eq!(world.commit(member, 1, "t", 42), ErrorCode::None);
    assert_eq!(world.commit(member, 1, "u", 43), ErrorCode::None);
    world.keep(&members[0], 3_600_000 + 600_000);
    assert_eq!((world.committed("t").0, world.committed("u").0), (42, -1));
}

#[test]
fn an_expiry_that_the_client_asked_for_comes_first() {
    let mut world = World::new(&[("t", 4)]);
    let mut request = commit("", -1, "t", 0, 42);
    request.retention_ms = Some(1_000);
    ask_commit(&mut world, request);
    world.reload();
    assert_eq!(world.committed("t").0, 42);
    world.pass(600_000);
    assert_eq!(world.committed("t").0, -1);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut world = World::new(&[("t", 4), ("u", 4)]);
    world.commit("", -1, "t", 42);
    world.commit("", -1, "u", 43);
    world.change_topics(|topics| topics.remove("t"));
    assert!(matches!(world.last_record(), Some(Record::Offset(_, None))));
    world.change_topics(|topics| topics.set("t", 99, 4));
    assert_eq!((world.committed("t").0, world.committed("u").0), (-1, 43));
}

#[test]
fn a_topic_made_again_has_no_offsets_even_if_nobody_saw_it_go() {
    let mut world = World::new(&[("t", 4)]);
    world.commit("", -1, "t", 42);
    world.topics.set("t", 99, 4);
    assert_eq!(world.committed("t").0, -1, "before anything is cleaned up");
    assert_eq!(fetch(&mut world, None).topics, []);
    world.commit("", -1, "t", 5);
    assert_eq!(world.committed("t").0, 5);
}

#[test]
fn a_topic_that_is_not_known_yet_has_its_offsets() {
    let mut world = World::new(&[("t", 4)]);
    world.commit("", -1, "t", 42);
    // A coordinator whose metadata is older than the topic.
    world.topics.remove("t");
    world.reload();
    world.change_topics(|_| {});
    assert_eq!(world.committed("t").0, 42);
    world.change_topics(|topics| topics.set("t", 1, 4));
    assert_eq!(world.committed("t").0, 42);
}

#[test]
fn offsets_in_many_groups_are_removed_in_parts() {
    let mut world = World::new(&[("t", 4)]);
    for number in 0..2_500 {
        let mut request = commit("", -1, "t", 0, 42);
        request.group = format!("group-{number}").into();
        ask_commit(&mut world, request);
    }
    world.change_topics(|topics| topics.remove("t"));
    assert!(world.log.len() < 4_000, "not all at once");
    world.pass(0);
    world.pass(1);
    assert_eq!(world.log.len(), 5_000);
}

#[test]
fn offsets_are_deleted_unless_somebody_reads_the_topic() {
    let mut world = World::new(&[("t", 4), ("u", 4)]);
    assert_eq!(delete(&mut world, "t"), (ErrorCode::GroupIdNotFound, None));
    let members = world.stable(1);
    let member = members[0].member.as_str();
    world.commit(member, 1, "t", 42);
    world.commit(member, 1, "u", 43);
    assert_eq!(delete(&mut world, "t"), (ErrorCode::None, Some(ErrorCode::GroupSubscribedToTopic)));
    assert_eq!(delete(&mut world, "u"), (ErrorCode::None, Some(ErrorCode::None)));
    assert_eq!((world.committed("t").0, world.committed("u").0), (42, -1));
    world.leave(member, None);
    assert_eq!(delete(&mut world, "t"), (ErrorCode::None, Some(ErrorCode::None)));
    assert_eq!(world.committed("t").0, -1);
}

#[test]
fn of_groups_that_share_other_work_nothing_is_deleted_while_they_are_at_it() {
    let mut world = World::new(&[("t", 4)]);
    let mut request = join("");
    request.requires_known_member = false;
    request.protocol_type = "connect".into();
    let token = world.call(Request::Join(request));
    world.pass(3_000);
    let joined = world.joined(token);
    let mut share = sync(joined.member.as_str(), joined.generation, Vec::new());
    share.protocol_type = None;
    let token = world.call(Request::Sync(share));
    assert_eq!(world.synced(token).error, ErrorCode::None);
    assert_eq!(delete(&mut world, "t"), (ErrorCode::NonEmptyGroup, None));
}
