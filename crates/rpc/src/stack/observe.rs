//! Sees every call begin and end: a tracing span around it, and counts for whoever asks.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::Code;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service, ServiceExt as _};
use tracing::{Instrument as _, Span};

use super::{Answer, CallService, body};

/// Stands for every method that does not exist: callers can invent any number of names.
const UNKNOWN_METHOD: &str = "unknown";

/// Longest path shown in a span.
const PATH_CHARS_MAX: usize = 128;

/// Told about calls, for metrics. Called on the serving threads: must be quick.
pub trait CallObserver: Send + Sync + 'static {
    /// A call arrived. Each one is followed by one `finished`.
    fn started(&self);

    /// `method` is the full path, `/package.Service/Method`, or `unknown` for those that do not exist. A call whose caller went
    /// away before its end is `Cancelled`. `elapsed` of a stream is its whole life.
    fn finished(&self, method: &str, code: Code, elapsed: Duration);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoObserver;

impl CallObserver for NoObserver {
    fn started(&self) {}
    fn finished(&self, _: &str, _: Code, _: Duration) {}
}

#[derive(Clone)]
pub struct ObserveLayer {
    observer: Arc<dyn CallObserver>,
}

/// Watches the calls of the service below.
#[derive(Clone)]
pub struct Observed<S> {
    inner: S,
    observer: Arc<dyn CallObserver>,
}

impl ObserveLayer {
    pub fn new(observer: Arc<dyn CallObserver>) -> Self {
        Self { observer }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observer: Arc::clone(&self.observer) }
    }
}

impl<S: CallService> Service<Request<Body>> for Observed<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let mut call = Call::begin(&request, Arc::clone(&self.observer));
        let inner = self.inner.clone();
        let span = call.span.clone();
        Box::pin(
            async move {
                let response = inner.oneshot(request).await?;
                call.head(response.headers());
                Ok(body::guard(response, call))
            }
            .instrument(span),
        )
    }
}

/// One call on its way; reports when it is dropped.
struct Call {
    observer: Arc<dyn CallObserver>,
    method: String,
    started: Instant,
    span: Span,
    /// `None` until the answer's status is known.
    code: Option<Code>,
}

impl Call {
    fn begin(request: &Request<Body>, observer: Arc<dyn CallObserver>) -> Self {
        observer.started();
        let method = request.uri().path();
        let span = tracing::debug_span!(
            "grpc",
            method = %method.chars().take(PATH_CHARS_MAX).collect::<String>().escape_debug(),
            peer = tracing::field::Empty,
        );
        let peer =
            request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        if let Some(peer) = peer {
            span.record("peer", tracing::field::display(peer));
        }
        Self { observer, method: method.to_owned(), started: Instant::now(), span, code: None }
    }

    /// Answers without a body have their status in the head.
    fn head(&mut self, headers: &HeaderMap) {
        self.code = grpc_status(headers);
    }
}

impl body::Guard for Call {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code = grpc_status(trailers);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let method = if code == Code::Unimplemented { UNKNOWN_METHOD } else { &self.method };
        let elapsed = self.started.elapsed();
        self.observer.finished(method, code, elapsed);
        let _inside = self.span.enter();
        match code {
            Code::Internal | Code::Unknown | Code::DataLoss => {
                tracing::warn!(?code, ?elapsed, "call failed");
            }
            _ => tracing::debug!(?code, ?elapsed, "call ended"),
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}
