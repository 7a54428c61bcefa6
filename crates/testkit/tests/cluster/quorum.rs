//! Three controllers: whichever decides, and whoever dies, what was decided stays.

use std::time::{Duration, Instant};

use thalweg_testkit::network::{Fault, Party};
use thalweg_testkit::{Client, Cluster, Library, Shape, finish, sample};

use crate::alone;

fn topic_exists(client: Client, cluster: &Cluster, broker: usize, topic: &str) -> bool {
    let described = client.run(cluster.kafka(broker), "describe", &[topic]);
    described.status.success() && !described.stdout.is_empty()
}

#[test]
fn a_cluster_outlives_its_controllers_one_by_one_and_all_together() {
    let _alone = alone();
    let test = "a cluster and its controllers";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut cluster) = Cluster::start(test, &Shape::new(3, 2, 1)) else { return };
    let create = |cluster: &Cluster, broker, topic: &str| {
        // A broker may still be asking a controller that is gone: then it does not know whether the topic was made, and says so.
        let created = client.run(cluster.kafka(broker), "create", &[topic, "2"]);
        if !created.status.success() {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !topic_exists(client, cluster, broker, topic) {
                assert!(Instant::now() < deadline, "{topic}: {}", created.stderr);
                client.run(cluster.kafka(broker), "create", &[topic, "2"]);
            }
        }
    };
    create(&cluster, 1, "first");
    let command = |cluster: &Cluster, arguments: &[&str], input: &[u8]| {
        finish(&mut cluster.command(arguments), input).expect_success()
    };
    // Enough partitions for both brokers, whichever leads which.
    command(&cluster, &["topic", "create", "lines", "--partitions", "6"], b"");
    let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
    command(&cluster, &["produce", "lines"], lines.as_bytes());

    let first = cluster.wait_active_controller(None);
    cluster.kill(Party::Controller(first));
    let second = cluster.wait_active_controller(Some(first));
    create(&cluster, 2, "second");

    // One of the two that are left is there and silent: nobody may decide.
    let other = (1..=3).find(|number| ![first, second].contains(number)).expect("a third");
    cluster.pause(Party::Controller(second));
    cluster.wait_readiness(Party::Controller(other), false, "no active controller");
    cluster.resume(Party::Controller(second));
    cluster.restart(Party::Controller(first));
    let third = cluster.wait_active_controller(None);
    create(&cluster, 1, "third");

    // Cut off from everybody, it decides nothing any more, and finds back by itself.
    cluster.isolate(Party::Controller(third), Fault::Hold);
    cluster.wait_readiness(Party::Controller(third), false, "cannot decide");
    let fourth = cluster.wait_active_controller(Some(third));
    create(&cluster, 2, "fourth");
    cluster.wait_readiness(Party::Controller(fourth), true, "");
    cluster.network().heal();

    let records = sample(100);
    client.produce(cluster.kafka(1), "first", 0, "none", &records);
    for party in cluster.parties() {
        cluster.kill(party);
    }
    for party in cluster.parties() {
        cluster.spawn(party);
    }
    for party in cluster.parties() {
        cluster.wait_ready(party);
        cluster.wait_readiness(party, true, "");
    }
    for topic in ["first", "second", "third", "fourth"] {
        assert!(topic_exists(client, &cluster, 1, topic), "{topic}");
    }
    let read = client.consume(cluster.kafka(2), "first", 0, 0, records.len());
    let read: Vec<_> = read.into_iter().map(|(_, record)| record).collect();
    assert_eq!(read, records);
    let mut read: Vec<_> =
        command(&cluster, &["consume", "lines"], b"").lines().map(str::to_owned).collect();
    read.sort_unstable_by_key(|line| (line.len(), line.clone()));
    assert!(read.iter().eq(lines.lines()), "{read:?}");
    // Controllers last: a broker that stops gives what it leads to others.
    for party in cluster.parties().into_iter().rev() {
        let status = cluster.terminate(party);
        assert!(status.success(), "{party}: {status}\n{}", cluster.log(party));
    }
}
