//! The Kafka listener of a process, whatever is behind it.

use std::sync::Arc;
use std::time::Duration;

use thalweg_broker::{Broker, KafkaBackend};
use thalweg_kafka::Backend;
use thalweg_kafka::listener::{Bound, ListenerHandle, ListenerOptions};
use thalweg_metadata_core::Endpoint;
use thalweg_settings::Kafka;

use super::error::StartError;
use super::kafka_metrics::KafkaMetrics;
use super::machine::Machine;

/// What the listener of a broker alone is served by.
pub(super) fn backend(broker: &Arc<Broker>, machine: &Machine) -> KafkaBackend {
    KafkaBackend::new(Arc::clone(broker), Arc::clone(&machine.random))
}

pub(super) fn serve(
    kafka: &Kafka,
    bound: Bound,
    backend: impl Backend,
    machine: &Machine,
) -> Result<ListenerHandle, StartError> {
    let options = ListenerOptions {
        runtimes: kafka.runtimes,
        frame_bytes_max: kafka.frame_bytes_max,
        in_flight_max: kafka.in_flight_max,
        request_bytes_max: kafka.request_bytes_max,
        unsent_bytes_max: kafka.unsent_bytes_max,
        connections_max: kafka.connections_max,
        connections_per_ip_max: kafka.connections_per_ip_max,
        idle_timeout: Duration::from_millis(kafka.idle_timeout_ms),
        ..ListenerOptions::new(bound.local_addr())
    };
    let handle = bound.start(options, Arc::new(backend))?;
    let metrics = KafkaMetrics(handle.counters());
    machine.registry.register(|registry| registry.register_collector(Box::new(metrics)));
    Ok(handle)
}

/// Where clients are told to connect to.
pub(super) fn endpoint(kafka: &Kafka, bound: &Bound) -> Endpoint {
    let port = match kafka.advertised_port {
        0 => bound.local_addr().port(),
        port => port,
    };
    Endpoint { listener: Endpoint::KAFKA.to_owned(), host: kafka.advertised_host.clone(), port }
}
