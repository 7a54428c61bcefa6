//! What every way to the brokers has to do, whatever is behind it.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{join, join_all, poll_immediate};
use thalweg_gateway::port::{
    BrokerPort, FetchCall, FetchPartition, Fetched, ListedOffset, OffsetQuery, ProduceCall,
};
use thalweg_metadata_core::ConfigTarget;
use thalweg_record::{BatchBuilder, BatchHeader, DecompressLimits, records};
use thalweg_rpc::Error;
use thalweg_types::{
    Acks, CompressionType, ErrorCode, IsolationLevel, LeaderEpoch, NodeId, Offset, Outcome,
    PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicName,
};
use tokio::time::{Instant, timeout};

use super::cluster::PATIENCE;

pub(super) struct Suite<'a, B> {
    pub(super) port: &'a B,
    /// Of at least two partitions, all empty.
    pub(super) topic: &'a str,
}

impl<B: BrokerPort> Suite<'_, B> {
    pub(super) async fn run(&self) {
        self.batches_come_back_as_they_were_sent().await;
        self.batches_keep_the_order_in_which_they_were_handed_over().await;
        self.duplicates_are_recognised_and_gaps_refused().await;
        self.what_cannot_be_appended_is_surely_not().await;
        self.of_those_who_expect_the_same_offset_one_gets_it().await;
        self.a_fetch_waits_for_records_and_no_longer_than_it_may().await;
        self.a_fetch_tells_errors_in_their_place().await;
        self.offsets_are_found_by_place_and_time().await;
        self.configs_and_identities_are_told().await;
    }

    async fn produce(&self, partition: i32, batch: BytesMut) -> Result<i64, Error> {
        let call = produce(self.topic, partition, batch);
        let produced = timeout(PATIENCE, self.port.produce(call)).await.expect("it takes less");
        produced.map(|produced| produced.base_offset.0)
    }

    async fn batches_come_back_as_they_were_sent(&self) {
        assert_eq!(self.produce(0, batch(&["a", "b"])).await.unwrap(), 0);
        let leader = ProduceCall { acks: Acks::Leader, ..produce(self.topic, 0, batch(&["c"])) };
        assert_eq!(self.port.produce(leader).await.unwrap().base_offset, Offset(2));
        let none = ProduceCall { acks: Acks::None, ..produce(self.topic, 0, batch(&["d"])) };
        let produced = self.port.produce(none).await.unwrap();
        assert_eq!((produced.base_offset, produced.log_start_offset), (Offset::NONE, Offset::NONE));
        assert_eq!(self.produce(0, batch(&["e"])).await.unwrap(), 4);
        assert_eq!(read(self.port, self.topic, 0).await, ["a", "b", "c", "d", "e"]);
    }

    async fn batches_keep_the_order_in_which_they_were_handed_over(&self) {
        let first = self.produce(1, batch(&["first"])).await.unwrap();
        let calls = (0..200).map(|number| {
            let number = number.to_string();
            self.port.produce(produce(self.topic, 1, batch(&[number.as_str()])))
        });
        let mut handed_over = Vec::new();
        for call in calls {
            let mut call = Box::pin(call);
            match poll_immediate(&mut call).await {
                Some(produced) => handed_over.push(Ok(produced)),
                None => handed_over.push(Err(call)),
            }
        }
        let produced = join_all(handed_over.into_iter().map(async |one| match one {
            Ok(produced) => produced,
            Err(call) => call.await,
        }));
        let produced = timeout(PATIENCE, produced).await.unwrap();
        let offsets: Vec<i64> =
            produced.into_iter().map(|produced| produced.unwrap().base_offset.0).collect();
        assert_eq!(offsets, (first + 1..first + 201).collect::<Vec<i64>>());
    }

    async fn duplicates_are_recognised_and_gaps_refused(&self) {
        let base = self.produce(0, idempotent_batch(50, 0)).await.unwrap();
        assert_eq!(self.produce(0, idempotent_batch(50, 1)).await.unwrap(), base + 1);
        assert_eq!(self.produce(0, idempotent_batch(50, 0)).await.unwrap(), base);
        let error = self.produce(0, idempotent_batch(50, 7)).await.unwrap_err();
        assert_refused(&error, ErrorCode::OutOfOrderSequenceNumber);
    }

    async fn of_those_who_expect_the_same_offset_one_gets_it(&self) {
        let end = self.produce(0, batch(&["before"])).await.unwrap() + 1;
        let expecting = |offset, name: &str| ProduceCall {
            expected_offset: Some(Offset(offset)),
            ..produce(self.topic, 0, batch(&[name]))
        };
        let calls =
            ["one", "two", "three", "four"].map(|name| self.port.produce(expecting(end, name)));
        let results = timeout(PATIENCE, join_all(calls)).await.unwrap();
        let appended: Vec<_> =
            results.iter().flatten().map(|produced| produced.base_offset).collect();
        assert_eq!(appended, [Offset(end)]);
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(
                (error.code, error.outcome),
                (ErrorCode::InvalidUpdateVersion, Outcome::NotApplied)
            );
            assert!(error.message.contains(&format!("ends at {}", end + 1)), "{error}");
        }
        let next = self.port.produce(expecting(end + 1, "five")).await.unwrap();
        assert_eq!(next.base_offset, Offset(end + 1));
        let texts = read(self.port, self.topic, 0).await;
        assert_eq!(i64::try_from(texts.len()).unwrap(), end + 2, "{texts:?}");
    }

    async fn what_cannot_be_appended_is_surely_not(&self) {
        let end = self.end(0).await;
        let mut damaged = batch(&["damaged"]);
        *damaged.last_mut().unwrap() ^= 1;
        let error = self.produce(0, damaged).await.unwrap_err();
        assert_refused(&error, ErrorCode::CorruptMessage);
        let error = self.produce(0, batch(&["x".repeat(2 << 20).as_str()])).await.unwrap_err();
        assert_refused(&error, ErrorCode::MessageTooLarge);
        let error = self.produce(99, batch(&["nowhere"])).await.unwrap_err();
        assert_refused(&error, ErrorCode::UnknownTopicOrPartition);
        let call = produce("nowhere", 0, batch(&["nowhere"]));
        let error = timeout(PATIENCE, self.port.produce(call)).await.unwrap().unwrap_err();
        assert_refused(&error, ErrorCode::UnknownTopicOrPartition);
        // What was refused holds nothing up.
        assert_eq!(self.produce(0, batch(&["after"])).await.unwrap(), end);
    }

    async fn a_fetch_waits_for_records_and_no_longer_than_it_may(&self) {
        let (end, other) = (self.end(0).await, self.end(1).await);
        let began = Instant::now();
        let short = Duration::from_millis(50);
        let call = fetch(&[from(self.topic, 0, end), from(self.topic, 1, other)], short);
        let found = self.fetch(call).await;
        assert!(found.iter().all(|found| found.as_ref().unwrap().batches.is_empty()));
        assert!(began.elapsed() >= short);

        let call = fetch(&[from(self.topic, 0, end), from(self.topic, 1, other)], PATIENCE);
        let producing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.produce(1, batch(&["news"])).await.unwrap();
        };
        let (found, ()) = join(self.fetch(call), producing).await;
        let found: Vec<usize> =
            found.iter().map(|found| found.as_ref().unwrap().batches.len()).collect();
        assert_eq!(found, [0, 1]);

        let at_once = FetchCall { min_bytes: 0, ..fetch(&[from(self.topic, 0, end)], PATIENCE) };
        assert_eq!(self.fetch(at_once).await[0].as_ref().unwrap().high_watermark, Offset(end));
        let one = FetchCall { max_bytes: 1, ..fetch(&[from(self.topic, 1, 0)], PATIENCE) };
        let found = self.fetch(one).await.remove(0).unwrap();
        assert_eq!(found.batches.len(), 1, "one batch comes in any case");
        let header = BatchHeader::parse(&found.batches[0]).unwrap();
        assert_eq!((header.base_offset, header.record_count), (Offset(0), 1));
    }

    async fn a_fetch_tells_errors_in_their_place(&self) {
        let fenced =
            FetchPartition { current_leader_epoch: LeaderEpoch(0), ..from(self.topic, 0, 0) };
        let ahead = FetchPartition { current_leader_epoch: LeaderEpoch(99), ..fenced.clone() };
        let cases = [
            (from(self.topic, 0, 1 << 40), ErrorCode::OffsetOutOfRange),
            (from(self.topic, 99, 0), ErrorCode::UnknownTopicOrPartition),
            (from("nowhere", 0, 0), ErrorCode::UnknownTopicOrPartition),
            (ahead, ErrorCode::UnknownLeaderEpoch),
        ];
        for (wanted, code) in cases {
            let end = self.end(1).await;
            let call = fetch(&[from(self.topic, 1, end), wanted], PATIENCE);
            let found = self.fetch(call).await;
            assert!(found[0].is_ok(), "{found:?}");
            assert_refused(found[1].as_ref().unwrap_err(), code);
        }
    }

    async fn offsets_are_found_by_place_and_time(&self) {
        assert_eq!(self.find(1, OffsetQuery::Earliest).await.unwrap().unwrap().offset, Offset(0));
        let end = Offset(self.end(1).await);
        assert_eq!(self.find(1, OffsetQuery::Latest).await.unwrap().unwrap().offset, end);
        let first = self.find(1, OffsetQuery::Timestamp(Timestamp(1_000))).await.unwrap().unwrap();
        assert_eq!((first.offset, first.timestamp), (Offset(0), Timestamp(1_000)));
        let largest = self.find(1, OffsetQuery::MaxTimestamp).await.unwrap().unwrap();
        assert_eq!(largest.timestamp, Timestamp(1_000));
        assert!(self.find(1, OffsetQuery::Timestamp(Timestamp(9_999))).await.unwrap().is_none());
        let error = self.find(99, OffsetQuery::Latest).await.unwrap_err();
        assert_refused(&error, ErrorCode::UnknownTopicOrPartition);
    }

    async fn configs_and_identities_are_told(&self) {
        let entries =
            self.port.describe_configs(ConfigTarget::Topic(self.topic.to_owned())).await.unwrap();
        assert!(entries.iter().any(|entry| entry.name == "retention.ms"));
        let nobody = ConfigTarget::Broker(NodeId(1 << 20));
        let error = self.port.describe_configs(nobody).await.unwrap_err();
        assert_refused(&error, ErrorCode::InvalidRequest);
        let one = self.port.init_producer().await.unwrap();
        let other = self.port.init_producer().await.unwrap();
        assert!(one.0 != other.0 && one.0 >= ProducerId(0));
    }

    async fn fetch(&self, call: FetchCall) -> Vec<Result<Fetched, Error>> {
        let names: Vec<_> =
            call.partitions.iter().map(|one| (one.topic.clone(), one.partition)).collect();
        let found = timeout(PATIENCE * 2, self.port.fetch(call)).await.unwrap().unwrap();
        let found_names: Vec<_> =
            found.iter().map(|one| (one.topic.clone(), one.partition)).collect();
        assert_eq!(found_names, names);
        found.into_iter().map(|one| one.result).collect()
    }

    async fn find(&self, partition: i32, at: OffsetQuery) -> Result<Option<ListedOffset>, Error> {
        let topic = TopicName::new(self.topic).unwrap();
        let level = IsolationLevel::ReadUncommitted;
        self.port.list_offset(topic, PartitionIndex(partition), at, level).await
    }

    async fn end(&self, partition: i32) -> i64 {
        self.find(partition, OffsetQuery::Latest).await.unwrap().unwrap().offset.0
    }
}

/// Everything in a partition, as text. One answer may end where a segment does.
pub(super) async fn read<B: BrokerPort>(port: &B, topic: &str, partition: i32) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = Offset(0);
    loop {
        let call = FetchCall { min_bytes: 0, ..fetch(&[from(topic, partition, next.0)], PATIENCE) };
        let found = timeout(PATIENCE, port.fetch(call)).await.unwrap().unwrap().remove(0);
        let found = found.result.unwrap();
        for slice in &found.batches {
            for batch in thalweg_record::Batches::new(slice) {
                let (header, bytes) = batch.unwrap();
                assert_eq!(header.base_offset, next);
                next = header.next_offset();
                for record in records(bytes, &DecompressLimits::default()).unwrap().iter() {
                    let value = record.unwrap().value.unwrap().to_vec();
                    texts.push(String::from_utf8(value).unwrap());
                }
            }
        }
        if next >= found.high_watermark {
            return texts;
        }
        assert!(!found.batches.is_empty(), "{next} of {}", found.high_watermark);
    }
}

pub(super) fn produce(topic: &str, partition: i32, batch: BytesMut) -> ProduceCall {
    ProduceCall {
        topic: TopicName::new(topic).unwrap(),
        partition: PartitionIndex(partition),
        batch,
        acks: Acks::All,
        timeout: PATIENCE,
        expected_offset: None,
    }
}

pub(super) fn batch(values: &[&str]) -> BytesMut {
    filled(BatchBuilder::new(CompressionType::None), values)
}

/// One record, the only one with this sequence.
pub(super) fn idempotent_batch(producer: i32, sequence: i32) -> BytesMut {
    let builder = BatchBuilder::new(CompressionType::None).producer(
        ProducerId(producer.into()),
        ProducerEpoch(0),
        Sequence(sequence),
    );
    filled(builder, &["idempotent"])
}

fn filled(mut builder: BatchBuilder, values: &[&str]) -> BytesMut {
    for value in values {
        builder.push(Timestamp(1_000), None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

fn fetch(partitions: &[FetchPartition], max_wait: Duration) -> FetchCall {
    FetchCall {
        partitions: partitions.to_vec(),
        min_bytes: 1,
        max_bytes: 1 << 20,
        max_wait,
        isolation: IsolationLevel::ReadUncommitted,
        rack: String::new(),
    }
}

fn from(topic: &str, partition: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        topic: TopicName::new(topic).unwrap(),
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        max_bytes: 1 << 20,
        current_leader_epoch: LeaderEpoch::NONE,
    }
}

fn assert_refused(error: &Error, code: ErrorCode) {
    assert_eq!((error.code, error.outcome), (code, Outcome::NotApplied), "{error}");
}
