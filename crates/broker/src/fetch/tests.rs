//! Long poll, limits and look-ups over a real log directory.

use std::time::Instant;

use thalweg_record::{BatchHeader, Batches, ProduceLimits, check_produced};
use thalweg_types::{Acks, PartitionIndex};

use super::*;
use crate::bench::{Bench, batch};

fn produce(partition: &Partition, records: usize) {
    let batch = batch(records);
    let header: BatchHeader = check_produced(&batch, &ProduceLimits::default()).unwrap();
    partition.append(batch, &header, Acks::All, None).unwrap();
}

fn call(partition: &Arc<Partition>, offset: i64) -> FetchCall {
    FetchCall {
        partitions: vec![FetchPartition {
            target: Ok(Arc::clone(partition)),
            offset: Offset(offset),
            max_bytes: 1 << 20,
            reader_epoch: LeaderEpoch::NONE,
        }],
        first: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        max_wait: Duration::from_secs(20),
        isolation: IsolationLevel::ReadUncommitted,
        replicas: Replicas::default(),
    }
}

fn base_offsets(fetched: &Fetched) -> Vec<i64> {
    let batches = fetched.batches.iter().flat_map(|slice| Batches::new(slice));
    batches.map(|batch| batch.unwrap().0.base_offset.0).collect()
}

async fn only(call: FetchCall) -> Result<Fetched, FetchError> {
    fetch(&call, None).await.pop().unwrap()
}

#[tokio::test]
async fn a_fetch_gets_whole_batches_from_the_one_that_holds_its_offset() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    for _ in 0..3 {
        produce(&partition, 2);
    }
    bench.log_dir.step_flush().unwrap();

    let fetched = only(call(&partition, 3)).await.unwrap();

    assert_eq!(base_offsets(&fetched), [2, 4]);
    assert_eq!(fetched.high_watermark, Offset(6));
}

#[tokio::test]
async fn what_is_not_committed_is_not_readable() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    produce(&partition, 1);
    bench.log_dir.step_flush().unwrap();
    produce(&partition, 1);

    let fetched = only(call(&partition, 0)).await.unwrap();

    assert_eq!(base_offsets(&fetched), [0]);
}

#[tokio::test]
async fn a_long_poll_ends_when_something_is_committed() {
    let bench = Bench::running();
    let partition = bench.leading();
    let waiting = tokio::spawn(only(call(&partition, 0)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());

    produce(&partition, 1);

    let fetched = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    assert_eq!(base_offsets(&fetched.unwrap().unwrap()), [0]);
}

#[tokio::test]
async fn a_long_poll_without_news_ends_at_its_time_and_leaves_no_reader_behind() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let asked = Instant::now();

    let wait = Duration::from_millis(30);
    let fetched = only(FetchCall { max_wait: wait, ..call(&partition, 0) }).await.unwrap();

    assert!(fetched.batches.is_empty());
    assert!(asked.elapsed() >= wait);
    assert_eq!(partition.reader_count(), 0);
}

#[tokio::test]
async fn an_offset_outside_the_log_is_told_at_once() {
    let bench = Bench::stepped();
    let partition = bench.leading();

    for offset in [-1, 1, i64::MAX] {
        let error = only(call(&partition, offset)).await.unwrap_err();
        assert!(matches!(error, FetchError::OutOfRange { .. }), "{offset}: {error}");
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_limit_is_sent_when_it_is_the_first() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    for _ in 0..2 {
        produce(&partition, 50);
    }
    bench.log_dir.step_flush().unwrap();

    let fetched = only(FetchCall { max_bytes: 1, ..call(&partition, 0) }).await.unwrap();

    assert_eq!(base_offsets(&fetched), [0]);
}

#[tokio::test]
async fn written_behind_and_forgotten_in_memory_the_same_bytes_come_from_the_segment() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    for _ in 0..3 {
        produce(&partition, 2);
    }
    bench.log_dir.step_flush().unwrap();
    let from_memory = only(call(&partition, 0)).await.unwrap();
    bench.log_dir.shutdown().unwrap();
    let reopened = bench.reopen();
    let partition = reopened.leading_again();

    let from_disk = only(call(&partition, 0)).await.unwrap();

    assert_eq!(from_disk.batches.concat(), from_memory.batches.concat());
}

#[tokio::test]
async fn the_ends_of_the_log_and_a_time_in_it_are_found() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    produce(&partition, 4);
    bench.log_dir.step_flush().unwrap();
    let list = async |query| {
        let isolation = IsolationLevel::ReadUncommitted;
        let found = list_offset(&partition, query, isolation, LeaderEpoch::NONE).await.unwrap();
        found.map(|found| (found.offset.0, found.timestamp.0))
    };

    assert_eq!(list(OffsetQuery::Earliest).await, Some((0, -1)));
    assert_eq!(list(OffsetQuery::Latest).await, Some((4, -1)));
    assert_eq!(list(OffsetQuery::MaxTimestamp).await, Some((0, 1_000)));
    assert_eq!(list(OffsetQuery::Timestamp(Timestamp(1))).await, Some((0, 1_000)));
    assert_eq!(list(OffsetQuery::Timestamp(Timestamp(1_001))).await, None);
}

#[tokio::test]
async fn an_unknown_partition_does_not_keep_the_others_waiting() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let mut call = call(&partition, 0);
    call.partitions.push(FetchPartition {
        target: Err(Unknown::TopicOrPartition),
        offset: Offset(0),
        max_bytes: 1,
        reader_epoch: LeaderEpoch::NONE,
    });

    let answer = fetch(&call, None).await;

    assert!(answer[0].is_ok());
    assert!(matches!(answer[1], Err(FetchError::Unknown(Unknown::TopicOrPartition))));
    assert_eq!(partition.name().partition, PartitionIndex(0));
}

#[tokio::test]
async fn what_is_looked_at_first_gets_the_room_and_answers_keep_the_order_asked() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    produce(&partition, 50);
    bench.log_dir.step_flush().unwrap();
    let mut call = FetchCall { max_bytes: 1, ..call(&partition, 0) };
    for _ in 0..2 {
        call.partitions.push(FetchPartition {
            target: Ok(Arc::clone(&partition)),
            offset: Offset(0),
            max_bytes: 1 << 20,
            reader_epoch: LeaderEpoch::NONE,
        });
    }

    for first in 0..3 {
        call.first = first;
        let answer = fetch(&call, None).await;
        let has_records = |one: &Result<Fetched, _>| !one.as_ref().unwrap().batches.is_empty();
        let with_records: Vec<_> = answer.iter().map(has_records).collect();
        let expected: Vec<_> = (0..3).map(|place| place == first).collect();
        assert_eq!(with_records, expected);
    }
}

#[tokio::test]
async fn an_answer_is_no_larger_than_memory_allows_and_holds_its_share_until_it_is_gone() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    for _ in 0..50 {
        produce(&partition, 1000);
    }
    bench.log_dir.step_flush().unwrap();
    let all: usize = only(call(&partition, 0)).await.unwrap().batches.iter().map(Bytes::len).sum();
    assert!(all > 300_000, "{all}");
    // The least there can be: an answer may have 64 KiB.
    let memory = FetchMemory::new(0);

    let answer = fetch(&call(&partition, 0), Some(&memory)).await.pop().unwrap().unwrap();
    let bytes: usize = answer.batches.iter().map(Bytes::len).sum();
    assert!(!base_offsets(&answer).is_empty());
    assert!(bytes <= 64 * 1024, "{bytes}");

    let same = call(&partition, 0);
    let mut others = Vec::new();
    for _ in 0..3 {
        others.extend(fetch(&same, Some(&memory)).await);
    }
    assert!(others.iter().all(Result::is_ok));
    let mut one_more = Box::pin(fetch(&same, Some(&memory)));
    let wait = Duration::from_millis(20);
    assert!(tokio::time::timeout(wait, &mut one_more).await.is_err());
    assert!(memory.is_short());
    drop(answer);
    assert!(one_more.await.pop().unwrap().is_ok());
}
