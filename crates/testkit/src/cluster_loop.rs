//! A cluster under load from both protocols, while its processes are killed, stopped in their tracks and cut off in turn; and the judgement
//! of what the clients were told and saw.
//!
//! Every trouble is over before the next one begins: what was killed is started again, what was stopped goes on, the network is whole, and
//! every producer has been acknowledged again. In the end everything is killed at once and started again, without anybody's help.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use thalweg_proto::admin::v1 as proto;
use thalweg_proto::admin::v1::admin_client::AdminClient;

use crate::checker::{Verdict, check};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::load::crowd::{Crowd, Target};
use crate::network::{Fault, Party};
use crate::process::finish;

const TOPIC: &str = "broken";

/// Its partitions.
const PARTITIONS: u64 = 3;

/// Once every producer is served again, the next trouble comes within this time.
const CALM_MS: u64 = 500;

/// How long a process that is not killed stays away: longer than brokers may be silent, and shorter.
const AWAY_MS: [u64; 3] = [1_000, 4_000, 6_000];

/// A process that was killed comes back within this time.
const DEAD_MS: u64 = 2_000;

/// Longest wait for a partition's leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// kill -9 of the broker that leads a partition.
    KillLeader,
    /// kill -9 of a broker that follows it.
    KillFollower,
    /// kill -9 of the active controller.
    KillController,
    /// SIGSTOP, and SIGCONT later.
    PauseLeader,
    PauseController,
    /// All its connections break; clients, too, have to connect again.
    CutLeader,
    /// Nothing gets through between it and all other processes; clients still reach it.
    IsolateLeader,
    /// The same for one way only: it hears nothing of anybody.
    DeafenFollower,
    KillGateway,
    /// kill -9 of all processes, one right after the other.
    KillAll,
}

impl Trouble {
    /// In this order, again and again.
    pub const ROTATION: [Self; 9] = [
        Self::KillLeader,
        Self::KillFollower,
        Self::KillController,
        Self::PauseLeader,
        Self::CutLeader,
        Self::IsolateLeader,
        Self::KillGateway,
        Self::DeafenFollower,
        Self::PauseController,
    ];
}

/// How long, how.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub time: Duration,
    /// The moments follow from it, as far as clocks do.
    pub seed: u64,
    /// Of each partition.
    pub replicas: usize,
    /// Whether Kafka clients reach gateways only.
    pub through_gateways: bool,
}

/// What was seen.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    /// Each with how long it took from its begin until every producer had been acknowledged again.
    pub troubles: Vec<(Trouble, Duration)>,
    pub verdict: Verdict,
    /// Clients that gave up, or that were given different records.
    pub complaints: Vec<String>,
}

/// Breaks the cluster for about `plan.time`, then kills everything and starts it again. The cluster has a gateway and two brokers at least.
///
/// # Panics
/// When a process does not come back, or a producer is not served any more.
pub fn cluster_loop(cluster: &mut Cluster, client: Client, plan: Plan) -> Report {
    let Plan { time, seed, replicas, through_gateways } = plan;
    let kafka = match through_gateways {
        true => cluster.gateway_bootstrap(),
        false => cluster.bootstrap(),
    };
    create_topic(cluster, replicas);
    let target = Target { client, kafka, grpc: cluster.grpc(1) };
    let mut breaker = Breaker { cluster, random: Dice::new(seed), troubles: Vec::new() };
    let begun = Instant::now();
    let (history, complaints) = Crowd::new(TOPIC).under(&target, |crowd| {
        crowd.wait_for_all();
        for trouble in Trouble::ROTATION.into_iter().cycle() {
            if begun.elapsed() >= time {
                break;
            }
            breaker.round(trouble, crowd);
        }
        breaker.round(Trouble::KillAll, crowd);
    });
    let troubles = breaker.troubles;
    Report { seed, troubles, verdict: check(&history), complaints }
}

/// A majority of the replicas has what is acknowledged.
fn create_topic(cluster: &Cluster, replicas: usize) {
    let (partitions, replicas_text) = (PARTITIONS.to_string(), replicas.to_string());
    let in_sync = format!("min.insync.replicas={}", replicas / 2 + 1);
    let arguments = ["topic", "create", TOPIC, "--partitions", &partitions];
    let arguments = [&arguments[..], &["--replication-factor", &replicas_text]].concat();
    let arguments = [&arguments[..], &["--config", &in_sync]].concat();
    finish(&mut cluster.command(&arguments), b"").expect_success();
}

struct Breaker<'a> {
    cluster: &'a mut Cluster,
    random: Dice,
    troubles: Vec<(Trouble, Duration)>,
}

impl Breaker<'_> {
    fn round(&mut self, trouble: Trouble, crowd: &Crowd) {
        thread::sleep(self.random.milliseconds_below(CALM_MS));
        let begun = Instant::now();
        match trouble {
            Trouble::KillLeader => {
                let (leader, _) = self.leader_and_follower();
                self.kill_and_restart(&[leader]);
            }
            Trouble::KillFollower => {
                let (_, follower) = self.leader_and_follower();
                self.kill_and_restart(&[follower]);
            }
            Trouble::KillController => {
                let active = self.active_controller();
                self.kill_and_restart(&[active]);
            }
            Trouble::KillGateway => self.kill_and_restart(&[Party::Gateway(1)]),
            Trouble::KillAll => self.kill_and_restart(&self.cluster.parties()),
            Trouble::PauseLeader => {
                let (leader, _) = self.leader_and_follower();
                self.pause(leader);
            }
            Trouble::PauseController => {
                let active = self.active_controller();
                self.pause(active);
            }
            Trouble::CutLeader => {
                let (leader, _) = self.leader_and_follower();
                self.cluster.isolate(leader, Fault::Cut);
                self.cluster.network().set_between(leader, Party::Clients, Fault::Cut);
                self.away();
                self.cluster.network().heal();
            }
            Trouble::IsolateLeader => {
                let (leader, _) = self.leader_and_follower();
                self.cluster.isolate(leader, Fault::Hold);
                self.away();
                self.cluster.network().heal();
            }
            Trouble::DeafenFollower => {
                let (_, follower) = self.leader_and_follower();
                for other in self.cluster.parties() {
                    self.cluster.network().set(other, follower, Fault::Hold);
                }
                self.away();
                self.cluster.network().heal();
            }
        }
        crowd.wait_for_all();
        self.troubles.push((trouble, begun.elapsed()));
    }

    fn kill_and_restart(&mut self, parties: &[Party]) {
        for party in parties {
            self.cluster.kill(*party);
        }
        thread::sleep(self.random.milliseconds_below(DEAD_MS));
        for party in parties {
            self.cluster.spawn(*party);
        }
        for party in parties {
            self.cluster.wait_ready(*party);
        }
    }

    fn pause(&mut self, party: Party) {
        self.cluster.pause(party);
        self.away();
        self.cluster.resume(party);
    }

    fn away(&mut self) {
        let choice = usize::try_from(self.random.below(AWAY_MS.len() as u64)).unwrap_or(0);
        thread::sleep(Duration::from_millis(AWAY_MS[choice]));
    }

    fn active_controller(&mut self) -> Party {
        Party::Controller(self.cluster.wait_active_controller(None))
    }

    /// The broker that leads one of the partitions, and one of those that follow it, if any do.
    fn leader_and_follower(&mut self) -> (Party, Party) {
        let partition = usize::try_from(self.random.below(PARTITIONS)).unwrap_or(0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((leader, mut followers)) = self.cluster.replicas_of(TOPIC, partition) {
                if followers.is_empty() {
                    // Of a partition with one replica: somebody who has nothing to do with it.
                    followers = self.cluster.brokers();
                    followers.retain(|broker| *broker != leader);
                }
                let choice = self.random.below(followers.len() as u64);
                let follower = followers[usize::try_from(choice).unwrap_or(0)];
                return (Party::Broker(leader), Party::Broker(follower));
            }
            assert!(Instant::now() < deadline, "partition {partition} has no leader");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Cluster {
    /// The broker that leads a partition, and those that follow it, as the first gateway knows it; `None` when it knows of no leader or
    /// does not answer.
    pub fn replicas_of(&self, topic: &str, partition: usize) -> Option<(usize, Vec<usize>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (topics, nodes) = runtime.ok()?.block_on(async {
            let channel = thalweg_rpc::channel(&self.grpc(1).to_string()).ok()?;
            let mut client = AdminClient::new(channel);
            let request = proto::DescribeTopicsRequest {
                names: vec![topic.to_owned()],
                ..Default::default()
            };
            let topics = client.describe_topics(request).await.ok()?.into_inner().topics;
            let nodes = client.describe_cluster(proto::DescribeClusterRequest {}).await.ok()?;
            Some((topics, nodes.into_inner().nodes))
        })?;
        let broker = |id: i32| {
            let node = nodes.iter().find(|node| node.node_id == id)?;
            let port = |endpoint: &proto::Endpoint| u16::try_from(endpoint.port).ok();
            node.endpoints.iter().filter_map(port).find_map(|port| self.broker_at(port))
        };
        let partition = topics.into_iter().next()?.partitions.into_iter().nth(partition)?;
        let leader = broker(partition.leader)?;
        let followers = partition.replicas.into_iter().filter(|id| *id != partition.leader);
        Some((leader, followers.filter_map(broker).collect()))
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
        writeln!(f, "seed          {}", self.seed)?;
        let mut kinds: Vec<Trouble> = self.troubles.iter().map(|(trouble, _)| *trouble).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let of_kind = self.troubles.iter().filter(|(trouble, _)| *trouble == kind);
            let times: Vec<_> =
                of_kind.map(|(_, time)| format!("{:.1}", time.as_secs_f64())).collect();
            writeln!(
                f,
                "{:16} all served again after {} s",
                format!("{kind:?}"),
                times.join(", ")
            )?;
        }
        for complaint in &self.complaints {
            writeln!(f, "complaint     {complaint}")?;
        }
        write!(f, "{}", self.verdict)
    }
}
