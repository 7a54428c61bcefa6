//! Every stored input of every target, then a burst of changed ones: the same ones each time, as many as the seconds allow.
//!
//! `THALWEG_FUZZ_EXECUTIONS` asks for another number of changed inputs, without a limit of time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use thalweg_fuzz::mutate::Mutator;
use thalweg_fuzz::{TARGETS, Target, corpus, find};

/// Changed inputs of one target, and how long they may take together: a slow machine tries fewer.
const EXECUTIONS: usize = 4_000;
const TIME_MAX: Duration = Duration::from_secs(2);

/// A target must have at least so many stored inputs to be worth a replay.
const STORED_MIN: usize = 1;

/// All stored inputs together.
const CORPUS_BYTES_MAX: usize = 1 << 20;

macro_rules! replayed {
    ($($name:ident),* $(,)?) => {
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                replay(find(stringify!($name)).expect("a target of this name"));
            }
        )*
    };
}

replayed! {
    kafka_request, kafka_response, kafka_frame, consumer_protocol,
    batch, batches, decompress_gzip, decompress_snappy, decompress_lz4, decompress_zstd,
    storage_meta, partition_metadata, epoch_checkpoint, file_names, checkpoint, producer_snapshot,
    journal_entry, frames,
    log_dir_index, log_dir_time_index, log_dir_segment, log_dir_snapshot, log_dir_epochs,
    log_dir_checkpoint, log_dir_journal, log_calls,
    raft_record, raft_log, raft_snapshot, raft_answer, metadata_fact,
    grpc_message, grpc_produce, grpc_fetch, grpc_records, grpc_controller,
    settings_file, settings_variables,
}

#[test]
fn every_target_is_replayed_and_the_corpus_stays_small() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, REPLAYED);
    let mut total = 0;
    for target in TARGETS {
        for (name, input) in corpus::read(target).expect("a readable corpus") {
            let bytes_max = corpus::INPUT_BYTES_MAX;
            assert!(input.len() as u64 <= bytes_max, "{}/{name}: {}", target.name, input.len());
            total += input.len();
        }
    }
    assert!(total <= CORPUS_BYTES_MAX, "{total} bytes of corpus");
}

fn replay(target: &Target) {
    let stored = corpus::read(target).expect("a readable corpus");
    assert!(stored.len() >= STORED_MIN, "{}: {} stored inputs", target.name, stored.len());
    for (name, input) in &stored {
        run(target, name, input);
    }
    let made = (target.seeds)();
    for (name, input) in &made {
        run(target, name, input);
    }
    let inputs: Vec<_> = stored.into_iter().chain(made).map(|(_, input)| input).collect();
    let (executions, time_max) = match std::env::var("THALWEG_FUZZ_EXECUTIONS") {
        Ok(count) => (count.parse().expect("a number of executions"), Duration::MAX),
        Err(_) => (EXECUTIONS, TIME_MAX),
    };
    let mut mutator = Mutator::new(seed_of(target.name));
    let (begin, mut changed) = (Instant::now(), 0);
    while changed < executions && begin.elapsed() < time_max {
        run(target, &format!("change {changed}"), &mutator.make(&inputs));
        changed += 1;
    }
    println!("{}: {} stored and made, {changed} changed inputs", target.name, inputs.len());
}

/// Runs one input; a failure says which it was, so that it can be stored.
fn run(target: &Target, name: &str, input: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if outcome.is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} failed on {name}, which is (in hexadecimal) {hex}", target.name);
    }
}

/// Each target has its own changes.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
