//! The three big client libraries, all with their default settings: idempotent producers, consumers by assignment, administration.

use std::net::SocketAddr;

use thalweg_testkit::{Client, Library, RecordLine, Server, sample};

use crate::{CODECS, assert_same_records};

#[test]
fn librdkafka_reads_back_what_it_produced_with_every_codec() {
    reads_back_what_it_produced(Library::Librdkafka);
}

#[test]
fn the_java_client_reads_back_what_it_produced_with_every_codec() {
    reads_back_what_it_produced(Library::Java);
}

#[test]
fn franz_go_reads_back_what_it_produced_with_every_codec() {
    reads_back_what_it_produced(Library::FranzGo);
}

#[test]
fn librdkafka_administers_topics() {
    administers_topics(Library::Librdkafka);
}

#[test]
fn the_java_client_administers_topics() {
    administers_topics(Library::Java);
}

#[test]
fn franz_go_administers_topics() {
    administers_topics(Library::FranzGo);
}

/// Topics come into being by producing to them.
fn reads_back_what_it_produced(library: Library) {
    let test = format!("{library:?} produces and consumes");
    let Some(client) = Client::find(library, &test) else { return };
    let Some(server) = Server::start(&test) else { return };
    round_trips(&client, server.kafka());
}

pub(crate) fn round_trips(client: &Client, kafka: SocketAddr) {
    let records = sample(300);
    for codec in CODECS {
        let topic = format!("round-trip-{codec}");
        let offsets = client.produce(kafka, &topic, 0, codec, &records);
        assert_eq!(offsets, (0..300).collect::<Vec<_>>(), "{codec}");

        let read = client.consume(kafka, &topic, 0, 0, records.len());
        assert_same_records(&read, 0, &records);
    }
    // From the middle of a batch the consumer gets the rest of it.
    let read = client.consume(kafka, "round-trip-lz4", 0, 123, 177);
    assert_same_records(&read, 123, &records[123..]);

    offsets_are_found(client, kafka, &records);
    let refused = client.run(kafka, "consume", &["round-trip-lz4", "0", "301", "1"]);
    refused.expect_failure();
}

/// Earliest, latest, and by time: exactly, between two records, before the first, after the last.
fn offsets_are_found(client: &Client, kafka: SocketAddr, records: &[RecordLine]) {
    let at = |index: usize| records[index].timestamp_ms;
    for (timestamp, expected) in [(at(77), 77), (at(77) + 1, 78), (0, 0), (at(299) + 1, -1)] {
        let arguments = ["round-trip-gzip", "0", &timestamp.to_string()];
        let found = client.run(kafka, "offsets", &arguments).expect_success();
        let expected = format!("earliest 0\nlatest 300\ntimestamp {expected}\n");
        assert_eq!(found, expected, "at {timestamp}");
    }
}

fn administers_topics(library: Library) {
    let test = format!("{library:?} administers topics");
    let Some(client) = Client::find(library, &test) else { return };
    let Some(server) = Server::start(&test) else { return };
    administers(&client, server.kafka());
}

pub(crate) fn administers(client: &Client, kafka: SocketAddr) {
    let run = |verb, arguments: &[&str]| client.run(kafka, verb, arguments);
    let partitions = |topic| run("describe", &[topic]).expect_success().lines().count();

    let created = run("create", &["orders", "2", "retention.ms=123456"]).expect_success();
    assert_eq!(created, "created\n");
    assert_eq!(partitions("orders"), 2);
    let configs = run("configs", &["orders"]).expect_success();
    assert!(configs.lines().any(|line| line == "retention.ms=123456"), "{configs}");
    assert!(configs.lines().any(|line| line == "segment.bytes=1073741824"), "{configs}");

    assert_eq!(run("grow", &["orders", "5"]).expect_success(), "grown\n");
    assert_eq!(partitions("orders"), 5);
    let records = sample(10);
    client.produce(kafka, "orders", 4, "none", &records);
    assert_same_records(&client.consume(kafka, "orders", 4, 0, 10), 0, &records);

    let twice = run("create", &["orders", "2"]).expect_failure();
    assert!(twice.contains("TOPIC_ALREADY_EXISTS") || twice.contains("TopicExists"), "{twice}");
    let shrunk = run("grow", &["orders", "3"]).expect_failure();
    assert!(shrunk.contains("INVALID_PARTITIONS") || shrunk.contains("InvalidPart"), "{shrunk}");
    let listed = run("list", &[]).expect_success();
    assert!(listed.lines().any(|name| name == "orders"), "{listed}");

    assert_eq!(run("delete", &["orders"]).expect_success(), "deleted\n");
    let gone = run("describe", &["orders"]).expect_failure();
    assert!(gone.contains("UNKNOWN_TOPIC") || gone.contains("UnknownTopic"), "{gone}");
    // The same name again is another, empty topic.
    run("create", &["orders", "1"]).expect_success();
    let offsets = run("offsets", &["orders", "0", "0"]).expect_success();
    assert_eq!(offsets, "earliest 0\nlatest 0\ntimestamp -1\n");
}

/// Each library writes its part with another codec, and all of them read the whole.
#[test]
fn what_one_library_produces_every_other_one_reads() {
    let test = "libraries read each other's records";
    let clients: Vec<_> =
        Library::ALL.into_iter().filter_map(|library| Client::find(library, test)).collect();
    let Some(server) = Server::start(test) else { return };
    let mut written = Vec::new();
    for (client, codec) in clients.iter().zip(["snappy", "gzip", "zstd"]) {
        let mut records = sample(100);
        for record in &mut records {
            record.headers.push(("from".to_owned(), Some(codec.into())));
        }
        client.produce(server.kafka(), "shared", 0, codec, &records);
        written.extend(records);
    }
    for client in &clients {
        let read = client.consume(server.kafka(), "shared", 0, 0, written.len());
        assert_same_records(&read, 0, &written);
    }
}
