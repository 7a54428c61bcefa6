//! The broker as gateways call it: gRPC between nodes, translated.
//!
//! The rules are those of the Kafka listener: the same checks, the same admission, the same bound of answers not taken. A gateway keeps one
//! stream of appends to each broker; what it needs beyond the calls themselves is that batches of a partition keep their order when they
//! have to be sent again, which [`append`] gives it.

mod append;
mod configs;
mod fetch;
mod records;
mod replicas;
mod words;

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_proto::internal::broker::v1::broker_server::BrokerServer;
use thalweg_rpc::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX};
use thalweg_types::{LeaderEpoch, LogIndex};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use crate::broker::{Broker, TopicRef};
use crate::error::FetchError;
use crate::fetch::{FetchMemory, list_offset};

/// Implements `thalweg.internal.broker.v1.Broker`. Clones share the memory for answers.
#[derive(Debug, Clone)]
pub struct InternalService {
    broker: Arc<Broker>,
    memory: Arc<FetchMemory>,
    /// True once streams shall come to an end.
    closing: watch::Receiver<bool>,
}

/// Brings the streams of an [`InternalService`] to an end, before its listener is shut down; so does dropping it.
#[derive(Debug)]
pub struct InternalStreams(watch::Sender<bool>);

impl InternalService {
    /// The service, to be mounted on the listener between nodes, and what ends its streams.
    pub fn new(broker: Arc<Broker>) -> (BrokerServer<Self>, InternalStreams) {
        let memory = Arc::new(FetchMemory::new(broker.options().fetch_memory_bytes_max));
        let (close, closing) = watch::channel(false);
        let server = BrokerServer::new(Self { broker, memory, closing })
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        (server, InternalStreams(close))
    }
}

impl InternalStreams {
    /// Asks gateways to send nothing more; their streams end when what they sent has been answered.
    pub fn close(&self) {
        self.0.send_replace(true);
    }
}

#[tonic::async_trait]
impl proto::broker_server::Broker for InternalService {
    type AppendStream = BoxStream<'static, Result<proto::AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let broker = Arc::clone(&self.broker);
        let answers = append::answers(broker, request.into_inner(), self.closing.clone());
        Ok(Response::new(answers.boxed()))
    }

    type FetchStream = BoxStream<'static, Result<proto::FetchResponse, Status>>;

    async fn fetch(
        &self,
        request: Request<proto::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let wanted = fetch::wanted(&self.broker, request.into_inner())?;
        let pieces = fetch::pieces(Arc::clone(&self.broker), Arc::clone(&self.memory), wanted);
        Ok(Response::new(pieces.boxed()))
    }

    async fn describe_log(
        &self,
        request: Request<proto::DescribeLogRequest>,
    ) -> Result<Response<proto::DescribeLogResponse>, Status> {
        let request = request.into_inner();
        let at = words::partition(&request.topic, request.partition)?;
        let standing = match self.broker.partition(&TopicRef::Name(&request.topic), at.partition) {
            Ok(found) => found.standing().map_err(FetchError::from),
            Err(unknown) => Err(unknown.into()),
        };
        let standing = standing.map_err(|error| words::unreadable(&self.broker, &error, &at))?;
        Ok(Response::new(words::log_standing(standing)))
    }

    async fn find_offset(
        &self,
        request: Request<proto::FindOffsetRequest>,
    ) -> Result<Response<proto::FindOffsetResponse>, Status> {
        let request = request.into_inner();
        let at = words::partition(&request.topic, request.partition)?;
        let query = words::offset_query(&request)?;
        let isolation = words::isolation_level(request.isolation_level)?;
        let reader_epoch = request.leader_epoch.map_or(LeaderEpoch::NONE, LeaderEpoch);
        let found = match self.broker.partition(&TopicRef::Name(&request.topic), at.partition) {
            Ok(found) => list_offset(&found, query, isolation, reader_epoch).await,
            Err(unknown) => Err(unknown.into()),
        };
        let found = found.map_err(|error| words::unreadable(&self.broker, &error, &at))?;
        Ok(Response::new(words::found_offset(found)))
    }

    async fn find_epoch_ends(
        &self,
        request: Request<proto::FindEpochEndsRequest>,
    ) -> Result<Response<proto::FindEpochEndsResponse>, Status> {
        Ok(Response::new(records::epoch_ends(&self.broker, request.into_inner())?))
    }

    async fn delete_records(
        &self,
        request: Request<proto::DeleteRecordsRequest>,
    ) -> Result<Response<proto::DeleteRecordsResponse>, Status> {
        Ok(Response::new(records::delete(&self.broker, request.into_inner()).await?))
    }

    async fn describe_configs(
        &self,
        request: Request<proto::DescribeConfigsRequest>,
    ) -> Result<Response<proto::DescribeConfigsResponse>, Status> {
        Ok(Response::new(configs::describe(&self.broker, request.into_inner())?))
    }

    async fn init_producer(
        &self,
        _: Request<proto::InitProducerRequest>,
    ) -> Result<Response<proto::InitProducerResponse>, Status> {
        let producer_id = self.broker.new_producer_id().await?;
        let answer = proto::InitProducerResponse { producer_id: producer_id.0, producer_epoch: 0 };
        Ok(Response::new(answer))
    }

    async fn describe_replicas(
        &self,
        request: Request<proto::DescribeReplicasRequest>,
    ) -> Result<Response<proto::DescribeReplicasResponse>, Status> {
        Ok(Response::new(replicas::describe(&self.broker, request.into_inner()).await?))
    }

    async fn await_metadata(
        &self,
        request: Request<proto::AwaitMetadataRequest>,
    ) -> Result<Response<proto::AwaitMetadataResponse>, Status> {
        self.broker.served(LogIndex(request.into_inner().index)).await;
        let index = self.broker.served_index().0;
        Ok(Response::new(proto::AwaitMetadataResponse { index }))
    }
}
