//! The Producer service: requests to batches, batches to brokers, answers back.
//!
//! ```text
//! request ─► order (checked words) ─► topic known, or created if asked ─► plan (one batch per partition) ─► brokers ─► answer
//! ```

mod batches;
mod delivery;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod order;
mod stream;
mod topics;

use std::sync::Arc;

use futures_util::stream::BoxStream;
use thalweg_proto::producer::v1 as proto;
use thalweg_rpc::{Deadline, Error, deadline_of};
use tonic::{Request, Response, Status, Streaming};

use crate::port::BrokerPort;
use crate::shared::Shared;
use batches::Part;
use order::Order;

/// Implements `thalweg.producer.v1.Producer`.
pub(crate) struct ProducerService<B>(pub(crate) Arc<Shared<B>>);

/// A request turned into batches that can be handed to brokers.
struct Plan {
    order: Order,
    parts: Vec<Part>,
    /// The topic was created for this request: its brokers may not know it yet.
    topic_is_new: bool,
}

#[tonic::async_trait]
impl<B: BrokerPort> proto::producer_server::Producer for ProducerService<B> {
    async fn produce(
        &self,
        request: Request<proto::ProduceRequest>,
    ) -> Result<Response<proto::ProduceResponse>, Status> {
        let deadline = deadline_of(&request);
        let plan = plan(&self.0, request.into_inner(), deadline).await?;
        let answer = delivery::deliver(Arc::clone(&self.0), plan, deadline).await?;
        Ok(Response::new(answer))
    }

    type ProduceStreamStream = BoxStream<'static, Result<proto::ProduceStreamResponse, Status>>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<proto::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let deadline = deadline_of(&request);
        let answers = stream::answers(Arc::clone(&self.0), request.into_inner(), deadline);
        Ok(Response::new(answers))
    }

    async fn init_producer(
        &self,
        _: Request<proto::InitProducerRequest>,
    ) -> Result<Response<proto::InitProducerResponse>, Status> {
        let (producer_id, producer_epoch) = self.0.broker.init_producer().await?;
        Ok(Response::new(proto::InitProducerResponse {
            producer_id: producer_id.0,
            producer_epoch: producer_epoch.0.into(),
        }))
    }
}

/// Everything that comes before the first byte is handed over; an error here means nothing was applied.
async fn plan<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ProduceRequest,
    deadline: Deadline,
) -> Result<Plan, Error> {
    let (order, load) = order::check(request).map_err(Error::not_applied)?;
    let (partition_count, topic_is_new) =
        topics::partition_count(shared, &order, deadline).await.map_err(Error::not_applied)?;
    let parts =
        batches::build(shared, &order, load, partition_count).await.map_err(Error::not_applied)?;
    Ok(Plan { order, parts, topic_is_new })
}
