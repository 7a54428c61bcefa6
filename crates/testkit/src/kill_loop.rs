//! kill -9, again and again, under load from both protocols at once; and the judgement of what the clients were told and saw.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::checker::{Verdict, check};
use crate::client::Client;
use crate::dice::Dice;
use crate::load::crowd::{Crowd, Target};
use crate::server::Server;

/// Once every producer is served again, the kill comes within this time.
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
    let target = Target { client, kafka: server.kafka().to_string(), grpc: server.grpc() };
    let mut killer = Killer {
        random: Dice::new(seed),
        kills: 0,
        kills_while_starting: 0,
        recoveries: Vec::new(),
    };
    let (history, complaints) = Crowd::new(TOPIC).under(&target, |crowd| {
        for _ in 0..rounds {
            crowd.wait_for_all();
            killer.round(server);
        }
        crowd.wait_for_all();
    });
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

struct Killer {
    random: Dice,
    kills: usize,
    kills_while_starting: usize,
    recoveries: Vec<Duration>,
}

impl Killer {
    fn round(&mut self, server: &mut Server) {
        thread::sleep(self.random.milliseconds_below(KILL_WITHIN_MS));
        server.kill();
        self.kills += 1;
        while self.random.below(3) == 0 {
            // A crash while recovering from a crash.
            let within = self.random.milliseconds_below(START_KILL_WITHIN_MS);
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
        let milliseconds =
            |place: usize| self.recoveries.get(place).map_or(0, |duration| duration.as_millis());
        let longest = self.recoveries.len().saturating_sub(1);
        writeln!(f, "seed          {}", self.seed)?;
        writeln!(f, "kills         {} ({} while starting)", self.kills, self.kills_while_starting)?;
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
        write!(f, "{}", self.verdict)
    }
}
