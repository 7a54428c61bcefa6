//! What the gateway needs of the brokers and of the coordinators, as traits: in one process they lead straight there, in a cluster they
//! are routed.
//!
//! Everything here is checked already: topics have valid names, partitions, offsets and sizes are not negative, a batch is one
//! whole batch by its header. What only the broker can know (does the topic exist, is the checksum right, is the offset in range) it
//! answers by [`rpc::Error`](thalweg_rpc::Error), with Kafka's code and the outcome.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;

use thalweg_kafka::{KafkaString, Request, Response};
use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::Entry;
use thalweg_rpc::Error;
use thalweg_types::{
    Acks, ErrorCode, IsolationLevel, LeaderEpoch, LogIndex, NodeId, Offset, PartitionIndex,
    ProducerEpoch, ProducerId, Timestamp, TopicName,
};

/// The brokers, as the gateway sees them.
pub trait BrokerPort: Send + Sync + 'static {
    /// Appends one batch. The first poll of the future hands it over: of two calls for one partition, the one polled first is
    /// appended first. With [`Acks::None`] the future resolves after that, without offsets ([`Offset::NONE`]).
    fn produce(&self, call: ProduceCall) -> impl Future<Output = Result<Produced, Error>> + Send;

    /// Reads from several partitions, waiting for `min_bytes` at most `max_wait`. An error of one partition is in its place in the
    /// answer (and ends the wait); answers come in the order of the call.
    fn fetch(
        &self,
        call: FetchCall,
    ) -> impl Future<Output = Result<Vec<FetchedPartition>, Error>> + Send;

    /// Finds an offset; `None` if no record matches.
    fn list_offset(
        &self,
        topic: TopicName,
        partition: PartitionIndex,
        at: OffsetQuery,
        isolation: IsolationLevel,
    ) -> impl Future<Output = Result<Option<ListedOffset>, Error>> + Send;

    /// Every config of a resource, set or not; those of a broker are known to that broker alone.
    fn describe_configs(
        &self,
        target: ConfigTarget,
    ) -> impl Future<Output = Result<Vec<Entry>, Error>> + Send;

    /// Waits, within bounds, until the brokers at hand go by the metadata up to `index`.
    fn served(&self, index: LogIndex) -> impl Future<Output = ()> + Send;

    /// A new identity for an idempotent producer.
    fn init_producer(
        &self,
    ) -> impl Future<Output = Result<(ProducerId, ProducerEpoch), Error>> + Send;
}

/// The coordinators, as the gateway sees them. They are spoken to in the Kafka protocol's messages, since that is what they decide by.
///
/// Not generic, unlike [`BrokerPort`]: what costs nothing for a batch's way costs nothing beside a group's call.
pub trait CoordinatorPort: Send + Sync + 'static {
    /// Asks the coordinator of `group`. A call of a group's member may be answered as late as its rebalance ends; dropping the future
    /// withdraws it. Refusals of the coordinator itself, `NOT_COORDINATOR` among them, are in the response; the error says that none came.
    fn call(
        &self,
        group: &str,
        client: ClientRef,
        request: Request,
        version: i16,
    ) -> BoxFuture<'_, Result<Response, Error>>;

    /// Asks every live coordinator: each answers for the groups it has.
    fn call_each(
        &self,
        client: ClientRef,
        request: Request,
        version: i16,
    ) -> BoxFuture<'_, Vec<(NodeId, Result<Response, Error>)>>;
}

/// On whose behalf a coordinator is asked: what it shows of the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRef {
    pub id: KafkaString,
    /// Its address, as text.
    pub host: KafkaString,
}

/// A cluster without coordinators: there are no groups, and none can be made.
#[derive(Debug, Clone, Copy)]
pub struct NoCoordinators;

impl CoordinatorPort for NoCoordinators {
    fn call(
        &self,
        group: &str,
        _client: ClientRef,
        _request: Request,
        _version: i16,
    ) -> BoxFuture<'_, Result<Response, Error>> {
        let message = format!("no coordinator is known for group {group:?}");
        let error = Error::new(ErrorCode::CoordinatorNotAvailable, message).not_applied();
        Box::pin(std::future::ready(Err(error)))
    }

    fn call_each(
        &self,
        _client: ClientRef,
        _request: Request,
        _version: i16,
    ) -> BoxFuture<'_, Vec<(NodeId, Result<Response, Error>)>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// One batch for one partition.
#[derive(Debug)]
pub struct ProduceCall {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    /// One RecordBatch v2, the only handle to its bytes, so that they can be stamped in place.
    pub batch: BytesMut,
    pub acks: Acks,
    /// Longest wait for replicas.
    pub timeout: Duration,
    /// The offset that its first record gets, if it is to be appended at all.
    pub expected_offset: Option<Offset>,
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    pub base_offset: Offset,
    /// The timestamp its records were given, on topics that do so.
    pub log_append_time: Option<Timestamp>,
    pub log_start_offset: Offset,
}

/// Positions to read from.
#[derive(Debug, Clone)]
pub struct FetchCall {
    pub partitions: Vec<FetchPartition>,
    /// All partitions together; 0 answers at once.
    pub min_bytes: usize,
    /// All partitions together; the first batch found is answered even if it is larger.
    pub max_bytes: usize,
    pub max_wait: Duration,
    pub isolation: IsolationLevel,
    /// Where the reader is: replicas there are preferred. Empty: read from leaders.
    pub rack: String,
}

#[derive(Debug, Clone)]
pub struct FetchPartition {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    /// First record wanted; may lie within a batch, which is then answered whole.
    pub offset: Offset,
    pub max_bytes: usize,
    /// [`LeaderEpoch::NONE`]: any.
    pub current_leader_epoch: LeaderEpoch,
}

#[derive(Debug, Clone)]
pub struct FetchedPartition {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    pub result: Result<Fetched, Error>,
}

#[derive(Debug, Clone)]
pub struct Fetched {
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// Whole batches back to back, one or more in each element, in order.
    pub batches: Vec<Bytes>,
}

/// Which offset is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    Earliest,
    Latest,
    MaxTimestamp,
    /// First record that is not older.
    Timestamp(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    pub offset: Offset,
    /// Of the record found; [`Timestamp::NONE`] for the ends of the log.
    pub timestamp: Timestamp,
    /// [`LeaderEpoch::NONE`]: not known.
    pub leader_epoch: LeaderEpoch,
}
