//! Fetch, FetchStream and ListOffsets.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use thalweg_proto::common::v1 as common;
use thalweg_proto::consumer::v1 as proto;
use thalweg_proto::producer::v1 as producer;
use thalweg_rpc::Error;
use thalweg_types::{CompressionType, ErrorCode, PartitionIndex};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::rig::{Rig, assert_refused, batch, batch_to, from, record, records_to, texts, values};
use proto::fetch_stream_request::Message;

fn fetch_from(partitions: Vec<proto::FetchPartition>) -> proto::FetchRequest {
    proto::FetchRequest { partitions, ..Default::default() }
}

async fn fetch(rig: &Rig, request: proto::FetchRequest) -> Vec<proto::FetchedPartition> {
    rig.consumer().fetch(request).await.unwrap().into_inner().partitions
}

#[tokio::test]
async fn what_was_produced_as_records_comes_back_with_everything() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let header = |value: Option<&'static [u8]>| common::Header {
        key: "trace".to_owned(),
        value: value.map(Bytes::from_static),
    };
    let whole = producer::Record {
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"v")),
        headers: vec![header(Some(b"1")), header(None), header(Some(b""))],
        timestamp_ms: Some(123),
    };
    let tombstone = producer::Record { key: Some(Bytes::new()), value: None, ..whole.clone() };
    for compression in [common::Compression::None, common::Compression::Zstd] {
        let request = producer::ProduceRequest {
            compression: compression.into(),
            ..records_to("orders", vec![whole.clone(), tombstone.clone()])
        };
        rig.produce(request).await;
    }
    let answer = &fetch(&rig, fetch_from(vec![from("orders", 0, 0)])).await[0];
    assert_eq!((answer.high_watermark, answer.next_offset), (4, 4));
    for (offset, fetched) in (0..).zip(&answer.records) {
        let sent = if offset % 2 == 0 { &whole } else { &tombstone };
        assert_eq!((fetched.offset, fetched.timestamp_ms), (offset, 123));
        assert_eq!((&fetched.key, &fetched.value), (&sent.key, &sent.value));
        assert_eq!(fetched.headers, sent.headers);
        assert_eq!(fetched.timestamp_type(), common::TimestampType::CreateTime);
    }
}

#[tokio::test]
async fn a_batch_comes_back_as_it_is_in_the_log() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(batch_to("orders", batch(CompressionType::Lz4, &["a", "b", "c"]))).await;
    let request = proto::FetchRequest {
        format: proto::FetchFormat::Batches.into(),
        ..fetch_from(vec![from("orders", 0, 1)])
    };
    let answer = &fetch(&rig, request).await[0];
    assert_eq!(answer.batches, rig.broker.batches("orders", 0));
    assert_eq!(answer.next_offset, 3);

    let answer = &fetch(&rig, fetch_from(vec![from("orders", 0, 1)])).await[0];
    assert_eq!(texts(answer), ["b", "c"], "as records, from the very offset");
}

#[tokio::test]
async fn a_long_poll_ends_when_records_come_and_at_the_latest_after_its_wait() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let request = |max_wait_ms| proto::FetchRequest {
        min_bytes: 1,
        max_wait_ms,
        ..fetch_from(vec![from("orders", 0, 0)])
    };
    let started = Instant::now();
    let answer = &fetch(&rig, request(60)).await[0];
    assert!(started.elapsed() >= Duration::from_millis(60));
    assert!(answer.records.is_empty() && answer.error.is_none());

    let (answer, _) = tokio::join!(fetch(&rig, request(30_000)), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        rig.produce(values("orders", &["late"])).await
    });
    assert_eq!(texts(&answer[0]), ["late"]);
}

#[tokio::test]
async fn a_poll_ends_within_its_callers_deadline() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let mut request = tonic::Request::new(proto::FetchRequest {
        min_bytes: 1,
        max_wait_ms: 30_000,
        ..fetch_from(vec![from("orders", 0, 0)])
    });
    request.set_timeout(Duration::from_secs(3));
    let answer = rig.consumer().fetch(request).await.unwrap().into_inner();
    assert!(answer.partitions[0].records.is_empty());
}

#[tokio::test]
async fn a_budget_is_shared_in_order_and_never_prevents_progress() {
    let rig = Rig::start(&[("orders", 2)]).await;
    let long = "x".repeat(1000);
    for partition in [0, 1] {
        let request = producer::ProduceRequest {
            partition: Some(partition),
            ..values("orders", &[&long, &long])
        };
        rig.produce(request).await;
    }
    let request = proto::FetchRequest {
        max_bytes: 10,
        ..fetch_from(vec![from("orders", 0, 0), from("orders", 1, 0)])
    };
    let answer = fetch(&rig, request).await;
    assert_eq!((answer[0].records.len(), answer[0].next_offset), (1, 1));
    assert_eq!((answer[1].records.len(), answer[1].next_offset), (0, 0));
}

#[tokio::test]
async fn each_partition_has_its_own_error() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a"])).await;
    let request =
        fetch_from(vec![from("orders", 0, 0), from("orders", 5, 0), from("nowhere", 0, 0)]);
    let answer = fetch(&rig, request).await;
    assert_eq!(texts(&answer[0]), ["a"]);
    for failed in &answer[1..] {
        let error = Error::from_detail(failed.error.clone().unwrap());
        assert_refused(&error, ErrorCode::UnknownTopicOrPartition);
    }
    let beyond = &fetch(&rig, fetch_from(vec![from("orders", 0, 99)])).await[0];
    assert_eq!(beyond.error.as_ref().unwrap().name, "OFFSET_OUT_OF_RANGE");
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let good = || fetch_from(vec![from("orders", 0, 0)]);
    let cases = [
        (fetch_from(vec![]), ErrorCode::InvalidRequest),
        (fetch_from(vec![from("orders", 0, -1)]), ErrorCode::OffsetOutOfRange),
        (fetch_from(vec![from("orders", -1, 0)]), ErrorCode::InvalidRequest),
        (fetch_from(vec![from("..", 0, 0)]), ErrorCode::InvalidTopicException),
        (fetch_from(vec![from("orders", 0, 0), from("orders", 0, 1)]), ErrorCode::InvalidRequest),
        (proto::FetchRequest { format: 9, ..good() }, ErrorCode::InvalidRequest),
        (proto::FetchRequest { isolation_level: 9, ..good() }, ErrorCode::InvalidRequest),
        (proto::FetchRequest { max_bytes: u32::MAX, ..good() }, ErrorCode::InvalidRequest),
        (proto::FetchRequest { min_bytes: u32::MAX, ..good() }, ErrorCode::InvalidRequest),
        (proto::FetchRequest { max_wait_ms: u32::MAX, ..good() }, ErrorCode::InvalidRequest),
    ];
    for (request, code) in cases {
        let error = Error::from(rig.consumer().fetch(request).await.unwrap_err());
        assert_refused(&error, code);
    }
}

#[tokio::test]
async fn offsets_are_found_by_place_and_time() {
    let rig = Rig::start(&[("orders", 1)]).await;
    for time in [100, 300, 200] {
        let timed = producer::Record { timestamp_ms: Some(time), ..record(None, "v") };
        rig.produce(records_to("orders", vec![timed])).await;
    }
    let ask = |spec: proto::OffsetSpec, timestamp_ms, topic: &str| proto::OffsetQuery {
        topic: topic.to_owned(),
        partition: 0,
        spec: spec.into(),
        timestamp_ms,
    };
    use proto::OffsetSpec as Spec;
    let queries = vec![
        ask(Spec::Earliest, 0, "orders"),
        ask(Spec::Latest, 0, "orders"),
        ask(Spec::MaxTimestamp, 0, "orders"),
        ask(Spec::Timestamp, 150, "orders"),
        ask(Spec::Timestamp, 999, "orders"),
        ask(Spec::Timestamp, -1, "orders"),
        ask(Spec::Unspecified, 0, "orders"),
        ask(Spec::Latest, 0, "nowhere"),
    ];
    let request = proto::ListOffsetsRequest { queries, isolation_level: 0 };
    let found = rig.consumer().list_offsets(request).await.unwrap().into_inner().offsets;
    let offsets: Vec<_> = found.iter().map(|found| found.offset).collect();
    assert_eq!(offsets, [Some(0), Some(3), Some(1), Some(1), None, None, None, None]);
    assert_eq!(found[1].timestamp_ms, None);
    assert_eq!(found[2].timestamp_ms, Some(300));
    let codes: Vec<_> =
        found.iter().map(|found| found.error.as_ref().map(|error| error.name.as_str())).collect();
    assert_eq!(codes[..5], [None; 5], "nothing found is no error");
    assert_eq!(
        codes[5..],
        [Some("INVALID_REQUEST"), Some("INVALID_REQUEST"), Some("UNKNOWN_TOPIC_OR_PARTITION")]
    );
}

// ------------------------------------------------------------------- FetchStream

/// A stream with the side credit is granted on.
struct Following {
    requests: mpsc::Sender<proto::FetchStreamRequest>,
    messages: Streaming<proto::FetchStreamResponse>,
}

async fn follow(rig: &Rig, start: proto::FetchStreamStart) -> Following {
    let (requests, outgoing) = mpsc::channel(10);
    requests
        .send(proto::FetchStreamRequest { message: Some(Message::Start(start)) })
        .await
        .unwrap();
    let messages =
        rig.consumer().fetch_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    Following { requests, messages }
}

impl Following {
    async fn grant(&self, bytes: u64) {
        let message = Some(Message::CreditBytes(bytes));
        self.requests.send(proto::FetchStreamRequest { message }).await.unwrap();
    }

    async fn next(&mut self) -> proto::FetchStreamResponse {
        timeout(Duration::from_secs(30), self.messages.message())
            .await
            .expect("in time")
            .unwrap()
            .expect("a message")
    }

    async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(80), self.messages.message()).await.is_err()
    }

    async fn error(&mut self) -> Error {
        let ended = timeout(Duration::from_secs(30), self.messages.message()).await;
        Error::from(ended.expect("in time").unwrap_err())
    }
}

fn start_at(partitions: Vec<proto::FetchPartition>, credit_bytes: u64) -> proto::FetchStreamStart {
    proto::FetchStreamStart { partitions, credit_bytes, max_wait_ms: 50, ..Default::default() }
}

#[tokio::test]
async fn a_stream_sends_what_is_there_and_then_what_comes() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a", "b"])).await;
    let mut stream = follow(&rig, start_at(vec![from("orders", 0, 1)], 1 << 20)).await;
    assert_eq!(texts(&stream.next().await.partitions[0]), ["b"]);
    rig.produce(values("orders", &["c"])).await;
    let message = stream.next().await;
    assert_eq!(texts(&message.partitions[0]), ["c"]);
    assert_eq!((message.partitions[0].next_offset, message.charged_bytes), (3, 33));
}

#[tokio::test]
async fn a_stream_stops_without_credit_and_goes_on_with_it() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let long = "x".repeat(1000);
    for _ in 0..4 {
        rig.produce(values("orders", &[&long])).await;
    }
    let mut stream = follow(&rig, start_at(vec![from("orders", 0, 0)], 1)).await;
    let first = stream.next().await;
    assert_eq!((first.partitions[0].records.len(), first.charged_bytes), (1, 1032));
    assert!(stream.is_silent().await, "overdrawn by 1031");
    stream.grant(1031).await;
    assert!(stream.is_silent().await, "nothing left yet");
    stream.grant(2000).await;
    let mut offsets = Vec::new();
    for _ in 0..2 {
        offsets.extend(stream.next().await.partitions[0].records.iter().map(|r| r.offset));
    }
    assert_eq!(offsets, [1, 2], "2000 bytes let two records through, overdrawing");
    assert!(stream.is_silent().await);
}

#[tokio::test]
async fn without_credit_nothing_is_asked_of_the_brokers() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a"])).await;
    let mut stream = follow(&rig, start_at(vec![from("orders", 0, 0)], 0)).await;
    assert!(stream.is_silent().await);
    assert_eq!(rig.broker.fetches.load(Ordering::SeqCst), 0);
    stream.grant(100).await;
    assert_eq!(texts(&stream.next().await.partitions[0]), ["a"]);
}

#[tokio::test]
async fn a_large_batch_is_streamed_in_messages_of_the_size_asked_for() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let value = "y".repeat(968);
    let many = vec![value.as_str(); 500];
    for compression in [CompressionType::None, CompressionType::Zstd] {
        rig.produce(batch_to("orders", batch(compression, &many))).await;
    }
    let start = proto::FetchStreamStart {
        max_bytes: 100_000,
        ..start_at(vec![from("orders", 0, 0)], 1 << 30)
    };
    let mut stream = follow(&rig, start).await;
    let mut offsets = Vec::new();
    while offsets.len() < 1000 {
        let message = stream.next().await;
        assert!(message.charged_bytes <= 100_000, "{}", message.charged_bytes);
        for partition in &message.partitions {
            offsets.extend(partition.records.iter().map(|record| record.offset));
        }
    }
    assert_eq!(offsets, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn batches_are_streamed_as_they_are() {
    let rig = Rig::start(&[("orders", 1)]).await;
    for value in ["a", "b"] {
        rig.produce(batch_to("orders", batch(CompressionType::Snappy, &[value]))).await;
    }
    let start = proto::FetchStreamStart {
        format: proto::FetchFormat::Batches.into(),
        ..start_at(vec![from("orders", 0, 0)], 1 << 20)
    };
    let mut stream = follow(&rig, start).await;
    let message = stream.next().await;
    assert_eq!(message.partitions[0].batches, rig.broker.batches("orders", 0));
    assert_eq!(message.partitions[0].next_offset, 2);
}

#[tokio::test]
async fn a_failing_partition_is_reported_once_and_the_others_go_on() {
    let rig = Rig::start_with(&[("orders", 2)], |broker| {
        broker.foreign_partition = Some(PartitionIndex(1));
    })
    .await;
    let partitions = vec![from("orders", 1, 0), from("orders", 0, 0)];
    let mut stream = follow(&rig, start_at(partitions, 1 << 20)).await;
    let message = stream.next().await;
    assert_eq!(message.partitions.len(), 1);
    assert_eq!(message.partitions[0].error.as_ref().unwrap().name, "NOT_LEADER_OR_FOLLOWER");
    rig.produce(values("orders", &["a"])).await;
    assert_eq!(texts(&stream.next().await.partitions[0]), ["a"]);
    assert!(stream.is_silent().await);
}

#[tokio::test]
async fn a_stream_with_nothing_left_to_follow_ends() {
    let rig = Rig::start(&[]).await;
    let mut stream = follow(&rig, start_at(vec![from("nowhere", 0, 0)], 1)).await;
    assert!(stream.next().await.partitions[0].error.is_some());
    assert!(stream.messages.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_what_its_credit_buys() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a"])).await;
    rig.produce(values("orders", &["b"])).await;
    let Following { requests, mut messages } =
        follow(&rig, start_at(vec![from("orders", 0, 0)], 1)).await;
    drop(requests);
    assert_eq!(texts(&messages.message().await.unwrap().unwrap().partitions[0]), ["a"]);
    assert!(messages.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_ends_with_an_error() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let mut stream = follow(&rig, start_at(vec![], 1)).await;
    assert_refused(&stream.error().await, ErrorCode::InvalidRequest);

    let mut stream = follow(&rig, start_at(vec![from("orders", 0, 0)], u64::MAX)).await;
    assert_refused(&stream.error().await, ErrorCode::InvalidRequest);

    let mut stream = follow(&rig, start_at(vec![from("orders", 0, 0)], 1)).await;
    stream.grant(0).await;
    assert_refused(&stream.error().await, ErrorCode::InvalidRequest);

    let (requests, outgoing) = mpsc::channel(1);
    let message = Some(Message::CreditBytes(5));
    requests.send(proto::FetchStreamRequest { message }).await.unwrap();
    let messages =
        rig.consumer().fetch_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let mut stream = Following { requests, messages };
    assert_refused(&stream.error().await, ErrorCode::InvalidRequest);
}
