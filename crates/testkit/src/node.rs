//! One process of the system: started, killed, stopped in its tracks, started again on the same data.
//!
//! What it says on standard output is read as it comes: a line for each listener, and `ready` (see `thalweg/src/process.rs`). Standard
//! error goes to a file per start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for a process to say that it is ready, and to end when asked to. Generous: machines that run tests are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What of a log is shown when something has failed.
const LOG_SHOWN_BYTES: usize = 4096;

/// Called with a listener's name and address as soon as it is told.
type OnAddress = dyn Fn(&str, SocketAddr) + Send + Sync;

/// A process that may run. Killed when dropped.
pub(crate) struct Node {
    /// For messages, and for the names of its log files.
    name: String,
    program: PathBuf,
    log_dir: PathBuf,
    on_address: Arc<OnAddress>,
    process: Option<Child>,
    told: Arc<Told>,
    starts: usize,
}

/// What one life of the process has said.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    addresses: BTreeMap<String, SocketAddr>,
    ready: bool,
    /// Standard output is closed: the process has ended, or is about to.
    ended: bool,
}

impl Node {
    pub(crate) fn new(
        name: String,
        program: PathBuf,
        log_dir: PathBuf,
        on_address: impl Fn(&str, SocketAddr) + Send + Sync + 'static,
    ) -> Self {
        let on_address = Arc::new(on_address);
        let told = Arc::default();
        Self { name, program, log_dir, on_address, process: None, told, starts: 0 }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Where a listener of the present or last life is. `None` when it has not said so.
    pub(crate) fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.told.state.lock().addresses.get(listener).copied()
    }

    /// # Panics
    /// When it runs already or cannot be started.
    pub(crate) fn start(&mut self, arguments: &[String], variables: &[(String, String)]) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.starts += 1;
        let log = File::create(self.log_file()).expect("the temporary directory is writable");
        let mut process = Command::new(&self.program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let stdout = process.stdout.take().expect("standard output is piped");
        self.process = Some(process);
        self.told = Arc::default();
        let (told, on_address) = (Arc::clone(&self.told), Arc::clone(&self.on_address));
        // To the end: a full pipe would stop the process.
        thread::spawn(move || told.listen(stdout, &*on_address));
    }

    /// # Panics
    /// When it ends or takes too long before.
    pub(crate) fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.told.state.lock();
        while !state.ready {
            assert!(!state.ended, "{} ended before it was ready\n{}", self.name, self.log());
            let late = self.told.changed.wait_until(&mut state, deadline).timed_out();
            assert!(!late, "{} not ready within {PATIENCE:?}\n{}", self.name, self.log());
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.told.state.lock().ready
    }

    /// Ends the process without any warning, as a crash does.
    ///
    /// # Panics
    /// When it does not run.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap_or_else(|| panic!("{} runs", self.name));
        process.kill().expect("the process is ours");
        process.wait().expect("the process is ours");
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = self.wait_end(PATIENCE);
        status.unwrap_or_else(|| {
            panic!("{} did not end within {PATIENCE:?}\n{}", self.name, self.log())
        })
    }

    /// Waits until the process ends by itself. `None` when it still runs after `patience`.
    ///
    /// # Panics
    /// When it does not run.
    pub(crate) fn wait_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        let mut process = self.process.take().unwrap_or_else(|| panic!("{} runs", self.name));
        loop {
            if let Some(status) = process.try_wait().expect("the process is ours") {
                return Some(status);
            }
            if Instant::now() > deadline {
                self.process = Some(process);
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets it do nothing from now on (SIGSTOP): it is there, and silent.
    ///
    /// # Panics
    /// When it does not run.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// When it does not run.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process_id()).expect("process ids fit in i32");
        let pid = Pid::from_raw(id).expect("process ids are above 0");
        kill_process(pid, signal).expect("the process is ours");
    }

    /// Whether the process is there: neither killed by a test nor ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// # Panics
    /// When it does not run.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap_or_else(|| panic!("{} runs", self.name)).id()
    }

    fn log_file(&self) -> PathBuf {
        self.log_dir.join(format!("{}-{}.log", self.name, self.starts))
    }

    /// All that it said on standard error since its last start.
    pub(crate) fn whole_log(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The end of it.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let tail = log.len().saturating_sub(LOG_SHOWN_BYTES);
        String::from_utf8_lossy(&log[tail..]).into_owned()
    }
}

impl Told {
    fn listen(&self, stdout: ChildStdout, on_address: &OnAddress) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let mut state = self.state.lock();
            if line.trim() == "ready" {
                state.ready = true;
            } else if let Some((name, address)) = line.split_once(" listening on ")
                && let Ok(address) = address.trim().parse()
            {
                state.addresses.insert(name.trim().to_owned(), address);
                on_address(name.trim(), address);
            }
            self.changed.notify_all();
        }
        self.state.lock().ended = true;
        self.changed.notify_all();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = process.kill();
        let _ = process.wait();
        if thread::panicking() {
            eprintln!("--- the log of {} ends with\n{}", self.name, self.log());
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The program named by `THALWEG_BIN`, or the one that was built beside the running test.
pub(crate) fn program() -> Option<PathBuf> {
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
pub(crate) fn variable(key: &str) -> String {
    format!("THALWEG__{}", key.replace('.', "__").to_uppercase())
}
