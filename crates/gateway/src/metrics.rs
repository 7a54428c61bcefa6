//! The gateway's figures.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;
use thalweg_rpc::CallObserver;
use thalweg_telemetry::Registry;
use tonic::Code;

use crate::groups::figures::Figures;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    method: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: String,
}

/// Handles of the gateway's metrics.
#[derive(Debug)]
pub struct Metrics {
    calls_in_flight: Gauge,
    calls: Family<Ended, Counter>,
    call_seconds: Family<Method, Histogram>,
    pub(crate) produced_records: Counter,
    pub(crate) produced_bytes: Counter,
    pub(crate) fetched_bytes: Counter,
    pub(crate) lag: Figures,
}

impl Metrics {
    /// Makes the handles and names them in `registry`.
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self::default();
        registry.register(|registry| {
            let registry = registry.sub_registry_with_prefix("gateway");
            registry.register(
                "calls_in_flight",
                "gRPC calls and streams being served",
                metrics.calls_in_flight.clone(),
            );
            registry.register(
                "calls",
                "gRPC calls and streams that ended, by method and gRPC code",
                metrics.calls.clone(),
            );
            registry.register_with_unit(
                "call_duration",
                "Life of a call or stream, by method",
                Unit::Seconds,
                metrics.call_seconds.clone(),
            );
            registry.register(
                "produced_records",
                "Records handed to brokers",
                metrics.produced_records.clone(),
            );
            registry.register_with_unit(
                "produced",
                "Batches handed to brokers",
                Unit::Bytes,
                metrics.produced_bytes.clone(),
            );
            registry.register_with_unit(
                "fetched",
                "Batches received from brokers for consumers",
                Unit::Bytes,
                metrics.fetched_bytes.clone(),
            );
            metrics.lag.register(registry);
        });
        metrics
    }
}

impl Default for Metrics {
    /// Handles that no registry shows.
    fn default() -> Self {
        Self {
            calls_in_flight: Gauge::default(),
            calls: Family::default(),
            // From half a millisecond to 16 seconds, each bucket twice the one before.
            call_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.0005, 2.0, 16))
            }),
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            fetched_bytes: Counter::default(),
            lag: Figures::default(),
        }
    }
}

impl CallObserver for Metrics {
    fn started(&self) {
        self.calls_in_flight.inc();
    }

    fn finished(&self, method: &str, code: Code, elapsed: Duration) {
        self.calls_in_flight.dec();
        let method = method.strip_prefix('/').unwrap_or(method).to_owned();
        self.calls.get_or_create(&Ended { method: method.clone(), code: code_name(code) }).inc();
        self.call_seconds.get_or_create(&Method { method }).observe(elapsed.as_secs_f64());
    }
}

/// As the gRPC specification spells them.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
