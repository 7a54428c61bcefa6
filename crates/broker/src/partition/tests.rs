//! Who is answered when, over a real log whose flushes the test steps itself.

use std::sync::Arc;
use std::time::Duration;

use thalweg_record::{BatchHeader, ProduceLimits, check_produced};
use thalweg_types::{Acks, LeaderEpoch, NodeId, Offset};

use super::*;
use crate::bench::{Bench, batch, follow, lead, led_by, take_over};

fn header(batch: &[u8]) -> BatchHeader {
    check_produced(batch, &ProduceLimits::default()).unwrap()
}

fn append(partition: &Partition, records: usize, acks: Acks) -> Result<Pending, AppendError> {
    let batch = batch(records);
    let header = header(&batch);
    partition.append(batch, &header, acks, None)
}

#[tokio::test]
async fn an_append_is_acknowledged_when_its_flush_is_done() {
    let bench = Bench::stepped();
    let partition = bench.leading();

    let pending = append(&partition, 3, Acks::All).unwrap();
    assert_eq!(partition.log().offsets().high_watermark(), Offset(0), "nothing is flushed yet");
    let waiting = tokio::spawn(pending.acknowledged());
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());

    assert!(bench.log_dir.step_flush().unwrap());

    let appended = waiting.await.unwrap().unwrap();
    assert_eq!((appended.base_offset, appended.last_offset), (Offset(0), Offset(2)));
    assert_eq!(partition.log().offsets().high_watermark(), Offset(3));
}

#[tokio::test]
async fn acks_of_the_leader_alone_wait_for_its_flush_too() {
    let bench = Bench::stepped();
    let partition = bench.leading();

    let waiting = tokio::spawn(append(&partition, 1, Acks::Leader).unwrap().acknowledged());
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());

    bench.log_dir.step_flush().unwrap();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn losing_the_leadership_leaves_waiting_producers_an_unknown_outcome() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let pending = append(&partition, 1, Acks::All).unwrap();

    follow(&partition, 9, 7);

    assert_eq!(pending.acknowledged().await, Err(AckError::LeadershipLost));
    let refused = append(&partition, 1, Acks::All).unwrap_err();
    assert!(matches!(
        refused,
        AppendError::NotLeading(NotLeading::NotLeader { leader: NodeId(9), epoch: LeaderEpoch(7) })
    ));
}

#[tokio::test]
async fn too_few_in_sync_replicas_refuse_acks_of_all_and_append_nothing() {
    let bench = Bench::stepped();
    let partition = bench.partition();
    take_over(&partition, &replication::Partition { min_isr: 2, ..led_by(1, 1) });

    let refused = append(&partition, 1, Acks::All).unwrap_err();

    assert!(matches!(refused, AppendError::NotEnoughReplicas { in_sync: 1, required: 2 }));
    assert_eq!(partition.log().offsets().log_end(), Offset(0));
}

#[tokio::test]
async fn with_too_few_in_sync_replicas_nothing_is_committed() {
    let bench = Bench::stepped();
    let partition = bench.partition();
    take_over(&partition, &replication::Partition { min_isr: 2, ..led_by(1, 1) });

    append(&partition, 1, Acks::Leader).unwrap();
    bench.log_dir.step_flush().unwrap();

    assert_eq!(partition.log().offsets().high_watermark(), Offset(0));
}

#[tokio::test]
async fn an_older_leadership_changes_nothing() {
    let bench = Bench::stepped();
    let partition = bench.partition();
    lead(&partition, 5);

    lead(&partition, 4);
    follow(&partition, 9, 4);

    assert_eq!(partition.view(LeaderEpoch::NONE).unwrap().epoch, LeaderEpoch(5));
}

#[tokio::test]
async fn readers_of_other_epochs_are_told_which_way_they_are_wrong() {
    let bench = Bench::stepped();
    let partition = bench.partition();
    lead(&partition, 5);

    let wrong = |epoch| partition.view(LeaderEpoch(epoch)).unwrap_err().code();
    assert_eq!(wrong(4), thalweg_types::ErrorCode::FencedLeaderEpoch);
    assert_eq!(wrong(6), thalweg_types::ErrorCode::UnknownLeaderEpoch);
    assert!(partition.view(LeaderEpoch(5)).is_ok());
}

#[tokio::test]
async fn a_retried_batch_is_acknowledged_with_the_original_offsets_and_not_before_it() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let batch = crate::bench::idempotent_batch(7, 0, 2);
    let header = header(&batch);
    partition.append(batch.clone(), &header, Acks::All, None).unwrap();

    let retried = partition.append(batch, &header, Acks::All, None).unwrap();
    assert!(retried.appended.duplicate);
    let waiting = tokio::spawn(retried.acknowledged());
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!waiting.is_finished(), "the original is not flushed yet");

    bench.log_dir.step_flush().unwrap();
    let appended = waiting.await.unwrap().unwrap();
    assert_eq!(appended.base_offset, Offset(0));
    assert_eq!(partition.log().offsets().log_end(), Offset(2));
}

#[tokio::test]
async fn a_reader_is_told_of_what_is_committed_and_not_of_what_is_only_appended() {
    let bench = Bench::stepped();
    let partition = bench.leading();
    let reader = Arc::new(Notify::new());
    partition.notify_on_change(Arc::clone(&reader));
    let told = |wait| {
        let reader = Arc::clone(&reader);
        async move { tokio::time::timeout(wait, reader.notified()).await.is_ok() }
    };

    append(&partition, 1, Acks::All).unwrap();
    assert!(!told(Duration::from_millis(5)).await);

    bench.log_dir.step_flush().unwrap();
    assert!(told(Duration::from_secs(5)).await);
}
