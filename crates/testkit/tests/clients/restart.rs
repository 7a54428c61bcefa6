//! Restarts on purpose. Crashes are in kill_loop.rs.

use thalweg_testkit::{Client, Library, Server, sample};

use crate::assert_same_records;

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
