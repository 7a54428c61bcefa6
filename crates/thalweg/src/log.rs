//! `thalweg log`: a log dir's files, looked at without a server.
//!
//! Nothing is locked and nothing is written, so that it works on a copy and beside a running server. Exit code 0 when what was looked
//! at is sound, 1 when it is damaged or cannot be read, 2 for a path that holds nothing of ours.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thalweg_env::fs::RealFs;
use thalweg_storage::inspect::{self, Target};

use crate::cli::Log;

mod dump;
mod verify;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{path}: no such file or directory")]
    Nowhere { path: PathBuf },
    #[error("{path}: {expected}")]
    Unknown { path: PathBuf, expected: &'static str },
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(io::Error),
}

/// What the files turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Sound,
    Damaged,
}

/// Runs a command to its end.
pub(crate) fn run(command: Log) -> ExitCode {
    let outcome = match command {
        Log::Dump(arguments) => dump::run(&arguments),
        Log::Verify(arguments) => verify::run(&arguments),
    };
    match outcome {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Damaged) => ExitCode::FAILURE,
        // Whoever read our output has had enough (`| head`).
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("thalweg: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

impl Failure {
    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Nowhere { .. } | Self::Unknown { .. } => 2,
            Self::Read { .. } | Self::Write(_) => 1,
        }
    }
}

/// What a path holds; a failure that says what was `expected` when that is nothing of ours.
fn target(path: &Path, expected: &'static str) -> Result<Target, Failure> {
    let found = inspect::target(&RealFs, path).map_err(Failure::read(path))?;
    found.ok_or_else(|| match path.exists() {
        true => Failure::Unknown { path: path.to_owned(), expected },
        false => Failure::Nowhere { path: path.to_owned() },
    })
}

/// Standard output for many lines.
fn output() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

fn flush(mut out: io::BufWriter<io::StdoutLock<'static>>) -> Result<(), Failure> {
    out.flush().map_err(Failure::Write)
}
