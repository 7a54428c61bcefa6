//! Tests that cannot run here, on the record.

use std::fs::OpenOptions;
use std::io::Write;

/// Records that a test or a part of one does not run, and why: on standard error, and as a line of the file that
/// `THALWEG_SKIPPED_FILE` names, from which the test run prints its list of what was skipped.
///
/// # Panics
/// With `CI=true` nothing may be skipped, so this fails the test.
pub fn skip(what: &str, reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what} cannot run, and with CI=true nothing may be skipped: {reason}"
    );
    eprintln!("skipped: {what}: {reason}");
    let Some(path) = std::env::var_os("THALWEG_SKIPPED_FILE") else { return };
    let line = format!("{what}: {reason}\n");
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = appended {
        panic!("{} cannot be written: {error}", path.display());
    }
}
