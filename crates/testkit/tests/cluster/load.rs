//! Load from both protocols while processes are killed, stopped and cut off: what was acknowledged is there in the end, once and in order.

use std::time::Duration;

use thalweg_testkit::{Client, Cluster, Library, Plan, Shape, cluster_loop};

use crate::alone;

/// Time under load; `THALWEG_CLUSTER_SECONDS` says otherwise.
fn time(default_s: u64) -> Duration {
    let given = std::env::var("THALWEG_CLUSTER_SECONDS").ok();
    Duration::from_secs(given.and_then(|text| text.parse().ok()).unwrap_or(default_s))
}

/// What two of three replicas have outlives each of them, and the power loss of all machines.
#[test]
fn a_cluster_with_three_replicas_loses_repeats_and_reorders_nothing() {
    let _alone = alone();
    let test = "a cluster under load, three replicas";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut cluster) = Cluster::start(test, &Shape::new(3, 3, 1)) else { return };
    let seed = std::env::var("THALWEG_CLUSTER_SEED").ok().and_then(|text| text.parse().ok());
    let plan =
        Plan { time: time(90), seed: seed.unwrap_or(12), replicas: 3, through_gateways: false };

    let report = cluster_loop(&mut cluster, client, plan);

    println!("{report}");
    report.expect_sound();
    assert!(report.verdict.acknowledged > 500 && report.troubles.len() > 3, "{report}");
}

/// A client that knows gateways only is spared nothing but what it cannot be told.
#[test]
fn kafka_clients_of_gateways_lose_repeat_and_reorder_nothing_either() {
    let _alone = alone();
    let test = "a cluster under load, through gateways";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut cluster) = Cluster::start(test, &Shape::new(3, 3, 2)) else { return };
    let plan = Plan { time: time(40), seed: 13, replicas: 3, through_gateways: true };

    let report = cluster_loop(&mut cluster, client, plan);

    println!("{report}");
    report.expect_sound();
    assert!(report.verdict.acknowledged > 200 && report.troubles.len() > 2, "{report}");
}

/// Without replicas whatever a broker leads waits until it is back: then everything is there.
#[test]
fn a_cluster_without_replicas_loses_nothing_that_was_on_a_disk() {
    let _alone = alone();
    let test = "a cluster under load, one replica";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut cluster) = Cluster::start(test, &Shape::new(3, 2, 1)) else { return };
    let plan = Plan {
        time: time(20).min(Duration::from_secs(20)),
        seed: 11,
        replicas: 1,
        through_gateways: false,
    };

    let report = cluster_loop(&mut cluster, client, plan);

    println!("{report}");
    report.expect_sound();
    assert!(report.verdict.acknowledged > 500 && report.troubles.len() > 2, "{report}");
}
