//! The coordinator's figures, read when somebody asks.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::coordinator::Coordinator;

/// Names what a coordinator has counted, as long as it lives.
pub struct Metrics(Weak<Coordinator>);

#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) partitions: usize,
    pub(crate) loading: usize,
    pub(crate) loads: u64,
    pub(crate) loads_failed: u64,
    pub(crate) loaded_ms: u64,
    pub(crate) loaded_records: u64,
    pub(crate) appends: u64,
    pub(crate) checks: u64,
    pub(crate) dropped: u64,
    pub(crate) groups: u64,
    pub(crate) members: u64,
    pub(crate) offsets: u64,
    pub(crate) rebalances: u64,
    pub(crate) records: u64,
}

impl Metrics {
    pub fn new(coordinator: &Arc<Coordinator>) -> Self {
        Self(Arc::downgrade(coordinator))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").finish()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(coordinator) = self.0.upgrade() else { return Ok(()) };
        let now = coordinator.snapshot();
        for (name, help, count) in [
            (
                "partitions",
                "Partitions of internal topics that this node coordinates",
                now.partitions as u64,
            ),
            ("partitions_loading", "Those of them that are being loaded", now.loading as u64),
            ("groups", "Groups with members, now or before, of these partitions", now.groups),
            ("members", "Members of them", now.members),
            ("offsets", "Offsets committed in these partitions", now.offsets),
            ("rebalances", "Rebalances in these partitions since each was loaded", now.rebalances),
            ("records", "Records decided since each was taken over", now.records),
        ] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            let name = format!("coordinator_{name}");
            gauge.encode(encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, count) in [
            ("loads", "Loads of a partition that were begun", now.loads),
            ("loads_failed", "Loads that did not get to their end", now.loads_failed),
            ("load_milliseconds", "Time that loads took which got to their end", now.loaded_ms),
            ("loaded_records", "Records that were replayed by them", now.loaded_records),
            ("appends", "Batches appended on a condition, fences included", now.appends),
            ("checks", "Checks that a partition is still this node's", now.checks),
            ("dropped", "Times that what was not committed had to be thrown away", now.dropped),
        ] {
            let name = format!("coordinator_{name}");
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(&name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
