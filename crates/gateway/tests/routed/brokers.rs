//! Brokers without disks, which do what the test says. What they append goes to one log of each partition, as if they replicated it
//! perfectly; so a batch that gets there twice, or in another order, shows.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_record::{BatchHeader, stamp};
use thalweg_rpc::{Error, LeaderHint};
use thalweg_types::{
    ErrorCode, LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicName, TopicPartition,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, timeout};
use tonic::{Request, Response, Status, Streaming};

/// A partition by topic and number.
pub(crate) type At = (String, i32);

/// What all brokers have appended, each batch of one record.
#[derive(Default)]
pub(crate) struct Logs {
    logs: Mutex<BTreeMap<At, Vec<Bytes>>>,
    appended: Notify,
}

impl Logs {
    /// The batches of a partition.
    pub(crate) fn of(&self, topic: &str, partition: i32) -> Vec<Bytes> {
        self.logs.lock().unwrap().get(&(topic.to_owned(), partition)).cloned().unwrap_or_default()
    }

    /// Puts a batch in the log, unless its producer's sequence is there already; returns its place.
    fn append(&self, at: At, batch: Bytes) -> i64 {
        let mut logs = self.logs.lock().unwrap();
        let log = logs.entry(at).or_default();
        let identity = |bytes: &Bytes| {
            let header = BatchHeader::parse(bytes).unwrap();
            (header.producer_id, header.base_sequence)
        };
        let new = identity(&batch);
        let there = log.iter().position(|old| new.0 != ProducerId::NONE && identity(old) == new);
        let place = there.unwrap_or_else(|| {
            let mut stamped = BytesMut::from(&batch[..]);
            stamp(&mut stamped, Offset(i64::try_from(log.len()).unwrap()), LeaderEpoch(1));
            log.push(stamped.freeze());
            log.len() - 1
        });
        drop(logs);
        self.appended.notify_waiters();
        i64::try_from(place).unwrap()
    }
}

/// One broker, as its service.
#[derive(Clone)]
pub(crate) struct ScriptedBroker {
    id: NodeId,
    logs: Arc<Logs>,
    pub(crate) script: Arc<Script>,
}

/// What the test says.
pub(crate) struct Script {
    /// Partitions it takes batches for.
    leads: Mutex<HashMap<At, LeaderEpoch>>,
    /// Whom it names when it refuses.
    hint: Mutex<Option<(NodeId, LeaderEpoch)>>,
    /// While true, it reads nothing and answers nothing.
    frozen: watch::Sender<bool>,
    /// While false, batches are appended and not answered.
    answers: watch::Sender<bool>,
    pub(crate) fetches: Mutex<Vec<proto::FetchRequest>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            leads: Mutex::default(),
            hint: Mutex::default(),
            frozen: watch::Sender::new(false),
            answers: watch::Sender::new(true),
            fetches: Mutex::default(),
        }
    }
}

impl Script {
    pub(crate) fn lead(&self, topic: &str, partition: i32, epoch: i32) {
        let at = (topic.to_owned(), partition);
        self.leads.lock().unwrap().insert(at, LeaderEpoch(epoch));
    }

    pub(crate) fn resign(&self, topic: &str, partition: i32) {
        self.leads.lock().unwrap().remove(&(topic.to_owned(), partition));
    }

    pub(crate) fn point_to(&self, node: i32, epoch: i32) {
        *self.hint.lock().unwrap() = Some((NodeId(node), LeaderEpoch(epoch)));
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    pub(crate) fn answer(&self, answers: bool) {
        self.answers.send_replace(answers);
    }

    async fn thawed(&self) {
        self.frozen.subscribe().wait_for(|frozen| !frozen).await.unwrap();
    }

    async fn answering(&self) {
        self.answers.subscribe().wait_for(|answers| *answers).await.unwrap();
    }

    fn refusal(&self, id: NodeId, at: &At) -> Option<Error> {
        if self.leads.lock().unwrap().contains_key(at) {
            return None;
        }
        let error = Error::new(ErrorCode::NotLeaderOrFollower, format!("{id} does not lead"));
        let Some((node_id, leader_epoch)) = *self.hint.lock().unwrap() else { return Some(error) };
        let partition = TopicPartition {
            topic: TopicName::new(&at.0).unwrap(),
            partition: PartitionIndex(at.1),
        };
        Some(error.with_leader(LeaderHint { partition, node_id, leader_epoch, endpoint: None }))
    }
}

impl ScriptedBroker {
    pub(crate) fn new(id: NodeId, logs: Arc<Logs>) -> Self {
        Self { id, logs, script: Arc::default() }
    }

    /// Appends or refuses, with the rule of rounds that the protocol asks for.
    fn append_one(
        &self,
        request: proto::AppendRequest,
        closed: &mut HashMap<At, u64>,
    ) -> Result<i64, Error> {
        let at = (request.topic, request.partition);
        if closed.get(&at).is_some_and(|round| request.round <= *round) {
            return Err(Error::new(ErrorCode::NotLeaderOrFollower, "an earlier one was refused"));
        }
        if let Some(error) = self.script.refusal(self.id, &at) {
            closed.insert(at, request.round);
            return Err(error);
        }
        Ok(self.logs.append(at, request.batch))
    }

    fn read(&self, wanted: &proto::FetchPartition, max_bytes: usize) -> proto::FetchedPartition {
        let at = (wanted.topic.clone(), wanted.partition);
        if let Some(error) = self.script.refusal(self.id, &at) {
            return refused(error);
        }
        let log = self.logs.of(&at.0, at.1);
        let end = i64::try_from(log.len()).unwrap();
        if wanted.offset > end {
            return refused(Error::from(ErrorCode::OffsetOutOfRange));
        }
        let mut bytes = 0;
        let fits = |batch: &&Bytes| {
            bytes += batch.len();
            bytes <= max_bytes || bytes == batch.len()
        };
        let from = usize::try_from(wanted.offset).unwrap();
        proto::FetchedPartition {
            high_watermark: end,
            last_stable_offset: end,
            batches: log[from..].iter().take_while(fits).cloned().collect(),
            ..Default::default()
        }
    }

    /// The answer, and whether it is worth giving.
    fn read_all(&self, request: &proto::FetchRequest) -> (proto::FetchResponse, bool) {
        let mut left = request.max_bytes as usize;
        let (mut bytes, mut has_failed) = (0, false);
        let mut partitions = Vec::new();
        for (index, wanted) in (0..).zip(&request.partitions) {
            let found = self.read(wanted, left.min(wanted.max_bytes as usize));
            let size: usize = found.batches.iter().map(Bytes::len).sum();
            left = left.saturating_sub(size);
            bytes += size;
            has_failed |= found.refusal.is_some();
            partitions.push(proto::FetchedPartition { index, ..found });
        }
        (proto::FetchResponse { partitions }, has_failed || bytes >= request.min_bytes as usize)
    }
}

fn refused(error: Error) -> proto::FetchedPartition {
    let detail = Some(error.to_detail());
    let refusal = Some(proto::Refusal { detail, grpc_code: 0 });
    proto::FetchedPartition { refusal, ..Default::default() }
}

#[tonic::async_trait]
impl proto::broker_server::Broker for ScriptedBroker {
    type AppendStream = BoxStream<'static, Result<proto::AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let state = (self.clone(), request.into_inner(), HashMap::new(), 0_u64);
        let answers =
            stream::unfold(state, |(broker, mut requests, mut closed, number)| async move {
                broker.script.thawed().await;
                let request = requests.message().await.ok()??;
                broker.script.thawed().await;
                let appended = broker.append_one(request, &mut closed);
                broker.script.answering().await;
                let (base_offset, refusal) = match appended {
                    Ok(place) => (place, None),
                    Err(error) => {
                        let detail = Some(error.to_detail());
                        (-1, Some(proto::Refusal { detail, grpc_code: 0 }))
                    }
                };
                let result =
                    proto::AppendResult { number, base_offset, refusal, ..Default::default() };
                let answer = proto::AppendResponse { results: vec![result], closing: false };
                Some((Ok(answer), (broker, requests, closed, number + 1)))
            });
        Ok(Response::new(answers.boxed()))
    }

    type FetchStream = BoxStream<'static, Result<proto::FetchResponse, Status>>;

    async fn fetch(
        &self,
        request: Request<proto::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let (broker, request) = (self.clone(), request.into_inner());
        broker.script.fetches.lock().unwrap().push(request.clone());
        let answer = async move {
            broker.script.thawed().await;
            let waiting = async {
                loop {
                    let mut appended = std::pin::pin!(broker.logs.appended.notified());
                    appended.as_mut().enable();
                    let (answer, is_enough) = broker.read_all(&request);
                    if is_enough {
                        return answer;
                    }
                    appended.await;
                }
            };
            let wait = Duration::from_millis(request.max_wait_ms.into());
            match timeout(wait, waiting).await {
                Ok(answer) => Ok(answer),
                Err(_) => Ok(broker.read_all(&request).0),
            }
        };
        Ok(Response::new(stream::once(answer).boxed()))
    }

    /// Coordinators ask for it, gateways do not.
    async fn describe_log(
        &self,
        _: Request<proto::DescribeLogRequest>,
    ) -> Result<Response<proto::DescribeLogResponse>, Status> {
        Err(Status::unimplemented("no gateway asks for this"))
    }

    async fn find_offset(
        &self,
        request: Request<proto::FindOffsetRequest>,
    ) -> Result<Response<proto::FindOffsetResponse>, Status> {
        self.script.thawed().await;
        let request = request.into_inner();
        let at = (request.topic, request.partition);
        if let Some(error) = self.script.refusal(self.id, &at) {
            return Err(error.into());
        }
        let end = i64::try_from(self.logs.of(&at.0, at.1).len()).unwrap();
        let found =
            proto::FindOffsetResponse { offset: Some(end), timestamp_ms: -1, leader_epoch: -1 };
        Ok(Response::new(found))
    }

    async fn find_epoch_ends(
        &self,
        request: Request<proto::FindEpochEndsRequest>,
    ) -> Result<Response<proto::FindEpochEndsResponse>, Status> {
        let end = |wanted: proto::EpochQuery| proto::EpochEnd {
            epoch: wanted.epoch,
            end_offset: i64::try_from(self.logs.of(&wanted.topic, wanted.partition).len()).unwrap(),
            refusal: None,
        };
        let partitions = request.into_inner().partitions.into_iter().map(end).collect();
        Ok(Response::new(proto::FindEpochEndsResponse { partitions }))
    }

    async fn delete_records(
        &self,
        request: Request<proto::DeleteRecordsRequest>,
    ) -> Result<Response<proto::DeleteRecordsResponse>, Status> {
        let deleted = |wanted: proto::Deletion| proto::Deleted {
            log_start_offset: wanted.before_offset,
            refusal: None,
        };
        let partitions = request.into_inner().partitions.into_iter().map(deleted).collect();
        Ok(Response::new(proto::DeleteRecordsResponse { partitions }))
    }

    async fn describe_configs(
        &self,
        _: Request<proto::DescribeConfigsRequest>,
    ) -> Result<Response<proto::DescribeConfigsResponse>, Status> {
        let value = |source: proto::ConfigSource| proto::SourcedValue {
            name: "log.retention.ms".to_owned(),
            value: Some(self.id.0.to_string()),
            source: source.into(),
        };
        let config = |name: &str| proto::Config {
            name: name.to_owned(),
            value: Some(self.id.0.to_string()),
            source: proto::ConfigSource::StaticBroker.into(),
            synonyms: vec![value(proto::ConfigSource::StaticBroker)],
        };
        let configs = vec![config("retention.ms"), config("a.config.of.tomorrow")];
        Ok(Response::new(proto::DescribeConfigsResponse { configs }))
    }

    async fn init_producer(
        &self,
        _: Request<proto::InitProducerRequest>,
    ) -> Result<Response<proto::InitProducerResponse>, Status> {
        let producer_id = i64::from(self.id.0) * 1000;
        Ok(Response::new(proto::InitProducerResponse { producer_id, producer_epoch: 0 }))
    }

    async fn describe_replicas(
        &self,
        _: Request<proto::DescribeReplicasRequest>,
    ) -> Result<Response<proto::DescribeReplicasResponse>, Status> {
        Err(Status::unimplemented("gateways do not ask for it"))
    }

    async fn await_metadata(
        &self,
        request: Request<proto::AwaitMetadataRequest>,
    ) -> Result<Response<proto::AwaitMetadataResponse>, Status> {
        self.script.thawed().boxed().await;
        let index = request.into_inner().index;
        Ok(Response::new(proto::AwaitMetadataResponse { index }))
    }
}
