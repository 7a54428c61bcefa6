//! Running a program to its end with bounded patience.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest run of a client program. They give up by themselves before that.
const PATIENCE: Duration = Duration::from_secs(150);

/// How a program ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    /// Standard output of a program that succeeded.
    ///
    /// # Panics
    /// When it failed, with what it said.
    pub fn expect_success(self) -> String {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        String::from_utf8(self.stdout).expect("programs of the test kit write UTF-8")
    }

    /// What a program that failed said.
    ///
    /// # Panics
    /// When it succeeded.
    pub fn expect_failure(self) -> String {
        assert!(!self.status.success(), "succeeded: {}", String::from_utf8_lossy(&self.stdout));
        self.stderr
    }
}

/// Runs `command` with `input` on its standard input.
///
/// # Panics
/// When it cannot be started or does not end within two and a half minutes.
pub fn finish(command: &mut Command, input: &[u8]) -> Finished {
    finish_within(command, input, PATIENCE)
}

/// Runs `command`, which may take `patience`, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started or does not end in time.
pub(crate) fn finish_within(command: &mut Command, input: &[u8], patience: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let stdout = child.stdout.take().expect("standard output is piped");
    let stderr = child.stderr.take().expect("standard error is piped");
    thread::scope(|scope| {
        // A program that fails early closes its end; its status tells.
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        let stdout = scope.spawn(|| read_all(stdout));
        let stderr = scope.spawn(|| read_all(stderr));
        let status = wait(&mut child, command, patience);
        Finished {
            status,
            stdout: stdout.join().expect("reading does not panic"),
            stderr: String::from_utf8_lossy(&stderr.join().expect("reading does not panic"))
                .into_owned(),
        }
    })
}

fn read_all(mut source: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before a broken pipe is still worth showing.
    let _ = source.read_to_end(&mut bytes);
    bytes
}

fn wait(child: &mut Child, command: &Command, patience: Duration) -> ExitStatus {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours to wait for") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not end within {patience:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
