//! From the name in a call's path to the service that answers it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use thalweg_types::ErrorCode;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

use crate::error::Error;

type GrpcService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Services by their full names, such as `thalweg.producer.v1.Producer`. A call for any other name is refused as unimplemented.
#[derive(Debug, Clone, Default)]
pub struct Routes(Arc<HashMap<&'static str, GrpcService>>);

impl Routes {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a generated service; a second one of the same name replaces the first.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Arc::make_mut(&mut self.0).insert(S::NAME, BoxCloneSyncService::new(service));
        self
    }

    /// Full names of the services, sorted.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.keys().copied().collect();
        names.sort_unstable();
        names
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.0.get(service_name(request.uri().path())) {
            Some(service) => service.clone().oneshot(request).boxed(),
            None => {
                let message = format!("no service at {}", request.uri().path());
                let error = Error::new(ErrorCode::UnsupportedVersion, message);
                std::future::ready(Ok(tonic::Status::from(error).into_http())).boxed()
            }
        }
    }
}

/// `package.Service` of `/package.Service/Method`.
fn service_name(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').map_or("", |(service, _method)| service)
}
