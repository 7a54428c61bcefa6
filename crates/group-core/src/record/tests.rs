//! The records' bytes: those of Kafka, there and back, and never more than they are.

use bytes::Bytes;
use proptest::prelude::*;

use thalweg_types::{
    AssignmentEpoch, GenerationId, GroupEpoch, LeaderEpoch, MemberEpoch, Offset, PartitionIndex,
    Timestamp, TopicId, TopicName, Uuid,
};

use super::*;

/// What the Java program was given, and wrote.
const GOLDEN: &str = include_str!("tests/golden.txt");

fn bytes(hex: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn golden(name: &str) -> (Bytes, Option<Bytes>) {
    let line = GOLDEN.lines().find(|line| line.starts_with(&format!("{name} ")));
    let mut words = line.expect("in the file").split(' ').skip(1);
    let key = bytes(words.next().expect("a key"));
    let value = words.next().filter(|value| *value != "-").map(bytes);
    (key, value)
}

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_bytes(number.to_be_bytes()))
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).expect("valid")
}

fn offset_key() -> OffsetKey {
    OffsetKey { group: "group".into(), topic: name("topic"), partition: PartitionIndex(7) }
}

fn offset() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(42),
        leader_epoch: LeaderEpoch(5),
        metadata: "nöte".into(),
        committed_at: Timestamp(1_000),
        expires_at: None,
        topic_id: id(9),
    }
}

fn group() -> GroupMetadata {
    GroupMetadata {
        protocol_type: "consumer".into(),
        generation: GenerationId(3),
        protocol: Some("range".into()),
        leader: Some("member".into()),
        state_since: Timestamp(1_234),
        members: vec![ClassicMember {
            member: "member".into(),
            instance: Some("instance".into()),
            client_id: "client".into(),
            client_host: "/1.2.3.4".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
        }],
    }
}

fn member() -> MemberMetadata {
    MemberMetadata {
        instance: Some("instance".into()),
        rack: None,
        client_id: "client".into(),
        client_host: "/1.2.3.4".into(),
        subscribed_names: vec![name("a"), name("topic")],
        subscribed_regex: Some("t.*".into()),
        rebalance_timeout_ms: 60_000,
        server_assignor: Some("uniform".into()),
        classic: None,
    }
}

fn member_key() -> MemberKey {
    MemberKey::new(&"group".into(), &"member".into())
}

fn partitions(topic: u128, partitions: &[i32]) -> AssignedPartitions {
    vec![(id(topic), partitions.iter().copied().map(PartitionIndex).collect())]
}

/// What is written, by its name in the file.
fn written() -> Vec<(&'static str, Record)> {
    let offset_with_expiry = CommittedOffset {
        leader_epoch: LeaderEpoch::NONE,
        expires_at: Some(Timestamp(9_000)),
        topic_id: TopicId::ZERO,
        ..offset()
    };
    let bare_offset = CommittedOffset {
        leader_epoch: LeaderEpoch::NONE,
        metadata: "".into(),
        topic_id: TopicId::ZERO,
        ..offset()
    };
    let empty_group = GroupMetadata {
        protocol_type: "".into(),
        generation: GenerationId(4),
        protocol: None,
        leader: None,
        members: Vec::new(),
        ..group()
    };
    let group_of =
        |metadata_hash| Some(ConsumerGroupMetadata { epoch: GroupEpoch(11), metadata_hash });
    let classic = ClassicMemberMetadata {
        session_timeout_ms: 45_000,
        protocols: vec![("range".into(), Bytes::from_static(&[1, 2, 3]))],
    };
    let topics = vec![TopicMetadata {
        topic_id: id(9),
        topic: name("topic"),
        partitions: 2,
        racks: vec![(PartitionIndex(1), vec!["r1".into(), "r2".into()])],
    }];
    let current = CurrentAssignment {
        epoch: MemberEpoch(12),
        previous_epoch: MemberEpoch(11),
        state: 1,
        assigned: partitions(9, &[0, 2]),
        pending_revocation: partitions(10, &[1]),
    };
    let regex_key =
        RegularExpressionKey { group: "group".into(), regular_expression: "t.*".into() };
    let regex = RegularExpression {
        topics: vec![name("a"), name("topic")],
        version: 100,
        resolved_at: Timestamp(2_000),
    };
    vec![
        ("offset-v1", Record::Offset(offset_key(), Some(offset_with_expiry))),
        ("offset-v4", Record::Offset(offset_key(), Some(offset()))),
        ("offset-v4-without-id", Record::Offset(offset_key(), Some(bare_offset))),
        ("offset-gone", Record::Offset(offset_key(), None)),
        ("group-v3", Record::Group("group".into(), Some(group()))),
        ("group-empty", Record::Group("group".into(), Some(empty_group))),
        ("group-gone", Record::Group("group".into(), None)),
        ("consumer-group", Record::ConsumerGroup("group".into(), group_of(77))),
        ("consumer-group-no-hash", Record::ConsumerGroup("group".into(), group_of(0))),
        ("consumer-topics", Record::ConsumerTopics("group".into(), Some(topics))),
        ("consumer-member", Record::ConsumerMember(member_key(), Some(member()))),
        (
            "consumer-member-classic",
            Record::ConsumerMember(
                member_key(),
                Some(MemberMetadata { classic: Some(classic), ..member() }),
            ),
        ),
        ("target-epoch", Record::TargetEpoch("group".into(), Some(AssignmentEpoch(12)))),
        ("target", Record::Target(member_key(), Some(partitions(9, &[0, 2])))),
        ("current", Record::CurrentAssignment(member_key(), Some(current))),
        ("regex", Record::RegularExpression(regex_key, Some(regex))),
    ]
}

#[test]
fn records_are_written_as_kafka_writes_them() {
    for (name, record) in written() {
        assert_eq!(encode(&record), golden(name), "{name}");
    }
}

#[test]
fn records_are_read_as_kafka_wrote_them() {
    for (name, record) in written() {
        let (key, value) = golden(name);
        assert_eq!(decode(&key, value.as_ref()), Ok(Some(record)), "{name}");
    }
}

#[test]
fn offsets_of_older_versions_are_read_with_what_they_have() {
    let older =
        CommittedOffset { leader_epoch: LeaderEpoch::NONE, topic_id: TopicId::ZERO, ..offset() };
    let newer = CommittedOffset { topic_id: TopicId::ZERO, ..offset() };
    for (name, expected) in [
        ("offset-v0", older.clone()),
        ("offset-v2", older.clone()),
        ("offset-v3", newer),
        ("legacy-offset", older),
    ] {
        let (key, value) = golden(name);
        let record = Record::Offset(offset_key(), Some(expected));
        assert_eq!(decode(&key, value.as_ref()), Ok(Some(record)), "{name}");
    }
}

#[test]
fn groups_of_other_versions_are_read_with_what_they_have() {
    let with = |has_instance: bool, has_timeout: bool, has_time: bool| {
        let mut group = group();
        if !has_instance {
            group.members[0].instance = None;
        }
        if !has_timeout {
            group.members[0].rebalance_timeout_ms = -1;
        }
        if !has_time {
            group.state_since = Timestamp::NONE;
        }
        group
    };
    for (name, expected) in [
        ("group-v0", with(false, false, false)),
        ("group-v1", with(false, true, false)),
        ("group-v2", with(false, true, true)),
        ("group-v4", with(true, true, true)),
    ] {
        let (key, value) = golden(name);
        let record = Record::Group("group".into(), Some(expected));
        assert_eq!(decode(&key, value.as_ref()), Ok(Some(record)), "{name}");
    }
}

#[test]
fn kinds_of_others_are_skipped_and_versions_of_the_future_are_not() {
    let (key, value) = golden("share-group");
    assert_eq!(decode(&key, value.as_ref()), Ok(None));
    let (key, _) = golden("group-v3");
    let future = Bytes::from_static(&[0, 5, 0]);
    assert_eq!(
        decode(&key, Some(&future)),
        Err(DecodeError::UnsupportedVersion { kind: 2, version: 5 })
    );
}

#[test]
fn a_tagged_field_that_we_do_not_know_is_skipped() {
    let (key, value) = golden("consumer-group-no-hash");
    let mut value = value.expect("a value").to_vec();
    // In place of "no tagged fields": one, number 9, of two bytes.
    value.pop();
    value.extend([1, 9, 2, 0xaa, 0xbb]);
    let read = decode(&key, Some(&Bytes::from(value))).expect("sound").expect("known");
    assert_eq!(encode(&read), golden("consumer-group-no-hash"));
}

#[test]
fn a_count_that_cannot_be_is_refused_before_memory_is_taken() {
    let (key, value) = golden("group-empty");
    let mut value = value.expect("a value").to_vec();
    let at = value.len() - 4;
    value[at..].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(
        decode(&key, Some(&Bytes::from(value))),
        Err(DecodeError::TooManyElements { count: i32::MAX as usize, remaining: 0 })
    );
}

#[test]
fn a_text_too_long_to_be_said_is_cut_between_characters() {
    let long: String = "ä".repeat(crate::ID_BYTES_MAX);
    let (key, _) = encode(&Record::Group(long.as_str().into(), None));
    let read = decode(&key, None).expect("sound").expect("known");
    assert_eq!(read.group().as_str().len(), crate::ID_BYTES_MAX - 1);
}

proptest! {
    #[test]
    fn any_offset_comes_back(
        group in ".{0,40}",
        partition: i32,
        offset: i64,
        epoch in -1..i32::MAX,
        metadata in ".{0,40}",
        committed_at: i64,
        topic_id: u128,
    ) {
        let key = OffsetKey {
            group: group.as_str().into(),
            topic: name("topic"),
            partition: PartitionIndex(partition),
        };
        let value = CommittedOffset {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(epoch),
            metadata: metadata.as_str().into(),
            committed_at: Timestamp(committed_at),
            expires_at: None,
            topic_id: id(topic_id),
        };
        let record = Record::Offset(key, Some(value));
        let (key, value) = encode(&record);
        prop_assert_eq!(decode(&key, value.as_ref()), Ok(Some(record)));
    }

    /// What is damaged is refused or read as something else, which then comes back the same; nothing panics.
    #[test]
    fn damaged_records_are_refused_or_read(
        which in 0..22_usize,
        cut in 0..200_usize,
        flips in proptest::collection::vec((0..200_usize, any::<u8>()), 0..4),
    ) {
        let line = GOLDEN.lines().nth(1 + which).expect("in the file");
        let (key, value) = golden(line.split(' ').next().expect("a name"));
        let mut value = value.unwrap_or_default().to_vec();
        value.truncate(cut);
        for (at, byte) in flips {
            if let Some(target) = value.get_mut(at) {
                *target = byte;
            }
        }
        if let Ok(Some(read)) = decode(&key, Some(&Bytes::from(value))) {
            let (key, value) = encode(&read);
            prop_assert_eq!(decode(&key, value.as_ref()), Ok(Some(read)));
        }
    }
}
