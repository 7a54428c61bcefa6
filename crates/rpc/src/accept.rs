//! Connections as they come in: how many there may be, and how they end when the server does.
//!
//! An accept that fails (out of file descriptors, a peer that is gone again) never ends the loop; it pauses it, because such an
//! error is there again at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::transport::server::Connected;

/// Pause after a failed accept: long enough not to burn a processor, short enough not to be felt.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What the connections of one server share.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    /// True once connections that are still open shall break off.
    closing: watch::Receiver<bool>,
}

impl Gate {
    /// At most `connections_max` connections; beyond that, new ones wait in the listener's backlog.
    pub(crate) fn new(connections_max: usize, closing: watch::Receiver<bool>) -> Self {
        let places = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), closing }
    }

    /// The connections of `incoming` that are let in.
    pub(crate) fn admit<I, IO>(
        self,
        incoming: I,
    ) -> impl Stream<Item = io::Result<Connection<IO>>> + Send
    where
        I: Stream<Item = io::Result<IO>> + Send + Unpin + 'static,
        IO: Send + 'static,
    {
        futures_util::stream::unfold((self, incoming), |(gate, mut incoming)| async move {
            let place = Arc::clone(&gate.places).acquire_owned().await.ok()?;
            loop {
                match incoming.next().await? {
                    Ok(io) => {
                        let connection = Connection::new(io, place, gate.closing.clone());
                        return Some((Ok(connection), (gate, incoming)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection");
                        tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                    }
                }
            }
        })
    }
}

/// One admitted connection.
pub(crate) struct Connection<IO> {
    io: IO,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: OwnedSemaphorePermit,
}

impl<IO> Connection<IO> {
    fn new(io: IO, place: OwnedSemaphorePermit, mut closing: watch::Receiver<bool>) -> Self {
        let closing = Box::pin(async move {
            // A server that is gone without a word (its sender dropped) ends its connections as well.
            let _ = closing.wait_for(|closing| *closing).await;
        });
        Self { io, closing, _place: place }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Every connection is always being read, so this one place is enough to break it off.
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: Connected> Connected for Connection<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> IO::ConnectInfo {
        self.io.connect_info()
    }
}
