//! The broker's figures. Every handle is resolved once, here; the hot path only adds to atomics.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use thalweg_storage::DiskSpace;
use thalweg_types::ErrorCode;

/// Cheap to clone: all clones count into the same cells.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) batches_in: Counter,
    pub(crate) records_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) fetches: Counter,
    pub(crate) produce_seconds: Histogram,
    pub(crate) partitions: Gauge,
    pub(crate) leaders: Gauge,
    pub(crate) log_dir_failed: Gauge,
    pub(crate) disk_full: Gauge,
    pub(crate) damaged_places: Gauge,
    pub(crate) disk_available_bytes: Gauge,
    pub(crate) disk_reserve_bytes: Gauge,
    refused: Family<CodeLabel, Counter>,
    unacknowledged: Counter,
    recompressed_batches: Counter,
    recompressed_bytes: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Code(ErrorCode);

impl Metrics {
    /// Makes the figures and names them in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            batches_in: Counter::default(),
            records_in: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            fetches: Counter::default(),
            // 64 us to 8 s: from one flush of a good disk to the producers' patience.
            produce_seconds: Histogram::new(exponential_buckets(64e-6, 2.0, 18)),
            partitions: Gauge::default(),
            leaders: Gauge::default(),
            log_dir_failed: Gauge::default(),
            disk_full: Gauge::default(),
            damaged_places: Gauge::default(),
            disk_available_bytes: Gauge::default(),
            disk_reserve_bytes: Gauge::default(),
            refused: Family::default(),
            unacknowledged: Counter::default(),
            recompressed_batches: Counter::default(),
            recompressed_bytes: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("broker");
        registry.register("batches_in", "Record batches appended", metrics.batches_in.clone());
        registry.register("records_in", "Records appended", metrics.records_in.clone());
        registry.register_with_unit(
            "in",
            "Bytes of batches appended, compressed as they came",
            Unit::Bytes,
            metrics.bytes_in.clone(),
        );
        registry.register_with_unit(
            "out",
            "Bytes of batches handed to readers",
            Unit::Bytes,
            metrics.bytes_out.clone(),
        );
        registry.register("fetches", "Fetches answered", metrics.fetches.clone());
        registry.register_with_unit(
            "produce",
            "Time from a batch's append to its acknowledgement",
            Unit::Seconds,
            metrics.produce_seconds.clone(),
        );
        registry.register("partitions", "Partition replicas hosted", metrics.partitions.clone());
        registry.register("leaders", "Partitions led", metrics.leaders.clone());
        registry.register(
            "log_dir_failed",
            "1 after a failed write or flush; nothing is acknowledged any more",
            metrics.log_dir_failed.clone(),
        );
        registry.register(
            "damaged_places",
            "Places in segments that readers found damaged and that are not served",
            metrics.damaged_places.clone(),
        );
        registry.register(
            "disk_full",
            "1 while the disk has less left than the reserve; records and new topics are refused",
            metrics.disk_full.clone(),
        );
        registry.register_with_unit(
            "disk_available",
            "What is left of the log directory's file system",
            Unit::Bytes,
            metrics.disk_available_bytes.clone(),
        );
        registry.register_with_unit(
            "disk_reserve",
            "What is kept free of the log directory's file system",
            Unit::Bytes,
            metrics.disk_reserve_bytes.clone(),
        );
        registry.register(
            "refused_batches",
            "Batches refused, by error code; nothing of them was appended",
            metrics.refused.clone(),
        );
        registry.register(
            "unacknowledged_batches",
            "Batches appended but not acknowledged in time",
            metrics.unacknowledged.clone(),
        );
        registry.register(
            "recompressed_batches",
            "Batches compressed anew, because the topic's compression.type is not the producer's",
            metrics.recompressed_batches.clone(),
        );
        registry.register_with_unit(
            "recompressed",
            "Uncompressed bytes of batches compressed anew",
            Unit::Bytes,
            metrics.recompressed_bytes.clone(),
        );
        metrics
    }

    pub(crate) fn recompressed(&self, uncompressed_bytes: usize) {
        self.recompressed_batches.inc();
        self.recompressed_bytes.inc_by(uncompressed_bytes as u64);
    }

    /// Takes over what was last measured of the disk.
    pub(crate) fn disk(&self, space: DiskSpace) {
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.disk_full.set(i64::from(space.is_low));
        self.disk_available_bytes.set(bytes(space.available_bytes));
        self.disk_reserve_bytes.set(bytes(space.reserve_bytes));
    }

    pub(crate) fn refused(&self, code: ErrorCode) {
        self.refused.get_or_create(&CodeLabel { code: Code(code) }).inc();
    }

    pub(crate) fn unacknowledged(&self) {
        self.unacknowledged.inc();
    }
}

impl EncodeLabelValue for Code {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        self.0.name().encode(encoder)
    }
}
