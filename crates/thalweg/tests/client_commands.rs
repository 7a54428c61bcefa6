//! The client commands as a shell runs them, against a server that keeps topics in memory.

#[path = "support/log_server.rs"]
mod log_server;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use log_server::{LogServer, Mishap};
use serde_json::Value;
use thalweg_rpc::ServerHandle;
use tokio::runtime::Runtime;

/// A server, and the commands that talk to it.
struct Shell {
    server: LogServer,
    bootstrap: String,
    _handle: ServerHandle,
    _runtime: Runtime,
}

impl Shell {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let server = LogServer::default();
        let handle = {
            let _entered = runtime.enter();
            server.start()
        };
        let bootstrap = handle.local_addr().expect("on TCP").to_string();
        Self { server, bootstrap, _handle: handle, _runtime: runtime }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(arguments)
            .env("THALWEG_BOOTSTRAP", &self.bootstrap)
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

    fn ok(&self, arguments: &[&str]) -> Vec<u8> {
        succeeded(arguments, self.run(arguments))
    }

    fn ok_with(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        succeeded(arguments, self.run_with(arguments, input))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.ok(arguments)).expect("JSON")
    }
}

fn succeeded(arguments: &[&str], output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{arguments:?}: {}", errors(&output));
    output.stdout
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Lines of many lengths: empty, short, binary, and longer than a batch.
fn lines() -> Vec<u8> {
    let mut text = b"\n\nfirst\r\n\xff\xfe\x00binary\n".to_vec();
    for number in 0..20_000_usize {
        text.extend(std::iter::repeat_n(b'a' + (number % 26) as u8, number % 300));
        text.push(b'\n');
    }
    text.extend(std::iter::repeat_n(b'x', 2_000_000));
    text.push(b'\n');
    text
}

#[test]
fn a_file_comes_back_byte_for_byte() {
    let shell = Shell::new();
    let text = lines();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let path = file.path().to_str().unwrap();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("t-{compression}");
        shell.ok(&["topic", "create", &topic]);
        shell.ok(&["produce", &topic, "--file", path, "--compression", compression]);
        assert!(shell.ok(&["consume", &topic]) == text, "{compression}");
        assert!(shell.server.batch_count(&topic) > 2, "{compression}");
    }
}

#[test]
fn standard_input_without_a_last_newline_keeps_its_last_record() {
    let shell = Shell::new();
    let produce = ["produce", "t", "--create-topic", "--output", "json"];
    let facts: Value = serde_json::from_slice(&shell.ok_with(&produce, b"a\n\nb")).unwrap();
    assert_eq!((facts["records"].as_u64(), facts["bytes"].as_u64()), (Some(3), Some(4)));

    assert_eq!(shell.ok(&["consume", "t"]), b"a\n\nb\n");
    assert_eq!(shell.ok(&["consume", "t", "--no-delimiter"]), b"ab");
    assert_eq!(shell.ok(&["consume", "t", "--delimiter", r"\0|"]), b"a\0|\0|b\0|");

    let empty: Value = serde_json::from_slice(&shell.ok_with(&produce, b"")).unwrap();
    assert_eq!(empty["records"].as_u64(), Some(0));
}

#[test]
fn keys_choose_partitions_and_come_back() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t", "--partitions", "4"]);
    let input: String = (0..100).map(|n| format!("key-{}={n}\n", n % 10)).collect();
    shell.ok_with(&["produce", "t", "--key-separator", "="], input.as_bytes());

    let consumed = shell.ok(&["consume", "t", "--output", "json"]);
    let mut partitions = std::collections::BTreeMap::new();
    let mut values = Vec::new();
    for line in String::from_utf8(consumed).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let key = record["key"].as_str().unwrap().to_owned();
        let partition = record["partition"].as_i64().unwrap();
        assert_eq!(*partitions.entry(key).or_insert(partition), partition);
        values.push(record["value"].as_str().unwrap().parse::<u32>().unwrap());
    }
    values.sort_unstable();
    assert_eq!(values, (0..100).collect::<Vec<_>>());
    let used: std::collections::BTreeSet<_> = partitions.values().collect();
    assert!(used.len() > 1, "{partitions:?}");

    let raw = shell.ok(&["consume", "t", "--key-separator", "=", "--count", "3"]);
    assert_eq!(String::from_utf8(raw).unwrap().matches("key-").count(), 3);
}

#[test]
fn a_chosen_partition_takes_all_records_and_reading_can_begin_anywhere() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t", "--partitions", "3"]);
    shell.ok_with(&["produce", "t", "--partition", "2", "--acks", "1"], b"a\nb\nc\nd\n");

    assert_eq!(shell.ok(&["consume", "t", "--partition", "2", "--from", "2"]), b"c\nd\n");
    assert_eq!(shell.ok(&["consume", "t", "--partition", "1"]), b"");
    assert_eq!(shell.ok(&["consume", "t", "--from", "latest"]), b"");
    assert_eq!(shell.ok(&["consume", "t", "--from", "@0", "--count", "2"]), b"a\nb\n");
    assert_eq!(shell.ok(&["consume", "t", "--from", "2999-01-01T00:00:00Z"]), b"");
    let table = shell.ok(&["consume", "t", "--from", "earliest", "--output", "table"]);
    assert_eq!(String::from_utf8(table).unwrap().lines().count(), 5);
}

#[test]
fn topics_are_created_listed_described_grown_and_deleted() {
    let shell = Shell::new();
    let created = shell.json(&["topic", "create", "a", "--partitions", "2", "--output", "json"]);
    assert_eq!(
        (created["created"].as_bool(), created["partitions"].as_u64()),
        (Some(true), Some(2))
    );
    shell.ok(&["topic", "create", "b"]);
    let again = shell.json(&["topic", "create", "b", "--if-not-exists", "--output", "json"]);
    assert_eq!(again["created"].as_bool(), Some(false));

    let listed = shell.json(&["topic", "list", "--output", "json"]);
    let names: Vec<_> =
        listed.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    let table = String::from_utf8(shell.ok(&["topic", "list"])).unwrap();
    assert!(table.starts_with("NAME  PARTITIONS"), "{table}");

    shell.ok(&["topic", "add-partitions", "a", "--partitions", "5"]);
    let described = shell.json(&["topic", "describe", "a", "--output", "json"]);
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 5);

    shell.ok(&["topic", "delete", "a", "b"]);
    assert_eq!(shell.json(&["topic", "list", "--output", "json"]), Value::Array(Vec::new()));
}

#[test]
fn failures_say_what_and_end_with_one_and_mistakes_with_two() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t"]);
    for (arguments, code, said) in [
        (&["topic", "create", "t"][..], 1, "TOPIC_ALREADY_EXISTS"),
        (&["topic", "describe", "absent"], 1, "UNKNOWN_TOPIC_OR_PARTITION"),
        (&["topic", "delete", "absent"], 1, "1 of 1 failed"),
        (&["topic", "add-partitions", "t", "--partitions", "1"], 1, "1 of 1 failed"),
        (&["produce", "absent"], 1, "UNKNOWN_TOPIC_OR_PARTITION"),
        (&["consume", "absent"], 1, "UNKNOWN_TOPIC_OR_PARTITION"),
        (&["produce", "t", "--file", "/nowhere/file"], 1, "/nowhere/file"),
        (&["produce", "t", "--partition", "1"], 2, "no partition 1"),
        (&["consume", "t", "--partition", "7"], 2, "no partition 7"),
        (&["consume", "t", "--from", "never"], 2, "earliest, latest"),
        (&["topic", "list", "--bootstrap", "127.0.0.1:1"], 1, "cannot reach http://127.0.0.1:1"),
    ] {
        let output = shell.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", errors(&output));
        assert!(errors(&output).contains(said), "{arguments:?}: {}", errors(&output));
    }
}

#[test]
fn a_refused_batch_ends_the_produce_and_tells_what_was_written() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t"]);
    let output = shell.run_with(
        &["produce", "t", "--batch-bytes", "33554432"],
        &[&vec![b'x'; 30 << 20][..], b"\n"].concat(),
    );
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("0 records were acknowledged"), "{}", errors(&output));
}

#[test]
fn mishaps_on_the_way_are_lived_through_and_everything_is_stored_once() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t", "--partitions", "2"]);
    let (well, refused) = (None, Some(Mishap::Refused));
    let (unknown, broken) = (Some(Mishap::Unknown), Some(Mishap::Broken));
    shell.server.mishaps(&[
        // The first ones of all, in the middle, and several in a row.
        refused, broken, unknown, well, well, well, well, unknown, well, well, well, refused, well,
        well, broken, broken, refused, well, unknown, unknown,
    ]);
    let text = lines();
    let produce =
        ["produce", "t", "--partition", "1", "--batch-bytes", "50000", "--output", "json"];
    let output = shell.run_with(&produce, &text);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(errors(&output).contains("trying again"), "{}", errors(&output));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(facts["retries"].as_u64().unwrap() >= 5, "{facts}");
    assert!(shell.ok(&["consume", "t", "--partition", "1"]) == text);
}

#[test]
fn records_get_the_offsets_they_are_expected_to_get_or_are_not_written() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t", "--partitions", "2"]);
    let expecting = |offset| {
        ["produce", "t", "--partition", "1", "--batch-bytes", "10", "--expected-offset", offset]
    };
    shell.server.mishaps(&[None, Some(Mishap::Broken), Some(Mishap::Unknown)]);
    // Several batches, some of them sent twice.
    let text = b"one\ntwo\nthree\nfour\nfive\n";
    shell.ok_with(&expecting("0"), text);
    assert!(shell.server.batch_count("t") > 1);
    let output = shell.run_with(&expecting("4"), b"late\n");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("INVALID_UPDATE_VERSION"), "{}", errors(&output));
    shell.ok_with(&expecting("5"), b"six\n");
    let all = shell.ok(&["consume", "t", "--partition", "1"]);
    assert_eq!(String::from_utf8(all).unwrap(), "one\ntwo\nthree\nfour\nfive\nsix\n");

    for wrong in [
        &["produce", "t", "--expected-offset", "0"][..],
        &["produce", "t", "--partition", "1", "--expected-offset", "-1"],
        &["produce", "t", "--partition", "1", "--expected-offset", "6", "--acks", "0"],
    ] {
        assert_eq!(shell.run_with(wrong, b"x\n").status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_delivered_in_time_is_told_with_the_last_error() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t"]);
    shell.server.mishaps(&[Some(Mishap::Refused); 1_000]);
    let output = shell.run_with(&["produce", "t", "--delivery-timeout", "300ms"], b"a\nb\n");
    assert_eq!(output.status.code(), Some(1));
    for part in ["2 records were not acknowledged within 0.3 s", "NOT_LEADER", "0 records were"] {
        assert!(errors(&output).contains(part), "{}", errors(&output));
    }
    let output = shell.run_with(&["produce", "t", "--acks", "0"], b"a\n");
    assert_eq!(output.status.code(), Some(1), "nobody knows whether it would be stored twice");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t"]);
    shell.ok_with(&["produce", "t"], &lines());
    let mut child = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["consume", "t", "--bootstrap", &shell.bootstrap])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn groups_are_listed_described_and_their_lag_is_told() {
    let shell = Shell::new();
    let names = |facts: &Value| -> Vec<String> {
        let groups = facts.as_array().expect("a list").iter();
        groups.map(|group| group["group"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(names(&shell.json(&["group", "list", "--output", "json"])), ["audit", "billing"]);
    let stable = shell.json(&["group", "list", "--state", "stable", "--output", "json"]);
    assert_eq!(names(&stable), ["billing"]);
    let text = String::from_utf8(shell.ok(&["group", "describe", "billing"])).unwrap();
    assert!(text.contains("orders:0,1") && text.contains("app\\u{1b}[2J"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    let text = String::from_utf8(shell.ok(&["group", "lag", "billing"])).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["billing", "orders", "0", "60", "100", "40", "1m", "30s", "m-1"]);
    assert_eq!(rows[2], ["billing", "orders", "1", "-", "100", "-", "-", "m-1"]);
    let text = String::from_utf8(shell.ok(&["group", "lag", "billing", "--members"])).unwrap();
    assert!(text.contains("m-1") && text.contains("40"), "{text}");
    let output = shell.run(&["group", "describe", "billing", "nobody", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("group nobody: GROUP_ID_NOT_FOUND"), "{}", errors(&output));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(names(&facts), ["billing"]);
}

#[test]
fn a_member_of_a_group_acknowledges_what_it_has_written_and_goes_on_behind_it() {
    let shell = Shell::new();
    shell.ok(&["topic", "create", "t", "--partitions", "1"]);
    shell.ok_with(&["produce", "t", "--batch-bytes", "8"], b"a\nb\nc\nd\ne\n");
    let text = shell.ok(&["consume", "t", "--group", "g", "--count", "3"]);
    assert_eq!(text, b"a\nb\nc\n");
    assert_eq!(shell.server.acknowledged(0), 3);
    let text = shell.ok(&["consume", "t", "--group", "g", "--count", "2", "--output", "json"]);
    assert!(
        String::from_utf8(text).unwrap().starts_with(r#"{"topic":"t","partition":0,"offset":3"#)
    );
    assert_eq!(shell.server.acknowledged(0), 5);
    for wrong in [&["--partition", "0"][..], &["--follow"], &["--from", "7"]] {
        let output = shell.run(&[&["consume", "t", "--group", "g"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", errors(&output));
    }
}

#[test]
fn resets_say_what_they_do_and_what_they_are_refused_for() {
    let shell = Shell::new();
    let offsets = |arguments: &[&str]| -> Vec<(String, i64, i64)> {
        let facts = shell.json(&[&["group", "reset"], arguments, &["--output", "json"]].concat());
        let number = |value: &Value| value.as_i64().expect("a number");
        let row = |row: &Value| {
            let topic = row["topic"].as_str().expect("text").to_owned();
            (topic, number(&row["partition"]), number(&row["offset"]))
        };
        facts.as_array().expect("a list").iter().map(row).collect()
    };
    let orders = |partition, offset| ("orders".to_owned(), partition, offset);
    assert_eq!(offsets(&["audit", "--to", "latest"]), [orders(0, 100)]);
    assert_eq!(offsets(&["audit", "--shift", "-7", "--dry-run"]), [orders(0, 43)]);
    assert_eq!(offsets(&["audit", "--to", "@1234"]), [orders(0, 1_234)]);
    assert_eq!(
        offsets(&["new", "--to", "8", "--topic", "orders", "--partition", "returns:3"]),
        [orders(0, 8), orders(1, 8), ("returns".to_owned(), 3, 8)]
    );
    let codes = [
        (&["group", "reset", "billing", "--to", "latest"][..], 1, "NON_EMPTY_GROUP"),
        (&["group", "reset", "new", "--to", "latest"], 2, "name topics with --topic"),
        (&["group", "reset", "audit"], 2, "--to"),
        (&["group", "reset", "audit", "--to", "1", "--shift", "1"], 2, "cannot be used with"),
        (&["group", "reset", "", "--to", "1"], 2, "GROUP"),
        (&["group", "delete", "audit", "nobody"], 1, "1 of 2 failed"),
        (&["group", "diagnose", "billing"], 1, "stuck-member"),
        (&["group", "diagnose", "audit", "--watch", "2m"], 2, "--watch"),
        (&["group", "diagnose", "audit", "--watch", "1s"], 0, ""),
    ];
    for (arguments, code, message) in codes {
        let output = shell.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", errors(&output));
        assert!(errors(&output).contains(message), "{arguments:?}: {}", errors(&output));
    }
}

#[test]
fn completions_and_help_need_no_server() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(shell.ok(&["completions", name])).unwrap();
        assert!(script.contains("thalweg"), "{name}");
    }
    let help = String::from_utf8(shell.ok(&["produce", "--help"])).unwrap();
    assert!(help.contains("Examples:"), "{help}");
}
