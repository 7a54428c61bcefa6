//! Crashes and restarts under a producer that was promised its records are safe.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thalweg_testkit::{Client, Library, RecordLine, Server, incompressible, sample};

use crate::assert_same_records;

/// Records of the run, and how many acknowledgements pass before each crash.
const RECORDS: usize = 12_000;
const CRASHES_AFTER: [usize; 3] = [2_000, 5_000, 8_000];

/// Longest wait for one more acknowledgement. A client backs off before it connects again.
const PATIENCE: Duration = Duration::from_secs(60);

/// An idempotent producer with acks=all runs through three crashes: what is in the log at the end is every record once and in order, and
/// every acknowledged one at the offset it was told.
#[test]
fn kill_minus_nine_loses_repeats_and_reorders_nothing() {
    let test = "kill -9 under a producer";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut server) = Server::start(test) else { return };
    client.run(server.kafka(), "create", &["safe", "1"]).expect_success();
    let records: Vec<_> = (0..RECORDS).map(numbered).collect();

    let mut producer = client
        .command(server.kafka(), "produce", &["safe", "0", "none"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client program starts");
    let acknowledged = AtomicUsize::new(0);
    let offsets = thread::scope(|scope| {
        feed(scope, &mut producer, &records);
        let offsets = collect(scope, &mut producer, &acknowledged);
        for crash_after in CRASHES_AFTER {
            wait_for(&acknowledged, crash_after);
            server.kill();
            let ready = server.restart();
            println!("killed after {crash_after} acknowledgements, ready again in {ready:?}");
        }
        offsets.join().expect("reading acknowledgements does not fail")
    });
    assert!(producer.wait().expect("the producer is ours").success(), "a record was refused");

    let read = client.consume(server.kafka(), "safe", 0, 0, RECORDS);
    assert_same_records(&read, 0, &records);
    let latest = client.run(server.kafka(), "offsets", &["safe", "0", "0"]).expect_success();
    assert!(latest.contains(&format!("latest {RECORDS}\n")), "{latest}");
    assert_eq!(offsets, (0..RECORDS as i64).collect::<Vec<_>>());
}

/// Everything is there after a clean shutdown: topics with their configs, records, and producers' order.
#[test]
fn a_clean_restart_finds_everything() {
    let test = "SIGTERM and restart";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut server) = Server::start(test) else { return };
    let records = sample(500);
    client.run(server.kafka(), "create", &["kept", "3", "retention.ms=777"]).expect_success();
    client.run(server.kafka(), "create", &["logs", "1"]).expect_success();
    client.produce(server.kafka(), "logs", 0, "lz4", &records);

    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.log());
    let ready = server.restart();
    println!("ready again in {ready:?}");

    assert_same_records(&client.consume(server.kafka(), "logs", 0, 0, 500), 0, &records);
    let partitions = client.run(server.kafka(), "describe", &["kept"]).expect_success();
    assert_eq!(partitions.lines().count(), 3);
    let configs = client.run(server.kafka(), "configs", &["kept"]).expect_success();
    assert!(configs.lines().any(|line| line == "retention.ms=777"), "{configs}");
    let offsets = client.produce(server.kafka(), "logs", 0, "lz4", &records[..5]);
    assert_eq!(offsets, [500, 501, 502, 503, 504]);
}

fn numbered(index: usize) -> RecordLine {
    let mut value = format!("{index} ").into_bytes();
    value.extend(incompressible(index as u64, index % 2000));
    RecordLine {
        timestamp_ms: 1_700_000_000_000 + index as i64,
        key: None,
        value: Some(value),
        headers: Vec::new(),
    }
}

/// Hands records over slowly enough that every crash comes in the middle.
fn feed<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    producer: &mut Child,
    records: &'scope [RecordLine],
) {
    let mut stdin = producer.stdin.take().expect("standard input is piped");
    scope.spawn(move || {
        for group in records.chunks(20) {
            let lines: String = group.iter().map(RecordLine::to_line).collect();
            stdin.write_all(lines.as_bytes()).expect("the producer reads to the end");
            thread::sleep(Duration::from_millis(5));
        }
    });
}

/// Counts acknowledgements as they come; returns the offset of each record.
fn collect<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    producer: &mut Child,
    acknowledged: &'scope AtomicUsize,
) -> thread::ScopedJoinHandle<'scope, Vec<i64>> {
    let stdout = producer.stdout.take().expect("standard output is piped");
    scope.spawn(move || {
        let mut offsets = vec![-1; RECORDS];
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let numbers: Vec<i64> =
                line.split(' ').skip(1).filter_map(|part| part.parse().ok()).collect();
            let [index, offset] = numbers[..] else { panic!("not an acknowledgement: {line}") };
            let slot = &mut offsets[usize::try_from(index).expect("an index")];
            assert_eq!(*slot, -1, "record {index} was acknowledged twice");
            *slot = offset;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        offsets
    })
}

fn wait_for(acknowledged: &AtomicUsize, count: usize) {
    let mut last = (0, Instant::now());
    loop {
        let now = acknowledged.load(Ordering::Relaxed);
        if now >= count {
            return;
        }
        if now != last.0 {
            last = (now, Instant::now());
        }
        assert!(last.1.elapsed() < PATIENCE, "no acknowledgement after the first {now}");
        thread::sleep(Duration::from_millis(1));
    }
}
