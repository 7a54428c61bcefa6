//! A tuned server around the stack, on TCP or in memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::accept::Gate;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HEADER_LIST_BYTES_MAX, KEEP_ALIVE_INTERVAL,
    KEEP_ALIVE_TIMEOUT, PENDING_RESETS_MAX, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use crate::memory::{MemoryConnector, memory_listener};
use crate::routes::Routes;
use crate::stack::observe::{CallObserver, NoObserver};
use crate::stack::{self, StackOptions};

/// What a server allows.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Connections open at a time.
    pub connections_max: usize,
    /// Calls at work at a time on all connections together, streams included.
    pub calls_max: usize,
    /// Memory for request messages of more than a few kilobytes, of all calls together. One message may have half of what is left.
    pub request_bytes_max: usize,
    /// Longest time until an answer must have begun.
    pub call_time_max: Duration,
    /// How long a shutdown waits for calls to end before it breaks their connections off.
    pub drain_time_max: Duration,
}

/// A server about to be started.
pub struct Server {
    options: ServerOptions,
    observer: Arc<dyn CallObserver>,
}

/// A running server. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct ServerHandle {
    local_addr: Option<SocketAddr>,
    drain_time_max: Duration,
    close: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            calls_max: 8_192,
            // Eight of the largest messages at a time, or some thousand of the usual ones.
            request_bytes_max: 256 * 1024 * 1024,
            // The longest wait a request may ask for (five minutes) and some time to answer.
            call_time_max: Duration::from_secs(330),
            drain_time_max: Duration::from_secs(5),
        }
    }
}

impl Server {
    pub fn new(options: ServerOptions) -> Self {
        Self { options, observer: Arc::new(NoObserver) }
    }

    /// Who is told about calls.
    #[must_use]
    pub fn observer(self, observer: Arc<dyn CallObserver>) -> Self {
        Self { observer, ..self }
    }

    /// Binds `address` (port 0: any free one) and serves there. Must be called within a tokio runtime, which then does the work.
    pub fn serve(self, address: SocketAddr, routes: Routes) -> io::Result<ServerHandle> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        self.serve_on(TcpListener::from_std(listener)?, routes)
    }

    /// Serves on a listener that is already bound.
    pub fn serve_on(self, listener: TcpListener, routes: Routes) -> io::Result<ServerHandle> {
        let local_addr = listener.local_addr()?;
        // The builder's own switch for this is ignored with a listener of ours.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(self.run(incoming, Some(local_addr), routes))
    }

    /// Serves whatever connections come in, as in a simulation.
    pub fn serve_incoming<I, IO>(self, incoming: I, routes: Routes) -> ServerHandle
    where
        I: Stream<Item = io::Result<IO>> + Send + Unpin + 'static,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        self.run(incoming, None, routes)
    }

    /// Serves callers in this process; the connector makes channels ([`crate::channel_in_memory`]).
    pub fn serve_in_memory(self, routes: Routes) -> (ServerHandle, MemoryConnector) {
        let (connector, incoming) = memory_listener();
        (self.run(incoming, None, routes), connector)
    }

    fn run<I, IO>(self, incoming: I, local_addr: Option<SocketAddr>, routes: Routes) -> ServerHandle
    where
        I: Stream<Item = io::Result<IO>> + Send + Unpin + 'static,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let stack_options = StackOptions {
            calls_max: self.options.calls_max,
            call_time_max: self.options.call_time_max,
            request_bytes_max: self.options.request_bytes_max,
        };
        let service = stack::around(routes, &stack_options, self.observer);
        let (stop, mut stopped) = watch::channel(false);
        let (close, closing) = watch::channel(false);
        let incoming = Gate::new(self.options.connections_max, closing).admit(incoming);
        let task = tokio::spawn(async move {
            let signal = async move {
                // A dropped handle is a signal, too.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            let served = builder().serve_with_incoming_shutdown(service, incoming, signal).await;
            if let Err(error) = served {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
        ServerHandle { local_addr, drain_time_max: self.options.drain_time_max, close, stop, task }
    }
}

/// HTTP/2 as dependencies and limits ask for it.
fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

impl ServerHandle {
    /// Where it listens; `None` for a server in memory.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Stops accepting, lets calls finish for as long as the options allow, then breaks off what is left.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(self.drain_time_max, &mut self.task).await.is_err() {
            let _ = self.close.send(true);
            // Connections now fail at their next read; a second is ample.
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.task).await;
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.close.send(true);
    }
}
