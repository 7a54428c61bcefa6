//! Requests and answers of one session, without partitions behind them.

use bytes::Bytes;

use super::*;
use crate::fetch::sample::Sample;
use crate::messages::fetch::FetchTopic;

fn request(topics: &[(&str, &[i32])]) -> FetchRequest {
    let partition =
        |index: &i32| WirePartition { partition: *index, fetch_offset: 5, ..Default::default() };
    let topic = |(name, partitions): &(&str, &[i32])| FetchTopic {
        topic: (*name).into(),
        partitions: partitions.iter().map(partition).collect(),
        ..Default::default()
    };
    FetchRequest { topics: topics.iter().map(topic).collect(), ..Default::default() }
}

fn session(topics: &[(&str, &[i32])]) -> Session<Sample> {
    let mut session = Session::default();
    session.update(&request(topics), false, IsolationLevel::ReadUncommitted, 1 << 20);
    session
}

fn at(high_watermark: i64) -> PartitionData {
    PartitionData { high_watermark, log_start_offset: 0, ..Default::default() }
}

fn with_records(high_watermark: i64) -> PartitionData {
    PartitionData { records: vec![Bytes::from_static(&[0; 70])], ..at(high_watermark) }
}

fn named(responses: &[FetchableTopicResponse]) -> Vec<(&str, Vec<i32>)> {
    let indexes = |response: &FetchableTopicResponse| {
        response.partitions.iter().map(|one| one.partition_index).collect()
    };
    responses.iter().map(|response| (response.topic.as_str(), indexes(response))).collect()
}

#[test]
fn partitions_of_a_topic_are_answered_together_and_named_twice_only_once() {
    let mut session = session(&[("a", &[0, 1]), ("b", &[0]), ("b", &[0])]);

    let answer = session.answer(vec![at(1), at(1), at(1)], true);

    assert_eq!(named(&answer), [("a", vec![0, 1]), ("b", vec![0])]);
}

#[test]
fn whoever_brought_records_is_looked_at_last() {
    let mut session = session(&[("a", &[0, 1, 2, 3])]);
    session.answer(vec![at(1), with_records(1), with_records(1), at(1)], true);
    assert_eq!(session.call().first, 3);

    session.answer(vec![at(1), at(1), at(1), with_records(1)], false);
    assert_eq!(session.call().first, 0);

    session.answer(vec![at(1), at(1), with_records(2), at(1)], false);
    session.forget(
        &[ForgottenTopic { topic: "a".into(), partitions: vec![3], ..Default::default() }],
        false,
    );
    assert_eq!(session.call().first, 0);
}

#[test]
fn memory_is_counted_with_names_and_given_back() {
    let mut session = session(&[("four", &[0, 1]), ("a", &[0])]);
    assert_eq!(session.bytes(), 3 * PARTITION_BYTES + 4 + 4 + 1);

    let forgotten = |topic: &str, partitions: &[i32]| ForgottenTopic {
        topic: topic.into(),
        partitions: partitions.to_vec(),
        ..Default::default()
    };
    session.forget(&[forgotten("four", &[1, 7]), forgotten("stranger", &[0])], false);
    assert_eq!(session.bytes(), 2 * PARTITION_BYTES + 4 + 1);

    session.forget(&[forgotten("four", &[0]), forgotten("a", &[0, 0])], false);
    assert_eq!(session.bytes(), 0);
    assert_eq!(session.partition_count(), 0);
}

#[test]
fn a_partition_takes_less_memory_than_is_counted_for_it() {
    let index = size_of::<(Key, usize)>() + 1;
    let bytes = size_of::<Entry>() + CALL_PARTITION_BYTES_MAX + index;
    // Vectors and maps that grow are up to twice as large as what they hold.
    assert!(bytes * 2 <= PARTITION_BYTES + PARTITION_BYTES / 4, "{bytes}");
}
