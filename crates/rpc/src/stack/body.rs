//! A response body with something that lives exactly as long as it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;

/// What is kept until the last frame of a response has been handed to the connection, or the connection gave up on it.
pub(super) trait Guard: Send + Unpin + 'static {
    /// The trailers pass by: the status of a call that got as far as a body.
    fn trailers(&mut self, _trailers: &HeaderMap) {}
}

/// Ties a guard to a response's body.
pub(super) fn guard(response: Response<Body>, guard: impl Guard) -> Response<Body> {
    response.map(|inner| Body::new(Guarded { inner, guard: Some(guard) }))
}

struct Guarded<G> {
    inner: Body,
    guard: Option<G>,
}

impl<G: Guard> http_body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(trailers), Some(guard)) = (frame.trailers_ref(), &mut self.guard) {
                    guard.trailers(trailers);
                    self.guard = None;
                }
            }
            Some(Err(_)) | None => self.guard = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
