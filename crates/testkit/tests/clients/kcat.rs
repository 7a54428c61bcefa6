//! Debian's kcat, which links librdkafka 2.0: the oldest client that must work.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use thalweg_testkit::{Client, Library, Server, finish, incompressible, kcat};

/// What `arguments` of kcat produce on standard output.
fn run(command: Option<Command>, arguments: &[&str]) -> Option<Vec<u8>> {
    let finished = finish(command?.args(arguments), &[]);
    assert!(finished.status.success(), "{arguments:?}: {}", finished.stderr);
    Some(finished.stdout)
}

#[test]
fn a_file_comes_back_byte_for_byte() {
    let test = "kcat produces and consumes a file";
    let Some(server) = Server::start(test) else { return };
    a_file_comes_back(test, server.kafka());
}

pub(crate) fn a_file_comes_back(test: &str, kafka: SocketAddr) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("lines");
    // 8 MiB of lines of uneven length: many batches, many fetches.
    let mut lines = String::new();
    for i in 0_usize.. {
        lines.push_str(&format!("line {i} {}\n", "word ".repeat(i % 97)));
        if lines.len() > 8 << 20 {
            break;
        }
    }
    fs::write(&file, &lines).expect("the temporary directory is writable");

    let file = file.to_str().expect("the path is UTF-8");
    let produce = ["-P", "-t", "lines", "-p", "0", "-z", "lz4", "-X", "acks=all", "-l", file];
    if run(kcat(kafka, test), &produce).is_none() {
        return;
    }
    let consume = ["-C", "-t", "lines", "-p", "0", "-o", "beginning", "-e", "-q"];
    let read = run(kcat(kafka, test), &consume).expect("kcat was there before");

    assert!(read == lines.as_bytes(), "{} bytes came back of {}", read.len(), lines.len());
}

#[test]
fn values_above_a_mebibyte_need_a_topic_that_allows_them() {
    let test = "kcat produces large values";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(server) = Server::start(test) else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("value");
    let value = incompressible(7, 3 << 20);
    fs::write(&file, &value).expect("the temporary directory is writable");
    let create = |topic, config| client.run(server.kafka(), "create", &[topic, "1", config]);
    create("large", "max.message.bytes=8388608").expect_success();
    create("small", "max.message.bytes=1048588").expect_success();

    if run(kcat(server.kafka(), test), &produce("large", &file)).is_none() {
        return;
    }
    let consume = ["-C", "-t", "large", "-p", "0", "-o", "beginning", "-e", "-q", "-D", ""];
    let read = run(kcat(server.kafka(), test), &consume).expect("kcat was there before");
    assert!(read == value, "{} bytes came back of {}", read.len(), value.len());

    let mut refused = kcat(server.kafka(), test).expect("kcat was there before");
    let refused = finish(refused.args(produce("small", &file)), &[]);
    assert!(refused.stderr.contains("Message size too large"), "{}", refused.stderr);
    let consume = ["-C", "-t", "small", "-p", "0", "-o", "beginning", "-e", "-q"];
    assert_eq!(run(kcat(server.kafka(), test), &consume), Some(Vec::new()));
}

/// Produces the whole file as one value.
fn produce<'a>(topic: &'a str, file: &'a Path) -> [&'a str; 10] {
    let file = file.to_str().expect("the path is UTF-8");
    ["-P", "-t", topic, "-p", "0", "-X", "message.max.bytes=8000000", "-X", "acks=all", file]
}
