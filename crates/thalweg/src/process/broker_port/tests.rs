//! One suite for both ways to the brokers: plain calls in the process, and gRPC routed to the leaders. Real brokers, a real controller.

mod cluster;
mod coordinated;
mod suite;

use std::sync::Arc;
use std::time::Duration;

use thalweg_gateway::port::{BrokerPort as _, ProduceCall};
use thalweg_gateway::{RoutedBrokers, RoutedOptions};
use thalweg_metadata_core::ConfigTarget;
use thalweg_types::{ErrorCode, LogIndex, Outcome, PartitionIndex};
use tokio::time::{sleep, timeout};

use super::LocalBroker;
use cluster::{Cluster, PATIENCE};
use suite::{Suite, batch, idempotent_batch, produce, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_in_the_process_keeps_the_contract() {
    let cluster = Cluster::start(1).await;
    cluster.create("orders", 2).await;
    let port = LocalBroker::new(cluster.broker(0));
    Suite { port: &port, topic: "orders" }.run().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brokers_of_a_cluster_keep_the_contract() {
    let cluster = Cluster::start(3).await;
    cluster.create("orders", 6).await;
    let port = RoutedBrokers::new(cluster.feed().await, RoutedOptions::default());
    Suite { port: &port, topic: "orders" }.run().await;
    drop(port);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_tell_the_same_configs() {
    let cluster = Cluster::start(1).await;
    cluster.create("orders", 1).await;
    let local = LocalBroker::new(cluster.broker(0));
    let routed = RoutedBrokers::new(cluster.feed().await, RoutedOptions::default());
    let targets = [
        ConfigTarget::Topic("orders".to_owned()),
        ConfigTarget::Broker(cluster.broker(0).node_id()),
        ConfigTarget::Cluster,
    ];
    for target in targets {
        let entries = local.describe_configs(target.clone()).await.unwrap();
        assert!(!entries.is_empty());
        assert_eq!(routed.describe_configs(target).await.unwrap(), entries);
    }
    let nowhere = ConfigTarget::Topic("nowhere".to_owned());
    let error = local.describe_configs(nowhere.clone()).await.unwrap_err();
    assert_eq!(routed.describe_configs(nowhere).await.unwrap_err(), error);
    drop((local, routed));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_elsewhere_gets_what_waits_for_it_once_and_in_order() {
    let mut cluster = Cluster::start(2).await;
    cluster.create("orders", 2).await;
    let port = Arc::new(RoutedBrokers::new(cluster.feed().await, RoutedOptions::default()));
    let mut producing = Vec::new();
    for partition in 0..2 {
        let port = Arc::clone(&port);
        producing.push(tokio::spawn(async move {
            for sequence in 0..150 {
                let batch = idempotent_batch(partition, sequence);
                let call = produce("orders", partition, batch);
                let produced = timeout(PATIENCE, port.produce(call)).await.unwrap();
                assert_eq!(produced.unwrap().base_offset.0, i64::from(sequence));
                sleep(Duration::from_millis(2)).await;
            }
        }));
    }
    sleep(Duration::from_millis(100)).await;
    cluster.restart(1).await;
    for producer in producing {
        producer.await.unwrap();
    }
    for partition in 0..2 {
        assert_eq!(read(&*port, "orders", partition).await.len(), 150);
    }
    drop(port);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_about_to_stop_refuses_surely_and_ends_its_streams() {
    let cluster = Cluster::start(1).await;
    cluster.create("orders", 1).await;
    let port = RoutedBrokers::new(cluster.feed().await, RoutedOptions::default());
    port.produce(produce("orders", 0, batch(&["before"]))).await.unwrap();
    cluster.close_streams(0);
    let call = ProduceCall {
        timeout: Duration::from_millis(300),
        ..produce("orders", 0, batch(&["after"]))
    };
    let error = timeout(PATIENCE, port.produce(call)).await.unwrap().unwrap_err();
    assert_eq!(error.outcome, Outcome::NotApplied, "{error}");
    assert_eq!(error.code, ErrorCode::BrokerNotAvailable);
    assert_eq!(read(&port, "orders", 0).await.len(), 1);
    drop(port);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_metadata_covers_every_broker() {
    let cluster = Cluster::start(3).await;
    let port = RoutedBrokers::new(cluster.feed().await, RoutedOptions::default());
    for round in 0..5 {
        let index = cluster.create_unseen(&format!("topic-{round}"), 3).await;
        port.served(LogIndex(index)).await;
        for partition in 0..3 {
            let found = (0..3).filter(|number| {
                let broker = cluster.broker(*number);
                let topic = format!("topic-{round}");
                let topic = thalweg_broker::TopicRef::Name(&topic);
                broker.partition(&topic, PartitionIndex(partition)).is_ok()
            });
            assert_eq!(found.count(), 1, "partition {partition} of round {round}");
        }
    }
    drop(port);
    cluster.stop().await;
}
