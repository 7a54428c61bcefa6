//! `thalweg-hosts`: one seed, one run, one process.
//!
//! A process of its own, because libraries draw from the operating system: tokio chooses by chance which waiter is woken first, and hash maps
//! are ordered by it. Here that chance follows from the seed as well: this program has its own `getrandom`, which the standard library
//! takes if there is one.

#![expect(clippy::print_stdout, reason = "this is a command-line tool")]

use std::ffi::{c_uint, c_void};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use thalweg_hosts::run;

/// Three controllers, a node and a client on simulated hosts, with faults, from one seed.
#[derive(Debug, Parser)]
struct Arguments {
    seed: u64,
    /// Everything that happens.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let Arguments { seed, trace } = Arguments::parse();
    CHANCE.store(seed, Ordering::Relaxed);
    let report = run(seed);
    if trace {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    println!("{report}");
    if report.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The operating system's randomness, as far as this process sees it.
static CHANCE: AtomicU64 = AtomicU64::new(0);

/// In place of the C library's.
#[expect(unsafe_code, reason = "a C function is given a buffer by its address")]
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // SAFETY: whoever calls getrandom gives a buffer of this length that may be written to.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let drawn = splitmix(CHANCE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed));
        chunk.copy_from_slice(&drawn.to_le_bytes()[..chunk.len()]);
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

fn splitmix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
