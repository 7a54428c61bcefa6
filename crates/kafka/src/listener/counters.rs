//! What a listener counts, as plain numbers; services turn them into metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::messages::ApiKey;

/// Api keys are below this: Kafka's highest is 92.
const API_KEYS_MAX: usize = 128;

/// Counts since the start, except `connections_open`. All updates are relaxed: the numbers are for people.
#[derive(Debug)]
pub struct Counters {
    pub connections_opened: AtomicU64,
    /// At this moment.
    pub connections_open: AtomicU64,
    /// Closed at once, because there were too many.
    pub connections_refused: AtomicU64,
    /// Closed for making no progress.
    pub connections_idle: AtomicU64,
    /// Failures to accept at all, such as too many open files.
    pub accept_errors: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    /// Frames of a forbidden length and requests that do not decode.
    pub requests_malformed: AtomicU64,
    /// Requests with an api key or version that is not served.
    pub requests_unsupported: AtomicU64,
    /// Answers that could not be said in the version of the request: faults of ours.
    pub responses_failed: AtomicU64,
    requests: [AtomicU64; API_KEYS_MAX],
}

/// The numbers of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountersSnapshot {
    pub connections_opened: u64,
    pub connections_open: u64,
    pub connections_refused: u64,
    pub connections_idle: u64,
    pub accept_errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub requests_malformed: u64,
    pub requests_unsupported: u64,
    pub responses_failed: u64,
    /// By call, without those that never came.
    pub requests: Vec<(ApiKey, u64)>,
}

/// Counts one open connection for as long as it lives.
#[derive(Debug)]
pub(super) struct OpenConnection(Arc<Counters>);

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            connections_opened: zero(),
            connections_open: zero(),
            connections_refused: zero(),
            connections_idle: zero(),
            accept_errors: zero(),
            bytes_in: zero(),
            bytes_out: zero(),
            requests_malformed: zero(),
            requests_unsupported: zero(),
            responses_failed: zero(),
            requests: std::array::from_fn(|_| zero()),
        }
    }
}

impl Counters {
    /// Well-formed requests of one call.
    pub fn requests(&self, key: ApiKey) -> u64 {
        self.of(key).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub fn snapshot(&self) -> CountersSnapshot {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let requests = ApiKey::ALL.iter().map(|key| (*key, self.requests(*key)));
        CountersSnapshot {
            connections_opened: read(&self.connections_opened),
            connections_open: read(&self.connections_open),
            connections_refused: read(&self.connections_refused),
            connections_idle: read(&self.connections_idle),
            accept_errors: read(&self.accept_errors),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            requests_malformed: read(&self.requests_malformed),
            requests_unsupported: read(&self.requests_unsupported),
            responses_failed: read(&self.responses_failed),
            requests: requests.filter(|(_, count)| *count > 0).collect(),
        }
    }

    pub(super) fn request(&self, key: ApiKey) {
        if let Some(count) = self.of(key) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one of `max` places; `None`, counted, when all are taken.
    pub(super) fn open_connection(self: &Arc<Self>, max: usize) -> Option<OpenConnection> {
        let open = OpenConnection(Arc::clone(self));
        if self.connections_open.fetch_add(1, Ordering::Relaxed) >= max as u64 {
            self.connections_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.connections_opened.fetch_add(1, Ordering::Relaxed);
        Some(open)
    }

    /// The connection counted as open is not let in after all.
    pub(super) fn refused(&self, open: OpenConnection) {
        self.connections_opened.fetch_sub(1, Ordering::Relaxed);
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
        drop(open);
    }

    fn of(&self, key: ApiKey) -> Option<&AtomicU64> {
        self.requests.get(usize::try_from(key as i16).ok()?)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
