//! The server program as a user starts it: `thalweg standalone` on loopback with a data directory of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::node::{Node, program, variable};
use crate::skip::skip;

/// A running server, or one between [`kill`](Self::kill) and [`restart`](Self::restart). Ends, and its data with it, when dropped.
#[derive(Debug)]
pub struct Server {
    node: Node,
    directory: TempDir,
    addresses: Addresses,
    /// Where the data is when it is not in `directory`.
    data: Option<PathBuf>,
    /// Settings other than the addresses, as environment variables.
    variables: Vec<(String, String)>,
}

/// Where the listeners are. Port 0 before the first start.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    kafka: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Server {
    /// Starts a server with an empty data directory on free ports and waits until it is ready. `None`, with a recorded skip of `test`,
    /// when the program was not built.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(test: &str) -> Option<Self> {
        Self::start_with(test, &[])
    }

    /// The same with settings, by their dotted names.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_with(test: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let mut server = Self::prepare(test, settings)?;
        server.restart();
        Some(server)
    }

    /// The same with data in a place of the caller's.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_in(test: &str, data: PathBuf, settings: &[(&str, &str)]) -> Option<Self> {
        let mut server = Self::prepare(test, settings)?;
        server.data = Some(data);
        server.restart();
        Some(server)
    }

    fn prepare(test: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let Some(program) = program() else {
            skip(test, "no thalweg program: cargo build -p thalweg, or set THALWEG_BIN");
            return None;
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let logs = directory.path().to_owned();
        Some(Self {
            node: Node::new("server".to_owned(), program, logs, |_, _| {}),
            directory,
            addresses: Addresses { kafka: any, grpc: any, http: any },
            data: None,
            variables: settings
                .iter()
                .map(|(key, value)| (variable(key), (*value).into()))
                .collect(),
        })
    }

    pub fn kafka(&self) -> SocketAddr {
        self.addresses.kafka
    }

    pub fn grpc(&self) -> SocketAddr {
        self.addresses.grpc
    }

    pub fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    /// The program that runs, which is also the command line.
    pub fn program(&self) -> &Path {
        self.node.program()
    }

    pub fn data_directory(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.directory.path().join("data"))
    }

    /// A client command of the program, on this server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(arguments).env("THALWEG_BOOTSTRAP", self.grpc().to_string());
        command
    }

    /// All that the server said on standard error since its last start.
    pub fn whole_log(&self) -> String {
        self.node.whole_log()
    }

    /// The end of what the server said on standard error since its last start.
    pub fn log(&self) -> String {
        self.node.log()
    }

    /// Ends the process without any warning, as a crash does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.node.kill();
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.node.terminate()
    }

    /// Starts the process again with the same data and the same ports; returns how long it took to be ready.
    ///
    /// # Panics
    /// When it runs already or does not become ready.
    pub fn restart(&mut self) -> Duration {
        let begin = Instant::now();
        self.spawn();
        self.node.wait_ready();
        let told = |listener| self.node.address(listener).expect("it says where it listens");
        self.addresses = Addresses { kafka: told("kafka"), grpc: told("grpc"), http: told("http") };
        begin.elapsed()
    }

    /// Starts the process again and ends it without any warning after some time, whether it is ready by then or not.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_and_kill_after(&mut self, time: Duration) {
        self.spawn();
        std::thread::sleep(time);
        self.kill();
    }

    fn spawn(&mut self) {
        let data = self.data_directory();
        let Addresses { kafka, grpc, http } = self.addresses;
        let arguments = [
            "standalone".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--kafka-address={kafka}"),
            format!("--grpc-address={grpc}"),
            format!("--http-address={http}"),
        ];
        self.node.start(&arguments, &self.variables);
    }

    /// Whether the process is there: neither killed by a test nor ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.node.is_running()
    }

    /// The process, for whoever looks at it from outside.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process_id(&self) -> u32 {
        self.node.process_id()
    }

    /// Memory of the process that is in RAM now.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resident_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }

    /// The most memory of the process that was in RAM at a time.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resident_bytes_peak(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id()))
            .expect("the process is ours and there");
        let line = status.lines().find_map(|line| line.strip_prefix(figure));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        1024 * kibibytes.and_then(|number| number.trim().parse::<u64>().ok()).expect("a number")
    }
}
