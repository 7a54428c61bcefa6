//! The Consumer service: reading by position or as a member of a group, and keeping how far groups have read.

mod commit;
mod decode;
mod fetch;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod in_hand;
mod offsets;
mod stream;
mod subscribe;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::{Error, deadline_of};
use thalweg_types::{Offset, Timestamp};
use tonic::transport::server::TcpConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use crate::port::BrokerPort;
use crate::shared::Shared;

/// Implements `thalweg.consumer.v1.Consumer`.
pub(crate) struct ConsumerService<B>(pub(crate) Arc<Shared<B>>);

#[tonic::async_trait]
impl<B: BrokerPort> proto::consumer_server::Consumer for ConsumerService<B> {
    async fn fetch(
        &self,
        request: Request<proto::FetchRequest>,
    ) -> Result<Response<proto::FetchResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(fetch::fetch(&self.0, request.into_inner(), deadline).await?))
    }

    type FetchStreamStream = BoxStream<'static, Result<proto::FetchStreamResponse, Status>>;

    async fn fetch_stream(
        &self,
        request: Request<Streaming<proto::FetchStreamRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        let deadline = deadline_of(&request);
        let records = stream::records(Arc::clone(&self.0), request.into_inner(), deadline);
        Ok(Response::new(records))
    }

    async fn list_offsets(
        &self,
        request: Request<proto::ListOffsetsRequest>,
    ) -> Result<Response<proto::ListOffsetsResponse>, Status> {
        Ok(Response::new(offsets::list(&self.0, request.into_inner()).await?))
    }

    async fn commit(
        &self,
        request: Request<proto::CommitRequest>,
    ) -> Result<Response<proto::CommitResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(commit::commit(&self.0, request.into_inner(), deadline).await?))
    }

    async fn committed_offsets(
        &self,
        request: Request<proto::CommittedOffsetsRequest>,
    ) -> Result<Response<proto::CommittedOffsetsResponse>, Status> {
        let deadline = deadline_of(&request);
        Ok(Response::new(commit::committed(&self.0, request.into_inner(), deadline).await?))
    }

    type SubscribeStream = BoxStream<'static, Result<proto::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let deadline = deadline_of(&request);
        let address = request.extensions().get::<TcpConnectInfo>();
        let host =
            address.and_then(TcpConnectInfo::remote_addr).map(|address| address.ip().to_string());
        let records = subscribe::records(
            Arc::clone(&self.0),
            request.into_inner(),
            deadline,
            host.unwrap_or_default(),
        );
        Ok(Response::new(records))
    }
}

/// The time of the first record at or behind `from`; `None` if there is no record, or none with a time.
pub(crate) async fn first_timestamp(
    batches: Vec<Bytes>,
    from: Offset,
) -> Result<Option<Timestamp>, Error> {
    // A budget of one byte lets the first record through and nothing else.
    let decoded = decode::decode(decode::Form::Records, batches, from, 1).await?;
    let first = decoded.records.first().map(|record| Timestamp(record.timestamp_ms));
    Ok(first.filter(|timestamp| *timestamp != Timestamp::NONE))
}
