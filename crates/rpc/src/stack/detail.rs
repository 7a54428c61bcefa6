//! Gives our typed detail to errors that the gRPC library makes itself: an undecodable, oversized or unknown message never reaches
//! a service, and its caller should still learn code and outcome the same way as always.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt as _};

use super::{Answer, CallService, refusal};
use crate::error::Error;

#[derive(Debug, Clone, Copy)]
pub struct DetailLayer;

/// Adds details to errors of the service below.
#[derive(Debug, Clone)]
pub struct Detailed<S> {
    inner: S,
}

impl<S> Layer<S> for DetailLayer {
    type Service = Detailed<S>;

    fn layer(&self, inner: S) -> Detailed<S> {
        Detailed { inner }
    }
}

impl<S: CallService> Service<Request<Body>> for Detailed<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let inner = self.inner.clone();
        Box::pin(async move {
            let response = inner.oneshot(request).await?;
            Ok(match library_error(&response) {
                Some(error) => refusal(error),
                None => response,
            })
        })
    }
}

/// The error behind an answer that consists of nothing else and carries no detail, if the library refused the request.
fn library_error(response: &Response<Body>) -> Option<Error> {
    if !response.headers().contains_key("grpc-status") {
        return None;
    }
    let status = Status::from_header_map(response.headers())?;
    Error::refused_by_library(&status)
}
