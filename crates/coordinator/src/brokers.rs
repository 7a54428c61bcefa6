//! Connections to brokers, by node: made when they are needed, dropped when the metadata names another address.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use thalweg_metadata_core::{Endpoint, Image};
use thalweg_proto::internal::broker::v1::broker_client::BrokerClient;
use thalweg_rpc::{Error, MESSAGE_BYTES_MAX, channel};
use thalweg_types::{ErrorCode, NodeId};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

pub(crate) type Client = BrokerClient<Channel>;

/// Longest time for one broker to answer what it answers from memory.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The brokers of the cluster.
#[derive(Debug)]
pub struct Brokers {
    /// The one broker of this process, whatever its address.
    local: Option<Channel>,
    known: Mutex<HashMap<NodeId, Known>>,
}

#[derive(Debug)]
struct Known {
    endpoint: String,
    client: Client,
}

impl Brokers {
    /// Reached at the addresses that the metadata says.
    pub fn remote() -> Self {
        Self { local: None, known: Mutex::default() }
    }

    /// One broker, behind a channel that leads straight to it.
    pub fn local(channel: Channel) -> Self {
        Self { local: Some(channel), known: Mutex::default() }
    }

    /// A connection to a broker, and what tells it from another one to the same node.
    pub(crate) fn client(&self, image: &Image, id: NodeId) -> Result<(String, Client), Error> {
        if let Some(channel) = &self.local {
            return Ok((String::new(), client(channel.clone())));
        }
        let endpoint = internal_endpoint(image, id)?;
        let mut known = self.known.lock();
        known.retain(|id, _| image.node(*id).is_some());
        if let Some(known) = known.get(&id).filter(|known| known.endpoint == endpoint) {
            return Ok((endpoint, known.client.clone()));
        }
        let channel = channel(&endpoint).map_err(|invalid| unavailable(invalid.to_string()))?;
        let client = client(channel);
        known.insert(id, Known { endpoint: endpoint.clone(), client: client.clone() });
        Ok((endpoint, client))
    }

    /// Asks one broker after the other, or only the one named, until one answers.
    pub(crate) async fn ask_any<T>(
        &self,
        image: &Image,
        only: Option<NodeId>,
        ask: impl Fn(Client) -> BoxFuture<'static, Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        let brokers: Vec<NodeId> = match only {
            Some(id) => vec![id],
            None => image.live_brokers().map(|node| node.id).collect(),
        };
        let mut error = unavailable("no broker lives at present");
        for id in brokers {
            let answer = match self.client(image, id) {
                Ok((_, client)) => timeout(ANSWER_TIME_MAX, ask(client)).await,
                Err(unreachable) => {
                    error = unreachable;
                    continue;
                }
            };
            error = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::timed_out(ANSWER_TIME_MAX),
            };
        }
        Err(error)
    }
}

fn client(channel: Channel) -> Client {
    BrokerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn internal_endpoint(image: &Image, id: NodeId) -> Result<String, Error> {
    let node = image.node(id).ok_or_else(|| unavailable(format!("node {id} is not registered")))?;
    let endpoint = node
        .endpoint(Endpoint::INTERNAL)
        .ok_or_else(|| unavailable(format!("node {id} has no address for other nodes")))?;
    Ok(match endpoint.host.contains(':') {
        true => format!("[{}]:{}", endpoint.host, endpoint.port),
        false => format!("{}:{}", endpoint.host, endpoint.port),
    })
}

/// Who was asked cannot be reached at present; surely nothing was applied.
pub(crate) fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::BrokerNotAvailable, message).not_applied()
}
