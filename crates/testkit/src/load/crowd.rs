//! All kinds of clients at once on one topic of three partitions: 0 is written by librdkafka, 1 over gRPC, 2 by both, each is read while it is
//! written, and in the end everything is read by fresh clients.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::{Producer, Run, block_on, drain, kafka, stream, tail, unary};
use crate::client::Client;
use crate::history::{History, Place};

/// Longest wait until every producer is acknowledged again.
const PATIENCE: Duration = Duration::from_secs(90);

/// Records that every producer gets acknowledged meanwhile at least.
const ACKNOWLEDGED_MIN: u64 = 30;

/// What the clients talk to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) client: Client,
    /// Addresses to begin with, comma-separated.
    pub(crate) kafka: String,
    pub(crate) grpc: SocketAddr,
}

/// The clients, and what they see.
#[derive(Debug)]
pub(crate) struct Crowd {
    run: Run,
    by_kafka: Vec<Producer>,
    by_stream: Vec<Producer>,
    by_unary: Vec<Producer>,
    places: Vec<Place>,
}

impl Crowd {
    pub(crate) fn new(topic: &str) -> Self {
        let place = |partition| Place { topic: topic.to_owned(), partition };
        Self {
            run: Run::new(),
            by_kafka: vec![Producer::new(1, place(0)), Producer::new(2, place(2))],
            by_stream: vec![Producer::new(3, place(1)), Producer::new(4, place(2))],
            by_unary: vec![Producer::new(5, place(1))],
            places: vec![place(0), place(1), place(2)],
        }
    }

    /// Lets the clients work while `ordeal` goes on, then reads everything; gives what they did and saw, and what they had to give up on.
    pub(crate) fn under(
        self,
        target: &Target,
        ordeal: impl FnOnce(&Self),
    ) -> (History, Vec<String>) {
        thread::scope(|scope| {
            let run = &self.run;
            // However the ordeal ends, the clients do.
            let _stop = StopOnDrop(run);
            for producer in &self.by_kafka {
                scope.spawn(move || kafka::produce(run, producer, target.client, &target.kafka));
            }
            for producer in &self.by_stream {
                scope.spawn(move || block_on(stream::produce(run, producer, target.grpc)));
            }
            for producer in &self.by_unary {
                scope.spawn(move || block_on(unary::produce(run, producer, target.grpc)));
            }
            for place in &self.places {
                scope.spawn(move || block_on(tail::consume(run, place, target.grpc)));
            }
            ordeal(&self);
        });
        for place in &self.places {
            drain::drain(&self.run, place, target.client, &target.kafka, target.grpc);
        }
        self.run.into_parts()
    }

    /// Waits until every producer is served, and has been for a while.
    ///
    /// # Panics
    /// When one gives up or is not.
    pub(crate) fn wait_for_all(&self) {
        let producers = || self.by_kafka.iter().chain(&self.by_stream).chain(&self.by_unary);
        let before: Vec<u64> = producers().map(Producer::acknowledged).collect();
        let deadline = Instant::now() + PATIENCE;
        for (producer, before) in producers().zip(before) {
            while producer.acknowledged() < before + ACKNOWLEDGED_MIN {
                let complaints = self.run.complaints();
                assert!(complaints.is_empty(), "a client gave up: {}", complaints.join("\n"));
                assert!(
                    Instant::now() < deadline,
                    "producer {} of {} gets no acknowledgements after its first {before}",
                    producer.id,
                    producer.place
                );
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

struct StopOnDrop<'a>(&'a Run);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
