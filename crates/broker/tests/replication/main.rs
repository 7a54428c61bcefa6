//! Lives of replicated partitions: brokers that die, come back, lead, are cut off, and lose nothing that they acknowledged.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod peers;
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rig::{Rig, node_id, value_of};
use thalweg_broker::error::FetchError;
use thalweg_broker::fetch::Fetched;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_types::{Acks, ErrorCode, LeaderEpoch, NodeId, Offset};

/// What was acknowledged, by where it is.
type Acknowledged = BTreeMap<Offset, Vec<u8>>;

async fn produce(rig: &Rig, topic: &str, values: std::ops::Range<usize>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for number in values {
        let value = format!("value {number}").into_bytes();
        acknowledged.insert(rig.produce(topic, &value).await, value);
    }
    acknowledged
}

/// Every batch holds one record.
fn assert_has(log: &[Bytes], acknowledged: &Acknowledged) {
    for (offset, value) in acknowledged {
        let batch = &log[usize::try_from(offset.0).unwrap()];
        assert_eq!(value_of(batch), *value, "at {offset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_by_all_is_on_every_replica() {
    let rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    let acknowledged = produce(&rig, "orders", 0..30).await;
    let log = rig.converged("orders", &[1, 2, 3]).await;
    assert_has(&log, &acknowledged);
    assert_eq!(rig.state("orders").isr.len(), 3);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_died_leaves_the_in_sync_replicas_and_comes_back_to_them() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    let mut acknowledged = produce(&rig, "orders", 0..5).await;
    rig.kill(3).await;
    rig.in_sync("orders", 2).await;
    acknowledged.append(&mut produce(&rig, "orders", 5..25).await);
    rig.start(3).await;
    rig.in_sync("orders", 3).await;
    acknowledged.append(&mut produce(&rig, "orders", 25..30).await);
    let log = rig.converged("orders", &[1, 2, 3]).await;
    assert_has(&log, &acknowledged);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_died_is_followed_by_another_and_cuts_off_what_only_it_had() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    let mut acknowledged = produce(&rig, "orders", 0..10).await;
    // Both followers die: what the leader still takes is nowhere else.
    rig.kill(2).await;
    rig.kill(3).await;
    for number in 0..5 {
        let value = format!("lonely {number}").into_bytes();
        assert!(rig.try_produce(1, "orders", &value, Acks::Leader).await.is_some());
    }
    let lonely_end = rig.log(1, "orders").offsets().log_end();
    assert!(rig.log(1, "orders").offsets().high_watermark() < lonely_end);
    rig.kill(1).await;
    // They have everything that was acknowledged by all, and lead again.
    rig.start(2).await;
    rig.start(3).await;
    rig.until("another leads", || rig.leader("orders").is_some_and(|leader| leader != 1)).await;
    acknowledged.append(&mut produce(&rig, "orders", 10..30).await);
    rig.start(1).await;
    rig.in_sync("orders", 3).await;
    let log = rig.converged("orders", &[1, 2, 3]).await;
    assert_has(&log, &acknowledged);
    assert!(log.iter().all(|batch| !value_of(batch).starts_with(b"lonely")));
    rig.stop().await;
}

/// KIP-392.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_answer_readers_with_what_is_committed_and_leave_the_rest_to_the_leader() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    // Another one leads, in a later epoch.
    rig.stop_one(1).await;
    rig.start(1).await;
    rig.in_sync("orders", 3).await;
    produce(&rig, "orders", 0..5).await;
    rig.converged("orders", &[1, 2, 3]).await;
    let leads = rig.leader("orders").unwrap();
    let mut others = (1..=3).filter(|number| *number != leads);
    let (follows, dies) = (others.next().unwrap(), others.next().unwrap());
    let epoch = rig.state("orders").leader_epoch;
    let follower = |from| rig.reading(follows, "orders", from, true);
    let code = |result: Result<Fetched, FetchError>| result.map(|_| ()).unwrap_err().code();

    let fetched = rig.fetch(follows, follower(1)).await.unwrap();
    assert_eq!((fetched.batches.len(), fetched.high_watermark), (4, Offset(5)));
    let leaders_only = rig.reading(follows, "orders", 1, false);
    assert_eq!(code(rig.fetch(follows, leaders_only).await), ErrorCode::NotLeaderOrFollower);
    assert_eq!(code(rig.fetch(follows, follower(6)).await), ErrorCode::OffsetNotAvailable);
    assert_eq!(
        code(rig.fetch(leads, rig.reading(leads, "orders", 6, true)).await),
        ErrorCode::OffsetOutOfRange
    );
    for (given, expected) in
        [(epoch.0 - 1, ErrorCode::FencedLeaderEpoch), (epoch.0 + 1, ErrorCode::UnknownLeaderEpoch)]
    {
        let mut call = follower(1);
        call.partitions[0].reader_epoch = LeaderEpoch(given);
        assert_eq!(code(rig.fetch(follows, call).await), expected);
    }

    // Who waits at a follower is woken by what becomes committed.
    let mut waiting = follower(5);
    (waiting.min_bytes, waiting.max_wait) = (1, rig::PATIENCE);
    let (woken, at) = tokio::join!(rig.fetch(follows, waiting), rig.produce("orders", b"news"));
    assert_eq!((woken.unwrap().batches.len(), at), (1, Offset(5)));

    // The leader knows who else has it.
    let (leader, third) = (node_id(&rig, leads), node_id(&rig, dies));
    rig.converged("orders", &[1, 2, 3]).await;
    let sent_to = |preferred: &[NodeId]| {
        let mut call = rig.reading(leads, "orders", 6, true);
        call.replicas.preferred = preferred.to_vec();
        async { rig.fetch(leads, call).await.unwrap().read_at }
    };
    assert_eq!(sent_to(&[third]).await, Some(third));
    assert_eq!(sent_to(&[leader, NodeId(77)]).await, None, "no in-sync follower");
    rig.kill(dies).await;
    rig.in_sync("orders", 2).await;
    let mut call = rig.reading(leads, "orders", 6, true);
    call.replicas.preferred = vec![third];
    assert_eq!(rig.fetch(leads, call).await.unwrap().read_at, None, "not in sync any more");

    // R11: a follower that has lost its controller may have lost its leader as well.
    rig.cut_from_controller(follows);
    let began = tokio::time::Instant::now();
    while rig.fetch(follows, rig.reading(follows, "orders", 1, true)).await.is_ok() {
        assert!(began.elapsed() < rig::PATIENCE, "it goes on answering");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.stop().await;
}

/// R14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_unclean_election_the_longest_log_that_is_left_is_everybodys() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 1).await;
    let mut kept = produce(&rig, "orders", 0..5).await;
    let first = rig.nodes[&1].broker.node_id();
    rig.kill(3).await;
    rig.in_sync("orders", 2).await;
    kept.append(&mut produce(&rig, "orders", 5..10).await);
    rig.kill(2).await;
    rig.in_sync("orders", 1).await;
    let lost = produce(&rig, "orders", 10..15).await;
    assert_eq!(rig.elect_unclean("orders", false).await.error.unwrap().code, 84, "it has a leader");
    rig.kill(1).await;
    rig.start(2).await;
    rig.start(3).await;
    rig.until("nobody leads", || rig.state("orders").leader.is_none()).await;

    let before = rig.state("orders");
    let planned = rig.elect_unclean("orders", true).await;
    assert_eq!(rig.state("orders"), before, "it was only asked what would be");
    let elected = rig.elect_unclean("orders", false).await;
    assert_eq!(elected, proto::UncleanElection { ..planned }, "as foretold");
    assert_eq!((elected.error, elected.abandoned), (None, vec![first.0]));
    assert_eq!((elected.leader, elected.log_end), (node_id(&rig, 2).0, 10), "not the shorter log");
    let ends: Vec<_> = elected
        .replicas
        .iter()
        .map(|replica| replica.error.is_none().then_some(replica.flushed_end))
        .collect();
    assert_eq!(ends, [None, Some(10), Some(5)]);

    // Who had more cuts it off.
    let newer = produce(&rig, "orders", 20..25).await;
    rig.start(1).await;
    rig.in_sync("orders", 3).await;
    let log = rig.converged("orders", &[1, 2, 3]).await;
    kept.extend(newer);
    assert_has(&log, &kept);
    let is_lost = |batch: &Bytes| !lost.values().any(|value| *value == value_of(batch));
    assert!(log.iter().all(is_lost));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_replica_catches_up_while_others_are_acknowledged() {
    let mut rig = Rig::new(3).await;
    rig.create("large", &[1, 2, 3], 2).await;
    rig.create("quick", &[1, 2, 3], 3).await;
    rig.kill(3).await;
    rig.in_sync("large", 2).await;
    let value = vec![7; 512 << 10];
    for _ in 0..100 {
        rig.produce("large", &value).await;
    }
    rig.start(3).await;
    let large_end = rig.log(1, "large").offsets().log_end();
    let is_behind = |rig: &Rig| rig.log(3, "large").offsets().log_end() < large_end;
    let mut acknowledged = Acknowledged::new();
    let mut waits = Vec::new();
    while is_behind(&rig) || acknowledged.len() < 20 {
        let began = std::time::Instant::now();
        acknowledged.append(&mut produce(&rig, "quick", waits.len()..waits.len() + 1).await);
        waits.push(began.elapsed());
    }
    waits.sort_unstable();
    let (median, last) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{} acknowledged beside the catch-up: median {median:?}, longest {last:?}",
        waits.len()
    );
    assert!(median < Duration::from_secs(5), "acknowledgements took {median:?}");
    rig.in_sync("large", 3).await;
    rig.converged("large", &[1, 2, 3]).await;
    let log = rig.converged("quick", &[1, 2, 3]).await;
    assert_has(&log, &acknowledged);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_from_the_controller_stops_by_itself_and_what_it_took_is_gone() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    let mut acknowledged = produce(&rig, "orders", 0..5).await;
    rig.cut_from_controller(1);
    rig.until("another leads", || rig.leader("orders").is_some_and(|leader| leader != 1)).await;
    // It was to stop before the controller gave up on it.
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        assert_eq!(rig.try_produce(1, "orders", b"zombie", acks).await, None);
    }
    acknowledged.append(&mut produce(&rig, "orders", 5..15).await);
    rig.kill(1).await;
    rig.start(1).await;
    rig.in_sync("orders", 3).await;
    let log = rig.converged("orders", &[1, 2, 3]).await;
    assert_has(&log, &acknowledged);
    assert!(log.iter().all(|batch| value_of(batch) != b"zombie"));
    assert!(rig.state("orders").replicas.contains(&node_id(&rig, 1)));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hands_over_leaves_nobody_without_an_answer() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    let mut acknowledged = produce(&rig, "orders", 0..5).await;
    let before = rig.state("orders").leader_epoch;
    let broker = rig.nodes[&1].broker.clone();
    let handing_over = tokio::spawn(async move {
        let began = std::time::Instant::now();
        assert!(broker.hand_over(Duration::from_secs(60)).await, "never let go");
        began.elapsed()
    });
    // Every try is answered: with an acknowledgement, or with a refusal before anything was appended.
    for number in 5..60 {
        let value = format!("value {number}").into_bytes();
        acknowledged.insert(rig.produce_surely(&value, "orders").await, value);
    }
    println!("handed over in {:?}", handing_over.await.unwrap());
    assert!(rig.leader("orders").is_some_and(|leader| leader != 1));
    assert!(rig.state("orders").leader_epoch > before);
    rig.stop_one(1).await;
    rig.start(1).await;
    rig.in_sync("orders", 3).await;
    let log = rig.converged("orders", &[1, 2, 3]).await;
    assert_has(&log, &acknowledged);
    assert_eq!(log.len(), acknowledged.len(), "nothing twice");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_files_are_damaged_begins_anew_and_keeps_them_aside() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    let mut acknowledged = produce(&rig, "orders", 0..10).await;
    rig.stop_one(3).await;
    let logs = rig.place(3);
    std::fs::remove_file(logs.join("orders-0").join("00000000000000000000.log")).unwrap();
    acknowledged.append(&mut produce(&rig, "orders", 10..15).await);
    rig.start(3).await;
    rig.in_sync("orders", 3).await;
    let log = rig.converged("orders", &[1, 2, 3]).await;
    assert_has(&log, &acknowledged);
    let names = std::fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().file_name());
    let is_aside = |name: std::ffi::OsString| name.to_string_lossy().ends_with("-stray");
    assert!(names.into_iter().any(is_aside), "the damaged files are kept");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_catches_up_no_faster_than_it_may_and_those_in_sync_do_not_wait() {
    let mut rig = Rig::new(3).await;
    rig.create("large", &[1, 2, 3], 2).await;
    rig.create("quick", &[1, 2, 3], 3).await;
    rig.kill(3).await;
    rig.in_sync("large", 2).await;
    let value = vec![7; 128 << 10];
    for _ in 0..24 {
        rig.produce("large", &value).await;
    }
    // Three megabytes, of which one is let through at once: two seconds at the least.
    let rate = 1 << 20;
    rig.configure_all("leader.replication.throttled.rate", &rate.to_string()).await;
    rig.start(3).await;
    let began = std::time::Instant::now();
    let large_end = rig.log(1, "large").offsets().log_end();
    // In sync, and so not held back, though the large one is.
    rig.in_sync("quick", 3).await;
    let acknowledged = produce(&rig, "quick", 0..5).await;
    assert_eq!(acknowledged.len(), 5);
    rig.until("caught up", || rig.log(3, "large").offsets().log_end() >= large_end).await;
    let took = began.elapsed();
    println!("3 MiB caught up in {took:?}");
    assert!(took > Duration::from_millis(1_500), "it was not held back: {took:?}");
    rig.in_sync("large", 3).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_finds_its_files_damaged_gives_way_and_keeps_them_aside() {
    let mut rig = Rig::new(3).await;
    rig.create("orders", &[1, 2, 3], 2).await;
    rig.kill(3).await;
    rig.in_sync("orders", 2).await;
    // More than the tail holds: what comes first is read from the disk.
    let value = vec![7; 512 << 10];
    for _ in 0..50 {
        rig.produce("orders", &value).await;
    }
    let segment = rig.place(1).join("orders-0").join("00000000000000000000.log");
    let is_written = || std::fs::metadata(&segment).is_ok_and(|file| file.len() > 4 << 20);
    rig.until("the segment is written", is_written).await;
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 1 << 20).unwrap();
    file.sync_all().unwrap();

    rig.start(3).await;
    rig.in_sync("orders", 3).await;
    assert_eq!(rig.converged("orders", &[1, 2, 3]).await.len(), 50);
    let names = std::fs::read_dir(rig.place(1)).unwrap().map(|entry| entry.unwrap().file_name());
    let is_aside = |name: std::ffi::OsString| name.to_string_lossy().ends_with("-stray");
    assert!(names.into_iter().any(is_aside), "the damaged files are kept");
    rig.stop().await;
}
