//! Produce and ProduceStream.

use std::time::Duration;

use bytes::Bytes;
use thalweg_proto::common::v1 as common;
use thalweg_proto::producer::v1 as proto;
use thalweg_record::BatchHeader;
use thalweg_rpc::Error;
use thalweg_types::{CompressionType, ErrorCode, Outcome, PartitionIndex, ProducerId, Sequence};
use tokio_stream::wrappers::ReceiverStream;

use crate::rig::{Rig, assert_refused, batch, batch_to, record, records_to, values};
use proto::produce_stream_response::Result as Answer;

#[tokio::test]
async fn records_get_consecutive_offsets_and_the_gateways_time() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let first = rig.produce(values("orders", &["a", "b"])).await;
    let second = rig.produce(values("orders", &["c"])).await;
    assert_eq!((first.partitions[0].base_offset, first.partitions[0].record_count), (0, 2));
    assert_eq!((second.partitions[0].base_offset, second.partitions[0].record_count), (2, 1));
    let header = BatchHeader::parse(&rig.broker.batches("orders", 0)[0]).unwrap();
    assert_eq!(header.base_timestamp.0, crate::rig::NOW_MS);
}

#[tokio::test]
async fn equal_keys_go_to_the_partition_the_java_client_would_choose() {
    let rig = Rig::start(&[("orders", 7)]).await;
    let records =
        vec![record(Some("foobar"), "1"), record(Some("abc"), "2"), record(Some("foobar"), "3")];
    let answer = rig.produce(records_to("orders", records)).await;
    // murmur2("foobar") = -790332482 and murmur2("abc") = 479470107, made positive, modulo 7.
    let foobar = ((-790_332_482_i32) & 0x7fff_ffff) % 7;
    let abc = 479_470_107 % 7;
    assert_ne!(foobar, abc);
    let indexes = |partition: i32| {
        let part = answer.partitions.iter().find(|part| part.partition == partition).unwrap();
        part.record_indexes.clone()
    };
    assert_eq!(indexes(foobar), [0, 2]);
    assert_eq!(indexes(abc), [1]);
}

#[tokio::test]
async fn records_without_a_key_stay_together_and_requests_take_turns() {
    let rig = Rig::start(&[("orders", 3)]).await;
    let mut partitions = Vec::new();
    for _ in 0..3 {
        let records = vec![record(None, "a"), record(None, "b")];
        let answer = rig.produce(records_to("orders", records)).await;
        assert_eq!(answer.partitions.len(), 1, "one batch");
        partitions.push(answer.partitions[0].partition);
    }
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
}

#[tokio::test]
async fn every_compression_reaches_the_log_as_asked() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let long = "x".repeat(100_000);
    for compression in [
        common::Compression::Gzip,
        common::Compression::Snappy,
        common::Compression::Lz4,
        common::Compression::Zstd,
    ] {
        let request =
            proto::ProduceRequest { compression: compression.into(), ..values("orders", &[&long]) };
        rig.produce(request).await;
        let log = rig.broker.batches("orders", 0);
        let written = log.last().unwrap();
        let header = BatchHeader::parse(written).unwrap();
        let code = header.attributes.compression().unwrap().code();
        assert_eq!(i32::from(code) + 1, i32::from(compression));
        assert!(written.len() < 10_000, "{compression:?}: {} bytes", written.len());
    }
}

#[tokio::test]
async fn a_ready_made_batch_reaches_the_log_byte_for_byte() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let made = batch(CompressionType::Zstd, &["a", "b", "c"]);
    let answer = rig.produce(batch_to("orders", made.clone())).await;
    assert_eq!(answer.partitions[0].record_count, 3);
    // Base offset and leader epoch are the log's; the rest must be as it was.
    assert_eq!(rig.broker.batches("orders", 0)[0][16..], made[16..]);
}

#[tokio::test]
async fn a_producer_identity_travels_in_the_batch() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let given =
        rig.producer().init_producer(proto::InitProducerRequest {}).await.unwrap().into_inner();
    let request = proto::ProduceRequest {
        producer: Some(proto::ProducerSequence {
            producer_id: given.producer_id,
            producer_epoch: given.producer_epoch,
            base_sequence: 5,
        }),
        ..values("orders", &["a"])
    };
    rig.produce(request.clone()).await;
    let header = BatchHeader::parse(&rig.broker.batches("orders", 0)[0]).unwrap();
    assert_eq!(header.producer_id, ProducerId(given.producer_id));
    assert_eq!(header.base_sequence, Sequence(5));

    let without_partition = proto::ProduceRequest { partition: None, ..request };
    assert_refused(&rig.refused(without_partition).await, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn an_unknown_topic_is_refused_and_created_only_when_asked() {
    let rig = Rig::start(&[]).await;
    let request = proto::ProduceRequest { partition: None, ..values("new", &["a"]) };
    let error = rig.refused(request.clone()).await;
    assert_refused(&error, ErrorCode::UnknownTopicOrPartition);
    assert!(error.retriable);

    let answer = rig.produce(proto::ProduceRequest { create_topic: true, ..request }).await;
    assert_eq!(answer.partitions[0].base_offset, 0);
}

#[tokio::test]
async fn bad_requests_are_refused_by_name_and_nothing_is_applied() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let good = values("orders", &["a"]);
    let with = |change: &dyn Fn(&mut proto::ProduceRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let long_header = common::Header { key: "k".repeat(40_000), value: None };
    let cases = [
        (with(&|r| r.topic = "no/name".into()), ErrorCode::InvalidTopicException),
        (with(&|r| r.topic = String::new()), ErrorCode::InvalidTopicException),
        (with(&|r| r.topic = "__consumer_offsets".into()), ErrorCode::TopicAuthorizationFailed),
        (with(&|r| r.partition = Some(-1)), ErrorCode::InvalidRequest),
        (with(&|r| r.partition = Some(1)), ErrorCode::UnknownTopicOrPartition),
        (with(&|r| r.acks = 17), ErrorCode::InvalidRequiredAcks),
        (with(&|r| r.timeout_ms = 300_001), ErrorCode::InvalidRequest),
        (with(&|r| r.compression = 9), ErrorCode::UnsupportedCompressionType),
        (with(&|r| r.payload = None), ErrorCode::InvalidRequest),
        (records_to("orders", vec![]), ErrorCode::InvalidRequest),
        (
            records_to(
                "orders",
                vec![proto::Record { timestamp_ms: Some(-5), ..record(None, "a") }],
            ),
            ErrorCode::InvalidTimestamp,
        ),
        (
            records_to(
                "orders",
                vec![proto::Record { headers: vec![long_header], ..record(None, "a") }],
            ),
            ErrorCode::InvalidRecord,
        ),
    ];
    for (request, code) in cases {
        assert_refused(&rig.refused(request).await, code);
    }
    assert!(rig.broker.batches("orders", 0).is_empty());
}

#[tokio::test]
async fn damaged_batches_are_refused_and_nothing_is_applied() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let made = batch(CompressionType::None, &["a", "b"]);
    let mut flipped = made.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let twice = [made.clone(), made.clone()].concat();
    let cases: [(Bytes, ErrorCode); 6] = [
        (flipped.into(), ErrorCode::CorruptMessage),
        (made.slice(..made.len() - 1), ErrorCode::CorruptMessage),
        (made.slice(..20), ErrorCode::CorruptMessage),
        (Bytes::new(), ErrorCode::CorruptMessage),
        (vec![0xff; 200].into(), ErrorCode::CorruptMessage),
        (twice.into(), ErrorCode::InvalidRecord),
    ];
    for (bytes, code) in cases {
        let error = rig.refused(batch_to("orders", bytes.clone())).await;
        assert_eq!(error.outcome, Outcome::NotApplied, "{error}");
        let is_format = error.code == ErrorCode::InvalidRecord;
        assert!(error.code == code || is_format, "{error}, wanted {code}");
    }
    let with_compression = proto::ProduceRequest {
        compression: common::Compression::Lz4.into(),
        ..batch_to("orders", made)
    };
    assert_refused(&rig.refused(with_compression).await, ErrorCode::InvalidRequest);
    assert!(rig.broker.batches("orders", 0).is_empty());
}

#[tokio::test]
async fn a_record_above_the_topics_limit_and_a_message_above_ours_are_too_large() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let error = rig.refused(values("orders", &[&"x".repeat(2 << 20)])).await;
    assert_refused(&error, ErrorCode::MessageTooLarge);
    let error = rig.refused(values("orders", &[&"x".repeat(34 << 20)])).await;
    assert_refused(&error, ErrorCode::MessageTooLarge);
}

#[tokio::test]
async fn a_timeout_after_the_append_is_unknown() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.broker.acknowledge(false);
    let request = proto::ProduceRequest { timeout_ms: 30, ..values("orders", &["a"]) };
    let error = rig.refused(request).await;
    assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::Unknown));
    assert_eq!(rig.broker.batches("orders", 0).len(), 1, "it was appended");
}

#[tokio::test]
async fn without_acks_the_answer_does_not_wait_and_names_no_offset() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.broker.acknowledge(false);
    let request =
        proto::ProduceRequest { acks: proto::Acks::None.into(), ..values("orders", &["a"]) };
    assert_eq!(rig.produce(request).await.partitions[0].base_offset, -1);
}

#[tokio::test]
async fn a_refusing_broker_names_the_leader() {
    let foreign = PartitionIndex(0);
    let rig = Rig::start_with(&[("orders", 2)], |broker| {
        broker.foreign_partition = Some(foreign);
    })
    .await;
    let error = rig.refused(values("orders", &["a"])).await;
    assert_refused(&error, ErrorCode::NotLeaderOrFollower);
    let leader = error.leader.expect("a hint");
    assert_eq!((leader.node_id.0, leader.leader_epoch.0), (9, 4));
    assert_eq!(leader.endpoint.as_deref(), Some("elsewhere:50051"));
}

#[tokio::test]
async fn when_only_some_partitions_fail_the_answer_says_which() {
    let rig = Rig::start_with(&[("orders", 2)], |broker| {
        broker.foreign_partition = Some(PartitionIndex(0));
    })
    .await;
    let records = (0..20).map(|n| record(Some(&format!("key-{n}")), "v")).collect();
    let answer = rig.produce(records_to("orders", records)).await;
    let [failed, written] = &answer.partitions[..] else { panic!("{answer:?}") };
    let error = Error::from_detail(failed.error.clone().unwrap());
    assert_refused(&error, ErrorCode::NotLeaderOrFollower);
    assert_eq!(failed.base_offset, -1);
    assert_eq!((written.error.clone(), written.base_offset), (None, 0));
    assert_eq!(failed.record_indexes.len() + written.record_indexes.len(), 20);
}

// ------------------------------------------------------------------- ProduceStream

#[tokio::test]
async fn a_stream_appends_in_order_without_waiting_and_answers_in_order() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.broker.acknowledge(false);
    let (requests, outgoing) = tokio::sync::mpsc::channel(100);
    let mut answers =
        rig.producer().produce_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    for number in 0..50 {
        requests.send(values("orders", &[&number.to_string()])).await.unwrap();
    }
    // All are in the log although none is acknowledged.
    rig.broker.wait_for_records("orders", 0, 50).await;
    rig.broker.acknowledge(true);
    drop(requests);

    for number in 0..50 {
        let answer = answers.message().await.unwrap().expect("one answer each");
        assert_eq!(answer.request_index, number);
        let Some(Answer::Produced(produced)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(produced.partitions[0].base_offset, i64::try_from(number).unwrap());
    }
    assert!(answers.message().await.unwrap().is_none(), "ends after the last answer");
}

#[tokio::test]
async fn an_error_in_a_stream_answers_its_own_request_only() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let requests = vec![
        values("orders", &["a"]),
        values("nowhere", &["b"]),
        batch_to("orders", Bytes::from_static(b"garbage")),
        values("orders", &["c"]),
    ];
    let mut answers =
        rig.producer().produce_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut outcomes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        outcomes.push(match answer.result.unwrap() {
            Answer::Produced(produced) => Ok(produced.partitions[0].base_offset),
            Answer::Error(detail) => Err(Error::from_detail(detail)),
        });
    }
    assert_eq!(outcomes[0], Ok(0));
    assert_refused(outcomes[1].as_ref().unwrap_err(), ErrorCode::UnknownTopicOrPartition);
    assert_refused(outcomes[2].as_ref().unwrap_err(), ErrorCode::CorruptMessage);
    assert_eq!(outcomes[3], Ok(1));
}

#[tokio::test]
async fn a_stream_takes_no_more_than_its_share_of_unanswered_requests() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.broker.acknowledge(false);
    let requests = tokio_stream::iter((0..300).map(|_| values("orders", &["x"])));
    let mut answers = rig.producer().produce_stream(requests).await.unwrap().into_inner();
    rig.broker.wait_for_records("orders", 0, 256).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.broker.batches("orders", 0).len(), 256);

    rig.broker.acknowledge(true);
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.request_index, count);
        count += 1;
    }
    assert_eq!(count, 300);
}

#[tokio::test]
async fn a_request_too_large_for_a_stream_ends_it_after_the_answers_before() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let huge = "x".repeat(34 << 20);
    let requests = tokio_stream::iter(vec![values("orders", &["a"]), values("orders", &[&huge])]);
    let mut answers = rig.producer().produce_stream(requests).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(matches!(first.result, Some(Answer::Produced(_))));
    let error = Error::from(answers.message().await.unwrap_err());
    assert_refused(&error, ErrorCode::MessageTooLarge);
}

#[tokio::test]
async fn a_stopping_gateway_answers_what_it_has_and_ends_its_streams() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let mut answers =
        rig.producer().produce_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    requests.send(values("orders", &["a"])).await.unwrap();
    answers.message().await.unwrap().unwrap();
    let started = tokio::time::Instant::now();
    rig.gateway.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let error = Error::from(answers.message().await.unwrap_err());
    assert_refused(&error, ErrorCode::BrokerNotAvailable);
}
