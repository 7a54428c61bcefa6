//! What checking produced batches costs: the checksum, and the walk over the records.
//!
//! ```text
//! cargo run --release -p thalweg-record --example check_cost
//! ```
//!
//! One line per size of record and batch: CPU seconds per GB and nanoseconds per record, medians of several runs.

use std::time::Duration;

use thalweg_record::{BatchBuilder, ProduceLimits, check_produced, verify_crc};
use thalweg_types::{CompressionType, Timestamp};

/// Bytes checked in one run.
const RUN_BYTES: usize = 1 << 30;
const RUNS: usize = 9;

fn main() {
    println!(
        "| record | batch | checksum alone, s/GB | whole check, s/GB | walk, s/GB | walk, ns/record |"
    );
    println!("|---|---|---|---|---|---|");
    for value_bytes in [100, 1024] {
        for batch_bytes in [16 << 10, 64 << 10, 1 << 20] {
            line(value_bytes, batch_bytes);
        }
    }
}

fn line(value_bytes: usize, batch_bytes: usize) {
    let value = vec![b'v'; value_bytes];
    let mut builder = BatchBuilder::new(CompressionType::None);
    let mut records = 0_i64;
    while builder.size_estimate() + value_bytes + 32 < batch_bytes {
        let time = Timestamp(1_700_000_000_000 + records / 10);
        builder.push(time, None, Some(&value), &[]).expect("fits");
        records += 1;
    }
    let batch = builder.finish().expect("not empty");
    let header = check_produced(&batch, &ProduceLimits::default()).expect("good");
    // More memory than a core's own caches hold, as batches that come from sockets are.
    let batches: Vec<_> = (0..(8 << 20) / batch.len()).map(|_| batch.to_vec()).collect();
    let rounds = RUN_BYTES / (batches.len() * batch.len());

    let checksum = median(|| {
        for _ in 0..rounds {
            for batch in &batches {
                verify_crc(std::hint::black_box(batch), &header).expect("good");
            }
        }
    });
    let whole = median(|| {
        for _ in 0..rounds {
            for batch in &batches {
                check_produced(std::hint::black_box(batch), &ProduceLimits::default())
                    .expect("good");
            }
        }
    });
    let bytes = (rounds * batches.len() * batch.len()) as f64;
    let per_gb = |time: Duration| time.as_secs_f64() / bytes * 1e9;
    let walk = per_gb(whole) - per_gb(checksum);
    println!(
        "| {value_bytes} B | {} KiB | {:.3} | {:.3} | {walk:.3} | {:.1} |",
        batch_bytes >> 10,
        per_gb(checksum),
        per_gb(whole),
        walk * batch.len() as f64 / records as f64,
    );
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let begin = cpu_time();
            work();
            cpu_time() - begin
        })
        .collect();
    times.sort_unstable();
    times[RUNS / 2]
}

/// Of this thread, from Linux's account of it.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}
