//! What is promised of the cluster in containers, tried from outside: brought up, loaded over both protocols through the one address, broken,
//! scaled, restarted service by service, taken down and brought up again; and the judgement of what the clients were told and saw.

use std::fmt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::checker::{Verdict, check};
use crate::client::Client;
use crate::containers::{Containers, docker};
use crate::load::crowd::{Crowd, Target};
use crate::process::finish;

const TOPIC: &str = "contained";

/// Longer than brokers may be silent.
const AWAY: Duration = Duration::from_secs(12);

/// A container that was killed comes back after this time.
const DEAD: Duration = Duration::from_secs(1);

/// What is done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    KillBroker,
    /// All its processes stand still, and go on later.
    PauseBroker,
    /// Its network is taken away, and given back.
    DisconnectBroker,
    KillController,
    KillGateway,
    /// Three brokers become five, and partitions are spread over them.
    ScaleUp,
    /// Two are emptied and taken away.
    ScaleDown,
    /// Every container, one after the other.
    RollingRestart,
    /// All containers are removed and made again on the same volumes. Clients are unserved meanwhile.
    DownAndUp,
}

impl Step {
    pub const ALL: [Self; 9] = [
        Self::KillBroker,
        Self::PauseBroker,
        Self::DisconnectBroker,
        Self::KillController,
        Self::KillGateway,
        Self::ScaleUp,
        Self::ScaleDown,
        Self::RollingRestart,
        Self::DownAndUp,
    ];
}

/// What was seen.
#[derive(Debug)]
pub struct Report {
    /// Until a new cluster served.
    pub up: Duration,
    /// Each with how long it took until every producer had been acknowledged again.
    pub steps: Vec<(Step, Duration)>,
    pub verdict: Verdict,
    /// Clients that gave up, or that were given different records.
    pub complaints: Vec<String>,
}

/// Brings the project up, does all `steps` under load, reads everything.
///
/// # Panics
/// When a container does not come back, or a producer is not served any more.
pub fn container_run(containers: &Containers, client: Client, steps: &[Step]) -> Report {
    let up = containers.up(&[]);
    containers
        .thalweg(&["topic", "create", TOPIC, "--partitions", "3", "--replication-factor", "3"])
        .expect_success();
    let kafka = containers.kafka().to_string();
    let target = Target { client, kafka, grpc: containers.grpc() };
    let mut taken = Vec::new();
    let (history, complaints) = Crowd::new(TOPIC).under(&target, |crowd| {
        crowd.wait_for_all();
        for step in steps {
            let begun = Instant::now();
            take(containers, *step);
            crowd.wait_for_all();
            taken.push((*step, begun.elapsed()));
            eprintln!("{step:?}: {:.1} s", begun.elapsed().as_secs_f64());
        }
    });
    Report { up, steps: taken, verdict: check(&history), complaints }
}

fn take(containers: &Containers, step: Step) {
    match step {
        Step::KillBroker => kill_and_start(containers, "broker"),
        Step::KillController => kill_and_start(containers, "controller-1"),
        Step::KillGateway => kill_and_start(containers, "gateway"),
        Step::PauseBroker => {
            let broker = last(containers, "broker");
            docker(&["pause", &broker]);
            thread::sleep(AWAY);
            docker(&["unpause", &broker]);
            containers.wait_healthy(&broker);
        }
        Step::DisconnectBroker => {
            let broker = last(containers, "broker");
            containers.disconnect(&broker);
            thread::sleep(AWAY);
            containers.reconnect(&broker);
            containers.wait_healthy(&broker);
        }
        Step::ScaleUp => {
            containers.run_script("scale-brokers", &["5"]).expect_success();
        }
        Step::ScaleDown => {
            containers.run_script("scale-brokers", &["3"]).expect_success();
        }
        Step::RollingRestart => {
            containers.run_script("rolling-restart", &[]).expect_success();
        }
        Step::DownAndUp => {
            containers.down();
            containers.up(&[]);
        }
    }
}

fn kill_and_start(containers: &Containers, service: &str) {
    let container = last(containers, service);
    docker(&["kill", &container]);
    thread::sleep(DEAD);
    finish(Command::new("docker").args(["start", &container]), b"").expect_success();
    containers.wait_healthy(&container);
}

fn last(containers: &Containers, service: &str) -> String {
    containers.of(service).pop().unwrap_or_else(|| panic!("no container of {service} runs"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "up            {:.1} s", self.up.as_secs_f64())?;
        for (step, time) in &self.steps {
            writeln!(f, "step          {step:?}, served again after {:.1} s", time.as_secs_f64())?;
        }
        for complaint in &self.complaints {
            writeln!(f, "complaint     {complaint}")?;
        }
        write!(f, "{}", self.verdict)
    }
}
