//! Groups of librdkafka's consumers that grow and shrink under load, in both protocols: every record is read, no partition is owned by two at
//! once, and what is committed never goes back.

use std::time::{SystemTime, UNIX_EPOCH};

use thalweg_testkit::members::{
    Member, What, assert_commits_never_go_back, assert_owned_by_one, wait_until_read,
};
use thalweg_testkit::{Client, Library, RecordLine, Server, finish, kcat};

const PARTITIONS: i32 = 6;
const RECORDS_PER_ROUND: i64 = 50;

/// Sessions end soon, and an empty group does not wait long for more members.
const SETTINGS: [(&str, &str); 3] = [
    ("coordinator.groups.initial_rebalance_delay_ms", "300"),
    ("coordinator.groups.consumer_heartbeat_interval_ms", "500"),
    ("coordinator.groups.consumer_session_timeout_ms", "6000"),
];

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("it is before the year 200,000,000")
}

fn records(round: i64, partition: i32) -> Vec<RecordLine> {
    let value = |i| format!("{round} {partition} {i}").into_bytes();
    (0..RECORDS_PER_ROUND)
        .map(|i| RecordLine {
            timestamp_ms: now_ms(),
            key: None,
            value: Some(value(i)),
            headers: Vec::new(),
        })
        .collect()
}

fn grows_and_shrinks(strategy: &str) {
    let test = format!("a group of librdkafka grows and shrinks, {strategy}");
    let Some(client) = Client::find(Library::Librdkafka, &test) else { return };
    let Some(server) = Server::start_with(&test, &SETTINGS) else { return };
    client.run(server.kafka(), "create", &["topic", &PARTITIONS.to_string()]).expect_success();
    let mut round = 0;
    let mut produce = || {
        for partition in 0..PARTITIONS {
            let records = records(round, partition);
            client.produce(server.kafka(), "topic", partition, "none", &records);
        }
        round += 1;
        round * RECORDS_PER_ROUND
    };
    let join = || Member::join(&client, server.kafka(), "topic", "group", strategy);

    let mut members = vec![join()];
    wait_until_read(&members, PARTITIONS, produce());
    members.extend([join(), join()]);
    wait_until_read(&members, PARTITIONS, produce());
    members[1].kill();
    wait_until_read(&members, PARTITIONS, produce());
    members[0].leave();
    wait_until_read(&members, PARTITIONS, produce());
    members.push(join());
    wait_until_read(&members, PARTITIONS, produce());
    for member in [2, 3] {
        members[member].leave();
    }

    assert_owned_by_one(&members);
    assert_commits_never_go_back(&members);
    assert!(members[2].events().iter().any(|event| event.what == What::Own));
}

#[test]
fn a_group_with_range_grows_and_shrinks() {
    grows_and_shrinks("range");
}

#[test]
fn a_group_with_roundrobin_grows_and_shrinks() {
    grows_and_shrinks("roundrobin");
}

#[test]
fn a_group_with_cooperative_sticky_grows_and_shrinks() {
    grows_and_shrinks("cooperative-sticky");
}

#[test]
fn a_group_of_the_consumer_protocol_grows_and_shrinks() {
    grows_and_shrinks("consumer");
}

#[test]
fn a_group_of_kcat_goes_on_where_it_was_after_a_crash() {
    let test = "kcat reads as a group";
    let Some(mut server) = Server::start_with(test, &SETTINGS) else { return };
    let kafka = server.kafka();
    let run = |arguments: &[&str], input: &[u8]| {
        let mut command = kcat(kafka, test)?;
        Some(finish(command.args(arguments), input).expect_success())
    };
    let produce = ["-P", "-t", "lines", "-X", "acks=all"];
    if run(&produce, b"a\nb\nc\n").is_none() {
        return;
    }
    let read = |count: &str| {
        let arguments = ["-X", "auto.offset.reset=earliest", "-q", "-c", count, "-G", "g", "lines"];
        run(&arguments, &[]).expect("kcat was there before")
    };
    assert_eq!(read("3"), "a\nb\nc\n");
    server.kill();
    server.restart();
    run(&produce, b"d\ne\n");
    assert_eq!(read("2"), "d\ne\n");
}
