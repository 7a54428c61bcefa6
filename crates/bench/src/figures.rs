//! What a run moved, how long it took and what it cost the server.

use std::fmt;
use std::time::{Duration, Instant};

/// Ticks of the kernel's CPU accounting in a second: fixed at 100 on Linux, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Runs from the creation to [`end`](Meter::end).
pub(crate) struct Meter {
    server_pid: Option<u32>,
    server_cpu_seconds: Option<f64>,
    started: Instant,
}

pub(crate) struct Figures {
    records: u64,
    /// Bytes of batches, as they are on the wire and in the log.
    bytes: u64,
    elapsed: Duration,
    server_cpu_seconds: Option<f64>,
}

impl Meter {
    pub(crate) fn start(server_pid: Option<u32>) -> Self {
        let server_cpu_seconds = server_pid.and_then(cpu_seconds);
        Self { server_pid, server_cpu_seconds, started: Instant::now() }
    }

    pub(crate) fn end(self, records: u64, bytes: u64) -> Figures {
        let elapsed = self.started.elapsed();
        let now = self.server_pid.and_then(cpu_seconds);
        let server_cpu_seconds =
            now.zip(self.server_cpu_seconds).map(|(after, before)| after - before);
        Figures { records, bytes, elapsed, server_cpu_seconds }
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

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64().max(1e-6);
        let megabytes = self.bytes as f64 / 1e6;
        write!(
            f,
            "{} records, {megabytes:.1} MB in {seconds:.2} s = {:.1} MB/s",
            self.records,
            megabytes / seconds
        )?;
        if let Some(cpu) = self.server_cpu_seconds {
            write!(
                f,
                "; server {cpu:.2} CPU s = {:.2} CPU s/GB",
                cpu / (megabytes / 1e3).max(1e-9)
            )?;
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
    fn figures_say_rate_and_cost() {
        let figures = Figures {
            records: 10,
            bytes: 2_000_000_000,
            elapsed: Duration::from_secs(4),
            server_cpu_seconds: Some(1.0),
        };
        let expected =
            "10 records, 2000.0 MB in 4.00 s = 500.0 MB/s; server 1.00 CPU s = 0.50 CPU s/GB";
        assert_eq!(figures.to_string(), expected);
    }
}
