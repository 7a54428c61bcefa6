//! Requests and answers against another implementation of the protocol, and answers that are damaged.

use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::*;

fn produced(error: i16) -> BytesMut {
    let mut body = BytesMut::new();
    put_partition(&mut body, "t", 0);
    body.put_i16(error);
    body.put_i64(42);
    body.put_i64(-1);
    body.put_i32(0);
    body
}

#[test]
fn an_answer_gives_its_offset_or_the_brokers_error() {
    assert_eq!(read_produced(&produced(0)).expect("no error"), 42);
    let error = read_produced(&produced(3)).expect_err("an error");
    assert_eq!(error.to_string(), "the broker answered UNKNOWN_TOPIC_OR_PARTITION");
}

#[test]
fn an_answer_cut_short_is_an_error_at_any_length() {
    let body = produced(0);
    for cut in 0..body.len() - 12 {
        assert!(read_produced(&body[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn records_that_claim_more_than_the_frame_are_refused() {
    let mut body = BytesMut::new();
    body.put_i32(0);
    put_partition(&mut body, "t", 0);
    body.put_i16(0);
    body.put_i64(7);
    body.put_i64(7);
    body.put_i32(-1);
    body.put_i32(3);
    body.put_slice(b"ab");
    assert!(read_fetched(&body).is_err());
    body.put_slice(b"c");
    assert_eq!(read_fetched(&body).expect("whole").records, b"abc");
}

fn decoded<T: Decodable>(mut body: &[u8], api: Api) -> T {
    let request = T::decode(&mut body, api.version).expect("another decoder understands it");
    assert!(body.is_empty(), "and nothing is left over");
    request
}

#[test]
fn requests_are_what_another_implementation_reads() {
    let records = b"records";
    let mut body = produce_head("orders", 3, records.len());
    body.put_slice(records);
    let produce: ProduceRequest = decoded(&body, PRODUCE);
    assert_eq!((produce.acks, produce.transactional_id), (-1, None));
    let topic = &produce.topic_data[0];
    assert_eq!((topic.name.as_str(), topic.partition_data[0].index), ("orders", 3));
    assert_eq!(topic.partition_data[0].records.as_deref(), Some(&records[..]));

    let fetch: FetchRequest = decoded(&fetch("orders", 3, 17, 4096), FETCH);
    assert_eq!((fetch.max_bytes, fetch.min_bytes, fetch.replica_id.0), (4096, 1, -1));
    let partition = &fetch.topics[0].partitions[0];
    assert_eq!((partition.partition, partition.fetch_offset), (3, 17));
    assert_eq!(partition.partition_max_bytes, 4096);

    let create: CreateTopicsRequest =
        decoded(&create_topic("orders", 3, &[("flush.messages", "1")]), CREATE_TOPICS);
    let topic = &create.topics[0];
    assert_eq!((topic.name.as_str(), topic.num_partitions), ("orders", 3));
    assert_eq!((topic.replication_factor, create.validate_only), (1, false));
    assert_eq!(topic.configs[0].name.as_str(), "flush.messages");
    assert_eq!(topic.configs[0].value.as_deref(), Some("1"));

    let list: ListOffsetsRequest = decoded(&list_earliest("orders", 3), LIST_OFFSETS);
    let partition = &list.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.timestamp), (3, -2));
}

#[test]
fn answers_that_another_implementation_writes_are_read() {
    let name = || TopicName(StrBytes::from_static_str("orders"));
    let mut body = BytesMut::new();
    let partition = PartitionData::default()
        .with_high_watermark(99)
        .with_records(Some(b"records".as_slice().into()))
        .with_aborted_transactions(Some(vec![Default::default(); 2]));
    let topic =
        FetchableTopicResponse::default().with_topic(name()).with_partitions(vec![partition]);
    let answer = FetchResponse::default().with_responses(vec![topic]);
    answer.encode(&mut body, FETCH.version).expect("encodes");
    let fetched = read_fetched(&body).expect("readable");
    assert_eq!((fetched.high_watermark, fetched.records), (99, &b"records"[..]));

    let mut body = BytesMut::new();
    let partition = ListOffsetsPartitionResponse::default().with_offset(41);
    let topic =
        ListOffsetsTopicResponse::default().with_name(name()).with_partitions(vec![partition]);
    let answer = ListOffsetsResponse::default().with_topics(vec![topic]);
    answer.encode(&mut body, LIST_OFFSETS.version).expect("encodes");
    assert_eq!(read_offset(&body).expect("readable"), 41);

    for (code, created) in [(0, true), (36, false)] {
        let mut body = BytesMut::new();
        let topic = CreatableTopicResult::default().with_name(name()).with_error_code(code);
        let answer = CreateTopicsResponse::default().with_topics(vec![topic]);
        answer.encode(&mut body, CREATE_TOPICS.version).expect("encodes");
        assert_eq!(read_created(&body).is_ok(), created);
    }
}
