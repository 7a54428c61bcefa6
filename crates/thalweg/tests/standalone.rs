//! The whole system as one process: what it says, what it keeps, how it ends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use thalweg_testkit::Server;

/// Runs a command of the binary to its end.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || {
        // A command that ends early closes its end of the pipe.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("an end");
    feeding.join().expect("a feeder that does not panic");
    output
}

fn client(server: &Server, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let bootstrap = server.grpc().to_string();
    let output = run(&[arguments, &["--bootstrap", &bootstrap]].concat(), input);
    assert!(output.status.success(), "{arguments:?}: {}\n{}", errors(&output), server.log());
    output.stdout
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the listener");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
    range.flat_map(|n| format!("line {n} {}\n", "x".repeat(n as usize % 90)).into_bytes()).collect()
}

#[test]
fn records_come_back_and_survive_a_clean_stop_and_a_kill() {
    let Some(mut server) = Server::start("thalweg standalone") else { return };
    let (first, second, third) = (lines(0..20_000), lines(20_000..30_000), lines(30_000..30_010));
    client(&server, &["topic", "create", "t", "--partitions", "2"], b"");
    client(&server, &["produce", "t", "--partition", "1", "--compression", "zstd"], &first);
    assert!(client(&server, &["consume", "t", "--partition", "1"], b"") == first);

    assert_eq!(server.terminate().code(), Some(0), "{}", server.log());
    server.restart();
    assert!(client(&server, &["consume", "t"], b"") == first);
    client(&server, &["produce", "t", "--partition", "1"], &second);

    server.kill();
    server.restart();
    client(&server, &["produce", "t", "--partition", "1", "--acks", "1"], &third);
    assert!(client(&server, &["consume", "t"], b"") == [first, second, third].concat());
    assert_eq!(server.terminate().code(), Some(0), "{}", server.log());
}

#[test]
fn a_producer_lives_through_kills_and_each_line_is_stored_once_in_order() {
    let Some(mut server) = Server::start("thalweg standalone") else { return };
    client(&server, &["topic", "create", "t"], b"");
    let mut producer = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["produce", "t", "--batch-bytes", "2000", "--bootstrap", &server.grpc().to_string()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut stdin = producer.stdin.take().expect("piped");
    let feeding = std::thread::spawn(move || {
        for part in 0..30 {
            // A producer that ended early says why itself.
            if stdin.write_all(&lines(part * 1_000..(part + 1) * 1_000)).is_err() {
                return;
            }
            // Spread over the kills, so that some of it is under way at each.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    // A producer that finds no server at its start gives up at once.
    client(&server, &["consume", "t", "--follow", "--count", "1"], b"");
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(150));
        server.kill();
        server.restart();
    }
    feeding.join().expect("a feeder that does not panic");
    let output = producer.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}", errors(&output));
    assert!(client(&server, &["consume", "t"], b"") == lines(0..30_000));
}

#[test]
fn topics_can_be_written_to_as_soon_as_they_are_made() {
    let Some(server) = Server::start("thalweg standalone") else { return };
    for number in 0..20 {
        let topic = format!("t-{number}");
        client(
            &server,
            &["produce", &topic, "--create-topic", "--batch-bytes", "100"],
            &lines(0..50),
        );
        assert!(client(&server, &["consume", &topic], b"") == lines(0..50), "{topic}");
    }
    let described = client(&server, &["topic", "describe", "t-3", "--output", "json"], b"");
    let described: Value = serde_json::from_slice(&described).unwrap();
    assert_eq!(
        described[0]["partitions"][0]["leader"],
        described[0]["partitions"][0]["replicas"][0]
    );

    client(&server, &["topic", "delete", "t-3"], b"");
    let bootstrap = server.grpc().to_string();
    let gone = run(&["consume", "t-3", "--bootstrap", &bootstrap], b"");
    assert_eq!(gone.status.code(), Some(1));
    assert!(errors(&gone).contains("UNKNOWN_TOPIC_OR_PARTITION"), "{}", errors(&gone));
}

#[test]
fn following_shows_records_as_they_come() {
    let Some(server) = Server::start("thalweg standalone") else { return };
    client(&server, &["topic", "create", "t"], b"");
    let mut following = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["consume", "t", "--follow", "--bootstrap", &server.grpc().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = following.stdout.take().unwrap();
    for round in 0..3_u8 {
        client(&server, &["produce", "t"], &[b'a' + round, b'\n']);
        let mut line = [0; 2];
        out.read_exact(&mut line).unwrap();
        assert_eq!(line, [b'a' + round, b'\n']);
    }
    following.kill().unwrap();
    following.wait().unwrap();
}

#[test]
fn a_time_finds_the_first_record_that_is_not_older() {
    let Some(server) = Server::start("thalweg standalone") else { return };
    client(&server, &["topic", "create", "t"], b"");
    client(&server, &["produce", "t"], b"before\n");
    std::thread::sleep(std::time::Duration::from_millis(20));
    client(&server, &["produce", "t"], b"after\n");
    let consumed = client(&server, &["consume", "t", "--output", "json"], b"");
    let consumed = String::from_utf8(consumed).unwrap();
    let last: Value = serde_json::from_str(consumed.lines().last().unwrap()).unwrap();

    let from = format!("@{}", last["timestamp_ms"]);
    assert_eq!(client(&server, &["consume", "t", "--from", &from], b""), b"after\n");
}

#[test]
fn metrics_health_and_readiness_are_told_over_http() {
    let Some(server) = Server::start("thalweg standalone") else { return };
    client(&server, &["produce", "t", "--create-topic"], b"one\ntwo\n");

    let ready = get(server.http(), "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("ok      log directory"),
        "{ready}"
    );
    assert!(get(server.http(), "/healthz").starts_with("HTTP/1.1 200"));
    let metrics = get(server.http(), "/metrics");
    for line in [
        "thalweg_broker_records_in_total 2",
        "thalweg_kafka_connections_open 0",
        "thalweg_kafka_received_bytes_total 0",
        "process_cpu_seconds_total",
        "thalweg_gateway_calls_total",
    ] {
        assert!(metrics.contains(line), "no {line:?} in\n{metrics}");
    }
    let names: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), unique.len(), "a metric is there twice:\n{metrics}");
}

#[test]
fn a_taken_port_or_data_directory_ends_the_start_with_the_reason() {
    let Some(server) = Server::start("thalweg standalone") else { return };
    let data_dir = server.data_directory().display().to_string();
    let other = tempfile::tempdir().unwrap();
    let other_dir = other.path().join("data").display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let start = |data_dir: &str, kafka: &str, grpc: &str, http: &str| {
        let addresses = ["--kafka-address", kafka, "--grpc-address", grpc, "--http-address", http];
        run(&[&["standalone", "--data-dir", data_dir][..], &addresses].concat(), b"")
    };
    let any = "127.0.0.1:0";
    for (output, said) in [
        (start(&data_dir, any, any, any), "in use by another process"),
        (start(&other_dir, &taken, any, any), taken.as_str()),
        (start(&other_dir, any, &taken, any), taken.as_str()),
        (start(&other_dir, any, any, &taken), taken.as_str()),
    ] {
        assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
        assert!(errors(&output).contains(said), "{}", errors(&output));
    }
}

#[test]
fn the_settings_in_force_are_printed_with_their_origin_and_mistakes_end_with_two() {
    let printed = run(
        &[
            "standalone",
            "--data-dir",
            "/tmp/nothing-here",
            "--kafka-address",
            "0.0.0.0:0",
            "--print-config",
        ],
        b"",
    );
    let text = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed.status.code(), Some(0));
    assert!(text.contains("data_dir = \"/tmp/nothing-here\""), "{text}");
    assert!(text.contains("# flag --kafka-address"), "{text}");
    assert!(!std::path::Path::new("/tmp/nothing-here").exists());

    let missing = run(&["standalone"], b"");
    assert_eq!(missing.status.code(), Some(2));
    assert!(errors(&missing).contains("standalone.data_dir"), "{}", errors(&missing));
    let absent = run(&["standalone", "--data-dir", "x", "--config", "/nowhere.toml"], b"");
    assert_eq!(absent.status.code(), Some(2));
    assert!(errors(&absent).contains("/nowhere.toml"), "{}", errors(&absent));
}
