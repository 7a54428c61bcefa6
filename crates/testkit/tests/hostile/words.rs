//! Requests in short, and their answers in words: only what a case is about differs from a harmless request.

use bytes::BytesMut;
use thalweg_kafka::messages::create_topics::CreatableTopic;
use thalweg_kafka::messages::fetch::{FetchPartition, FetchTopic};
use thalweg_kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use thalweg_kafka::messages::metadata::MetadataRequestTopic;
use thalweg_kafka::messages::produce::{PartitionProduceData, TopicProduceData};
use thalweg_kafka::messages::{
    ApiVersionsResponse, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsResponse, DeleteTopicsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
};

use crate::case::codes;
use crate::wire::decode;

/// Versions the cases use unless they say otherwise.
pub(crate) const PRODUCE: i16 = 9;
pub(crate) const FETCH: i16 = 11;
pub(crate) const METADATA: i16 = 9;
pub(crate) const METADATA_BY_ID: i16 = 12;
pub(crate) const CREATE_TOPICS: i16 = 5;
pub(crate) const LIST_OFFSETS: i16 = 5;

// ---- requests ----

pub(crate) fn produce_request(topic: &str, batches: &[&[u8]]) -> ProduceRequest {
    let partition =
        |batch: &&[u8]| PartitionProduceData { index: 0, records: Some(BytesMut::from(*batch)) };
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: batches.iter().map(partition).collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// For one partition, from `offset`, without waiting.
pub(crate) fn fetch_request(topic: &str, offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

pub(crate) fn end_offset_request(topic: &str) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    }
}

/// Only asks: nothing is created.
pub(crate) fn metadata_request(names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some((*name).into()),
        ..MetadataRequestTopic::default()
    };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    }
}

pub(crate) fn new_topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    }
}

/// Only checks: nothing is created even if the request is right.
pub(crate) fn create_request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only: true }
}

// ---- answers ----

pub(crate) fn api_versions_0(answer: BytesMut) -> String {
    let response: ApiVersionsResponse = decode(0, answer);
    let all = if response.api_keys.is_empty() { "without" } else { "with" };
    format!("{} {all} versions", codes([response.error_code]))
}

pub(crate) fn produced(answer: BytesMut) -> String {
    produced_in(PRODUCE, answer)
}

pub(crate) fn produced_3(answer: BytesMut) -> String {
    produced_in(3, answer)
}

pub(crate) fn produced_13(answer: BytesMut) -> String {
    produced_in(13, answer)
}

fn produced_in(version: i16, answer: BytesMut) -> String {
    let response: ProduceResponse = decode(version, answer);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    codes(partitions.map(|partition| partition.error_code))
}

pub(crate) fn fetched(answer: BytesMut) -> String {
    fetched_in(FETCH, answer)
}

pub(crate) fn fetched_4(answer: BytesMut) -> String {
    fetched_in(4, answer)
}

pub(crate) fn fetched_13(answer: BytesMut) -> String {
    fetched_in(13, answer)
}

fn fetched_in(version: i16, answer: BytesMut) -> String {
    let response: FetchResponse = decode(version, answer);
    if response.error_code != 0 {
        return codes([response.error_code]);
    }
    let partitions: Vec<_> = response.responses.iter().flat_map(|t| &t.partitions).collect();
    let bytes: usize = partitions.iter().flat_map(|one| &one.records).map(|r| r.len()).sum();
    let codes = codes(partitions.iter().map(|one| one.error_code));
    let holds = if bytes > 0 { "with" } else { "without" };
    if codes == "NONE" { format!("{codes} {holds} records") } else { codes }
}

pub(crate) fn described(answer: BytesMut) -> String {
    described_in(METADATA, answer)
}

pub(crate) fn described_4(answer: BytesMut) -> String {
    described_in(4, answer)
}

pub(crate) fn described_by_id(answer: BytesMut) -> String {
    described_in(METADATA_BY_ID, answer)
}

fn described_in(version: i16, answer: BytesMut) -> String {
    let response: MetadataResponse = decode(version, answer);
    codes(response.topics.iter().map(|topic| topic.error_code))
}

pub(crate) fn created(answer: BytesMut) -> String {
    let response: CreateTopicsResponse = decode(CREATE_TOPICS, answer);
    codes(response.topics.iter().map(|topic| topic.error_code))
}

pub(crate) fn partitions_created(answer: BytesMut) -> String {
    let response: CreatePartitionsResponse = decode(2, answer);
    codes(response.results.iter().map(|topic| topic.error_code))
}

pub(crate) fn deleted(answer: BytesMut) -> String {
    let response: DeleteTopicsResponse = decode(6, answer);
    codes(response.responses.iter().map(|topic| topic.error_code))
}

pub(crate) fn records_deleted(answer: BytesMut) -> String {
    let response: DeleteRecordsResponse = decode(2, answer);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    codes(partitions.map(|partition| partition.error_code))
}

pub(crate) fn listed(answer: BytesMut) -> String {
    let response: ListOffsetsResponse = decode(LIST_OFFSETS, answer);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    codes(partitions.map(|partition| partition.error_code))
}
