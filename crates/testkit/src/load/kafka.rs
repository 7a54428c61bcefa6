//! librdkafka as an idempotent producer, behind the client program.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::{GROUP, PACE, Producer, Run};
use crate::client::{Client, parse_ack};
use crate::history::Outcome;
use crate::record_line::RecordLine;

/// Records that the program has and that are not acknowledged: enough for several requests in flight.
const UNANSWERED_MAX: u64 = 2_000;

/// Sends until the run is stopped; the program then waits for its last acknowledgements by itself.
pub(crate) fn produce(run: &Run, producer: &Producer, client: Client, kafka: &str) {
    let place = &producer.place;
    let mut program = client
        .command(kafka, "produce", &[&place.topic, &place.partition.to_string(), "none"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client program starts");
    let stdin = program.stdin.take().expect("standard input is piped");
    let stdout = program.stdout.take().expect("standard output is piped");
    let mut stderr = program.stderr.take().expect("standard error is piped");
    let begun: Mutex<BTreeMap<u64, Duration>> = Mutex::default();
    let answered = AtomicU64::new(0);
    let complaint = thread::scope(|scope| {
        scope.spawn(|| feed(run, producer, stdin, &begun, &answered));
        let complaint = scope.spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
            text
        });
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let (index, offset) = parse_ack(&line);
            let begun = begun.lock().remove(&(index as u64)).expect("acknowledged once");
            run.sent(producer, (index as u64, 1), begun, Outcome::Acknowledged(offset));
            answered.fetch_add(1, Ordering::Relaxed);
        }
        complaint.join().expect("reading does not panic")
    });
    let status = program.wait().expect("the program is ours");
    if !status.success() {
        run.complain(format!("librdkafka, producer {}: {status}: {complaint}", producer.id));
    }
    for (number, begun) in begun.into_inner() {
        run.sent(producer, (number, 1), begun, Outcome::Unknown);
    }
}

fn feed(
    run: &Run,
    producer: &Producer,
    mut stdin: ChildStdin,
    begun: &Mutex<BTreeMap<u64, Duration>>,
    answered: &AtomicU64,
) {
    let mut next = 0;
    while !run.is_stopped() {
        thread::sleep(PACE);
        if next - answered.load(Ordering::Relaxed) > UNANSWERED_MAX {
            continue;
        }
        let now = run.clock.now();
        begun.lock().extend((next..next + GROUP).map(|number| (number, now)));
        let lines: String =
            (next..next + GROUP).map(|number| line(producer, number).to_line()).collect();
        next += GROUP;
        if stdin.write_all(lines.as_bytes()).is_err() {
            // It ended early, and says why.
            return;
        }
    }
}

fn line(producer: &Producer, number: u64) -> RecordLine {
    RecordLine {
        timestamp_ms: 1_700_000_000_000 + i64::try_from(number).unwrap_or(0),
        key: None,
        value: Some(producer.value(number).to_bytes()),
        headers: Vec::new(),
    }
}
