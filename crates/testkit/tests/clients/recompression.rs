//! A topic that chooses its codec: whatever the producer sends, what is stored is compressed with the topic's, and every client reads it.

use std::process::Command;

use thalweg_testkit::{Client, Library, RecordLine, Server, finish, sample};

use crate::assert_same_records;

#[test]
fn a_topic_of_zstd_stores_zstd_whatever_is_produced_and_all_clients_read_it() {
    let test = "a topic's own codec";
    let clients: Vec<_> =
        Library::ALL.into_iter().filter_map(|library| Client::find(library, test)).collect();
    let Some(mut server) = Server::start(test) else { return };
    let Some(first) = clients.first() else { return };
    let kafka = server.kafka();
    let create = ["packed", "1", "compression.type=zstd"];
    first.run(kafka, "create", &create).expect_success();

    let mut written: Vec<RecordLine> = Vec::new();
    for (client, codec) in clients.iter().zip(["lz4", "none", "zstd"]) {
        let records = sample(200);
        let offsets = client.produce(kafka, "packed", 0, codec, &records);
        let expected = (written.len() as i64..).take(records.len()).collect::<Vec<_>>();
        assert_eq!(offsets, expected, "{codec}");
        written.extend(records);
    }
    for client in &clients {
        let read = client.consume(kafka, "packed", 0, 0, written.len());
        assert_same_records(&read, 0, &written);
    }

    // A stop writes everything to segments, where the tool sees it.
    assert!(server.terminate().success());
    let folder = server.data_directory().join("logs/packed-0");
    let mut dump = Command::new(server.program());
    dump.args(["log", "dump", "--output", "json"]).arg(folder);
    let lines = finish(&mut dump, &[]).expect_success();
    let mut records = 0;
    for line in lines.lines().filter(|line| line.contains("\"base_offset\"")) {
        assert!(line.contains(r#""codec":"zstd""#), "{line}");
        let (_, count) = line.split_once(r#""record_count":"#).expect("a count");
        let digits = count.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        records += digits.parse::<usize>().expect("a number");
    }
    assert_eq!(records, written.len());

    server.restart();
    let read = first.consume(server.kafka(), "packed", 0, 0, written.len());
    assert_same_records(&read, 0, &written);
}
