//! The well-behaved client beside the hostile ones. Its connection is opened first and used to the end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thalweg_kafka::messages::create_topics::CreatableTopicConfig;
use thalweg_kafka::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchResponse, ListOffsetsResponse, ProduceResponse,
};
use thalweg_record::BatchBuilder;
use thalweg_types::{CompressionType, Timestamp};

use crate::wire::Connection;
use crate::words::{
    CREATE_TOPICS, FETCH, LIST_OFFSETS, PRODUCE, create_request, end_offset_request, fetch_request,
    new_topic, produce_request,
};

/// The witness's own topic.
const OWN: &str = "witness";
/// What the hostile clients aim at, besides the server itself.
pub(crate) const VICTIM: &str = "victim";
/// The same with `cleanup.policy=compact`: its records are looked into when they come.
pub(crate) const COMPACTED: &str = "compacted";

pub(crate) struct Witness {
    connection: Connection,
    /// Records it has produced.
    produced: i64,
    /// How long each round trip took.
    times: Vec<Duration>,
}

impl Witness {
    /// Opens the connection, creates the topics and puts one record into [`VICTIM`].
    pub(crate) fn begin(address: SocketAddr) -> Self {
        let mut witness =
            Self { connection: Connection::open(address), produced: 0, times: Vec::new() };
        let mut compacted = new_topic(COMPACTED);
        compacted.configs.push(CreatableTopicConfig {
            name: "cleanup.policy".into(),
            value: Some("compact".into()),
        });
        let topics = vec![new_topic(OWN), new_topic(VICTIM), compacted];
        let request = CreateTopicsRequest { validate_only: false, ..create_request(topics) };
        let created: CreateTopicsResponse = witness.connection.call(CREATE_TOPICS, request);
        assert!(created.topics.iter().all(|topic| topic.error_code == 0), "{created:?}");
        assert_eq!(witness.produce(VICTIM, b"seed"), 0);
        witness
    }

    /// The same client on a new connection.
    pub(crate) fn again(self, address: SocketAddr) -> Self {
        Self { connection: Connection::open(address), ..self }
    }

    pub(crate) fn produce(&mut self, topic: &str, value: &[u8]) -> i64 {
        let mut batch = BatchBuilder::new(CompressionType::None);
        batch.push(Timestamp(1), None, Some(value), &[]).expect("fits");
        let batch = batch.finish().expect("not empty");
        let request = produce_request(topic, &[&batch]);
        let response: ProduceResponse = self.connection.call(PRODUCE, request);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0, "{partition:?}");
        partition.base_offset
    }

    /// Produces one record and reads it back, exactly.
    pub(crate) fn works(&mut self) {
        let begin = Instant::now();
        let value = format!("record {}", self.produced);
        let offset = self.produce(OWN, value.as_bytes());
        assert_eq!(offset, self.produced, "the witness's records are numbered without gaps");
        let response: FetchResponse = self.connection.call(FETCH, fetch_request(OWN, offset));
        let records: Vec<u8> = response.responses[0].partitions[0].records.concat();
        let all = thalweg_record::records(&records, &Default::default()).expect("a batch");
        let values: Vec<_> = all.iter().map(|record| record.expect("a record").value).collect();
        assert_eq!(values, [Some(value.as_bytes())]);
        self.produced += 1;
        self.times.push(begin.elapsed());
    }

    /// Log end offsets of the topics that are aimed at, added up.
    pub(crate) fn end_offsets(&mut self) -> i64 {
        let mut end_of = |topic| {
            let request = end_offset_request(topic);
            let response: ListOffsetsResponse = self.connection.call(LIST_OFFSETS, request);
            let partition = &response.topics[0].partitions[0];
            assert_eq!(partition.error_code, 0, "{partition:?}");
            partition.offset
        };
        end_of(VICTIM) + end_of(COMPACTED)
    }

    /// Longest time for one record there and back.
    pub(crate) fn slowest(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }

    /// How long the round trips since the last call of this took, in order of length.
    pub(crate) fn take_times(&mut self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut self.times);
        times.sort_unstable();
        times
    }
}
