//! Brokers that leave for good: emptied first, stopped, forgotten; refused where the others could not hold what they have.

use serde_json::Value;
use thalweg_testkit::{Cluster, Finished, Shape, finish};

use crate::alone;

fn run(cluster: &Cluster, arguments: &str) -> Finished {
    finish(&mut cluster.command(&arguments.split(' ').collect::<Vec<_>>()), b"")
}

fn json(cluster: &Cluster, arguments: &str) -> Value {
    let output = run(cluster, &format!("{arguments} --output json")).expect_success();
    serde_json::from_str(&output).expect("JSON")
}

/// The id of the broker with most replicas, and how many it has.
fn fullest(cluster: &Cluster) -> (i64, i64) {
    let nodes = json(cluster, "cluster nodes");
    let brokers = nodes.as_array().expect("a list").iter().filter(|node| node["role"] == "broker");
    let of = |node: &Value| (node["node_id"].as_i64(), node["replicas"].as_i64());
    let counted = brokers.map(|node| (of(node).0.expect("an id"), of(node).1.expect("a count")));
    counted.max_by_key(|(_, replicas)| *replicas).expect("brokers")
}

#[test]
fn a_broker_is_emptied_stopped_and_forgotten_and_its_records_are_elsewhere() {
    let _alone = alone();
    let test = "a broker leaves for good";
    let Some(mut cluster) = Cluster::start(test, &Shape::new(1, 4, 1)) else { return };
    run(&cluster, "topic create orders --partitions 6 --replication-factor 3").expect_success();
    let records: String = (0..3000).map(|n| format!("record {n}\n")).collect();
    finish(&mut cluster.command(&["produce", "orders"]), records.as_bytes()).expect_success();
    let (leaving, held) = fullest(&cluster);
    assert!(held > 0);

    let gone = json(&cluster, &format!("cluster decommission {leaving} --wait --timeout 2m"));
    assert_eq!((&gone[0]["node_id"], &gone[0]["result"]), (&leaving.into(), &"gone".into()));

    let nodes = json(&cluster, "cluster nodes");
    let of = |id: i64| nodes.as_array().expect("a list").iter().find(|node| node["node_id"] == id);
    assert!(of(leaving).is_none(), "{nodes}");
    let stopped: Vec<_> = cluster
        .brokers()
        .into_iter()
        .filter(|n| !cluster.is_running(thalweg_testkit::network::Party::Broker(*n)))
        .collect();
    assert_eq!(stopped.len(), 1, "the process of the broker that left has ended");
    let read = run(&cluster, "consume orders --from earliest --count 3000 --output raw");
    let mut read: Vec<_> = read.expect_success().lines().map(str::to_owned).collect();
    read.sort();
    let mut sent: Vec<_> = records.lines().collect();
    sent.sort_unstable();
    assert!(read == sent, "{} of {} records are there", read.len(), sent.len());

    // Three brokers for three replicas: none can go.
    let (next, _) = fullest(&cluster);
    let refused = run(&cluster, &format!("cluster decommission {next} --wait")).expect_failure();
    assert!(refused.contains("orders") && refused.contains("add brokers"), "{refused}");
    let nodes = json(&cluster, "cluster nodes");
    let states = nodes.as_array().expect("a list").iter().map(|node| node["state"].clone());
    assert!(states.into_iter().all(|state| state == "live"), "{nodes}");
}
