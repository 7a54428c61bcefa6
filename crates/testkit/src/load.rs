//! Load from several kinds of clients at once, each of which writes down what it did and was told.
//!
//! | client | sends | after a break |
//! |---|---|---|
//! | [`kafka`] | librdkafka, idempotent, acks=all | retries by itself |
//! | [`stream`] | gRPC ProduceStream with a producer id and numbers | sends what was not answered again, in order |
//! | [`unary`] | gRPC Produce, unique values | never sends anything twice: the answer, or its absence, stands |
//! | [`tail`] | reads over gRPC what the others write | goes on where it was |

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::history::{Clock, End, History, Outcome, Place, Reading, Send, Value};

pub(crate) mod crowd;
pub(crate) mod drain;
pub(crate) mod kafka;
pub(crate) mod stream;
pub(crate) mod tail;
pub(crate) mod unary;

/// How often a producer sends, so that a run of minutes stays readable in the end.
pub(crate) const PACE: Duration = Duration::from_millis(15);

/// Records of one send.
pub(crate) const GROUP: u64 = 12;

/// How long a client that was told to stop waits for the answers it still expects.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) clock: Clock,
    stopped: AtomicBool,
    history: Mutex<History>,
    /// What clients had to give up on, which none of them should.
    complaints: Mutex<Vec<String>>,
}

/// One producer as the others see it.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) id: u32,
    pub(crate) place: Place,
    acknowledged: AtomicU64,
}

impl Run {
    pub(crate) fn new() -> Self {
        Self {
            clock: Clock::new(),
            stopped: AtomicBool::new(false),
            history: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    /// Asks the clients to end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn complain(&self, what: String) {
        self.complaints.lock().push(what);
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().clone()
    }

    /// `count` records from `first` on were sent together; an acknowledgement is that of the first one.
    pub(crate) fn sent(
        &self,
        producer: &Producer,
        (first, count): (u64, u64),
        begun: Duration,
        outcome: Outcome,
    ) {
        let ended = self.clock.now();
        let mut history = self.history.lock();
        for (number, ahead) in (first..first + count).zip(0..) {
            let value = producer.value(number);
            let outcome = match outcome {
                Outcome::Acknowledged(offset) => Outcome::Acknowledged(offset + ahead),
                other => other,
            };
            history.sends.push(Send { value, begun, ended, outcome });
        }
        drop(history);
        if matches!(outcome, Outcome::Acknowledged(_)) {
            producer.acknowledged.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self, reading: Reading) {
        self.history.lock().readings.push(reading);
    }

    pub(crate) fn drained(&self, drain: Reading) {
        self.history.lock().drains.push(drain);
    }

    pub(crate) fn ended(&self, end: End) {
        self.history.lock().ends.push(end);
    }

    pub(crate) fn into_parts(self) -> (History, Vec<String>) {
        (self.history.into_inner(), self.complaints.into_inner())
    }
}

impl Producer {
    pub(crate) fn new(id: u32, place: Place) -> Self {
        Self { id, place, acknowledged: AtomicU64::new(0) }
    }

    pub(crate) fn value(&self, number: u64) -> Value {
        Value { place: self.place.clone(), producer: self.id, number }
    }

    /// Records acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// Runs a client's asynchronous part on a thread of its own.
pub(crate) fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime of one thread").block_on(work);
}
