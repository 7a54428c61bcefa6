//! The settings an operator writes: a TOML file, and environment variables.
//!
//! What is accepted is printed as a file, and that file gives the same settings.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use tempfile::NamedTempFile;
use thalweg_settings::{Layers, Service};

use super::numbered;
use crate::{Seeds, peak};

/// A TOML file is parsed into a tree of tables; every problem becomes a message that names what is wrong.
const BYTES_MAX: usize = 4 << 20;

thread_local! {
    /// Settings are read from a file only, so each thread has one to write to.
    static FILE: RefCell<NamedTempFile> =
        RefCell::new(NamedTempFile::new().expect("the temporary directory is writable"));
}

pub(super) fn file(input: &[u8]) {
    peak::within(BYTES_MAX, || {
        if let Some(printed) = load(input, Vec::new()) {
            let again = load(printed.as_bytes(), Vec::new());
            let again = again.expect("what was printed is accepted");
            assert_eq!(without_origins(&again), without_origins(&printed));
        }
    });
}

/// Lines of `NAME=VALUE`, names with or without the prefix.
pub(super) fn variables(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').take(64);
    let pairs = lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = line.split_at(at);
        let name = [b"THALWEG__", name].concat();
        Some((OsString::from_vec(name), OsString::from_vec(value[1..].to_vec())))
    });
    let pairs: Vec<_> = pairs.collect();
    peak::within(BYTES_MAX, || {
        if let Some(printed) = load(b"", pairs.clone()) {
            let again = load(printed.as_bytes(), Vec::new());
            let again = again.expect("what was printed is accepted");
            assert_eq!(without_origins(&again), without_origins(&printed));
        }
    });
}

/// The settings in force as they are printed; `None` when they are refused, which must be said in words.
fn load(file: &[u8], variables: Vec<(OsString, OsString)>) -> Option<String> {
    FILE.with_borrow(|temporary| {
        fs::write(temporary.path(), file).expect("the temporary directory is writable");
        let layers = Layers::new().file(Some(temporary.path().to_owned())).environment(variables);
        match layers.load(Service::Standalone) {
            Ok(loaded) => Some(loaded.to_string()),
            Err(error) => {
                assert!(!error.problems.is_empty() && !error.to_string().is_empty());
                None
            }
        }
    })
}

/// Where a value is from differs; the values do not.
fn without_origins(printed: &str) -> Vec<&str> {
    let is_setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let lines = printed.lines().filter(is_setting);
    lines.map(|line| line.rsplit_once("  # ").map_or(line, |(setting, _)| setting.trim())).collect()
}

// ---- Seeds ----

/// A file with a value of each kind.
const FILE_TEXT: &str =
    "[standalone]\ndata_dir = \"/tmp/x\"\n\n[broker.kafka]\naddress = \"127.0.0.1:9092\"\n";

pub(super) fn file_seeds() -> Seeds {
    let printed = load(FILE_TEXT.as_bytes(), Vec::new());
    let texts = [
        FILE_TEXT,
        "[broker.log]\nsegment_bytes = 1048576\n",
        "broker.kafka.address = \"[::1]:0\"\n[gateway]\n",
        "[nowhere]\nx = 1\n",
        "[broker]\nlog = \"not a table\"\n",
        "a = [1, {b = 2.5}, 1979-05-27T07:32:00Z]\n",
    ];
    let texts = texts.map(str::to_owned).into_iter().chain(printed);
    numbered(texts.map(String::into_bytes))
}

pub(super) fn variables_seeds() -> Seeds {
    let texts = [
        "BROKER__LOG__SEGMENT_BYTES=1048576",
        "STANDALONE__DATA_DIR=/tmp/x\nBROKER__KAFKA__ADDRESS=127.0.0.1:9092",
        "STANDALONE__DATA_DIR=a\"b\\c\nBROKER__KAFKA__ADVERTISED_HOST=node-12",
        "NOWHERE=1\nBROKER=2\nBROKER__LOG=3\n__=4",
    ];
    numbered(texts.map(|text| text.as_bytes().to_vec()))
}
