//! Answers are compressed only for callers that compress their own requests.
//!
//! Many gRPC libraries announce that they understand gzip without anybody having asked for it, and records are often compressed
//! already: compressing whatever a caller could read would cost every fetch seconds of processor time per gigabyte.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::CallService;

#[derive(Debug, Clone, Copy)]
pub struct MirrorLayer;

/// Hides from the service below that a caller who does not compress could read compressed answers.
#[derive(Debug, Clone)]
pub struct Mirror<S> {
    inner: S,
}

impl<S> Layer<S> for MirrorLayer {
    type Service = Mirror<S>;

    fn layer(&self, inner: S) -> Mirror<S> {
        Mirror { inner }
    }
}

impl<S: CallService> Service<Request<Body>> for Mirror<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        if !compresses(request.headers()) {
            request.headers_mut().remove("grpc-accept-encoding");
        }
        self.inner.call(request)
    }
}

fn compresses(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity")
}
