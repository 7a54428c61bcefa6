//! A gRPC server that keeps topics in memory: just enough of the public services to see what the client commands send and read.

mod groups;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use thalweg_proto::admin::v1 as admin;
use thalweg_proto::admin::v1::admin_server::{Admin, AdminServer};
use thalweg_proto::common::v1::ErrorDetail;
use thalweg_proto::consumer::v1 as consumer;
use thalweg_proto::consumer::v1::consumer_server::{Consumer, ConsumerServer};
use thalweg_proto::producer::v1 as producer;
use thalweg_proto::producer::v1::producer_server::{Producer, ProducerServer};
use thalweg_record::{ProduceLimits, check_produced, stamp};
use thalweg_rpc::{Error, Routes, Server, ServerHandle, ServerOptions};
use thalweg_types::{ErrorCode, LeaderEpoch, Offset};
use tonic::{Request, Response, Status, Streaming};

/// Largest batch accepted.
const BATCH_BYTES_MAX: usize = 4 << 20;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Topics by name; each a list of partitions, each a list of batches with their next offsets.
type Topics = BTreeMap<String, Vec<Vec<Stored>>>;

#[derive(Clone)]
struct Stored {
    batch: Bytes,
    max_timestamp: i64,
    next_offset: i64,
    /// Its id, and the sequence of the batch's first record.
    producer: (i64, i32),
    next_sequence: i32,
}

/// What happens to a batch instead of an acknowledgement.
#[derive(Clone, Copy)]
pub(crate) enum Mishap {
    /// It is not stored, and the answer says that it may work later.
    Refused,
    /// It is stored, and the answer says that nobody knows.
    Unknown,
    /// It is stored, and the stream ends before the answer.
    Broken,
}

/// Shared by the three services.
#[derive(Clone, Default)]
pub(crate) struct LogServer {
    topics: Arc<Mutex<Topics>>,
    /// What happens to the next batches, one each; `None`: all goes well.
    mishaps: Arc<Mutex<VecDeque<Option<Mishap>>>>,
    producers: Arc<AtomicI64>,
    acknowledged: Arc<Mutex<BTreeMap<i32, i64>>>,
}

impl LogServer {
    /// Serves on a free port of the loopback interface.
    pub(crate) fn start(&self) -> ServerHandle {
        let routes = Routes::new()
            .with(AdminServer::new(self.clone()))
            .with(ProducerServer::new(self.clone()).max_decoding_message_size(64 << 20))
            .with(ConsumerServer::new(self.clone()));
        Server::new(ServerOptions::default())
            .serve(SocketAddr::from(([127, 0, 0, 1], 0)), routes)
            .expect("a free port")
    }

    /// Lets these happen to the next batches that come, one each.
    pub(crate) fn mishaps(&self, mishaps: &[Option<Mishap>]) {
        self.mishaps.lock().expect("no test panics while it holds the lock").extend(mishaps);
    }

    pub(crate) fn batch_count(&self, topic: &str) -> usize {
        self.topics().get(topic).map_or(0, |partitions| partitions.iter().map(Vec::len).sum())
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().expect("no test panics while it holds the lock")
    }

    fn append(
        &self,
        request: producer::ProduceRequest,
    ) -> Result<producer::ProduceResponse, Error> {
        let Some(producer::produce_request::Payload::Batch(batch)) = request.payload else {
            return Err(Error::invalid_request("only batches here"));
        };
        let header = check_produced(&batch, &ProduceLimits { batch_bytes_max: BATCH_BYTES_MAX })
            .map_err(|error| Error::new(error.code(), error.to_string()))?;
        let mut topics = self.topics();
        let partition = topics
            .get_mut(&request.topic)
            .zip(request.partition.and_then(|partition| usize::try_from(partition).ok()))
            .and_then(|(partitions, partition)| partitions.get_mut(partition))
            .ok_or_else(|| Error::from(ErrorCode::UnknownTopicOrPartition))?;
        let producer = (header.producer_id.0, header.base_sequence.0);
        let answer = |base_offset| producer::ProduceResponse {
            topic: request.topic.clone(),
            partitions: vec![producer::ProducedPartition { base_offset, ..Default::default() }],
        };
        if header.has_producer() {
            if let Some(at) = partition.iter().position(|stored| stored.producer == producer) {
                let before = at.checked_sub(1).map(|before| partition[before].next_offset);
                return Ok(answer(before.unwrap_or(0)));
            }
            let own = partition.iter().rev().find(|stored| stored.producer.0 == producer.0);
            if own.is_some_and(|newest| newest.next_sequence != producer.1) {
                return Err(Error::from(ErrorCode::OutOfOrderSequenceNumber));
            }
        }
        let base = partition.last().map_or(0, |stored| stored.next_offset);
        if request.expected_offset.is_some_and(|expected| expected != base) {
            return Err(Error::from(ErrorCode::InvalidUpdateVersion).not_applied());
        }
        let mut bytes = BytesMut::from(&batch[..]);
        stamp(&mut bytes, Offset(base), LeaderEpoch(1));
        partition.push(Stored {
            batch: bytes.freeze(),
            max_timestamp: header.max_timestamp.0,
            next_offset: base + i64::from(header.record_count),
            producer,
            next_sequence: header.base_sequence.0 + header.record_count,
        });
        Ok(answer(base))
    }

    /// The same, unless a mishap is due.
    fn append_or_mishap(
        &self,
        request: producer::ProduceRequest,
    ) -> Result<Result<producer::ProduceResponse, Error>, Status> {
        let due = self.mishaps.lock().expect("no test panics while it holds the lock").pop_front();
        let error = |code: ErrorCode| Error::new(code, "as the test wants it");
        match due.flatten() {
            None => Ok(self.append(request)),
            Some(Mishap::Refused) => Ok(Err(error(ErrorCode::NotLeaderOrFollower).not_applied())),
            Some(Mishap::Unknown) => Ok(self
                .append(request)
                .and_then(|_| Err(error(ErrorCode::RequestTimedOut).outcome_unknown()))),
            Some(Mishap::Broken) => {
                let _ = self.append(request);
                Err(Status::unavailable("as the test wants it"))
            }
        }
    }

    fn list(&self, query: &consumer::OffsetQuery) -> Result<Option<i64>, Error> {
        let topics = self.topics();
        let partition = topics
            .get(&query.topic)
            .and_then(|partitions| partitions.get(usize::try_from(query.partition).ok()?))
            .ok_or_else(|| Error::from(ErrorCode::UnknownTopicOrPartition))?;
        Ok(match query.spec() {
            consumer::OffsetSpec::Earliest => Some(0),
            consumer::OffsetSpec::Latest => {
                Some(partition.last().map_or(0, |stored| stored.next_offset))
            }
            consumer::OffsetSpec::Timestamp => {
                let before =
                    partition.iter().position(|stored| stored.max_timestamp >= query.timestamp_ms);
                before.map(|at| at.checked_sub(1).map_or(0, |at| partition[at].next_offset))
            }
            _ => None,
        })
    }

    /// The batches of a partition from the one that holds `offset`, one message each.
    /// Up to where a group has acknowledged a partition; there is one group only.
    pub(crate) fn acknowledged(&self, partition: i32) -> i64 {
        let acknowledged = self.acknowledged.lock().expect("no panic while locked");
        acknowledged.get(&partition).copied().unwrap_or(0)
    }

    fn acknowledge(&self, positions: consumer::PartitionPositions) {
        let mut acknowledged = self.acknowledged.lock().expect("no panic while locked");
        for one in positions.partitions {
            acknowledged.insert(one.partition, one.offset);
        }
    }

    fn read(&self, wanted: &consumer::FetchPartition) -> Vec<consumer::FetchStreamResponse> {
        let topics = self.topics();
        let partition = usize::try_from(wanted.partition).expect("a partition");
        let message = |stored: &Stored| consumer::FetchStreamResponse {
            charged_bytes: stored.batch.len() as u64,
            partitions: vec![consumer::FetchedPartition {
                topic: wanted.topic.clone(),
                partition: wanted.partition,
                next_offset: stored.next_offset,
                batches: vec![stored.batch.clone()],
                ..Default::default()
            }],
        };
        let left = topics[&wanted.topic][partition]
            .iter()
            .filter(|stored| stored.next_offset > wanted.offset);
        left.map(message).collect()
    }
}

fn detail(code: ErrorCode) -> Option<ErrorDetail> {
    Some(Error::from(code).to_detail())
}

#[tonic::async_trait]
impl Producer for LogServer {
    type ProduceStreamStream = Answers<producer::ProduceStreamResponse>;

    async fn produce(
        &self,
        request: Request<producer::ProduceRequest>,
    ) -> Result<Response<producer::ProduceResponse>, Status> {
        Ok(Response::new(self.append(request.into_inner())?))
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<producer::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        use producer::produce_stream_response::Result as Outcome;
        let server = self.clone();
        let answers = request.into_inner().enumerate().map(move |(index, request)| {
            let result = match server.append_or_mishap(request?)? {
                Ok(produced) => Outcome::Produced(produced),
                Err(error) => Outcome::Error(error.to_detail()),
            };
            let request_index = index as u64;
            Ok(producer::ProduceStreamResponse { request_index, result: Some(result) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn init_producer(
        &self,
        _: Request<producer::InitProducerRequest>,
    ) -> Result<Response<producer::InitProducerResponse>, Status> {
        let producer_id = self.producers.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(producer::InitProducerResponse { producer_id, producer_epoch: 0 }))
    }
}

#[tonic::async_trait]
impl Consumer for LogServer {
    type FetchStreamStream = Answers<consumer::FetchStreamResponse>;
    type SubscribeStream = Answers<consumer::SubscribeResponse>;

    async fn fetch(
        &self,
        _: Request<consumer::FetchRequest>,
    ) -> Result<Response<consumer::FetchResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    /// Sends what is there when the stream begins, then nothing more, until the client has enough.
    async fn fetch_stream(
        &self,
        request: Request<Streaming<consumer::FetchStreamRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        use consumer::fetch_stream_request::Message;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.message);
        let Some(Message::Start(start)) = first else {
            return Err(Status::invalid_argument("the first message must be start"));
        };
        let messages: Vec<_> =
            start.partitions.iter().flat_map(|wanted| self.read(wanted)).map(Ok).collect();
        Ok(Response::new(Box::pin(stream::iter(messages).chain(stream::pending()))))
    }

    async fn list_offsets(
        &self,
        request: Request<consumer::ListOffsetsRequest>,
    ) -> Result<Response<consumer::ListOffsetsResponse>, Status> {
        let answer = |query: consumer::OffsetQuery| {
            let found = self.list(&query);
            consumer::ListedOffset {
                topic: query.topic,
                partition: query.partition,
                error: found.as_ref().err().map(Error::to_detail),
                offset: found.unwrap_or_default(),
                ..Default::default()
            }
        };
        let offsets = request.into_inner().queries.into_iter().map(answer).collect();
        Ok(Response::new(consumer::ListOffsetsResponse { offsets }))
    }

    async fn commit(
        &self,
        _: Request<consumer::CommitRequest>,
    ) -> Result<Response<consumer::CommitResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn committed_offsets(
        &self,
        _: Request<consumer::CommittedOffsetsRequest>,
    ) -> Result<Response<consumer::CommittedOffsetsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    /// Gives the one member every partition of its topic from the beginning, and remembers what it acknowledges.
    async fn subscribe(
        &self,
        request: Request<Streaming<consumer::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        use consumer::subscribe_request::Message as Asked;
        use consumer::subscribe_response::Message as Told;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.message);
        let Some(Asked::Start(start)) = first else {
            return Err(Status::invalid_argument("the first message must be start"));
        };
        let topic = start.topics[0].clone();
        let count = self.topics()[&topic].len();
        let partitions: Vec<_> = (0..i32::try_from(count).expect("few"))
            .map(|partition| consumer::PartitionPosition {
                topic: topic.clone(),
                partition,
                offset: self.acknowledged(partition),
            })
            .collect();
        let mut told = Vec::new();
        for one in &partitions {
            let wanted = consumer::FetchPartition {
                topic: topic.clone(),
                partition: one.partition,
                offset: one.offset,
                ..Default::default()
            };
            told.extend(self.read(&wanted).into_iter().map(|read| {
                let consumer::FetchStreamResponse { partitions, charged_bytes } = read;
                Told::Records(consumer::SubscribeRecords { partitions, charged_bytes })
            }));
        }
        told.insert(0, Told::Assigned(consumer::PartitionsAssigned { partitions }));
        let told =
            told.into_iter().map(|told| Ok(consumer::SubscribeResponse { message: Some(told) }));
        let server = self.clone();
        // Ends when the client has closed its side.
        let end = stream::once(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(Asked::Ack(positions)) = request.message {
                    server.acknowledge(positions);
                }
            }
        });
        let end = end.filter_map(|()| async { None });
        Ok(Response::new(Box::pin(stream::iter(told).chain(end))))
    }
}

#[tonic::async_trait]
impl Admin for LogServer {
    async fn create_topics(
        &self,
        request: Request<admin::CreateTopicsRequest>,
    ) -> Result<Response<admin::CreateTopicsResponse>, Status> {
        let mut topics = self.topics();
        let mut create = |topic: admin::NewTopic| {
            let partition_count = topic.partition_count.max(1);
            let exists = topics.contains_key(&topic.name);
            if !exists {
                let empty = (0..partition_count).map(|_| Vec::new()).collect();
                topics.insert(topic.name.clone(), empty);
            }
            admin::CreatedTopic {
                name: topic.name,
                topic_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(),
                partition_count,
                replication_factor: 1,
                error: exists.then(|| detail(ErrorCode::TopicAlreadyExists)).flatten(),
            }
        };
        let topics = request.into_inner().topics.into_iter().map(&mut create).collect();
        Ok(Response::new(admin::CreateTopicsResponse { topics }))
    }

    async fn delete_topics(
        &self,
        request: Request<admin::DeleteTopicsRequest>,
    ) -> Result<Response<admin::DeleteTopicsResponse>, Status> {
        let mut topics = self.topics();
        let mut delete = |name: String| admin::DeletedTopic {
            error: match topics.remove(&name) {
                Some(_) => None,
                None => detail(ErrorCode::UnknownTopicOrPartition),
            },
            name,
            ..Default::default()
        };
        let topics = request.into_inner().names.into_iter().map(&mut delete).collect();
        Ok(Response::new(admin::DeleteTopicsResponse { topics }))
    }

    async fn create_partitions(
        &self,
        request: Request<admin::CreatePartitionsRequest>,
    ) -> Result<Response<admin::CreatePartitionsResponse>, Status> {
        let mut topics = self.topics();
        let mut grow = |new: admin::NewPartitions| {
            let partitions = topics.get_mut(&new.topic);
            let error = match partitions {
                None => detail(ErrorCode::UnknownTopicOrPartition),
                Some(partitions) if partitions.len() >= new.partition_count as usize => {
                    detail(ErrorCode::InvalidPartitions)
                }
                Some(partitions) => {
                    partitions.resize(new.partition_count as usize, Vec::new());
                    None
                }
            };
            admin::CreatedPartitions { topic: new.topic, error }
        };
        let topics = request.into_inner().topics.into_iter().map(&mut grow).collect();
        Ok(Response::new(admin::CreatePartitionsResponse { topics }))
    }

    /// One topic a page, so that clients have to turn pages.
    async fn list_topics(
        &self,
        request: Request<admin::ListTopicsRequest>,
    ) -> Result<Response<admin::ListTopicsResponse>, Status> {
        let after = request.into_inner().page_token;
        let topics = self.topics();
        let mut left = topics.iter().filter(|(name, _)| **name > after);
        let page = left.next();
        let listing = page.map(|(name, partitions)| admin::TopicListing {
            name: name.clone(),
            partition_count: u32::try_from(partitions.len()).expect("few"),
            replication_factor: 1,
            ..Default::default()
        });
        let next_page_token = match (page, left.next()) {
            (Some((name, _)), Some(_)) => name.clone(),
            _ => String::new(),
        };
        let topics = listing.into_iter().collect();
        Ok(Response::new(admin::ListTopicsResponse { topics, next_page_token }))
    }

    async fn describe_topics(
        &self,
        request: Request<admin::DescribeTopicsRequest>,
    ) -> Result<Response<admin::DescribeTopicsResponse>, Status> {
        let topics = self.topics();
        let describe = |name: String| match topics.get(&name) {
            None => admin::TopicDescription {
                name,
                error: detail(ErrorCode::UnknownTopicOrPartition),
                ..Default::default()
            },
            Some(partitions) => admin::TopicDescription {
                name,
                partitions: (0..partitions.len())
                    .map(|partition| admin::PartitionDescription {
                        partition: i32::try_from(partition).expect("few"),
                        leader: 1,
                        replicas: vec![1],
                        in_sync_replicas: vec![1],
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            },
        };
        let topics = request.into_inner().names.into_iter().map(describe).collect();
        Ok(Response::new(admin::DescribeTopicsResponse { topics }))
    }

    async fn describe_configs(
        &self,
        _: Request<admin::DescribeConfigsRequest>,
    ) -> Result<Response<admin::DescribeConfigsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn alter_configs(
        &self,
        _: Request<admin::AlterConfigsRequest>,
    ) -> Result<Response<admin::AlterConfigsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_cluster(
        &self,
        _: Request<admin::DescribeClusterRequest>,
    ) -> Result<Response<admin::DescribeClusterResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_quorum(
        &self,
        _: Request<admin::DescribeQuorumRequest>,
    ) -> Result<Response<admin::DescribeQuorumResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn add_voter(
        &self,
        _: Request<admin::AddVoterRequest>,
    ) -> Result<Response<admin::AddVoterResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn remove_voter(
        &self,
        _: Request<admin::RemoveVoterRequest>,
    ) -> Result<Response<admin::RemoveVoterResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn reassign(
        &self,
        _: Request<admin::ReassignRequest>,
    ) -> Result<Response<admin::ReassignResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_reassignments(
        &self,
        _: Request<admin::ListReassignmentsRequest>,
    ) -> Result<Response<admin::ListReassignmentsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn plan_reassignment(
        &self,
        _: Request<admin::PlanReassignmentRequest>,
    ) -> Result<Response<admin::PlanReassignmentResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn elect_preferred_leaders(
        &self,
        _: Request<admin::ElectPreferredLeadersRequest>,
    ) -> Result<Response<admin::ElectPreferredLeadersResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_features(
        &self,
        _: Request<admin::DescribeFeaturesRequest>,
    ) -> Result<Response<admin::DescribeFeaturesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn update_features(
        &self,
        _: Request<admin::UpdateFeaturesRequest>,
    ) -> Result<Response<admin::UpdateFeaturesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn elect_unclean_leaders(
        &self,
        _: Request<admin::ElectUncleanLeadersRequest>,
    ) -> Result<Response<admin::ElectUncleanLeadersResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn shut_down_broker(
        &self,
        _: Request<admin::ShutDownBrokerRequest>,
    ) -> Result<Response<admin::ShutDownBrokerResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn unregister_broker(
        &self,
        _: Request<admin::UnregisterBrokerRequest>,
    ) -> Result<Response<admin::UnregisterBrokerResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_groups(
        &self,
        request: Request<admin::ListGroupsRequest>,
    ) -> Result<Response<admin::ListGroupsResponse>, Status> {
        groups::list(request.into_inner()).map(Response::new)
    }

    async fn describe_groups(
        &self,
        request: Request<admin::DescribeGroupsRequest>,
    ) -> Result<Response<admin::DescribeGroupsResponse>, Status> {
        groups::describe(request.into_inner()).map(Response::new)
    }

    async fn group_lag(
        &self,
        request: Request<admin::GroupLagRequest>,
    ) -> Result<Response<admin::GroupLagResponse>, Status> {
        groups::lag(request.into_inner()).map(Response::new)
    }

    async fn diagnose_group(
        &self,
        request: Request<admin::DiagnoseGroupRequest>,
    ) -> Result<Response<admin::DiagnoseGroupResponse>, Status> {
        groups::diagnose(request.into_inner()).map(Response::new)
    }

    async fn reset_group_offsets(
        &self,
        request: Request<admin::ResetGroupOffsetsRequest>,
    ) -> Result<Response<admin::ResetGroupOffsetsResponse>, Status> {
        groups::reset(request.into_inner()).map(Response::new)
    }

    async fn delete_groups(
        &self,
        request: Request<admin::DeleteGroupsRequest>,
    ) -> Result<Response<admin::DeleteGroupsResponse>, Status> {
        groups::delete(request.into_inner()).map(Response::new)
    }
}
