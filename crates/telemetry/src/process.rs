//! What the process uses of the machine, read when somebody asks.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::time::{ClockId, clock_gettime};

/// The figures Prometheus names `process_*`.
#[derive(Debug)]
pub(crate) struct Process {
    /// Seconds since the Unix epoch.
    started_seconds: f64,
}

impl Process {
    pub(crate) fn starting_now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started_seconds: now.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut write = |name: &str, help: &str, metric: &dyn ErasedMetric| {
            metric.write(&mut encoder, name, help)
        };
        write(
            "process_cpu_seconds",
            "Processor time used, user and system, in seconds",
            &ConstCounter::new(cpu_seconds()),
        )?;
        write(
            "process_start_time_seconds",
            "When the process started, in seconds since the Unix epoch",
            &ConstGauge::new(self.started_seconds),
        )?;
        if let Some(bytes) = memory_bytes("VmRSS:") {
            write(
                "process_resident_memory_bytes",
                "Memory resident in RAM",
                &ConstGauge::new(bytes),
            )?;
        }
        if let Some(bytes) = memory_bytes("VmSize:") {
            write("process_virtual_memory_bytes", "Address space", &ConstGauge::new(bytes))?;
        }
        if let Some(count) = open_files() {
            write("process_open_fds", "Open file descriptors", &ConstGauge::new(count))?;
        }
        if let Some(count) = open_files_max() {
            write("process_max_fds", "Most file descriptors allowed", &ConstGauge::new(count))?;
        }
        Ok(())
    }
}

/// One shape for counters and gauges of any number type.
trait ErasedMetric {
    fn write(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
    ) -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> ErasedMetric for M {
    fn write(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
    ) -> Result<(), fmt::Error> {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds beyond 2^53 do not matter here")]
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// A figure of /proc/self/status, which gives KiB.
fn memory_bytes(name: &str) -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

/// Counting opens one descriptor itself, which is not counted.
fn open_files() -> Option<i64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count.saturating_sub(1)).ok()
}

fn open_files_max() -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
