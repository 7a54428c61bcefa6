//! The server program as a user starts it: `thalweg standalone` on loopback with a data directory of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::skip::skip;

/// Longest wait for the server to say that it is ready, and to end when asked to. Generous: machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, or one between [`kill`](Self::kill) and [`restart`](Self::restart). Ends, and its data with it, when dropped.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    directory: TempDir,
    addresses: Addresses,
    /// Where the data is when it is not in `directory`.
    data: Option<PathBuf>,
    /// Settings other than the addresses, as environment variables.
    variables: Vec<(String, String)>,
    process: Option<Child>,
    /// Files the server's standard error went to, one per start.
    starts: usize,
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
        Some(Self {
            program,
            directory: tempfile::tempdir().expect("a temporary directory"),
            addresses: Addresses { kafka: any, grpc: any, http: any },
            data: None,
            variables: settings
                .iter()
                .map(|(key, value)| (variable(key), (*value).into()))
                .collect(),
            process: None,
            starts: 0,
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
        &self.program
    }

    pub fn data_directory(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.directory.path().join("data"))
    }

    /// A client command of the program, on this server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("THALWEG_BOOTSTRAP", self.grpc().to_string());
        command
    }

    /// All that the server said on standard error since its last start.
    pub fn whole_log(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Ends the process without any warning, as a crash does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.kill().expect("the process is ours");
        process.wait().expect("the process is ours");
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server runs");
        kill_process(pid(&process), Signal::TERM).expect("the process is ours");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.try_wait().expect("the process is ours") {
                return status;
            }
            if Instant::now() > deadline {
                self.process = Some(process);
                panic!("the server did not end within {PATIENCE:?}\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts the process again with the same data and the same ports; returns how long it took to be ready.
    ///
    /// # Panics
    /// When it runs already or does not become ready.
    pub fn restart(&mut self) -> Duration {
        let begin = Instant::now();
        let stdout = self.spawn();
        self.wait_until_ready(&lines(stdout));
        begin.elapsed()
    }

    /// Starts the process again and ends it without any warning after some time, whether it is ready by then or not.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_and_kill_after(&mut self, time: Duration) {
        let stdout = self.spawn();
        // Nobody is interested in its lines, but a full pipe would stop it.
        let _lines = lines(stdout);
        thread::sleep(time);
        self.kill();
    }

    fn spawn(&mut self) -> ChildStdout {
        assert!(self.process.is_none(), "the server runs already");
        self.starts += 1;
        let log = File::create(self.log_file()).expect("the temporary directory is writable");
        let mut process = Command::new(&self.program)
            .arg("standalone")
            .arg("--data-dir")
            .arg(self.data_directory())
            .args(["--kafka-address", &self.addresses.kafka.to_string()])
            .args(["--grpc-address", &self.addresses.grpc.to_string()])
            .args(["--http-address", &self.addresses.http.to_string()])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let stdout = process.stdout.take().expect("standard output is piped");
        self.process = Some(process);
        stdout
    }

    /// Whether the process is there: neither killed by a test nor ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// The process, for whoever looks at it from outside.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
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
        let process = self.process.as_ref().expect("the server runs");
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))
            .expect("the process is ours and there");
        let line = status.lines().find_map(|line| line.strip_prefix(figure));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        1024 * kibibytes.and_then(|number| number.trim().parse::<u64>().ok()).expect("a number")
    }

    fn wait_until_ready(&mut self, lines: &Receiver<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) if line.trim() == "ready" => return,
                Ok(line) => self.learn(&line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("not ready within {PATIENCE:?}\n{}", self.log())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the server ended before it was ready\n{}", self.log())
                }
            }
        }
    }

    /// Takes an address from a line such as `kafka listening on 127.0.0.1:9092`.
    fn learn(&mut self, line: &str) {
        let Some((name, address)) = line.split_once(" listening on ") else { return };
        let address = match address.trim().parse() {
            Ok(address) => address,
            Err(error) => panic!("{line:?}: {error}"),
        };
        match name.trim() {
            "kafka" => self.addresses.kafka = address,
            "grpc" => self.addresses.grpc = address,
            "http" => self.addresses.http = address,
            _ => {}
        }
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join(format!("standard-error-{}", self.starts))
    }

    /// The end of what the server said on standard error since its last start.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let tail = log.len().saturating_sub(4096);
        String::from_utf8_lossy(&log[tail..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = process.kill();
        let _ = process.wait();
        if thread::panicking() {
            eprintln!("--- the server's log ends with\n{}", self.log());
        }
    }
}

/// The program named by `THALWEG_BIN`, or the one that was built beside the running test.
fn program() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("THALWEG_BIN") {
        let given = PathBuf::from(given);
        assert!(given.exists(), "THALWEG_BIN names {}, which is not there", given.display());
        return Some(given);
    }
    // target/<profile>/deps/<test> -> target/<profile>/thalweg
    let test = std::env::current_exe().ok()?;
    let program = test.parent().and_then(Path::parent)?.join("thalweg");
    program.exists().then_some(program)
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
    format!("THALWEG__{}", key.replace('.', "__").to_uppercase())
}

fn pid(process: &Child) -> Pid {
    let id = i32::try_from(process.id()).expect("process ids fit in i32");
    Pid::from_raw(id).expect("process ids are above 0")
}

/// Reads lines in the background, to the end: a full pipe would stop the server.
fn lines(source: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            // Nobody listens any more once the server is ready.
            let _ = sender.send(line);
        }
    });
    receiver
}
