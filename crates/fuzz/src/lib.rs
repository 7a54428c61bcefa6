//! Fuzz targets over everything that reads bytes from outside, and their corpora.
//!
//! A [`Target`] is a function of any bytes that panics when something is wrong, and more is wrong than a panic: what was decoded must
//! be said and decoded again the same, memory stays in proportion to the input ([`peak`]), what comes out stays within its limits, and
//! a log that opens serves only what was written to it. Targets that need to see inside of a crate go through its `fuzzing` module,
//! which exists with the feature of that name only.
//!
//! ```text
//! corpus/<target>/    small inputs: from our own encoders, from real clients, and each that ever failed
//!      │
//!      ├─► tests/replay.rs   every input, and a burst of changed ones ([`mutate`]): part of `make test`
//!      └─► src/bin/fuzz.rs   libFuzzer, guided by coverage: `make fuzz TARGET=name SECONDS=60`
//! ```
//!
//! `cargo run -p thalweg-fuzz --bin corpus` writes the inputs that are made by encoders again, after a format has changed.

pub mod corpus;
pub mod mutate;
pub mod peak;
mod targets;

pub use targets::TARGETS;

/// One thing to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Takes any bytes; panics when it finds something wrong.
    pub run: fn(&[u8]),
    /// Inputs that reach deep, made by our own encoders, each with a word for what it is.
    pub seeds: fn() -> Seeds,
}

/// Inputs and what they are.
pub type Seeds = Vec<(String, Vec<u8>)>;

/// The target of a name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
