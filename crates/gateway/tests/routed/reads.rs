//! Reading from several brokers as if they were one.

use std::sync::Arc;
use std::time::Duration;

use thalweg_gateway::RoutedOptions;
use thalweg_gateway::port::{
    BrokerPort as _, FetchCall, FetchPartition, FetchedPartition, OffsetQuery, ProduceCall,
};
use thalweg_metadata_core::ConfigTarget;
use thalweg_rpc::Error;
use thalweg_types::{
    ErrorCode, IsolationLevel, LeaderEpoch, NodeId, Offset, Outcome, PartitionIndex, TopicName,
};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, numbered};

fn from(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        topic: TopicName::new("orders").unwrap(),
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        max_bytes: 1 << 20,
        current_leader_epoch: LeaderEpoch::NONE,
    }
}

fn call(partitions: Vec<FetchPartition>, min_bytes: usize, max_wait: Duration) -> FetchCall {
    FetchCall {
        partitions,
        min_bytes,
        max_bytes: 1 << 20,
        max_wait,
        isolation: IsolationLevel::ReadUncommitted,
        rack: String::new(),
    }
}

fn to(partition: i32, number: i32) -> ProduceCall {
    ProduceCall { partition: PartitionIndex(partition), ..numbered("orders", number) }
}

/// Partition and number of batches of each answer, in order; the error where there is one.
fn shape(fetched: &[FetchedPartition]) -> Vec<(i32, Result<usize, ErrorCode>)> {
    let one = |fetched: &FetchedPartition| {
        let found = fetched.result.as_ref();
        (fetched.partition.0, found.map(|found| found.batches.len()).map_err(|error| error.code))
    };
    fetched.iter().map(one).collect()
}

async fn fetch(cluster: &Cluster, call: FetchCall) -> Vec<FetchedPartition> {
    timeout(PATIENCE, cluster.routed.fetch(call)).await.expect("it takes less").unwrap()
}

/// Two batches in each of three partitions, which three brokers lead.
async fn filled() -> Cluster {
    let cluster = Cluster::start(3, "orders").await;
    for partition in 0..3 {
        for number in 0..2 {
            cluster.produce(to(partition, number)).await.unwrap();
        }
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_several_brokers_come_in_the_order_of_the_call() {
    let cluster = filled().await;
    let partitions = vec![from(2, 0), from(0, 1), from(1, 2)];
    let fetched = fetch(&cluster, call(partitions, 1, PATIENCE)).await;
    assert_eq!(shape(&fetched), [(2, Ok(2)), (0, Ok(1)), (1, Ok(0))]);
    assert_eq!(fetched[2].result.as_ref().unwrap().high_watermark, Offset(2));

    let fetched = fetch(&cluster, call(vec![from(1, 0), from(0, 0)], 0, Duration::ZERO)).await;
    assert_eq!(shape(&fetched), [(1, Ok(2)), (0, Ok(2))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_when_the_brokers_have_enough_together() {
    let cluster = Arc::new(filled().await);
    let one = cluster.logs.of("orders", 0)[0].len();
    let partitions = vec![from(0, 2), from(1, 2), from(2, 2)];
    let reading = {
        let (cluster, call) = (Arc::clone(&cluster), call(partitions, 3 * one, PATIENCE));
        tokio::spawn(async move { fetch(&cluster, call).await })
    };
    // All on one broker, which alone is asked for a third of it at first.
    for number in 2..4 {
        cluster.produce(to(1, number)).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        assert!(!reading.is_finished());
    }
    cluster.produce(to(1, 4)).await.unwrap();
    let fetched = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(shape(&fetched), [(0, Ok(0)), (1, Ok(3)), (2, Ok(0))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_brokers_together_stay_within_the_bound_of_the_call() {
    let cluster = filled().await;
    let one = cluster.logs.of("orders", 0)[0].len();
    let partitions = vec![from(0, 0), from(1, 0), from(2, 0)];
    let call = FetchCall { max_bytes: 2 * one, ..call(partitions, 1, PATIENCE) };
    let fetched = fetch(&cluster, call.clone()).await;
    assert_eq!(shape(&fetched), [(0, Ok(1)), (1, Ok(1)), (2, Ok(0))]);
    let fetched = fetch(&cluster, FetchCall { max_bytes: 1, ..call }).await;
    assert_eq!(shape(&fetched), [(0, Ok(1)), (1, Ok(0)), (2, Ok(0))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_in_its_place_and_ends_the_wait() {
    let cluster = filled().await;
    let began = Instant::now();
    let fetched =
        fetch(&cluster, call(vec![from(0, 2), from(1, 99), from(2, 0)], 1 << 20, PATIENCE)).await;
    assert_eq!(shape(&fetched), [(0, Ok(0)), (1, Err(ErrorCode::OffsetOutOfRange)), (2, Ok(2))]);
    let fetched = fetch(&cluster, call(vec![from(0, 2), from(7, 0)], 1, PATIENCE)).await;
    assert_eq!(shape(&fetched), [(0, Ok(0)), (7, Err(ErrorCode::UnknownTopicOrPartition))]);
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_follows_a_partition_to_its_new_leader_while_it_waits() {
    let mut cluster = filled().await;
    let routed = Arc::clone(&cluster.routed);
    let reading =
        tokio::spawn(async move { routed.fetch(call(vec![from(0, 2)], 1, PATIENCE)).await });
    sleep(Duration::from_millis(50)).await;
    // The old leader does not even notice.
    cluster.script(1).freeze(true);
    cluster.script(3).lead("orders", 0, 2);
    cluster.announce("orders", 0, Some(3));
    cluster.produce(to(0, 2)).await.unwrap();
    let fetched = timeout(PATIENCE, reading).await.unwrap().unwrap().unwrap();
    assert_eq!(shape(&fetched), [(0, Ok(1))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_does_not_keep_the_records_of_the_others_back() {
    let cluster = filled().await;
    cluster.script(2).freeze(true);
    for _ in 0..3 {
        let began = Instant::now();
        let fetched = fetch(&cluster, call(vec![from(0, 0), from(1, 0)], 1, PATIENCE)).await;
        assert_eq!(shape(&fetched), [(0, Ok(2)), (1, Err(ErrorCode::LeaderNotAvailable))]);
        assert!(began.elapsed() < PATIENCE / 2);
    }
    cluster.script(2).freeze(false);
    let reads_again = async {
        loop {
            let fetched = fetch(&cluster, call(vec![from(1, 0)], 1, PATIENCE)).await;
            if shape(&fetched) == [(1, Ok(2))] {
                return;
            }
        }
    };
    timeout(PATIENCE, reads_again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_leader_the_error_comes_when_the_wait_is_over() {
    let mut cluster = filled().await;
    cluster.announce("orders", 0, None);
    let wait = Duration::from_millis(150);
    let began = Instant::now();
    let fetched = fetch(&cluster, call(vec![from(0, 0)], 1, wait)).await;
    assert_eq!(shape(&fetched), [(0, Err(ErrorCode::LeaderNotAvailable))]);
    assert!(began.elapsed() >= wait);
    let error: &Error = fetched[0].result.as_ref().unwrap_err();
    assert!(error.retriable && error.outcome == Outcome::NotApplied, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_looked_for_until_there_is_a_leader() {
    let options = RoutedOptions { leader_wait_max: PATIENCE, ..RoutedOptions::default() };
    let mut cluster = Cluster::with_options(2, "orders", options).await;
    cluster.produce(to(0, 0)).await.unwrap();
    cluster.script(1).resign("orders", 0);
    let find = |partition| {
        let routed = Arc::clone(&cluster.routed);
        let topic = TopicName::new("orders").unwrap();
        async move {
            let (at, level) = (OffsetQuery::Latest, IsolationLevel::ReadUncommitted);
            routed.list_offset(topic, PartitionIndex(partition), at, level).await
        }
    };
    let nowhere = timeout(PATIENCE, find(9)).await.unwrap().unwrap_err();
    assert_eq!(nowhere.code, ErrorCode::UnknownTopicOrPartition);
    let finding = tokio::spawn(find(0));
    sleep(Duration::from_millis(50)).await;
    assert!(!finding.is_finished());
    cluster.script(2).lead("orders", 0, 2);
    cluster.announce("orders", 0, Some(2));
    let found = timeout(PATIENCE, finding).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(found.offset, Offset(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_living_broker_tells_what_any_may_and_each_its_own_configs() {
    let mut cluster = Cluster::start(2, "orders").await;
    let routed = Arc::clone(&cluster.routed);
    let entries = routed.describe_configs(ConfigTarget::Topic("orders".to_owned())).await.unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["retention.ms"], "what is not in the catalogue here is left out");
    assert_eq!(entries[0].synonyms[0].name, "log.retention.ms");
    for id in 1..=2 {
        let target = ConfigTarget::Broker(NodeId(id));
        assert!(routed.describe_configs(target).await.is_ok());
    }
    let error = routed.describe_configs(ConfigTarget::Broker(NodeId(9))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    assert!(!routed.describe_configs(ConfigTarget::Cluster).await.unwrap().is_empty());

    let _dead = cluster.kill(1);
    for _ in 0..3 {
        let (producer_id, _) = timeout(PATIENCE, routed.init_producer()).await.unwrap().unwrap();
        assert_eq!(producer_id.0, 2000);
    }
}
