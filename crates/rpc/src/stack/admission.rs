//! At most so many calls at a time; the next one is refused at once.
//!
//! A call holds its place until the last frame of its answer, so streams count for as long as they live. Refusing beats queueing:
//! the caller learns within a round trip that it should slow down or go elsewhere, and the calls inside keep their speed.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use thalweg_types::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt as _};

use super::{Answer, CallService, HEALTH_PATH, body, refusal};
use crate::error::Error;

/// Shared by all connections of a server.
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    places: Arc<Semaphore>,
    calls_max: usize,
}

/// Admits calls to the service below.
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    layer: AdmissionLayer,
}

impl AdmissionLayer {
    /// `calls_max` is at least 1 and at most [`Semaphore::MAX_PERMITS`]; values outside are brought inside.
    pub fn new(calls_max: usize) -> Self {
        let calls_max = calls_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(calls_max)), calls_max }
    }

    fn refuse(&self) -> Response<Body> {
        let message = format!("the server is busy with {} calls, its limit", self.calls_max);
        refusal(Error::new(ErrorCode::ThrottlingQuotaExceeded, message).not_applied())
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission { inner, layer: self.clone() }
    }
}

impl<S: CallService> Service<Request<Body>> for Admission<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let inner = self.inner.clone();
        if request.uri().path().starts_with(HEALTH_PATH) {
            return Box::pin(inner.oneshot(request));
        }
        match Arc::clone(&self.layer.places).try_acquire_owned() {
            Ok(place) => {
                Box::pin(async move { Ok(body::guard(inner.oneshot(request).await?, place)) })
            }
            Err(_) => Box::pin(std::future::ready(Ok(self.layer.refuse()))),
        }
    }
}

impl body::Guard for OwnedSemaphorePermit {}
