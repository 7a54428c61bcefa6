//! A coordinator that decides by the real rules of groups, in memory and at once: what it decides counts as stored.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::BoxFuture;
use thalweg_gateway::port::{ClientRef, CoordinatorPort};
use thalweg_group_core::{Call, Client, GroupConfig, Groups, Now, Request, Response, Token};
use thalweg_group_core::{TopicFacts, Topics, request, response};
use thalweg_kafka::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, Request as KafkaRequest,
    Response as KafkaResponse, consumer_group_heartbeat, offset_commit, offset_fetch,
};
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::Feed;
use thalweg_rpc::Error;
use thalweg_types::{
    ErrorCode, LeaderEpoch, MemberEpoch, Moment, NodeId, Offset, PartitionIndex, Timestamp,
    TopicId, TopicName, Uuid,
};

pub(crate) struct CoreCoordinator {
    feed: Feed,
    groups: Mutex<Groups>,
    started: Instant,
    /// While set, the next calls are lost after they were decided.
    pub(crate) lost_answers: Mutex<usize>,
}

struct ByImage(Arc<Image>);

impl Topics for ByImage {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        let topic = self.0.topic(name)?;
        Some(TopicFacts { id: topic.id, partitions: topic.partition_count() })
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        self.0.topic_by_id(id).map(|topic| topic.name.clone())
    }

    fn for_each_name(&self, visit: &mut dyn FnMut(&TopicName)) {
        self.0.topics().for_each(|topic| visit(&topic.name));
    }
}

impl CoreCoordinator {
    pub(crate) fn new(feed: Feed) -> Self {
        let config = GroupConfig { consumer_heartbeat_interval_ms: 100, ..GroupConfig::default() };
        Self {
            feed,
            groups: Mutex::new(Groups::new(config)),
            started: Instant::now(),
            lost_answers: Mutex::new(0),
        }
    }

    fn now(&self) -> Now {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        Now { moment: Moment(ms), wall: Timestamp(1_000_000) }
    }

    fn decide(&self, client: ClientRef, request: Request) -> Response {
        let topics = ByImage(self.feed.image());
        let mut groups = self.groups.lock().unwrap();
        let now = self.now();
        groups.handle_metadata(&topics, now);
        groups.handle_deadline(&topics, now);
        let call = Call {
            token: Token(1),
            client: Client { id: client.id.as_str().into(), host: client.host.as_str().into() },
            fresh: Uuid::from_bytes([7; 16]),
            request,
        };
        let effects = groups.handle(call, &topics, now);
        effects.answers.into_iter().next().expect("answered at once").1
    }

    /// Lets a member leave without its knowledge.
    pub(crate) fn throw_out(&self, group: &str, member: &str) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: member.into(),
            member_epoch: -1,
            ..Default::default()
        };
        self.heartbeat(nobody(), request);
    }

    pub(crate) fn member_count(&self, group: &str) -> usize {
        let asked = Request::ConsumerDescribe(vec![group.into()]);
        let Response::ConsumerDescribe(groups) = self.decide(nobody(), asked) else {
            panic!("another answer")
        };
        groups[0].members.len()
    }

    fn heartbeat(&self, client: ClientRef, asked: ConsumerGroupHeartbeatRequest) -> KafkaResponse {
        let text = |text: thalweg_kafka::KafkaString| Arc::from(text.as_str());
        let request = request::ConsumerHeartbeat {
            group: asked.group_id.as_str().into(),
            member: asked.member_id.as_str().into(),
            member_epoch: MemberEpoch(asked.member_epoch),
            instance: asked.instance_id.map(|id| id.as_str().into()),
            rack: asked.rack_id.map(text),
            rebalance_timeout_ms: (asked.rebalance_timeout_ms >= 0)
                .then_some(asked.rebalance_timeout_ms),
            subscribed_names: asked.subscribed_topic_names.map(|names| {
                names.iter().map(|name| TopicName::new(name.as_str()).unwrap()).collect()
            }),
            subscribed_regex: asked.subscribed_topic_regex.map(text),
            server_assignor: asked.server_assignor.map(text),
            owned: asked.topic_partitions.map(|topics| {
                let one = |topic: consumer_group_heartbeat::OwnedTopicPartitions| {
                    let partitions = topic.partitions.into_iter().map(PartitionIndex);
                    (TopicId(topic.topic_id), partitions.collect())
                };
                topics.into_iter().map(one).collect()
            }),
            requires_client_made_id: true,
        };
        let Response::ConsumerHeartbeat(answer) =
            self.decide(client, Request::ConsumerHeartbeat(request))
        else {
            panic!("another answer")
        };
        let assignment = answer.assignment.map(|topics| {
            let one = |(id, partitions): (TopicId, Vec<PartitionIndex>)| {
                consumer_group_heartbeat::AssignedTopicPartitions {
                    topic_id: id.0,
                    partitions: partitions.into_iter().map(|index| index.0).collect(),
                }
            };
            let topic_partitions = topics.into_iter().map(one).collect();
            consumer_group_heartbeat::Assignment { topic_partitions }
        });
        ConsumerGroupHeartbeatResponse {
            error_code: answer.error.code(),
            error_message: answer.error_message.map(Into::into),
            member_id: answer.member.map(|id| id.as_str().into()),
            member_epoch: answer.member_epoch.0,
            heartbeat_interval_ms: answer.heartbeat_interval_ms,
            assignment,
            ..Default::default()
        }
        .into()
    }

    fn commit(&self, client: ClientRef, asked: OffsetCommitRequest) -> KafkaResponse {
        let topics = asked.topics.into_iter().map(|topic| request::TopicCommits {
            topic: request::TopicRef::Name(topic.name.as_str().into()),
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| request::PartitionCommit {
                    partition: PartitionIndex(partition.partition_index),
                    offset: Offset(partition.committed_offset),
                    leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                    metadata: partition.committed_metadata.unwrap_or_default().as_str().into(),
                })
                .collect(),
        });
        let request = request::CommitOffsets {
            group: asked.group_id.as_str().into(),
            member: asked.member_id.as_str().into(),
            instance: asked.group_instance_id.map(|id| id.as_str().into()),
            generation_or_epoch: asked.generation_id_or_member_epoch,
            retention_ms: None,
            knows_consumer_protocol: true,
            topics: topics.collect(),
        };
        let Response::CommitOffsets(answer) = self.decide(client, Request::CommitOffsets(request))
        else {
            panic!("another answer")
        };
        let topics = answer.into_iter().map(|topic| offset_commit::OffsetCommitResponseTopic {
            name: name(topic.topic),
            partitions: topic
                .partitions
                .into_iter()
                .map(|(index, error)| offset_commit::OffsetCommitResponsePartition {
                    partition_index: index.0,
                    error_code: error.code(),
                })
                .collect(),
            ..Default::default()
        });
        OffsetCommitResponse { topics: topics.collect(), ..Default::default() }.into()
    }

    fn fetch(&self, client: ClientRef, mut asked: OffsetFetchRequest) -> KafkaResponse {
        let group = asked.groups.pop().expect("one group");
        let request = request::FetchOffsets {
            group: group.group_id.as_str().into(),
            member: None,
            member_epoch: MemberEpoch(-1),
            topics: group.topics.map(|topics| {
                let one =
                    |topic: offset_fetch::OffsetFetchRequestTopics| request::TopicPartitions {
                        topic: request::TopicRef::Name(topic.name.as_str().into()),
                        partitions: topic
                            .partition_indexes
                            .into_iter()
                            .map(PartitionIndex)
                            .collect(),
                    };
                topics.into_iter().map(one).collect()
            }),
            require_stable: asked.require_stable,
        };
        let Response::FetchOffsets(answer) = self.decide(client, Request::FetchOffsets(request))
        else {
            panic!("another answer")
        };
        let partition =
            |one: response::FetchedOffset| offset_fetch::OffsetFetchResponsePartitions {
                partition_index: one.partition.0,
                committed_offset: one.offset.0,
                committed_leader_epoch: one.leader_epoch.0,
                metadata: Some(thalweg_kafka::KafkaString::from(&*one.metadata)),
                error_code: one.error.code(),
            };
        let topics =
            answer.topics.into_iter().map(|topic| offset_fetch::OffsetFetchResponseTopics {
                name: name(topic.topic),
                partitions: topic.partitions.into_iter().map(partition).collect(),
                ..Default::default()
            });
        let group = offset_fetch::OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics: topics.collect(),
            error_code: answer.error.code(),
        };
        OffsetFetchResponse { groups: vec![group], ..Default::default() }.into()
    }
}

fn nobody() -> ClientRef {
    ClientRef { id: "test".into(), host: "".into() }
}

fn name(topic: request::TopicRef) -> thalweg_kafka::KafkaString {
    match topic {
        request::TopicRef::Name(name) => (&*name).into(),
        request::TopicRef::Id(id) => panic!("asked by name, answered by {id}"),
    }
}

impl CoordinatorPort for CoreCoordinator {
    fn call(
        &self,
        _group: &str,
        client: ClientRef,
        request: KafkaRequest,
        _version: i16,
    ) -> BoxFuture<'_, Result<KafkaResponse, Error>> {
        let answer = match request {
            KafkaRequest::ConsumerGroupHeartbeat(asked) => self.heartbeat(client, asked),
            KafkaRequest::OffsetCommit(asked) => self.commit(client, asked),
            KafkaRequest::OffsetFetch(asked) => self.fetch(client, asked),
            other => panic!("not asked for here: {other:?}"),
        };
        let mut lost = self.lost_answers.lock().unwrap();
        let answer = match *lost {
            0 => Ok(answer),
            _ => {
                *lost -= 1;
                Err(Error::from(ErrorCode::NetworkException).outcome_unknown())
            }
        };
        Box::pin(std::future::ready(answer))
    }

    fn call_each(
        &self,
        _client: ClientRef,
        _request: KafkaRequest,
        _version: i16,
    ) -> BoxFuture<'_, Vec<(NodeId, Result<KafkaResponse, Error>)>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}
