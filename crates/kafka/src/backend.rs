//! What a listener needs from the service behind it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::api::ApiTable;
use crate::codec::KafkaString;
use crate::messages::{ApiKey, Request, Response};

/// Who asks what, and where. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestContext {
    pub api_key: ApiKey,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<KafkaString>,
    /// The client's program, once it has said so in a valid way (KIP-511).
    pub client_software: Option<ClientSoftware>,
    pub peer: SocketAddr,
    /// The address of this listener that the client has reached.
    pub listener: SocketAddr,
    /// Number of the connection, unique within the listener.
    pub connection: u64,
    /// When the last byte of the request had arrived.
    pub received_at: Instant,
}

/// Name and version of a client library, as it gives them itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    pub name: KafkaString,
    pub version: KafkaString,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    Response(Response),
    /// Nothing is sent: a produce request with acks = 0.
    None,
    /// The connection is closed, after the answers to earlier requests.
    Close,
}

impl<T: Into<Response>> From<T> for Reply {
    fn from(response: T) -> Self {
        Self::Response(response.into())
    }
}

/// What the cluster can do and what of it is switched on, as clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Name, lowest and highest level of each.
    pub supported: Vec<(&'static str, i16, i16)>,
    /// Raised whenever `finalized` may have changed; -1: not known.
    pub epoch: i64,
    /// Name and level of those that are on.
    pub finalized: Vec<(String, i16)>,
}

impl Default for Features {
    /// Nothing is known of any.
    fn default() -> Self {
        Self { supported: Vec::new(), epoch: -1, finalized: Vec::new() }
    }
}

pub trait Backend: Send + Sync + 'static {
    /// The calls this listener serves. ApiVersions itself is answered by the listener from this table.
    fn apis(&self) -> &ApiTable;

    /// What ApiVersions says of features (KIP-584). Those that have none leave it out.
    fn features(&self) -> Features {
        Features::default()
    }

    /// Whether answers have to wait for memory. The listener then closes clients that do not take theirs sooner than usual.
    fn is_short_of_memory(&self) -> bool {
        false
    }

    /// Answers one request. Requests of one connection are first polled in the order of their arrival, so whatever happens before the
    /// first `await` happens in that order; after it they overlap.
    fn handle(
        self: &Arc<Self>,
        context: RequestContext,
        request: Request,
    ) -> impl Future<Output = Reply> + Send;
}
