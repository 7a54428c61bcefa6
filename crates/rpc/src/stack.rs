//! What every call passes on its way to a service, from the outside in:
//!
//! 1. [`observe`]: a span around everything below, so that refusals are seen and counted like answers;
//! 2. [`detail`]: errors the gRPC library makes itself get our typed detail;
//! 3. [`admission`]: at most so many calls at a time; the next one is refused at once instead of queueing (load shedding). A stream
//!    counts until its last message;
//! 4. [`deadline`]: the caller's `grpc-timeout`, capped. Inside admission, so that a refused call costs no timer;
//! 5. [`intake`]: memory for large messages of all calls is bounded. Inside admission and deadline, which end what holds it;
//! 6. [`mirror`]: answers are compressed as requests are;
//! 7. the routes to the services.
//!
//! No layer fails: each answers with a typed [`Error`] instead of calling the one below.

pub mod admission;
mod body;
pub mod deadline;
pub mod detail;
pub mod intake;
pub mod mirror;
pub mod observe;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::DATE;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tower::{Service, ServiceBuilder};

use crate::error::Error;
use crate::routes::Routes;
use crate::simulation;
use admission::AdmissionLayer;
use deadline::DeadlineLayer;
use detail::DetailLayer;
use intake::IntakeLayer;
use mirror::MirrorLayer;
use observe::{CallObserver, ObserveLayer};

/// Health checks are answered even by a server that refuses everything else, or it would be restarted for being busy.
const HEALTH_PATH: &str = "/grpc.health.v1.Health/";

/// The shape all layers and the routes have in common.
pub trait CallService:
    Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Future<Output = Result<Response<Body>, Infallible>> + Send,
    > + Clone
    + Send
    + 'static
{
}

impl<S> CallService for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Future<Output = Result<Response<Body>, Infallible>> + Send,
        > + Clone
        + Send
        + 'static
{
}

/// What a layer's call returns.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The limits of the stack.
#[derive(Debug, Clone)]
pub(crate) struct StackOptions {
    pub(crate) calls_max: usize,
    pub(crate) call_time_max: Duration,
    pub(crate) request_bytes_max: usize,
}

/// What an answer's date says in a simulation.
const SIMULATED_DATE: &str = "Sat, 01 Jan 2000 00:00:00 GMT";

/// The whole stack around the routes.
pub(crate) fn around(
    routes: Routes,
    options: &StackOptions,
    observer: Arc<dyn CallObserver>,
) -> impl CallService {
    // The HTTP library adds the date that the wall says unless there is one, and its length on the wire is not always the same.
    let is_simulated = simulation::dial().is_some();
    ServiceBuilder::new()
        .map_response(move |mut response: Response<Body>| {
            if is_simulated {
                response.headers_mut().insert(DATE, HeaderValue::from_static(SIMULATED_DATE));
            }
            response
        })
        .layer(ObserveLayer::new(observer))
        .layer(DetailLayer)
        .layer(AdmissionLayer::new(options.calls_max))
        .layer(DeadlineLayer::new(options.call_time_max))
        .layer(IntakeLayer::new(options.request_bytes_max))
        .layer(MirrorLayer)
        .service(routes)
}

/// An error as the whole answer to a call.
fn refusal(error: Error) -> Response<Body> {
    tonic::Status::from(error).into_http()
}

#[cfg(test)]
mod tests;
