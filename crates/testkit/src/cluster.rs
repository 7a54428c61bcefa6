//! A cluster of real processes on loopback: controllers, brokers, coordinators, gateways, each with a data directory of its own and a proxy before each of
//! its listeners (see [`network`](crate::network)).
//!
//! Every process is started, killed, stopped in its tracks and started again by itself. When a test fails, the data directories and logs of
//! all of them stay where they are, and the message says where.

mod http;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_client::ControllerClient;

use crate::network::{Network, Party, Proxy};
use crate::node::{Node, PATIENCE, program, variable};
use crate::skip::skip;

/// How many processes of each kind, and what is set for all of them.
#[derive(Debug, Clone)]
pub struct Shape {
    pub controllers: usize,
    pub brokers: usize,
    pub gateways: usize,
    pub coordinators: usize,
    /// By dotted names.
    pub settings: Vec<(String, String)>,
    /// Of one process, by dotted names.
    pub own_settings: Vec<(Party, String, String)>,
}

/// Running, until it is dropped.
#[derive(Debug)]
pub struct Cluster {
    members: BTreeMap<Party, Member>,
    network: Network,
    directory: TempDir,
    settings: Vec<(String, String)>,
    own_settings: Vec<(Party, String, String)>,
}

#[derive(Debug)]
struct Member {
    node: Node,
    /// By the name under which the process tells its listener.
    proxies: Arc<BTreeMap<&'static str, Proxy>>,
}

impl Shape {
    /// Brokers that are missed after three seconds; tests have no time for more, and busy machines none for less.
    pub fn new(controllers: usize, brokers: usize, gateways: usize) -> Self {
        let settings = [
            ("broker.session_timeout_ms", "3000"),
            ("broker.heartbeat_interval_ms", "500"),
            ("coordinator.session_timeout_ms", "3000"),
            ("coordinator.heartbeat_interval_ms", "500"),
            ("gateway.session_timeout_ms", "3000"),
            ("gateway.heartbeat_interval_ms", "500"),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            controllers,
            brokers,
            gateways,
            coordinators: 0,
            settings: settings.into(),
            own_settings: Vec::new(),
        }
    }

    /// With so many coordinators.
    #[must_use]
    pub fn coordinators(mut self, coordinators: usize) -> Self {
        self.coordinators = coordinators;
        self
    }

    /// Sets a key for all processes that read it.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets a key for one process.
    #[must_use]
    pub fn with_own(mut self, party: Party, key: &str, value: &str) -> Self {
        self.own_settings.push((party, key.to_owned(), value.to_owned()));
        self
    }

    fn parties(&self) -> Vec<Party> {
        let controllers = (1..=self.controllers).map(Party::Controller);
        let brokers = (1..=self.brokers).map(Party::Broker);
        let gateways = (1..=self.gateways).map(Party::Gateway);
        let coordinators = (1..=self.coordinators).map(Party::Coordinator);
        controllers.chain(brokers).chain(coordinators).chain(gateways).collect()
    }
}

/// Which listeners a process has, by the names it tells them under.
fn listeners(party: Party) -> &'static [&'static str] {
    match party {
        Party::Controller(_) => &["internal"],
        Party::Broker(_) | Party::Coordinator(_) => &["kafka", "internal"],
        Party::Gateway(_) => &["kafka", "grpc"],
        Party::Clients => &[],
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Starting
// ---------------------------------------------------------------------------------------------------------------------------------

impl Cluster {
    /// Starts all processes with empty data directories and waits until each is ready. `None`, with a recorded skip of `test`, when the
    /// program was not built.
    ///
    /// # Panics
    /// When one does not become ready.
    pub fn start(test: &str, shape: &Shape) -> Option<Self> {
        let mut cluster = Self::prepare(test, shape)?;
        for party in cluster.parties() {
            cluster.spawn(party);
        }
        for party in cluster.parties() {
            cluster.wait_ready(party);
        }
        Some(cluster)
    }

    /// The same, with nothing started yet.
    pub fn prepare(test: &str, shape: &Shape) -> Option<Self> {
        let Some(program) = program() else {
            skip(test, "no thalweg program: cargo build -p thalweg, or set THALWEG_BIN");
            return None;
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let network = Network::new();
        let member = |party: Party| {
            let proxies = listeners(party).iter().map(|name| (*name, network.proxy(party)));
            let proxies = Arc::new(proxies.collect::<BTreeMap<_, _>>());
            let opened = Arc::clone(&proxies);
            let on_address = move |listener: &str, address| {
                if let Some(proxy) = opened.get(listener) {
                    proxy.open(address);
                }
            };
            let logs = directory.path().to_owned();
            let node = Node::new(party.to_string(), program.clone(), logs, on_address);
            (party, Member { node, proxies })
        };
        let members = shape.parties().into_iter().map(member).collect();
        let Shape { settings, own_settings, .. } = shape.clone();
        Some(Self { members, network, directory, settings, own_settings })
    }

    /// Starts a process, or starts it again on the same data, and does not wait.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn(&mut self, party: Party) {
        let mut arguments = self.arguments(party);
        if !matches!(party, Party::Gateway(_) | Party::Coordinator(_)) {
            arguments.push(format!("--data-dir={}", self.data_directory(party).display()));
        }
        let mut variables: Vec<(String, String)> =
            self.settings.iter().map(|(key, value)| (variable(key), value.clone())).collect();
        let own = self.own_settings.iter().filter(|(of, ..)| *of == party);
        variables.extend(own.map(|(_, key, value)| (variable(key), value.clone())));
        let section = match party {
            Party::Broker(_) => Some("broker"),
            Party::Coordinator(_) => Some("coordinator"),
            _ => None,
        };
        if let Some(section) = section {
            for listener in ["kafka", "internal"] {
                let key = format!("{section}.{listener}.advertised_port");
                let port = self.proxy(party, listener).port().to_string();
                variables.push((variable(&key), port));
            }
        }
        if let Party::Gateway(_) = party {
            let port = self.proxy(party, "kafka").port().to_string();
            variables.push((variable("gateway.kafka.advertised_port"), port));
        }
        let node = self.node_mut(party);
        node.start(&arguments, &variables);
        let process = node.process_id();
        self.network.set_process(party, Some(process));
    }

    /// The command that would start a process, but for its data directory.
    pub fn bare_command(&self, party: Party) -> Command {
        let mut command = Command::new(self.node(party).program());
        command.args(self.arguments(party));
        command
    }

    fn arguments(&self, party: Party) -> Vec<String> {
        let command = match party {
            Party::Controller(_) => "controller",
            Party::Broker(_) => "broker",
            Party::Coordinator(_) => "coordinator",
            Party::Gateway(_) => "gateway",
            Party::Clients => panic!("clients are no process of the cluster"),
        };
        let mut arguments = vec![command.to_owned(), "--http-address=127.0.0.1:0".to_owned()];
        for listener in listeners(party) {
            arguments.push(format!("--{listener}-address=127.0.0.1:0"));
        }
        let voters = self.controllers().into_iter();
        let voters = voters.map(|number| (number, self.internal(Party::Controller(number))));
        match party {
            Party::Controller(number) => {
                let voters: Vec<_> =
                    voters.map(|(id, address)| format!("{id}@{address}")).collect();
                arguments.push(format!("--voters={}", voters.join(",")));
                arguments.push(format!("--node-id={number}"));
            }
            _ => {
                let controllers: Vec<_> = voters.map(|(_, address)| address.to_string()).collect();
                arguments.push(format!("--controllers={}", controllers.join(",")));
            }
        }
        arguments
    }

    /// # Panics
    /// When it ends or takes too long before.
    pub fn wait_ready(&mut self, party: Party) {
        self.node_mut(party).wait_ready();
    }

    /// Starts a process again on the same data and waits until it is ready; returns how long that took.
    ///
    /// # Panics
    /// When it runs already or does not become ready.
    pub fn restart(&mut self, party: Party) -> Duration {
        let begun = Instant::now();
        self.spawn(party);
        self.wait_ready(party);
        begun.elapsed()
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Faults
// ---------------------------------------------------------------------------------------------------------------------------------

impl Cluster {
    /// Ends a process without any warning, as a crash does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, party: Party) {
        self.node_mut(party).kill();
        self.ended(party);
    }

    /// Asks a process to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn terminate(&mut self, party: Party) -> ExitStatus {
        let status = self.node_mut(party).terminate();
        self.ended(party);
        status
    }

    /// Waits until a process ends by itself, as one does that refuses to start.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn wait_end(&mut self, party: Party) -> ExitStatus {
        let status = self.node_mut(party).wait_end(PATIENCE);
        self.ended(party);
        status.unwrap_or_else(|| panic!("{party} did not end\n{}", self.log(party)))
    }

    /// Lets a process do nothing from now on: it is there, and silent.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self, party: Party) {
        self.node(party).pause();
    }

    /// # Panics
    /// When it does not run.
    pub fn resume(&self, party: Party) {
        self.node(party).resume();
    }

    /// Where connections can be broken.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Breaks the ways between one party and all other processes; clients still reach it.
    pub fn isolate(&self, party: Party, fault: crate::network::Fault) {
        for other in self.parties().into_iter().filter(|other| *other != party) {
            self.network.set_between(party, other, fault);
        }
    }

    fn ended(&self, party: Party) {
        self.network.set_process(party, None);
        self.member(party).proxies.values().for_each(Proxy::close);
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// What is where, and how it is
// ---------------------------------------------------------------------------------------------------------------------------------

impl Cluster {
    /// All processes, running or not.
    pub fn parties(&self) -> Vec<Party> {
        self.members.keys().copied().collect()
    }

    /// Their numbers, from 1; a controller's is its node id.
    pub fn controllers(&self) -> Vec<usize> {
        let number = |party: &Party| match party {
            Party::Controller(number) => Some(*number),
            _ => None,
        };
        self.members.keys().filter_map(number).collect()
    }

    /// Their numbers, from 1. Node ids are given by the controllers, in order of arrival.
    pub fn brokers(&self) -> Vec<usize> {
        let number = |party: &Party| match party {
            Party::Broker(number) => Some(*number),
            _ => None,
        };
        self.members.keys().filter_map(number).collect()
    }

    /// A broker's Kafka listener as clients are told; the same in every life.
    pub fn kafka(&self, broker: usize) -> SocketAddr {
        self.proxy(Party::Broker(broker), "kafka")
    }

    /// All of these, as a client is given them.
    pub fn bootstrap(&self) -> String {
        let addresses = self.brokers().into_iter().map(|broker| self.kafka(broker).to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The Kafka listeners of all gateways, as a client is given them that reaches no broker.
    pub fn gateway_bootstrap(&self) -> String {
        let addresses = self.parties().into_iter().filter_map(|party| match party {
            Party::Gateway(number) => Some(self.gateway_kafka(number).to_string()),
            _ => None,
        });
        addresses.collect::<Vec<_>>().join(",")
    }

    /// A gateway's Kafka listener; the same in every life.
    pub fn gateway_kafka(&self, gateway: usize) -> SocketAddr {
        self.proxy(Party::Gateway(gateway), "kafka")
    }

    /// A gateway's public listener; the same in every life.
    pub fn grpc(&self, gateway: usize) -> SocketAddr {
        self.proxy(Party::Gateway(gateway), "grpc")
    }

    /// The internal listener of a controller or broker as others are told; the same in every life.
    pub fn internal(&self, party: Party) -> SocketAddr {
        self.proxy(party, "internal")
    }

    /// The broker whose Kafka or internal listener has this port.
    pub fn broker_at(&self, port: u16) -> Option<usize> {
        let is_at = |broker: &usize| {
            let party = Party::Broker(*broker);
            self.kafka(*broker).port() == port || self.internal(party).port() == port
        };
        self.brokers().into_iter().find(is_at)
    }

    pub fn data_directory(&self, party: Party) -> PathBuf {
        self.directory.path().join(format!("{party}-data"))
    }

    /// A client command of the program, on the first gateway.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.node(Party::Gateway(1)).program());
        command.args(arguments).env("THALWEG_BOOTSTRAP", self.grpc(1).to_string());
        command
    }

    /// Whether the process is there: neither killed by a test nor ended by itself.
    pub fn is_running(&mut self, party: Party) -> bool {
        self.node_mut(party).is_running()
    }

    /// Whether the process has said so in this life; it may not be any more.
    pub fn is_started(&self, party: Party) -> bool {
        self.node(party).is_ready()
    }

    /// The end of what a process said on standard error since its last start.
    pub fn log(&self, party: Party) -> String {
        self.node(party).log()
    }

    /// All of it.
    pub fn whole_log(&self, party: Party) -> String {
        self.node(party).whole_log()
    }

    /// What a process says of itself: whether it can do its work, and the conditions of that, a line each.
    ///
    /// # Panics
    /// When it has no HTTP listener yet.
    pub fn readiness(&self, party: Party) -> (bool, String) {
        let address = self.node(party).address("http").expect("it has said where it listens");
        match http::get(address, "/readyz") {
            Ok((status, body)) => (status == 200, body),
            Err(error) => (false, format!("no answer: {error}")),
        }
    }

    /// One of the numbers that a process tells of itself; 0 where it tells none of this name.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn metric(&self, party: Party, name: &str) -> f64 {
        let address = self.node(party).address("http").expect("it has said where it listens");
        let (_, body) = http::get(address, "/metrics").expect("it answers");
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        body.lines().find_map(value).unwrap_or(0.0)
    }

    /// Waits until a process says that it can do its work, or that it cannot, in words that contain `why`.
    ///
    /// # Panics
    /// When it does not say so in time.
    pub fn wait_readiness(&self, party: Party, ready: bool, why: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Its listener comes before anything it waits for.
            let told = self.node(party).address("http").map(|_| self.readiness(party));
            if told
                .as_ref()
                .is_some_and(|(is_ready, text)| *is_ready == ready && text.contains(why))
            {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{party} does not say that it is {}ready ({why:?}), but {told:?}\n{}",
                if ready { "" } else { "not " },
                self.log(party)
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The controller that decides at present, if the others agree.
    pub fn active_controller(&mut self) -> Option<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread");
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        for controller in self.controllers() {
            let party = Party::Controller(controller);
            if !self.is_running(party) {
                continue;
            }
            let Some(address) = self.node(party).address("internal") else { continue };
            if let Some(leader) = runtime.block_on(leader_as_told_by(address)) {
                *seen.entry(leader).or_default() += 1;
            }
        }
        let majority = self.controllers().len() / 2 + 1;
        seen.into_iter().find(|(_, count)| *count >= majority).map(|(leader, _)| leader)
    }

    /// Waits until a majority of the controllers names one of them that is not `other_than`.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_active_controller(&mut self, other_than: Option<usize>) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.active_controller() {
                Some(active) if Some(active) != other_than => return active,
                seen => {
                    let late = Instant::now() >= deadline;
                    assert!(!late, "no new active controller: {seen:?}, not {other_than:?}");
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn proxy(&self, party: Party, listener: &str) -> SocketAddr {
        let proxy = self.member(party).proxies.get(listener);
        proxy.unwrap_or_else(|| panic!("{party} has no listener {listener}")).address()
    }

    fn member(&self, party: Party) -> &Member {
        self.members.get(&party).unwrap_or_else(|| panic!("there is no {party}"))
    }

    fn node(&self, party: Party) -> &Node {
        &self.member(party).node
    }

    fn node_mut(&mut self, party: Party) -> &mut Node {
        let member = self.members.get_mut(&party);
        &mut member.unwrap_or_else(|| panic!("there is no {party}")).node
    }
}

async fn leader_as_told_by(address: SocketAddr) -> Option<usize> {
    let channel = thalweg_rpc::channel(&address.to_string()).ok()?;
    let mut request = tonic::Request::new(proto::DescribeQuorumRequest {});
    request.set_timeout(Duration::from_secs(2));
    let mut client = ControllerClient::new(channel);
    // A process that was stopped in its tracks does not answer.
    let answer =
        tokio::time::timeout(Duration::from_secs(3), client.describe_quorum(request)).await;
    usize::try_from(answer.ok()?.ok()?.into_inner().leader_id?).ok()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!(
                "--- data and logs of the cluster stay in {}",
                self.directory.path().display()
            );
        }
    }
}
