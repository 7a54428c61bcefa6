//! Producing while leaders change, freeze and die: each batch once, in order, and no lie about what became of it.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::poll_immediate;
use futures_util::stream::FuturesOrdered;
use thalweg_gateway::RoutedOptions;
use thalweg_gateway::port::{BrokerPort as _, ProduceCall, Produced};
use thalweg_rpc::Error;
use thalweg_types::{Acks, ErrorCode, Offset, Outcome, PartitionIndex};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, PATIENCE, idempotent, numbered};

/// Hands over so many batches without waiting for answers, a pause after every few, and returns all verdicts in order.
async fn produce_all(
    cluster: &Cluster,
    count: i32,
    call: impl Fn(i32) -> ProduceCall,
) -> Vec<Result<Produced, Error>> {
    let mut verdicts = FuturesOrdered::new();
    for number in 0..count {
        let mut verdict = Box::pin(cluster.produce(call(number)));
        // The first poll hands it over.
        match poll_immediate(&mut verdict).await {
            Some(verdict) => verdicts.push_back(Box::pin(ready(verdict)) as Verdict),
            None => verdicts.push_back(verdict),
        }
        if number % 8 == 7 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    verdicts.collect().await
}

type Verdict<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Produced, Error>> + Send + 'a>>;

fn each_once(count: i32) -> Vec<i32> {
    (0..count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_in_the_middle_of_a_stream_costs_neither_a_batch_nor_the_order() {
    let cluster = Cluster::start(2, "orders").await;
    let (one, two) = (cluster.script(1), cluster.script(2));
    let cluster = Arc::new(tokio::sync::Mutex::new(cluster));
    let routed = Arc::clone(&cluster.lock().await.routed);
    let changes = tokio::spawn({
        let cluster = Arc::clone(&cluster);
        async move {
            for turn in 0..6 {
                sleep(Duration::from_millis(15)).await;
                let (old, new, leader) =
                    if turn % 2 == 0 { (&one, &two, 2) } else { (&two, &one, 1) };
                old.resign("orders", 0);
                sleep(Duration::from_millis(5)).await;
                cluster.lock().await.announce("orders", 0, Some(leader));
                // The new leader takes over a little later than the metadata say.
                sleep(Duration::from_millis(5)).await;
                new.lead("orders", 0, 9);
            }
        }
    });
    let mut verdicts = FuturesOrdered::new();
    for number in 0..400 {
        let routed = Arc::clone(&routed);
        let mut verdict = Box::pin(async move {
            timeout(PATIENCE, routed.produce(numbered("orders", number))).await.expect("in time")
        });
        match poll_immediate(&mut verdict).await {
            Some(verdict) => verdicts.push_back(Box::pin(ready(verdict)) as Verdict),
            None => verdicts.push_back(verdict),
        }
        if number % 8 == 7 {
            sleep(Duration::from_millis(3)).await;
        }
    }
    let offsets: Vec<i64> = verdicts.map(|verdict| verdict.unwrap().base_offset.0).collect().await;
    changes.await.unwrap();
    assert_eq!(offsets, (0..400).collect::<Vec<i64>>());
    assert_eq!(cluster.lock().await.numbers("orders", 0), each_once(400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hesitates_does_not_turn_the_order_round() {
    let cluster = Cluster::start(1, "orders").await;
    let script = cluster.script(1);
    let flapping = tokio::spawn(async move {
        for _ in 0..100 {
            script.resign("orders", 0);
            tokio::task::yield_now().await;
            script.lead("orders", 0, 1);
            sleep(Duration::from_millis(1)).await;
        }
    });
    let verdicts = produce_all(&cluster, 300, |number| numbered("orders", number)).await;
    flapping.await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    assert_eq!(cluster.numbers("orders", 0), each_once(300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_leaves_unknown_outcomes_but_never_a_wrong_one() {
    let mut cluster = Cluster::start(1, "orders").await;
    let first = produce_all(&cluster, 20, |number| numbered("orders", number)).await;
    assert!(first.iter().all(Result::is_ok), "{first:?}");

    cluster.script(1).answer(false);
    let routed = Arc::clone(&cluster.routed);
    let under_way = tokio::spawn(async move { routed.produce(numbered("orders", 20)).await });
    timeout(PATIENCE, async {
        while cluster.numbers("orders", 0).len() < 21 {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    let dead = cluster.kill(1);
    let error = timeout(PATIENCE, under_way).await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::NetworkException, Outcome::Unknown));

    // Nobody is there: surely not applied, when the time is over.
    let call = ProduceCall { timeout: Duration::from_millis(300), ..numbered("orders", 21) };
    let error = cluster.produce(call).await.unwrap_err();
    assert_eq!(error.outcome, Outcome::NotApplied, "{error}");

    cluster.script_of(&dead).answer(true);
    cluster.revive(dead);
    cluster.produce(numbered("orders", 22)).await.unwrap();
    let numbers: Vec<i32> = each_once(21).into_iter().chain([22]).collect();
    assert_eq!(cluster.numbers("orders", 0), numbers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_idempotent_producer_sent_to_a_killed_broker_is_sent_again() {
    let mut cluster = Cluster::start(2, "orders").await;
    cluster.script(1).answer(false);
    let routed = Arc::clone(&cluster.routed);
    let under_way = tokio::spawn(async move {
        let calls = (0..50).map(|number| routed.produce(idempotent("orders", number)));
        futures_util::future::join_all(calls).await
    });
    timeout(PATIENCE, async {
        while cluster.numbers("orders", 0).is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    let _dead = cluster.kill(1);
    sleep(Duration::from_millis(50)).await;
    cluster.script(2).lead("orders", 0, 2);
    cluster.announce("orders", 0, Some(2));
    let verdicts = timeout(PATIENCE, under_way).await.unwrap().unwrap();
    let offsets: Vec<i64> =
        verdicts.into_iter().map(|verdict| verdict.unwrap().base_offset.0).collect();
    assert_eq!(offsets, (0..50).collect::<Vec<i64>>());
    assert_eq!(cluster.numbers("orders", 0), each_once(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_holds_up_its_own_partitions_only_and_not_after_a_new_leader_is_known() {
    let options =
        RoutedOptions { drain_time_max: Duration::from_millis(100), ..RoutedOptions::default() };
    let mut cluster = Cluster::with_options(2, "orders", options).await;
    cluster.produce(numbered("orders", 0)).await.unwrap();
    cluster.script(1).freeze(true);
    let routed = Arc::clone(&cluster.routed);
    let produce = move |call: ProduceCall| {
        let routed = Arc::clone(&routed);
        tokio::spawn(async move { routed.produce(call).await })
    };
    let plain = produce(numbered("orders", 1));
    sleep(Duration::from_millis(100)).await;
    let repeatable = produce(idempotent("orders", 2));
    sleep(Duration::from_millis(100)).await;
    assert!(!plain.is_finished() && !repeatable.is_finished());

    let beside = ProduceCall { partition: PartitionIndex(1), ..numbered("orders", 9) };
    cluster.produce(beside).await.unwrap();

    cluster.script(2).lead("orders", 0, 2);
    cluster.announce("orders", 0, Some(2));
    let error = timeout(PATIENCE, plain).await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::Unknown));
    timeout(PATIENCE, repeatable).await.unwrap().unwrap().unwrap();
    cluster.produce(numbered("orders", 3)).await.unwrap();
    assert_eq!(cluster.numbers("orders", 0), [0, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hint_is_followed_before_the_metadata_say_the_same() {
    let cluster = Cluster::start(2, "orders").await;
    cluster.script(1).resign("orders", 0);
    cluster.script(1).point_to(2, 5);
    cluster.script(2).lead("orders", 0, 5);
    let verdicts = produce_all(&cluster, 20, |number| numbered("orders", number)).await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    assert_eq!(cluster.numbers("orders", 0), each_once(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_is_surely_not_applied_and_what_was_sent_is_unknown() {
    let mut cluster = Cluster::start(1, "orders").await;
    cluster.announce("orders", 0, None);
    let short =
        |number| ProduceCall { timeout: Duration::from_millis(100), ..numbered("orders", number) };
    let error = cluster.produce(short(0)).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::LeaderNotAvailable, Outcome::NotApplied));

    let nowhere = ProduceCall { partition: PartitionIndex(9), ..numbered("orders", 0) };
    let error = cluster.produce(nowhere).await.unwrap_err();
    assert_eq!(
        (error.code, error.outcome),
        (ErrorCode::UnknownTopicOrPartition, Outcome::NotApplied)
    );

    cluster.announce("orders", 0, Some(1));
    cluster.script(1).answer(false);
    let error = cluster.produce(short(1)).await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::Unknown));
    cluster.script(1).answer(true);
    cluster.produce(numbered("orders", 2)).await.unwrap();
    assert_eq!(cluster.numbers("orders", 0), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_topic_that_is_deleted_is_told() {
    let mut cluster = Cluster::start(1, "orders").await;
    cluster.announce("orders", 0, None);
    let routed = Arc::clone(&cluster.routed);
    let waiting = tokio::spawn(async move { routed.produce(numbered("orders", 0)).await });
    sleep(Duration::from_millis(50)).await;
    cluster.delete("orders");
    let error = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (error.code, error.outcome),
        (ErrorCode::UnknownTopicOrPartition, Outcome::NotApplied)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_gives_up_leaves_no_gap_and_takes_nothing_with_it() {
    let mut cluster = Cluster::start(1, "orders").await;
    cluster.announce("orders", 0, None);
    let began = Instant::now();
    let mut given_up = Box::pin(cluster.routed.produce(numbered("orders", 0)));
    assert!(poll_immediate(&mut given_up).await.is_none());
    drop(given_up);
    let routed = Arc::clone(&cluster.routed);
    let kept = tokio::spawn(async move { routed.produce(numbered("orders", 1)).await });
    sleep(Duration::from_millis(20)).await;
    cluster.announce("orders", 0, Some(1));
    timeout(PATIENCE, kept).await.unwrap().unwrap().unwrap();
    assert_eq!(cluster.numbers("orders", 0), [1]);
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_cannot_take_all_memory_for_batches() {
    let options = RoutedOptions { append_bytes_max: 2_000, ..RoutedOptions::default() };
    let cluster = Cluster::with_options(2, "orders", options).await;
    cluster.script(1).freeze(true);
    let mut waiting = Vec::new();
    let error = loop {
        let mut verdict = Box::pin(cluster.routed.produce(numbered("orders", 0)));
        match poll_immediate(&mut verdict).await {
            Some(verdict) => break verdict.unwrap_err(),
            None => waiting.push(verdict),
        }
        assert!(waiting.len() < 100);
    };
    assert_eq!(
        (error.code, error.outcome),
        (ErrorCode::ThrottlingQuotaExceeded, Outcome::NotApplied)
    );
    let beside = ProduceCall { partition: PartitionIndex(1), ..numbered("orders", 9) };
    cluster.produce(beside).await.unwrap();
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acks_a_refusal_is_still_acted_upon() {
    let mut cluster = Cluster::start(2, "orders").await;
    cluster.script(1).resign("orders", 0);
    let routed = Arc::clone(&cluster.routed);
    let under_way = tokio::spawn(async move {
        routed.produce(ProduceCall { acks: Acks::None, ..numbered("orders", 0) }).await
    });
    sleep(Duration::from_millis(30)).await;
    cluster.script(2).lead("orders", 0, 2);
    cluster.announce("orders", 0, Some(2));
    let produced = timeout(PATIENCE, under_way).await.unwrap().unwrap().unwrap();
    assert_eq!(produced.log_append_time, None);
    assert!(produced.base_offset >= Offset::NONE);
    assert_eq!(cluster.numbers("orders", 0), [0]);
}
