//! The operations listener: plain HTTP for Prometheus, load balancers and people.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | every figure, in the OpenMetrics text format |
//! | `/healthz` | 200 while the process runs at all |
//! | `/readyz` | 200 when every condition of readiness holds, else 503; one line per condition with its reason |

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::readiness::Readiness;
use crate::registry::Registry;

/// What the text format is called (OpenMetrics 1.0).
const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long open requests may take after a shutdown was asked for; none of ours takes longer than a moment.
const DRAIN: Duration = Duration::from_secs(1);

/// A running listener. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct OpsHandle {
    local_address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

#[derive(Debug, Clone)]
struct Shared {
    registry: Arc<Registry>,
    readiness: Readiness,
}

/// Listens on `address` (port 0: any free one).
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    registry: Arc<Registry>,
    readiness: Readiness,
) -> io::Result<OpsHandle> {
    let listener = TcpListener::bind(address).await?;
    let local_address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(Shared { registry, readiness });
    let (stop, mut stopped) = watch::channel(false);
    let until_stopped = async move {
        // An error means that the handle is gone, which stops us too.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let task = tokio::spawn(
        axum::serve(listener, router).with_graceful_shutdown(until_stopped).into_future(),
    );
    Ok(OpsHandle { local_address, stop, task })
}

impl OpsHandle {
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Stops listening, gives open requests a moment to end, then cuts them off.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(DRAIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match shared.registry.encode() {
        Ok(body) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let report = shared.readiness.report();
    let ready = report.iter().all(|(_, outcome)| outcome.is_ok());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = String::from(if ready { "ready\n" } else { "not ready\n" });
    for (name, outcome) in report {
        match outcome {
            Ok(()) => body.extend(["ok      ", name, "\n"]),
            Err(reason) => body.extend(["waiting ", name, ": ", &reason, "\n"]),
        }
    }
    (status, body).into_response()
}
