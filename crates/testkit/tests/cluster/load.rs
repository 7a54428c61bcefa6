//! Load from both protocols while processes are killed, stopped and cut off: what was acknowledged is there in the end, once and in order.

use std::time::Duration;

use thalweg_testkit::{Client, Cluster, Library, Plan, Shape, cluster_loop};

/// Without replicas whatever a broker leads waits until it is back: then everything is there.
#[test]
fn a_cluster_without_replicas_loses_nothing_that_was_on_a_disk() {
    let test = "a cluster under load, one replica";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut cluster) = Cluster::start(test, &Shape::new(3, 2, 1)) else { return };
    let plan = Plan { time: Duration::from_secs(20), seed: 11, replicas: 1 };

    let report = cluster_loop(&mut cluster, client, plan);

    println!("{report}");
    report.expect_sound();
    assert!(report.verdict.acknowledged > 500 && report.troubles.len() > 2, "{report}");
}
