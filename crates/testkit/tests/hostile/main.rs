//! Bad input on the live Kafka socket: every case of the table is sent to a real server, and after each of them the server is as it
//! was. The table with the observed answers is `docs/hostile-input.md`.

mod batches;
mod calls;
mod case;
mod crowds;
mod frames;
mod primitives;
mod replicas;
mod sessions;
mod wire;
mod witness;
mod words;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thalweg_kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};
use thalweg_testkit::Server;

use case::{Case, in_words};
use wire::{Arrival, Connection, PATIENCE, frame};
use witness::Witness;
use words::api_versions_0;

/// How much more memory the server may hold after the whole table. The largest single cases expand to some tens of megabytes for a
/// moment; what stays is what the allocator keeps, and the fetch sessions, whose memory is bounded by 32 MiB.
const GROWTH_BYTES_MAX: u64 = 96 * 1024 * 1024;

/// How much more it may hold at any time in between: one batch of the table expands to 48 MiB while it is checked, and a buffer
/// that grows is held twice.
const PEAK_GROWTH_BYTES_MAX: u64 = 192 * 1024 * 1024;

/// One line of the report.
struct Line {
    id: &'static str,
    input: String,
    answer: String,
}

#[test]
fn every_bad_input_gets_its_answer_and_harms_nobody() {
    let Some(mut server) = Server::start("bad input") else { return };
    let mut witness = Witness::begin(server.kafka());
    witness.works();
    let before = server.resident_bytes();
    let mut end_offsets = witness.end_offsets();
    let mut lines = Vec::new();
    let mut wrong = Vec::new();

    for case in table() {
        let name = format!("{} {}", case.id, case.input);
        let begin = Instant::now();
        let answer = case.observe(server.kafka());
        if begin.elapsed() > Duration::from_secs(1) {
            println!("slow: {name}: {:?}", begin.elapsed());
        }
        assert!(server.is_running(), "{name}: the server has ended\n{}", server.log());
        assert!(!server.log().contains("panic"), "{name}:\n{}", server.log());
        witness.works();
        let now = witness.end_offsets();
        if answer != case.expected || now - end_offsets != case.appended {
            wrong.push(format!(
                "{name}: {answer} (expected {}), {} records appended (expected {})",
                case.expected,
                now - end_offsets,
                case.appended
            ));
        }
        let answer = match now - end_offsets {
            0 => answer,
            appended => format!("{answer}, {appended} appended"),
        };
        end_offsets = now;
        lines.push(Line { id: case.id, input: case.input, answer });
    }

    let after = resident_bytes_at_rest(&server, before + GROWTH_BYTES_MAX);
    let peak = server.resident_bytes_peak();
    println!("{}", table_text(&lines));
    println!(
        "{} cases; resident: {} MiB before, {} after, {} at most; slowest good round trip: {:?}",
        lines.len(),
        before >> 20,
        after >> 20,
        peak >> 20,
        witness.slowest()
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(after < before + GROWTH_BYTES_MAX, "memory grew from {before} to {after} bytes");
    assert!(peak < before + PEAK_GROWTH_BYTES_MAX, "memory grew from {before} to {peak} bytes");
    assert_only_one_connection_is_left(server.http());
    survives_a_restart(&mut server, witness, end_offsets);
    assert_documented(&table_text(&lines));
}

/// The memory once it is below `enough`, or some time later: what the allocator holds goes back after half a minute of not being used.
fn resident_bytes_at_rest(server: &Server, enough: u64) -> u64 {
    let deadline = Instant::now() + 4 * PATIENCE;
    loop {
        let bytes = server.resident_bytes();
        if bytes < enough || Instant::now() > deadline {
            return bytes;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whoever has left, in whatever state, is forgotten after a while: the witness alone is connected.
fn assert_only_one_connection_is_left(http: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut socket = TcpStream::connect(http).expect("the operations listener accepts");
        let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        socket.write_all(request).expect("writes");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("text");
        let open = answer.lines().find(|line| {
            line.split(' ').next().is_some_and(|name| name.ends_with("kafka_connections_open"))
        });
        let open = open.expect("the server counts its connections");
        if open.ends_with(" 1") {
            return;
        }
        assert!(Instant::now() < deadline, "{open}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What was stored as it came is no trouble to a server that starts with it.
fn survives_a_restart(server: &mut Server, witness: Witness, end_offsets: i64) {
    server.kill();
    server.restart();
    let mut witness = witness.again(server.kafka());
    witness.works();
    assert_eq!(witness.end_offsets(), end_offsets);
}

#[test]
fn a_slow_client_and_two_hundred_idle_ones_hold_up_nobody() {
    let Some(mut server) = Server::start("slow clients") else { return };
    let address = server.kafka();
    let idle: Vec<_> = (0..200).map(|_| Connection::open(address)).collect();
    let slow = std::thread::spawn(move || {
        let mut connection = Connection::open(address);
        for byte in frame(ApiVersionsRequest::default(), 0) {
            connection.send(&[byte]);
            std::thread::sleep(Duration::from_millis(100));
        }
        in_words(connection.receive(PATIENCE), api_versions_0)
    });
    let mut witness = Witness::begin(address);
    let begin = Instant::now();
    let mut round_trips = 0;
    while !slow.is_finished() {
        witness.works();
        round_trips += 1;
    }
    let elapsed = begin.elapsed();
    println!("{round_trips} good round trips in {elapsed:?}, slowest {:?}", witness.slowest());
    assert_eq!(slow.join().expect("no panic"), "NONE with versions");
    // A hundred milliseconds is the pause between two bytes of the slow client: nobody waits for those.
    assert!(round_trips > 20, "{round_trips} in {elapsed:?}");
    for mut connection in idle {
        let response: ApiVersionsResponse = connection.call(0, ApiVersionsRequest::default());
        assert_eq!(response.error_code, 0);
        assert!(matches!(connection.receive(Duration::from_micros(1)), Arrival::Nothing));
    }
    assert!(server.is_running());
}

fn table() -> Vec<Case> {
    let mut cases = frames::cases();
    cases.extend(primitives::cases());
    cases.extend(batches::cases());
    cases.extend(calls::cases());
    cases.extend(sessions::cases());
    cases.extend(replicas::cases());
    // By number, in the order they were written.
    cases.sort_by_key(|case| case.id[1..].parse::<u32>().expect("B and a number"));
    cases
}

fn table_text(lines: &[Line]) -> String {
    let mut text = String::from("| Case | Sent | Answer |\n|---|---|---|\n");
    for Line { id, input, answer } in lines {
        writeln!(text, "| {id} | {input} | {answer} |").expect("writing to a string");
    }
    text
}

/// Run with `UPDATE_DOCS=1` to write the table anew.
fn assert_documented(table: &str) {
    let path = document();
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let expected = with_section(&text, "cases", table);
    if is_updating_documents() {
        std::fs::write(&path, &expected).expect("writable");
    }
    assert!(
        std::fs::read_to_string(&path).expect("readable") == expected,
        "docs/hostile-input.md is behind the table: run the tests of thalweg-testkit with UPDATE_DOCS=1"
    );
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hostile-input.md")
}

fn is_updating_documents() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

/// The document with what stands between two comments replaced.
fn with_section(text: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin).expect("where the section begins");
    let (_, after) = rest.split_once(&end).expect("where the section ends");
    format!("{before}{begin}{section}{end}{after}")
}
