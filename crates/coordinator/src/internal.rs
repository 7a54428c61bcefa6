//! What gateways ask: Kafka's own messages, within gRPC.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thalweg_group_core::Client;
use thalweg_kafka::{ApiKey, Reader, Request as KafkaRequest, Writer};
use thalweg_proto::internal::coordinator::v1 as proto;
use thalweg_proto::internal::coordinator::v1::coordinator_server::CoordinatorServer;
use thalweg_rpc::{Error, MESSAGE_BYTES_MAX};
use thalweg_types::ErrorCode;
use tonic::{Request, Response, Status};

use crate::coordinator::Coordinator;
use crate::kafka::{GROUP_APIS, answer};

/// Implements `thalweg.internal.coordinator.v1.Coordinator`.
pub struct InternalService {
    coordinator: Arc<Coordinator>,
}

impl InternalService {
    /// The service, to be mounted on the listener between nodes.
    pub fn new(coordinator: Arc<Coordinator>) -> CoordinatorServer<Self> {
        CoordinatorServer::new(Self { coordinator })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl proto::coordinator_server::Coordinator for InternalService {
    async fn call(
        &self,
        request: Request<proto::CallRequest>,
    ) -> Result<Response<proto::CallResponse>, Status> {
        let proto::CallRequest { api_key, api_version, client_id, client_host, body } =
            request.into_inner();
        let (version, request) = decode(api_key, api_version, body)?;
        let client = Client { id: client_id.into(), host: client_host.into() };
        let response = answer(&self.coordinator, &client, version, request)
            .await
            .ok_or_else(|| Error::invalid_request(format!("call {api_key} is not about groups")))?;
        let mut writer = Writer::new();
        response.encode(version, &mut writer).map_err(|error| {
            Error::new(ErrorCode::UnknownServerError, format!("the answer: {error}"))
        })?;
        let body = writer.finish().to_bytes();
        Ok(Response::new(proto::CallResponse { body }))
    }
}

fn decode(api_key: i32, version: i32, body: Bytes) -> Result<(i16, KafkaRequest), Error> {
    let key = i16::try_from(api_key).ok().and_then(ApiKey::from_code);
    let key = key.filter(|key| GROUP_APIS.contains(key));
    let (Some(key), Ok(version)) = (key, i16::try_from(version)) else {
        let message = format!("call {api_key} in version {version} is not for coordinators");
        return Err(Error::invalid_request(message));
    };
    let mut reader = Reader::new(BytesMut::from(body));
    let request = KafkaRequest::decode(key, version, &mut reader)
        .and_then(|request| reader.finish().map(|()| request))
        .map_err(|error| Error::invalid_request(format!("the request: {error}")))?;
    Ok((version, request))
}
