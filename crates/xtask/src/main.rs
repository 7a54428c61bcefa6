//! The repository's own checks, run as `cargo xtask <check>`.
//!
//! What a compiler cannot refuse and a reviewer forgets: which crate may know which ([`layers`]), and what every file owes its reader
//! ([`tidy`]). Each check prints every violation it finds, one to a line, and the process ends with 1 if there was any, 2 if it was
//! called wrongly.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod layers;
mod tidy;

const USAGE: &str = "\
usage: cargo xtask <check>

  layers   dependencies between crates point down only, and the cores reach no I/O
  tidy     every file says what it is for; no leftovers, no traces of one machine
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = repository_root();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["layers"] => layers::run(&root),
        ["tidy"] => tidy::run(&root),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(violations) => {
            violations.iter().for_each(|violation| eprintln!("{violation}"));
            eprintln!("{} found", violations.len());
            ExitCode::FAILURE
        }
    }
}

/// The workspace this program was built from: two folders above its own manifest.
fn repository_root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
