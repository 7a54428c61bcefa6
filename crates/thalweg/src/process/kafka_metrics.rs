//! The Kafka listener's plain counters, as metrics, read when somebody asks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use thalweg_kafka::listener::Counters;

/// Names what a listener has counted.
#[derive(Debug)]
pub(super) struct KafkaMetrics(pub(super) Arc<Counters>);

impl Collector for KafkaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counted = self.0.snapshot();
        let open = i64::try_from(counted.connections_open).unwrap_or(i64::MAX);
        let gauge = ConstGauge::new(open);
        let help = "Kafka connections open";
        gauge.encode(encoder.encode_descriptor(
            "kafka_connections_open",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        for (name, help, unit, count) in [
            ("connections_opened", "Kafka connections accepted", None, counted.connections_opened),
            (
                "connections_refused",
                "Kafka connections closed because there were too many",
                None,
                counted.connections_refused,
            ),
            (
                "connections_idle",
                "Kafka connections closed for making no progress",
                None,
                counted.connections_idle,
            ),
            ("accept_errors", "Failures to accept a Kafka connection", None, counted.accept_errors),
            (
                "requests_malformed",
                "Kafka requests that could not be decoded",
                None,
                counted.requests_malformed,
            ),
            (
                "requests_unsupported",
                "Kafka requests of a call or version that is not served",
                None,
                counted.requests_unsupported,
            ),
            (
                "responses_failed",
                "Kafka answers that could not be encoded",
                None,
                counted.responses_failed,
            ),
            ("received", "Bytes received from Kafka clients", Some(Unit::Bytes), counted.bytes_in),
            ("sent", "Bytes sent to Kafka clients", Some(Unit::Bytes), counted.bytes_out),
        ] {
            let name = format!("kafka_{name}");
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(
                &name,
                help,
                unit.as_ref(),
                MetricType::Counter,
            )?)?;
        }
        let help = "Kafka requests, by call";
        let mut family =
            encoder.encode_descriptor("kafka_requests", help, None, MetricType::Counter)?;
        for (call, count) in counted.requests {
            let labels = [("call", format!("{call:?}"))];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
