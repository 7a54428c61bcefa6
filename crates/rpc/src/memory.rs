//! A listener that is not on the network: services in one process talk over pipes, with the same code on both sides.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::limits::MEMORY_PIPE_BYTES;

/// Connections opened but not yet accepted. The accept loop does nothing else, so a few are plenty.
const BACKLOG_MAX: usize = 16;

/// The calling side: opens connections to one [`MemoryIncoming`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryConnector(mpsc::Sender<DuplexStream>);

/// The serving side: the stream of connections that were opened. Ends when no connector is left.
#[derive(Debug)]
pub struct MemoryIncoming(mpsc::Receiver<DuplexStream>);

/// Both sides of a new in-memory listener.
pub fn memory_listener() -> (MemoryConnector, MemoryIncoming) {
    let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
    (MemoryConnector(sender), MemoryIncoming(receiver))
}

impl MemoryConnector {
    /// Opens a connection; an error when the server is gone.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(MEMORY_PIPE_BYTES);
        match self.0.send(far).await {
            Ok(()) => Ok(near),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

impl Stream for MemoryIncoming {
    type Item = io::Result<DuplexStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}
