//! A coordinator that keeps offsets and has the members a test gives it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thalweg_gateway::port::{ClientRef, CoordinatorPort};
use thalweg_kafka::consumer_protocol::{Assignment, Subscription, TopicPartitions};
use thalweg_kafka::messages::{
    ConsumerGroupDescribeResponse, DeleteGroupsResponse, DescribeGroupsResponse,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, Request, Response, consumer_group_describe, delete_groups,
    describe_groups, list_groups, offset_commit, offset_fetch,
};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId};

/// Offset, leader epoch and metadata.
pub(crate) type Kept = (i64, i32, String);

#[derive(Default)]
pub(crate) struct MemoryGroup {
    pub(crate) is_consumer: bool,
    /// Member id, and the partitions it reads.
    pub(crate) members: BTreeMap<String, Vec<(String, i32)>>,
    pub(crate) offsets: BTreeMap<(String, i32), Kept>,
    /// In whose name commits are accepted besides nobody's: member id and epoch.
    pub(crate) committer: Option<(String, i32)>,
}

#[derive(Default)]
pub(crate) struct MemoryCoordinator {
    pub(crate) groups: Mutex<BTreeMap<String, MemoryGroup>>,
    /// Codes by which the next calls are refused, before anything is done.
    pub(crate) refusals: Mutex<VecDeque<ErrorCode>>,
    /// Errors that the next calls end in.
    pub(crate) failures: Mutex<VecDeque<Error>>,
    pub(crate) calls: Mutex<Vec<(String, &'static str)>>,
    /// Another coordinator, which does not answer.
    pub(crate) lost: Mutex<Option<NodeId>>,
}

impl MemoryCoordinator {
    pub(crate) fn with<T>(&self, group: &str, change: impl FnOnce(&mut MemoryGroup) -> T) -> T {
        change(self.groups.lock().unwrap().entry(group.to_owned()).or_default())
    }

    pub(crate) fn refuse(&self, codes: &[ErrorCode]) {
        self.refusals.lock().unwrap().extend(codes);
    }

    pub(crate) fn call_count(&self, name: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(_, called)| *called == name).count()
    }

    fn answer(&self, request: Request) -> Response {
        let refusal = self.refusals.lock().unwrap().pop_front().map_or(0, ErrorCode::code);
        match request {
            Request::OffsetCommit(request) => self.commit(request, refusal).into(),
            Request::OffsetFetch(request) => self.fetch(request, refusal).into(),
            Request::ListGroups(_) => self.list().into(),
            Request::ConsumerGroupDescribe(request) => {
                let groups = request.group_ids.iter().map(|id| self.describe_consumer(id, refusal));
                ConsumerGroupDescribeResponse { groups: groups.collect(), ..Default::default() }
                    .into()
            }
            Request::DescribeGroups(request) => {
                let groups = request.groups.iter().map(|id| self.describe_classic(id, refusal));
                DescribeGroupsResponse { groups: groups.collect(), ..Default::default() }.into()
            }
            Request::DeleteGroups(request) => {
                let results = request.groups_names.iter().map(|id| self.delete(id, refusal));
                DeleteGroupsResponse { results: results.collect(), ..Default::default() }.into()
            }
            other => panic!("not asked for here: {other:?}"),
        }
    }

    fn commit(&self, request: OffsetCommitRequest, refusal: i16) -> OffsetCommitResponse {
        let mut groups = self.groups.lock().unwrap();
        let group = groups.entry(request.group_id.to_string()).or_default();
        let who = (request.member_id.to_string(), request.generation_id_or_member_epoch);
        let is_allowed = match who.0.is_empty() {
            true => group.members.is_empty(),
            false => group.committer.as_ref() == Some(&who),
        };
        let code = match (refusal, is_allowed) {
            (0, true) => 0,
            (0, false) => ErrorCode::UnknownMemberId.code(),
            (refusal, _) => refusal,
        };
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let metadata = partition.committed_metadata.unwrap_or_default().to_string();
                let code = match code {
                    0 if metadata.len() > 64 => ErrorCode::OffsetMetadataTooLarge.code(),
                    code => code,
                };
                if code == 0 {
                    let kept =
                        (partition.committed_offset, partition.committed_leader_epoch, metadata);
                    group.offsets.insert((topic.name.to_string(), partition.partition_index), kept);
                }
                offset_commit::OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code,
                }
            });
            offset_commit::OffsetCommitResponseTopic {
                partitions: partitions.collect(),
                name: topic.name.clone(),
                ..Default::default()
            }
        });
        OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
    }

    fn fetch(&self, request: OffsetFetchRequest, refusal: i16) -> OffsetFetchResponse {
        let groups = self.groups.lock().unwrap();
        let answers = request.groups.into_iter().map(|asked| {
            let nothing = BTreeMap::new();
            let kept = groups.get(&*asked.group_id).map_or(&nothing, |group| &group.offsets);
            let names: Vec<(String, i32)> = match asked.topics {
                None => kept.keys().cloned().collect(),
                Some(topics) => topics
                    .iter()
                    .flat_map(|topic| {
                        let name = topic.name.to_string();
                        topic.partition_indexes.iter().map(move |index| (name.clone(), *index))
                    })
                    .collect(),
            };
            let topics = names.into_iter().map(|(topic, partition)| {
                let (offset, epoch, metadata) = kept
                    .get(&(topic.clone(), partition))
                    .cloned()
                    .unwrap_or((-1, -1, String::new()));
                offset_fetch::OffsetFetchResponseTopics {
                    name: topic.into(),
                    partitions: vec![offset_fetch::OffsetFetchResponsePartitions {
                        partition_index: partition,
                        committed_offset: offset,
                        committed_leader_epoch: epoch,
                        metadata: Some(metadata.into()),
                        error_code: 0,
                    }],
                    ..Default::default()
                }
            });
            offset_fetch::OffsetFetchResponseGroup {
                group_id: asked.group_id.clone(),
                topics: if refusal == 0 { topics.collect() } else { Vec::new() },
                error_code: refusal,
            }
        });
        OffsetFetchResponse { groups: answers.collect(), ..Default::default() }
    }

    fn list(&self) -> ListGroupsResponse {
        let groups = self.groups.lock().unwrap();
        let listed = groups.iter().map(|(id, group)| list_groups::ListedGroup {
            group_id: id.as_str().into(),
            protocol_type: "consumer".into(),
            group_state: state(group).into(),
            group_type: if group.is_consumer { "consumer" } else { "classic" }.into(),
        });
        ListGroupsResponse { groups: listed.collect(), ..Default::default() }
    }

    fn describe_consumer(&self, id: &str, refusal: i16) -> consumer_group_describe::DescribedGroup {
        let groups = self.groups.lock().unwrap();
        let answer = consumer_group_describe::DescribedGroup {
            group_id: id.into(),
            error_code: refusal,
            ..Default::default()
        };
        let Some(group) = groups.get(id).filter(|group| group.is_consumer) else {
            let code = ErrorCode::GroupIdNotFound.code();
            let error_code = if refusal == 0 { code } else { refusal };
            return consumer_group_describe::DescribedGroup { error_code, ..answer };
        };
        let members = group.members.iter().map(|(member, partitions)| {
            let topics = partitions.iter().map(|(topic, partition)| {
                consumer_group_describe::TopicPartitions {
                    topic_name: topic.as_str().into(),
                    partitions: vec![*partition],
                    ..Default::default()
                }
            });
            let assignment =
                consumer_group_describe::Assignment { topic_partitions: topics.collect() };
            consumer_group_describe::Member {
                member_id: member.as_str().into(),
                member_epoch: 3,
                client_id: "app".into(),
                client_host: "10.0.0.1".into(),
                assignment: assignment.clone(),
                target_assignment: assignment,
                ..Default::default()
            }
        });
        consumer_group_describe::DescribedGroup {
            group_state: state(group).into(),
            group_epoch: 3,
            assignment_epoch: 3,
            assignor_name: "uniform".into(),
            members: members.collect(),
            ..answer
        }
    }

    fn describe_classic(&self, id: &str, refusal: i16) -> describe_groups::DescribedGroup {
        let groups = self.groups.lock().unwrap();
        let answer = describe_groups::DescribedGroup {
            group_id: id.into(),
            error_code: refusal,
            ..Default::default()
        };
        let Some(group) = groups.get(id).filter(|group| !group.is_consumer) else {
            let code = ErrorCode::GroupIdNotFound.code();
            let error_code = if refusal == 0 { code } else { refusal };
            return describe_groups::DescribedGroup { error_code, ..answer };
        };
        let members = group.members.iter().map(|(member, partitions)| {
            let assigned = partitions.iter().map(|(topic, partition)| TopicPartitions {
                topic: topic.as_str().into(),
                partitions: vec![*partition],
            });
            let assignment =
                Assignment { assigned_partitions: assigned.collect(), ..Default::default() };
            let subscription = Subscription { topics: vec!["orders".into()], ..Default::default() };
            describe_groups::DescribedGroupMember {
                member_id: member.as_str().into(),
                client_id: "app".into(),
                client_host: "10.0.0.1".into(),
                member_metadata: subscription.encode(1).unwrap(),
                member_assignment: match member.as_str() {
                    "garbled" => Bytes::from_static(b"\x00\x01\xff\xff"),
                    _ => assignment.encode(1).unwrap(),
                },
                ..Default::default()
            }
        });
        describe_groups::DescribedGroup {
            group_state: state(group).into(),
            protocol_type: "consumer".into(),
            protocol_data: "range".into(),
            members: members.collect(),
            ..answer
        }
    }

    fn delete(&self, id: &str, refusal: i16) -> delete_groups::DeletableGroupResult {
        let mut groups = self.groups.lock().unwrap();
        let code = match groups.get(id) {
            _ if refusal != 0 => refusal,
            None => ErrorCode::GroupIdNotFound.code(),
            Some(group) if !group.members.is_empty() => ErrorCode::NonEmptyGroup.code(),
            Some(_) => {
                groups.remove(id);
                0
            }
        };
        delete_groups::DeletableGroupResult { group_id: id.into(), error_code: code }
    }
}

fn state(group: &MemoryGroup) -> &'static str {
    if group.members.is_empty() { "Empty" } else { "Stable" }
}

impl CoordinatorPort for MemoryCoordinator {
    fn call(
        &self,
        group: &str,
        _client: ClientRef,
        request: Request,
        version: i16,
    ) -> BoxFuture<'_, Result<Response, Error>> {
        let key = request.api_key();
        let versions = key.versions();
        assert!(versions.contains(version), "{} has no version {version}", key.name());
        self.calls.lock().unwrap().push((group.to_owned(), key.name()));
        let failure = self.failures.lock().unwrap().pop_front();
        let answer = match failure {
            Some(failure) => Err(failure),
            None => Ok(self.answer(request)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn call_each(
        &self,
        _client: ClientRef,
        request: Request,
        _version: i16,
    ) -> BoxFuture<'_, Vec<(NodeId, Result<Response, Error>)>> {
        let mut answers = vec![(NodeId(7), Ok(self.answer(request)))];
        if let Some(lost) = *self.lost.lock().unwrap() {
            answers.push((lost, Err(Error::from(ErrorCode::NetworkException))));
        }
        Box::pin(std::future::ready(answers))
    }
}
