//! Memory for large request messages, one budget for all calls of a server.
//!
//! A message is collected before it is decoded, so every call could hold one of the largest size. Its bytes are counted while they come in,
//! from 16 KiB on, and until the next message of the stream begins or the call ends. One message may have half of what is left: large
//! ones are refused first, and small ones go on. Refused means that the call ends with an error that says so; as everywhere in this
//! stack, the caller learns at once that it should slow down.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use thalweg_types::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::{Answer, CallService, body};
use crate::error::Error;

/// Messages up to here are not counted: nearly all but large produce requests.
const UNCOUNTED_BYTES_MAX: usize = 16 * 1024;

/// In front of each message: whether it is compressed, and its length in four bytes.
const PREFIX_BYTES: usize = 5;

/// Shared by all connections of a server.
#[derive(Debug, Clone)]
pub struct IntakeLayer {
    bytes: Arc<Semaphore>,
}

/// Counts the messages that come to the service below.
#[derive(Debug, Clone)]
pub struct Intake<S> {
    inner: S,
    layer: IntakeLayer,
}

/// What the call's present message has of the budget. The request and the answer of a call hold it together: a single message is worked
/// on after all of the request has been read.
type Held = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// A request's body whose messages are counted.
struct Counted {
    inner: Body,
    layer: IntakeLayer,
    held: Held,
    messages: Messages,
    is_refused: bool,
}

/// Follows where messages begin and end in the bytes of a stream.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the present prefix that are here.
    prefix_bytes: usize,
    /// Bytes of the present message that are not here yet.
    missing_bytes: usize,
    /// Bytes of it that are here, prefix included.
    bytes: usize,
    /// All bytes of the messages that ended last, which may still be worked on.
    finished_bytes: usize,
}

impl IntakeLayer {
    /// `bytes_max` is at most 4 GiB; values outside are brought inside.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.clamp(4 * UNCOUNTED_BYTES_MAX, u32::MAX as usize);
        Self { bytes: Arc::new(Semaphore::new(bytes_max)) }
    }

    /// Lets `held` be what a message of so many bytes has to hold, if there is room for it.
    fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let wanted = if bytes <= UNCOUNTED_BYTES_MAX { 0 } else { bytes };
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted <= has {
            if wanted == 0 {
                *held = None;
            } else if let Some(permit) = held {
                drop(permit.split(has - wanted));
            }
            return true;
        }
        let more = wanted - has;
        if wanted > (self.bytes.available_permits() + has) / 2 {
            return false;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        match (Arc::clone(&self.bytes).try_acquire_many_owned(more), held) {
            (Ok(more), Some(permit)) => permit.merge(more),
            (Ok(more), held @ None) => *held = Some(more),
            (Err(_), _) => return false,
        }
        true
    }
}

impl Messages {
    /// Takes note of what came; returns how many bytes are to be held now: of the message that is coming in, and of those that were
    /// finished last, unless this began with a new one.
    fn came(&mut self, mut data: &[u8]) -> usize {
        let mut finished_bytes = 0;
        if self.bytes == 0 {
            self.finished_bytes = 0;
        }
        while !data.is_empty() {
            let taken = if self.prefix_bytes < PREFIX_BYTES {
                let taken = (PREFIX_BYTES - self.prefix_bytes).min(data.len());
                for (place, byte) in self.prefix.iter_mut().skip(self.prefix_bytes).zip(data) {
                    *place = *byte;
                }
                self.prefix_bytes += taken;
                if self.prefix_bytes == PREFIX_BYTES {
                    let [_, length @ ..] = self.prefix;
                    self.missing_bytes = u32::from_be_bytes(length) as usize;
                }
                taken
            } else {
                let taken = self.missing_bytes.min(data.len());
                self.missing_bytes -= taken;
                taken
            };
            data = data.get(taken..).unwrap_or_default();
            self.bytes += taken;
            if self.prefix_bytes == PREFIX_BYTES && self.missing_bytes == 0 {
                finished_bytes += std::mem::take(&mut self.bytes);
                self.finished_bytes = finished_bytes;
                self.prefix_bytes = 0;
            }
        }
        self.finished_bytes + self.bytes
    }
}

impl<S> Layer<S> for IntakeLayer {
    type Service = Intake<S>;

    fn layer(&self, inner: S) -> Intake<S> {
        Intake { inner, layer: self.clone() }
    }
}

impl<S: CallService> Service<Request<Body>> for Intake<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let held = Held::default();
        let request = request.map(|inner| {
            Body::new(Counted {
                inner,
                layer: self.layer.clone(),
                held: Arc::clone(&held),
                messages: Messages::default(),
                is_refused: false,
            })
        });
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(body::guard(answer.await?, held)) })
    }
}

impl body::Guard for Held {}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_refused {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = self.messages.came(data);
            let is_held = self.layer.hold(&mut self.held.lock(), bytes);
            if !is_held {
                self.is_refused = true;
                return Poll::Ready(Some(Err(refusal(bytes))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_refused || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn refusal(bytes: usize) -> Status {
    let message = format!(
        "the server has no memory for a message of {bytes} bytes and more beside those of other calls"
    );
    Error::new(ErrorCode::ThrottlingQuotaExceeded, message).not_applied().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        [&[0][..], &length, &vec![7; bytes]].concat()
    }

    #[test]
    fn bytes_are_held_for_a_message_however_it_is_cut_and_let_go_with_the_next() {
        for cut in [1, 2, 3, 5, 7, 1000, 9999] {
            let mut messages = Messages::default();
            let stream = [message(10_000), message(0), message(30)].concat();
            let mut most = 0;
            for piece in stream.chunks(cut) {
                most = most.max(messages.came(piece));
            }
            assert!((10_005..=10_010 + cut).contains(&most), "{cut}: {most}");
            assert_eq!(messages.came(&message(1)), 6, "{cut}");
            assert_eq!((messages.bytes, messages.prefix_bytes), (0, 0), "{cut}");
        }
    }

    #[test]
    fn a_stream_whose_frames_never_end_with_a_message_does_not_add_up() {
        let stream = message(1000).repeat(1000);
        let mut messages = Messages::default();
        for piece in stream.chunks(1500) {
            assert!(messages.came(piece) <= 3015);
        }
    }

    #[test]
    fn a_message_may_have_half_of_what_is_left_and_small_ones_are_free() {
        let layer = IntakeLayer::new(400 * KIB);
        let (mut first, mut second, mut small) = (None, None, None);
        assert!(!layer.hold(&mut first, 201 * KIB));
        assert!(layer.hold(&mut first, 100 * KIB));
        assert!(layer.hold(&mut first, 200 * KIB));
        assert!(!layer.hold(&mut first, 201 * KIB));
        assert!(layer.hold(&mut second, 100 * KIB));
        assert!(!layer.hold(&mut second, 101 * KIB));
        assert!(layer.hold(&mut small, UNCOUNTED_BYTES_MAX));
        assert!(small.is_none());

        assert!(layer.hold(&mut first, 20 * KIB));
        assert_eq!(layer.bytes.available_permits(), 280 * KIB);
        drop((first, second));
        assert_eq!(layer.bytes.available_permits(), 400 * KIB);
    }
}
