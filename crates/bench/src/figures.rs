//! What a run moved, how long it took and what it cost the server.

use std::fmt;
use std::time::{Duration, Instant};

/// Ticks of the kernel's CPU accounting in a second: fixed at 100 on Linux, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one or several connections moved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    /// Bytes of batches, as they are on the wire and in the log.
    pub(crate) bytes: u64,
    /// For each batch sent: microseconds from before the send to after its answer.
    pub(crate) answered_us: Vec<u32>,
}

/// Runs from the creation to [`end`](Meter::end).
pub(crate) struct Meter {
    server_pid: Option<u32>,
    server_cpu_seconds: Option<f64>,
    started: Instant,
}

#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// With the times sorted.
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu_seconds: Option<f64>,
    /// Memory of the server that is resident at the end.
    pub(crate) server_resident_bytes: Option<u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.answered_us.extend(other.answered_us);
    }
}

impl Meter {
    pub(crate) fn start(server_pid: Option<u32>) -> Self {
        let server_cpu_seconds = server_pid.and_then(cpu_seconds);
        Self { server_pid, server_cpu_seconds, started: Instant::now() }
    }

    pub(crate) fn end(self, mut tally: Tally) -> Figures {
        let elapsed = self.started.elapsed();
        let now = self.server_pid.and_then(cpu_seconds);
        let server_cpu_seconds =
            now.zip(self.server_cpu_seconds).map(|(after, before)| after - before);
        let server_resident_bytes = self.server_pid.and_then(resident_bytes);
        tally.answered_us.sort_unstable();
        Figures { tally, elapsed, server_cpu_seconds, server_resident_bytes }
    }
}

impl Figures {
    /// 10^6 bytes of batches a second.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.tally.bytes as f64 / 1e6 / self.elapsed.as_secs_f64().max(1e-6)
    }

    /// Processor time of the server for each 10^9 bytes of batches.
    pub(crate) fn cpu_seconds_per_gigabyte(&self) -> Option<f64> {
        let gigabytes = (self.tally.bytes as f64 / 1e9).max(1e-9);
        self.server_cpu_seconds.map(|seconds| seconds / gigabytes)
    }

    /// Milliseconds that this share of all answers took at most.
    pub(crate) fn answered_ms(&self, share: f64) -> Option<f64> {
        let times = &self.tally.answered_us;
        let rank = (times.len() as f64 * share).ceil() as usize;
        times.get(rank.saturating_sub(1)).map(|time_us| f64::from(*time_us) / 1e3)
    }
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> Option<f64> {
    parse_cpu_seconds(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 14 and 15 of the kernel's line; counted after the program's name, which may hold anything.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

/// Resident memory of a process, without files' pages that it has mapped.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some((kib("RssAnon:")? + kib("RssShmem:")?) * 1024)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records, {:.1} MB in {:.2} s = {:.1} MB/s",
            self.tally.records,
            self.tally.bytes as f64 / 1e6,
            self.elapsed.as_secs_f64(),
            self.megabytes_per_second()
        )?;
        if let Some((half, most)) = self.answered_ms(0.5).zip(self.answered_ms(0.99)) {
            write!(f, "; answered in {half:.2} ms (p99 {most:.2})")?;
        }
        if let Some((cpu, per_gigabyte)) =
            self.server_cpu_seconds.zip(self.cpu_seconds_per_gigabyte())
        {
            write!(f, "; server {cpu:.2} CPU s = {per_gigabyte:.2} CPU s/GB")?;
        }
        if let Some(bytes) = self.server_resident_bytes {
            write!(f, ", {:.0} MiB resident", bytes as f64 / f64::from(1 << 20))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_program_name() {
        let line = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 1 0";
        assert_eq!(parse_cpu_seconds(line), Some(4.0));
        assert_eq!(parse_cpu_seconds("42 (a) S 1"), None);
    }

    #[test]
    fn a_process_has_resident_memory_and_one_that_is_gone_has_none() {
        assert!(resident_bytes(std::process::id()).expect("this process is there") > 0);
        assert_eq!(resident_bytes(u32::MAX), None);
    }

    #[test]
    fn figures_say_rate_and_cost() {
        let tally =
            Tally { records: 10, bytes: 2_000_000_000, answered_us: vec![1000, 2000, 9000] };
        let figures = Figures {
            tally,
            elapsed: Duration::from_secs(4),
            server_cpu_seconds: Some(1.0),
            server_resident_bytes: Some(30 << 20),
        };
        let expected = "10 records, 2000.0 MB in 4.00 s = 500.0 MB/s; answered in 2.00 ms (p99 9.00); \
                        server 1.00 CPU s = 0.50 CPU s/GB, 30 MiB resident";
        assert_eq!(figures.to_string(), expected);
    }
}
