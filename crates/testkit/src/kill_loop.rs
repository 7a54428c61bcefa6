//! kill -9, again and again, under load from both protocols at once; and the judgement of what the clients were told and saw.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::checker::{Kind, Verdict, check};
use crate::client::Client;
use crate::history::Place;
use crate::load::{Producer, Run, block_on, drain, kafka, stream, tail, unary};
use crate::server::Server;

/// Longest wait until every producer is acknowledged again.
const PATIENCE: Duration = Duration::from_secs(90);

/// Records that every producer gets acknowledged between two kills at least.
const ACKNOWLEDGED_MIN: u64 = 30;

/// After that, the kill comes within this time.
const KILL_WITHIN_MS: u64 = 400;

/// A start that is killed as well is killed within this time.
const START_KILL_WITHIN_MS: u64 = 300;

const TOPIC: &str = "killed";

/// What was seen.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub kills: usize,
    /// Of the kills, how many hit a server that was still starting.
    pub kills_while_starting: usize,
    /// From each start to its readiness, in order of length.
    pub recoveries: Vec<Duration>,
    pub verdict: Verdict,
    /// Clients that gave up, or that were given different records.
    pub complaints: Vec<String>,
}

/// Kills the server `rounds` times under load and restarts it on the same data and ports; the moments follow from the seed, as far as
/// clocks do. Partition 0 is written by librdkafka, 1 over gRPC, 2 by both.
///
/// # Panics
/// When the server does not come back, or a producer is not served any more.
pub fn kill_loop(server: &mut Server, client: Client, rounds: usize, seed: u64) -> Report {
    client.run(server.kafka(), "create", &[TOPIC, "3"]).expect_success();
    let run = Arc::new(Run::new());
    let place = |partition| Place { topic: TOPIC.to_owned(), partition };
    let by_kafka = [Producer::new(1, place(0)), Producer::new(2, place(2))];
    let by_stream = [Producer::new(3, place(1)), Producer::new(4, place(2))];
    let by_unary = [Producer::new(5, place(1))];
    let places = [place(0), place(1), place(2)];
    let (kafka, grpc) = (server.kafka(), server.grpc());
    let mut killer =
        Killer { random: seed, kills: 0, kills_while_starting: 0, recoveries: Vec::new() };
    thread::scope(|scope| {
        let run = &*run;
        // However the killing ends, the clients do.
        let _stop = StopOnDrop(run);
        for producer in &by_kafka {
            scope.spawn(move || kafka::produce(run, producer, client, kafka));
        }
        for producer in &by_stream {
            scope.spawn(move || block_on(stream::produce(run, producer, grpc)));
        }
        for producer in &by_unary {
            scope.spawn(move || block_on(unary::produce(run, producer, grpc)));
        }
        for place in &places {
            scope.spawn(move || block_on(tail::consume(run, place, grpc)));
        }
        let producers: Vec<_> = by_kafka.iter().chain(&by_stream).chain(&by_unary).collect();
        for _ in 0..rounds {
            wait_for_all(run, &producers);
            killer.round(server);
        }
        wait_for_all(run, &producers);
    });
    for place in &places {
        drain::drain(&run, place, client, kafka, grpc);
    }
    let run = Arc::into_inner(run).expect("all clients have ended");
    let (history, complaints) = run.into_parts();
    killer.recoveries.sort_unstable();
    Report {
        seed,
        kills: killer.kills,
        kills_while_starting: killer.kills_while_starting,
        recoveries: killer.recoveries,
        verdict: check(&history),
        complaints,
    }
}

struct StopOnDrop<'a>(&'a Run);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Every producer is served, and has been for a while.
fn wait_for_all(run: &Run, producers: &[&Producer]) {
    let before: Vec<u64> = producers.iter().map(|producer| producer.acknowledged()).collect();
    let deadline = Instant::now() + PATIENCE;
    for (producer, before) in producers.iter().zip(before) {
        while producer.acknowledged() < before + ACKNOWLEDGED_MIN {
            let complaints = run.complaints();
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

struct Killer {
    random: u64,
    kills: usize,
    kills_while_starting: usize,
    recoveries: Vec<Duration>,
}

impl Killer {
    fn below(&mut self, bound: u64) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn milliseconds_below(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    fn round(&mut self, server: &mut Server) {
        thread::sleep(self.milliseconds_below(KILL_WITHIN_MS));
        server.kill();
        self.kills += 1;
        while self.below(3) == 0 {
            // A crash while recovering from a crash.
            let within = self.milliseconds_below(START_KILL_WITHIN_MS);
            server.start_and_kill_after(within);
            self.kills += 1;
            self.kills_while_starting += 1;
        }
        self.recoveries.push(server.restart());
    }
}

impl Report {
    /// # Panics
    /// When anything was broken, or a client gave up.
    pub fn expect_sound(&self) {
        assert!(self.complaints.is_empty(), "seed {}: {}", self.seed, self.complaints.join("\n"));
        self.verdict.expect_sound();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        let count = |kinds: &[Kind]| verdict.count(kinds);
        let reordered = [Kind::SendOrder, Kind::RealTimeOrder, Kind::PollBack, Kind::PollSkip];
        let others = [
            Kind::InconsistentOffset,
            Kind::FailedRead,
            Kind::Phantom,
            Kind::StaleEnd,
            Kind::CrossTopic,
            Kind::Damaged,
        ];
        let milliseconds =
            |place: usize| self.recoveries.get(place).map_or(0, |duration| duration.as_millis());
        let longest = self.recoveries.len().saturating_sub(1);
        writeln!(f, "seed          {}", self.seed)?;
        writeln!(f, "kills         {} ({} while starting)", self.kills, self.kills_while_starting)?;
        writeln!(f, "acknowledged  {}", verdict.acknowledged)?;
        writeln!(f, "unknown       {} ({} applied)", verdict.unknown, verdict.unknown_applied)?;
        writeln!(f, "failed        {}", verdict.failed)?;
        writeln!(f, "drained       {} (the same over Kafka and gRPC)", verdict.drained)?;
        writeln!(f, "lost          {}", count(&[Kind::Lost]))?;
        writeln!(f, "duplicated    {}", count(&[Kind::Duplicate]))?;
        writeln!(f, "reordered     {}", count(&reordered))?;
        writeln!(f, "otherwise     {}", count(&others))?;
        writeln!(
            f,
            "recovery      median {} ms, longest {} ms, {} starts",
            milliseconds(self.recoveries.len() / 2),
            milliseconds(longest),
            self.recoveries.len()
        )?;
        for complaint in &self.complaints {
            writeln!(f, "complaint     {complaint}")?;
        }
        for violation in verdict.violations.iter().take(20) {
            writeln!(f, "{violation}")?;
        }
        Ok(())
    }
}
