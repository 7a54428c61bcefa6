//! DescribeTopicPartitions: topics in order of name and partitions in order of number, a page at a time (KIP-966).

use std::collections::BTreeSet;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    NextCursor,
};
use thalweg_kafka::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use thalweg_metadata_core::{Partition, Topic};
use thalweg_types::{ErrorCode, NodeId, PartitionIndex, TopicId, TopicName};

use crate::View;
use crate::metadata::{node_numbers, offline_replicas};

/// Partitions in one answer, whatever the client would take: Kafka's default of `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

/// A page in the making.
struct Page<'a> {
    view: &'a View<'a>,
    room: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next_cursor: Option<NextCursor>,
}

pub(crate) fn describe_topic_partitions(
    view: &View<'_>,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = view.image();
    let cursor = request.cursor.unwrap_or_default();
    if cursor.partition_index < 0 {
        return refuse_all(&request.topics, ErrorCode::InvalidRequest);
    }
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut page =
        Page { view, room: limit.clamp(1, PARTITIONS_MAX), topics: Vec::new(), next_cursor: None };
    if request.topics.is_empty() {
        let behind = image.topics().filter(|topic| topic.name.as_str() >= &*cursor.topic_name);
        page.fill(behind.map(|topic| (topic.name.as_str(), Some(&**topic))), &cursor);
    } else {
        let names: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
        let behind = names.into_iter().filter(|name| *name >= &*cursor.topic_name);
        page.fill(behind.map(|name| (name, image.topic(name).map(|topic| &**topic))), &cursor);
    }
    let Page { topics, next_cursor, .. } = page;
    DescribeTopicPartitionsResponse { topics, next_cursor, ..Default::default() }
}

impl<'a> Page<'a> {
    fn fill(
        &mut self,
        topics: impl Iterator<Item = (&'a str, Option<&'a Topic>)>,
        cursor: &Cursor,
    ) {
        for (name, topic) in topics {
            if self.next_cursor.is_some() {
                return;
            }
            let first = if name == &*cursor.topic_name { cursor.partition_index } else { 0 };
            match topic {
                _ if self.room == 0 => {
                    self.next_cursor = Some(next_cursor(name, PartitionIndex(first)));
                }
                Some(topic) => self.push(topic, PartitionIndex(first)),
                None => self.topics.push(unknown(name)),
            }
        }
    }

    fn push(&mut self, topic: &Topic, first: PartitionIndex) {
        let mut partitions = Vec::new();
        for (index, partition) in topic.partitions.range(first..) {
            if self.room == 0 {
                self.next_cursor = Some(next_cursor(topic.name.as_str(), *index));
                break;
            }
            self.room -= 1;
            partitions.push(described(self.view, topic.id, *index, partition));
        }
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(KafkaString::from(&topic.name)),
            topic_id: topic.id.0,
            is_internal: topic.name.is_internal(),
            partitions,
            ..Default::default()
        });
    }
}

fn next_cursor(topic: &str, partition: PartitionIndex) -> NextCursor {
    NextCursor { topic_name: topic.into(), partition_index: partition.0 }
}

fn described(
    view: &View<'_>,
    topic: TopicId,
    index: PartitionIndex,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let leader = view.leader(topic, index, partition);
    let error = if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: index.0,
        leader_id: leader.unwrap_or(NodeId::NONE).0,
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: node_numbers(&partition.replicas),
        isr_nodes: node_numbers(&partition.isr),
        eligible_leader_replicas: Some(node_numbers(&partition.elr)),
        // Replicas that may lack records are never remembered as candidates.
        last_known_elr: Some(Vec::new()),
        offline_replicas: offline_replicas(view.image(), partition),
    }
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let is_valid = TopicName::new(name).is_ok();
    let code = if is_valid {
        ErrorCode::UnknownTopicOrPartition
    } else {
        ErrorCode::InvalidTopicException
    };
    refused(name, code)
}

fn refused(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.into()),
        ..Default::default()
    }
}

fn refuse_all(
    topics: &[thalweg_kafka::messages::describe_topic_partitions::TopicRequest],
    code: ErrorCode,
) -> DescribeTopicPartitionsResponse {
    let topics = topics.iter().map(|topic| refused(&topic.name, code)).collect();
    DescribeTopicPartitionsResponse { topics, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use thalweg_kafka::messages::describe_topic_partitions::TopicRequest;
    use thalweg_metadata_core::Image;
    use thalweg_types::Uuid;

    use super::*;
    use crate::sample::image;

    fn request(names: &[&str], limit: i32) -> DescribeTopicPartitionsRequest {
        let topics = names.iter().map(|name| TopicRequest { name: (*name).into() }).collect();
        DescribeTopicPartitionsRequest { topics, response_partition_limit: limit, cursor: None }
    }

    fn describe(
        image: &Image,
        request: DescribeTopicPartitionsRequest,
    ) -> DescribeTopicPartitionsResponse {
        describe_topic_partitions(&View::direct(image, NodeId(1)), request)
    }

    /// Follows the cursors to the end: per page, the topics and the first and last partition of each (-1: none).
    fn pages(image: &Image, names: &[&str], limit: i32) -> Vec<Vec<(String, i32, i32)>> {
        let mut pages = Vec::new();
        let mut cursor = None;
        loop {
            let mut request = request(names, limit);
            request.cursor = cursor;
            let answer = describe(image, request);
            let summary = |topic: DescribeTopicPartitionsResponseTopic| {
                let index = |one: &DescribeTopicPartitionsResponsePartition| one.partition_index;
                let first = topic.partitions.first().map_or(-1, index);
                (topic.name.unwrap().to_string(), first, topic.partitions.last().map_or(-1, index))
            };
            pages.push(answer.topics.into_iter().map(summary).collect());
            match answer.next_cursor {
                None => return pages,
                Some(NextCursor { topic_name, partition_index }) => {
                    assert!(pages.len() < 100, "the cursor moves on");
                    cursor = Some(Cursor { topic_name, partition_index });
                }
            }
        }
    }

    fn page(topics: &[(&str, i32, i32)]) -> Vec<(String, i32, i32)> {
        topics.iter().map(|(name, first, last)| ((*name).to_owned(), *first, *last)).collect()
    }

    #[test]
    fn pages_follow_each_other_without_gaps_or_repetition() {
        let image = image(&[("b", 3), ("a", 2), ("c", 1)]);
        let all = page(&[("a", 0, 1), ("b", 0, 2), ("c", 0, 0)]);
        assert_eq!(pages(&image, &[], 2000), [all]);
        let two = [page(&[("a", 0, 1)]), page(&[("b", 0, 1)]), page(&[("b", 2, 2), ("c", 0, 0)])];
        assert_eq!(pages(&image, &[], 2), two);
        assert_eq!(pages(&image, &["c", "b", "a", "b"], 2), two, "in order of name, each once");
        assert_eq!(pages(&image, &["b"], 4), [page(&[("b", 0, 2)])]);
        assert_eq!(pages(&image, &[], -7).len(), 6, "at least one partition a page");
    }

    #[test]
    fn a_page_has_a_bound_whatever_the_client_would_take() {
        let image = image(&[("many", 2_001)]);
        let expected = [page(&[("many", 0, 1_999)]), page(&[("many", 2_000, 2_000)])];
        assert_eq!(pages(&image, &[], i32::MAX), expected);
    }

    #[test]
    fn a_cursor_whose_topic_is_gone_goes_on_behind_it() {
        let image = image(&[("a", 1), ("c", 2)]);
        let cursor = Some(Cursor { topic_name: "b".into(), partition_index: 1 });
        let answer = describe(&image, DescribeTopicPartitionsRequest { cursor, ..request(&[], 9) });
        assert_eq!(answer.topics.len(), 1);
        assert_eq!(answer.topics[0].partitions.len(), 2);
    }

    #[test]
    fn replicas_are_told_by_what_they_are() {
        let image = image(&[("a", 1)]);
        let answer = describe(&image, request(&["a"], 1));
        let expected = DescribeTopicPartitionsResponsePartition {
            error_code: 0,
            partition_index: 0,
            leader_id: 1,
            leader_epoch: 4,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1],
            eligible_leader_replicas: Some(vec![2]),
            last_known_elr: Some(Vec::new()),
            offline_replicas: vec![2],
        };
        assert_eq!(answer.topics[0].partitions, [expected]);
        assert_eq!(answer.topics[0].topic_id, Uuid::from_bytes([1; 16]));
    }

    #[test]
    fn what_does_not_exist_and_what_cannot_be_meant_is_said() {
        let image = image(&[("a", 1)]);
        let codes = |request| {
            let answer = describe(&image, request);
            answer.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
        };
        let [unknown, invalid, refused] = [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidRequest,
        ]
        .map(ErrorCode::code);
        assert_eq!(codes(request(&["a", "no such", "none"], 9)), [0, invalid, unknown]);
        let cursor = Some(Cursor { topic_name: "a".into(), partition_index: -1 });
        let wrong = DescribeTopicPartitionsRequest { cursor, ..request(&["a", "b"], 9) };
        assert_eq!(codes(wrong), [refused, refused]);
    }
}
