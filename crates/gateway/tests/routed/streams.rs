//! The public streams of a gateway in front of several brokers.

use std::sync::Arc;
use std::time::Duration;

use thalweg_env::SimClock;
use thalweg_gateway::port::NoCoordinators;
use thalweg_gateway::{Gateway, GatewayHandle, GatewayOptions, Metrics, Parts};
use thalweg_proto::consumer::v1 as consumer;
use thalweg_proto::consumer::v1::consumer_client::ConsumerClient;
use thalweg_proto::producer::v1 as producer;
use thalweg_proto::producer::v1::producer_client::ProducerClient;
use thalweg_rpc::channel;
use thalweg_telemetry::Registry;
use thalweg_types::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::cluster::{Cluster, PATIENCE};

/// A gateway with no controller behind it: nothing here asks it.
async fn gateway(cluster: &Cluster) -> (GatewayHandle, Channel) {
    let parts = Parts {
        broker: Arc::clone(&cluster.routed),
        coordinators: Arc::new(NoCoordinators),
        feed: cluster.feed(),
        controller: channel("127.0.0.1:1").unwrap().into(),
        clock: Arc::new(SimClock::new(Timestamp(1))),
        metrics: Arc::new(Metrics::register(&Registry::new())),
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let gateway = Gateway::serve(address, GatewayOptions::default(), parts).await.unwrap();
    let channel = channel(&gateway.local_addr().to_string()).unwrap();
    (gateway, channel)
}

fn record(number: i32) -> producer::ProduceRequest {
    let value = Some(number.to_string().into_bytes().into());
    let records = vec![producer::Record { value, ..Default::default() }];
    producer::ProduceRequest {
        topic: "orders".to_owned(),
        partition: Some(0),
        payload: Some(producer::produce_request::Payload::Records(producer::Records { records })),
        ..Default::default()
    }
}

fn from_the_start() -> consumer::FetchStreamRequest {
    let partitions = (0..2).map(|partition| consumer::FetchPartition {
        topic: "orders".to_owned(),
        partition,
        ..Default::default()
    });
    let start = consumer::FetchStreamStart {
        partitions: partitions.collect(),
        credit_bytes: 1 << 30,
        ..Default::default()
    };
    let message = Some(consumer::fetch_stream_request::Message::Start(start));
    consumer::FetchStreamRequest { message }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_producers_and_consumers_outlive_their_leaders() {
    const COUNT: i32 = 300;
    let mut cluster = Cluster::start(2, "orders").await;
    let (gateway, channel) = gateway(&cluster).await;

    let (grants, granted) = mpsc::channel(1);
    grants.send(from_the_start()).await.unwrap();
    let mut consumer = ConsumerClient::new(channel.clone());
    let mut messages =
        consumer.fetch_stream(ReceiverStream::new(granted)).await.unwrap().into_inner();
    let consuming = tokio::spawn(async move {
        let mut seen: Vec<i32> = Vec::new();
        while seen.len() < usize::try_from(COUNT).unwrap() {
            let message = messages.message().await.unwrap().unwrap();
            for partition in message.partitions {
                assert_eq!(partition.error, None);
                seen.extend(partition.records.iter().map(|record| {
                    let value = record.value.as_ref().unwrap().to_vec();
                    String::from_utf8(value).unwrap().parse::<i32>().unwrap()
                }));
            }
        }
        seen
    });

    let (requests, requested) = mpsc::channel(64);
    let producing = tokio::spawn(async move {
        for number in 0..COUNT {
            requests.send(record(number)).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
    });
    let mut producer = ProducerClient::new(channel);
    let mut answers =
        producer.produce_stream(ReceiverStream::new(requested)).await.unwrap().into_inner();
    let answering = tokio::spawn(async move {
        let mut count = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            let result = answer.result.unwrap();
            assert!(
                matches!(result, producer::produce_stream_response::Result::Produced(_)),
                "{result:?}"
            );
            count += 1;
        }
        count
    });

    for turn in 0..4 {
        sleep(Duration::from_millis(50)).await;
        let (old, new) = if turn % 2 == 0 { (1, 2) } else { (2, 1) };
        cluster.script(old).resign("orders", 0);
        cluster.announce("orders", 0, None);
        sleep(Duration::from_millis(30)).await;
        cluster.script(new).lead("orders", 0, 9);
        cluster.announce("orders", 0, Some(new));
    }
    timeout(PATIENCE, producing).await.unwrap().unwrap();
    assert_eq!(timeout(PATIENCE, answering).await.unwrap().unwrap(), COUNT);
    let all: Vec<i32> = (0..COUNT).collect();
    assert_eq!(timeout(PATIENCE, consuming).await.unwrap().unwrap(), all);
    assert_eq!(cluster.numbers("orders", 0), all);
    drop(grants);
    timeout(PATIENCE, gateway.shutdown()).await.unwrap();
}
