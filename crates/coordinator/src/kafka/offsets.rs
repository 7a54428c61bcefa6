//! Committing, fetching and deleting offsets.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use thalweg_group_core::request::{
    CommitOffsets, DeleteOffsets, FetchOffsets, PartitionCommit, TopicCommits, TopicPartitions,
    TopicRef,
};
use thalweg_group_core::response::{FetchedOffset, FetchedOffsets, FetchedTopic, TopicErrors};
use thalweg_group_core::{Request, Response};
use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::offset_commit::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use thalweg_kafka::messages::offset_delete::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use thalweg_kafka::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use thalweg_kafka::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};
use thalweg_types::{
    ErrorCode, GroupId, InstanceId, LeaderEpoch, MemberEpoch, MemberId, Offset, PartitionIndex,
    TopicId, Uuid,
};

use super::{To, text};

/// First versions of OffsetCommit and OffsetFetch that name topics by id (KIP-848), and in which clients know the consumer protocol's errors.
const BY_ID_SINCE: i16 = 10;
const CONSUMER_PROTOCOL_SINCE: i16 = 9;
/// First versions of OffsetFetch for several groups, and with an error for the group as a whole.
const MANY_GROUPS_SINCE: i16 = 8;
const GROUP_ERROR_SINCE: i16 = 2;

impl To<'_> {
    pub(super) async fn commit(self, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let group = request.group_id.clone();
        let response = self.ask(&group, Request::CommitOffsets(self.commit_request(request))).await;
        let Response::CommitOffsets(topics) = response else {
            return OffsetCommitResponse::default();
        };
        let topic = |topic: TopicErrors| {
            let (name, topic_id) = named(topic.topic);
            let partitions = topic.partitions.into_iter();
            let partition = |(index, error): (PartitionIndex, ErrorCode)| {
                OffsetCommitResponsePartition { partition_index: index.0, error_code: error.code() }
            };
            OffsetCommitResponseTopic {
                name,
                topic_id,
                partitions: partitions.map(partition).collect(),
            }
        };
        OffsetCommitResponse {
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        }
    }

    fn commit_request(self, request: OffsetCommitRequest) -> CommitOffsets {
        let by_id = self.version >= BY_ID_SINCE;
        let topics = request.topics.into_iter().map(|topic| TopicCommits {
            topic: reference(by_id, &topic.name, topic.topic_id),
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| PartitionCommit {
                    partition: PartitionIndex(partition.partition_index),
                    offset: Offset(partition.committed_offset),
                    leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                    metadata: partition.committed_metadata.as_ref().map(text).unwrap_or_default(),
                })
                .collect(),
        });
        CommitOffsets {
            group: GroupId::from(text(&request.group_id)),
            member: MemberId::from(text(&request.member_id)),
            instance: request.group_instance_id.map(|id| InstanceId::from(text(&id))),
            generation_or_epoch: request.generation_id_or_member_epoch,
            retention_ms: Some(request.retention_time_ms).filter(|ms| *ms >= 0),
            knows_consumer_protocol: self.version >= CONSUMER_PROTOCOL_SINCE,
            topics: topics.collect(),
        }
    }

    pub(super) async fn fetch(self, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let require_stable = request.require_stable;
        if self.version >= MANY_GROUPS_SINCE {
            let groups = request.groups.into_iter();
            let fetched = groups.map(|group| self.fetch_group(group, require_stable));
            return OffsetFetchResponse { groups: join_all(fetched).await, ..Default::default() };
        }
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| TopicPartitions {
                topic: TopicRef::Name(text(&topic.name)),
                partitions: indexes(topic.partition_indexes),
            });
            topics.collect::<Vec<_>>()
        });
        let fetch = FetchOffsets {
            group: GroupId::from(text(&request.group_id)),
            member: None,
            member_epoch: MemberEpoch(-1),
            topics: topics.clone(),
            require_stable,
        };
        let fetched = self.fetched(fetch).await;
        // Before there was an error for the group, each of its partitions had it.
        let has_place = self.version >= GROUP_ERROR_SINCE || fetched.error == ErrorCode::None;
        let topics = match has_place {
            true => fetched.topics,
            false => {
                topics.unwrap_or_default().into_iter().map(|t| refused(t, fetched.error)).collect()
            }
        };
        let topic = |topic: FetchedTopic| OffsetFetchResponseTopic {
            name: named(topic.topic).0,
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| OffsetFetchResponsePartition {
                    partition_index: partition.partition.0,
                    committed_offset: partition.offset.0,
                    committed_leader_epoch: partition.leader_epoch.0,
                    metadata: Some(partition.metadata.into()),
                    error_code: partition.error.code(),
                })
                .collect(),
        };
        OffsetFetchResponse {
            topics: topics.into_iter().map(topic).collect(),
            error_code: fetched.error.code(),
            ..Default::default()
        }
    }

    async fn fetch_group(
        self,
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let by_id = self.version >= BY_ID_SINCE;
        let topics = group.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| TopicPartitions {
                topic: reference(by_id, &topic.name, topic.topic_id),
                partitions: indexes(topic.partition_indexes),
            });
            topics.collect()
        });
        let fetch = FetchOffsets {
            group: GroupId::from(text(&group.group_id)),
            member: group.member_id.map(|id| MemberId::from(text(&id))),
            member_epoch: MemberEpoch(group.member_epoch),
            topics,
            require_stable,
        };
        let fetched = self.fetched(fetch).await;
        let topics = fetched.topics.into_iter().filter_map(|topic| {
            let (name, topic_id) = match topic.topic {
                // Everything was asked for: what has been deleted meanwhile has no id to be named by.
                TopicRef::Name(name) if by_id => {
                    (KafkaString::default(), self.coordinator.topic_id(&name)?.0)
                }
                topic => named(topic),
            };
            let partitions = topic.partitions.into_iter().map(partition).collect();
            Some(OffsetFetchResponseTopics { name, topic_id, partitions })
        });
        OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics: topics.collect(),
            error_code: fetched.error.code(),
        }
    }

    async fn fetched(self, fetch: FetchOffsets) -> FetchedOffsets {
        let group = fetch.group.clone();
        match self.ask(group.as_str(), Request::FetchOffsets(fetch)).await {
            Response::FetchOffsets(fetched) => fetched,
            _ => FetchedOffsets { error: ErrorCode::UnknownServerError, topics: Vec::new() },
        }
    }

    pub(super) async fn delete_offsets(self, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        let group = request.group_id;
        let topics = request.topics.into_iter().map(|topic| TopicPartitions {
            topic: TopicRef::Name(text(&topic.name)),
            partitions: topic
                .partitions
                .into_iter()
                .map(|p| PartitionIndex(p.partition_index))
                .collect(),
        });
        let delete = DeleteOffsets { group: GroupId::from(text(&group)), topics: topics.collect() };
        let response = self.ask(&group, Request::DeleteOffsets(delete)).await;
        let Response::DeleteOffsets(deleted) = response else {
            return OffsetDeleteResponse::default();
        };
        // A topic is listed once in the answer, in the order of names.
        let mut topics = BTreeMap::<KafkaString, Vec<OffsetDeleteResponsePartition>>::new();
        for topic in deleted.topics {
            let partitions = topic.partitions.into_iter().map(|(index, error)| {
                OffsetDeleteResponsePartition { partition_index: index.0, error_code: error.code() }
            });
            topics.entry(named(topic.topic).0).or_default().extend(partitions);
        }
        let topic = |(name, partitions)| OffsetDeleteResponseTopic { name, partitions };
        OffsetDeleteResponse {
            error_code: deleted.error.code(),
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        }
    }
}

fn partition(partition: FetchedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: partition.partition.0,
        committed_offset: partition.offset.0,
        committed_leader_epoch: partition.leader_epoch.0,
        metadata: Some(partition.metadata.into()),
        error_code: partition.error.code(),
    }
}

fn refused(topic: TopicPartitions, error: ErrorCode) -> FetchedTopic {
    let partitions = topic.partitions.into_iter().map(|partition| FetchedOffset {
        partition,
        offset: Offset::NONE,
        leader_epoch: LeaderEpoch::NONE,
        metadata: "".into(),
        error,
    });
    FetchedTopic { topic: topic.topic, partitions: partitions.collect() }
}

fn indexes(partitions: Vec<i32>) -> Vec<PartitionIndex> {
    partitions.into_iter().map(PartitionIndex).collect()
}

fn reference(by_id: bool, name: &KafkaString, id: Uuid) -> TopicRef {
    if by_id { TopicRef::Id(TopicId(id)) } else { TopicRef::Name(text(name)) }
}

/// Name and id, of which a message has one.
fn named(topic: TopicRef) -> (KafkaString, Uuid) {
    match topic {
        TopicRef::Name(name) => (name.into(), Uuid::ZERO),
        TopicRef::Id(id) => (KafkaString::default(), id.0),
    }
}
