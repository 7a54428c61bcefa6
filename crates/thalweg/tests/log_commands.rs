//! `thalweg log`: a real server's files, beside it and after it, whole and damaged.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use thalweg_testkit::Server;

fn thalweg(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    child.stdin.take().expect("piped").write_all(input).expect("all of the input is read");
    child.wait_with_output().expect("an end")
}

fn log(command: &str, path: &Path, more: &[&str]) -> (Option<i32>, String) {
    let path = path.to_str().expect("a path of ours");
    let output = thalweg(&[&["log", command, path], more].concat(), b"");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Copies a data directory's logs as an operator would, journal and all.
fn copy(source: &Path, target: &Path) {
    fs::create_dir_all(target).expect("a directory");
    for entry in fs::read_dir(source).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = target.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a byte");
}

#[test]
fn batches_are_shown_and_damage_is_found_beside_a_server_and_on_a_copy() {
    let Some(mut server) = Server::start("thalweg standalone") else { return };
    let grpc = server.grpc().to_string();
    let client = |arguments: &[&str], input: &[u8]| {
        let output = thalweg(&[arguments, &["--bootstrap", &grpc]].concat(), input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let lines: Vec<u8> = (0..4000).flat_map(|n| format!("value {n}\n").into_bytes()).collect();
    client(&["topic", "create", "t", "--partitions", "2"], b"");
    for (partition, codec) in [("0", "none"), ("1", "zstd")] {
        let shape = ["--partition", partition, "--compression", codec, "--batch-bytes", "4000"];
        client(&[&["produce", "t"], &shape[..]].concat(), &lines);
    }
    let data_dir = server.data_directory();
    let (code, text) = log("verify", &data_dir, &[]);
    assert_eq!(code, Some(0), "beside a running server: {text}");
    assert_eq!(server.terminate().code(), Some(0), "{}", server.log());

    let scratch = tempfile::tempdir().expect("a directory");
    copy(&data_dir, scratch.path());
    let (code, text) = log("verify", scratch.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("sound: 2 partitions, 2 segments"), "{text}");

    let folder = scratch.path().join("logs/t-1");
    let (code, text) = log("dump", &folder, &["--records", "--output", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let (records, batches): (Vec<_>, Vec<_>) =
        objects(&text).into_iter().partition(|object| object.get("offset").is_some());
    let values: Vec<u8> = records
        .iter()
        .flat_map(|record| format!("{}\n", record["value"].as_str().expect("text")).into_bytes())
        .collect();
    assert!(values == lines, "all records, in order");
    assert!(batches.len() > 3);
    let mut next = 0;
    for batch in &batches {
        assert_eq!(batch["base_offset"], next);
        assert_eq!((&batch["codec"], &batch["crc_ok"]), (&"zstd".into(), &true.into()));
        next = batch["last_offset"].as_i64().expect("a number") + 1;
    }
    assert_eq!(next, 4000);

    let segment = folder.join("00000000000000000000.log");
    let at = batches[2]["position"].as_u64().expect("a number");
    flip(&segment, at + 70);
    let (code, text) = log("verify", scratch.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    let expected = format!("t-1/00000000000000000000.log: byte {at}: the batch of offsets");
    assert!(text.contains(&expected), "{text}");
    let (code, text) = log("verify", &folder, &["--output", "json"]);
    assert_eq!((code, &objects(&text)[0]["position"]), (Some(1), &at.into()), "{text}");
    let (code, text) = log("dump", &segment, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(text.lines().filter(|line| line.ends_with(" BAD")).count(), 1, "{text}");
    flip(&segment, at + 70);

    let file = fs::File::options().append(true).open(&segment).expect("a file");
    (&file).write_all(&[0; 3000]).expect("room made and not filled");
    let (code, text) = log("verify", scratch.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("unfinished: "), "{text}");
    file.set_len(at).expect("a cut");
    let (code, text) = log("verify", scratch.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("{at} bytes, ")), "{text}");
}

#[test]
fn a_path_that_holds_no_log_is_wrong_usage() {
    let scratch = tempfile::tempdir().expect("a directory");
    let other = scratch.path().join("notes.txt");
    fs::write(&other, "text").expect("a file");
    for command in ["dump", "verify"] {
        for path in [scratch.path(), &other, &scratch.path().join("nowhere")] {
            let (code, text) = log(command, path, &[]);
            assert_eq!(code, Some(2), "{command} {}: {text}", path.display());
            assert!(text.starts_with("thalweg: "), "{text}");
        }
    }
}
