//! Channels: the calling side, with the same tuning as the server's.

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HEADER_LIST_BYTES_MAX,
    KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, STREAM_WINDOW_BYTES,
};
use crate::memory::MemoryConnector;
use crate::simulation;

/// The address is not one a channel can be opened to.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint:?} is not an address like host:port: {reason}")]
pub struct InvalidEndpoint {
    pub endpoint: String,
    pub reason: String,
}

/// A channel to `host:port` or `http://host:port`, connected at the first call and again after every loss. Must be called within a
/// tokio runtime.
pub fn channel(endpoint: &str) -> Result<Channel, InvalidEndpoint> {
    let invalid = |reason: String| InvalidEndpoint { endpoint: endpoint.to_owned(), reason };
    let text = match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    };
    let uri: Uri = text.parse().map_err(|error| invalid(format!("{error}")))?;
    if uri.scheme_str() != Some("http") {
        return Err(invalid("only http is supported".to_owned()));
    }
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(invalid("host and port are needed".to_owned()));
    }
    let endpoint = tuned(Endpoint::from(uri));
    let Some(dial) = simulation::dial() else { return Ok(endpoint.connect_lazy()) };
    let connect = service_fn(move |uri: Uri| {
        let dialing = dial(uri.authority().map(ToString::to_string).unwrap_or_default());
        async move { dialing.await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connect))
}

/// A channel to a server in this process. Must be called within a tokio runtime.
pub fn channel_in_memory(connector: MemoryConnector) -> Channel {
    let connect = service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move { connector.connect().await.map(TokioIo::new) }
    });
    // The address is never resolved; requests only need some authority.
    tuned(Endpoint::from_static("http://memory")).connect_with_connector_lazy(connect)
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}
