//! The same clients, of a cluster of which they reach the gateways only.

use thalweg_testkit::{Client, Cluster, Library, Shape, sample};

use crate::assert_same_records;
use crate::kafka::{administers, round_trips};
use crate::kcat::a_file_comes_back;

/// Replicas keep nobody waiting: two brokers, one copy of each partition.
fn cluster(test: &str) -> Option<Cluster> {
    Cluster::start(test, &Shape::new(1, 2, 2).with("broker.num_partitions", "1"))
}

#[test]
fn every_client_does_through_a_gateway_what_it_does_with_a_broker() {
    let test = "clients of gateways";
    let Some(cluster) = cluster(test) else { return };
    for library in Library::ALL {
        let Some(client) = Client::find(library, test) else { continue };
        // Topics of the one before are in the way of the next.
        for codec in crate::CODECS {
            let topic = format!("round-trip-{codec}");
            let _ = client.run(cluster.gateway_kafka(1), "delete", &[&topic]);
        }
        round_trips(&client, cluster.gateway_kafka(1));
        let _ = client.run(cluster.gateway_kafka(1), "delete", &["orders"]);
        administers(&client, cluster.gateway_kafka(2));
    }
    a_file_comes_back(test, cluster.gateway_kafka(2));
}

/// Either gateway leads to every broker: what was written through one is read through the other, and from the brokers.
#[test]
fn it_does_not_matter_by_which_gateway() {
    let test = "clients of two gateways";
    let Some(client) = Client::find(Library::FranzGo, test) else { return };
    let Some(cluster) = cluster(test) else { return };
    let created = client.run(cluster.gateway_kafka(1), "create", &["spread", "8"]);
    created.expect_success();
    for partition in 0..8 {
        let records = sample(20);
        let gateway = cluster.gateway_kafka(1 + partition % 2);
        let partition = i32::try_from(partition).expect("a small number");
        client.produce(gateway, "spread", partition, "none", &records);
        for kafka in [cluster.gateway_kafka(1), cluster.gateway_kafka(2), cluster.kafka(1)] {
            let read = client.consume(kafka, "spread", partition, 0, records.len());
            assert_same_records(&read, 0, &records);
        }
    }
}
