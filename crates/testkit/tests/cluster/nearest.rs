//! Readers that say where they are read from the in-sync replica there (KIP-392), whatever they speak.

use std::time::{Duration, Instant};

use thalweg_testkit::network::Party;
use thalweg_testkit::{Cluster, Shape, finish, kcat};

use crate::alone;

const BYTES_OUT: &str = "thalweg_broker_out_bytes_total";
const RECORDS: usize = 300;

#[test]
fn readers_of_a_rack_are_answered_by_the_follower_there() {
    let _alone = alone();
    let test = "readers and the follower in their rack";
    let mut shape = Shape::new(1, 2, 1);
    for (broker, rack) in [(1, "here"), (2, "there")] {
        shape = shape.with_own(Party::Broker(broker), "broker.rack", rack);
    }
    let Some(cluster) = Cluster::start(test, &shape) else { return };
    let command =
        |arguments: &[&str]| finish(&mut cluster.command(arguments), b"").expect_success();
    command(&["topic", "create", "lines", "--partitions", "1", "--replication-factor", "2"]);
    let lines: String = (0..RECORDS).map(|number| format!("line {number}\n")).collect();
    finish(&mut cluster.command(&["produce", "lines"]), lines.as_bytes()).expect_success();

    let described = command(&["topic", "describe", "lines", "--output", "json"]);
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    let leader = leader_of(&described);
    let nodes = command(&["cluster", "nodes", "--output", "json"]);
    let nodes: serde_json::Value = serde_json::from_str(&nodes).expect("JSON");
    let mut brokers =
        nodes.as_array().expect("nodes").iter().filter(|node| node["role"] == "broker");
    let follower = brokers.find(|node| node["node_id"] != leader).expect("another broker");
    let rack = follower["rack"].as_str().expect("its rack");
    let (follower, leader) = match rack {
        "here" => (Party::Broker(1), Party::Broker(2)),
        _ => (Party::Broker(2), Party::Broker(1)),
    };
    let read = |party| cluster.metric(party, BYTES_OUT);

    // gRPC. A follower hears what is committed a moment after the leader.
    let before = (read(follower), read(leader));
    let got = command(&["consume", "lines", "--rack", rack, "--count", &RECORDS.to_string()]);
    assert_eq!(got, lines);
    let from_follower = read(follower) - before.0;
    assert!(from_follower >= lines.len() as f64, "{from_follower} bytes of the follower's");
    assert!(read(leader) - before.1 < 1.0, "the leader was not read");

    // Kafka: leaders send nobody away until told to.
    let Some(mut plain) = kcat(bootstrap(&cluster), test) else { return };
    let before = read(follower);
    consume(&mut plain, rack, &lines);
    assert!(read(follower) - before < 1.0, "the follower was not read");
    let selector =
        "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";
    command(&["config", "set", "cluster", selector]);
    let deadline = Instant::now() + Duration::from_secs(60);
    // Every broker takes the config over in its own time.
    while read(follower) - before < 1.0 {
        assert!(Instant::now() < deadline, "the follower is never read");
        let Some(mut sent) = kcat(bootstrap(&cluster), test) else { return };
        consume(&mut sent, rack, &lines);
    }
}

fn bootstrap(cluster: &Cluster) -> std::net::SocketAddr {
    cluster.kafka(1)
}

fn consume(kcat: &mut std::process::Command, rack: &str, lines: &str) {
    kcat.args(["-C", "-t", "lines", "-o", "beginning", "-e", "-q", "-X"]);
    kcat.arg(format!("client.rack={rack}"));
    assert_eq!(finish(kcat, b"").expect_success(), lines);
}

fn leader_of(described: &serde_json::Value) -> serde_json::Value {
    let topic = described.as_array().and_then(|topics| topics.first()).unwrap_or(described);
    topic["partitions"][0]["leader"].clone()
}
