//! B43-B44: numbers that make no sense in Fetch, ListOffsets, CreateTopics, CreatePartitions and DeleteRecords.

use std::time::Duration;

use thalweg_kafka::messages::create_partitions::CreatePartitionsTopic;
use thalweg_kafka::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use thalweg_kafka::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use thalweg_kafka::messages::fetch::ForgottenTopic;
use thalweg_kafka::messages::{
    CreatePartitionsRequest, DeleteRecordsRequest, FetchRequest, ListOffsetsRequest,
};

use crate::case::Case;
use crate::wire::{PATIENCE, frame};
use crate::witness::VICTIM;
use crate::words::{
    CREATE_TOPICS, FETCH, LIST_OFFSETS, create_request, created, end_offset_request, fetch_request,
    fetched, listed, new_topic, partitions_created, records_deleted,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = fetches();
    cases.extend(offsets());
    cases.extend(topics());
    cases.extend(partitions());
    cases.extend(deletions());
    cases
}

fn fetches() -> Vec<Case> {
    const RECORDS: &str = "NONE with records";
    let fetch = |input: &str, change: &dyn Fn(&mut FetchRequest), expected| {
        let mut request = fetch_request(VICTIM, 0);
        change(&mut request);
        Case::new("B43", format!("Fetch: {input}"), frame(request, FETCH), fetched, expected)
    };
    let offset = |input: &str, offset: i64, expected| {
        fetch(input, &|request| request.topics[0].partitions[0].fetch_offset = offset, expected)
    };
    let epoch = |input: &str, epoch: i32, expected| {
        let change = |request: &mut FetchRequest| {
            request.topics[0].partitions[0].current_leader_epoch = epoch;
        };
        fetch(input, &change, expected)
    };
    let unreachable = FetchRequest {
        max_wait_ms: i32::MAX,
        min_bytes: i32::MAX,
        max_bytes: i32::MAX,
        ..fetch_request(VICTIM, 0)
    };
    vec![
        // A first batch is always given, so that a consumer gets on (KIP-74).
        fetch("max_bytes 0", &|request| request.max_bytes = 0, RECORDS),
        fetch("max_bytes -1", &|request| request.max_bytes = -1, RECORDS),
        fetch("max_bytes 2^31 - 1", &|request| request.max_bytes = i32::MAX, RECORDS),
        fetch(
            "partition_max_bytes -1",
            &|request| request.topics[0].partitions[0].partition_max_bytes = -1,
            RECORDS,
        ),
        fetch("min_bytes above max_bytes", &|request| request.min_bytes = i32::MAX, RECORDS),
        fetch("min_bytes -1", &|request| request.min_bytes = -1, RECORDS),
        fetch("max_wait -1", &|request| request.max_wait_ms = -1, RECORDS),
        Case::waits(
            "B43",
            "Fetch: max_wait 2^31 - 1 for min_bytes 2^31 - 1",
            frame(unreachable, FETCH),
        ),
        offset("offset -1", -1, "OFFSET_OUT_OF_RANGE"),
        offset("the least offset", i64::MIN, "OFFSET_OUT_OF_RANGE"),
        offset("offset beyond the end", 1_000_000, "OFFSET_OUT_OF_RANGE"),
        offset("the most offset", i64::MAX, "OFFSET_OUT_OF_RANGE"),
        epoch("leader epoch in the future", 1000, "UNKNOWN_LEADER_EPOCH"),
        epoch("leader epoch -2", -2, "FENCED_LEADER_EPOCH"),
        fetch("isolation level 7", &|request| request.isolation_level = 7, "INVALID_REQUEST"),
        fetch(
            "a client as replica 5",
            &|request| request.replica_id = 5,
            "CLUSTER_AUTHORIZATION_FAILED",
        ),
        fetch(
            "partition -1",
            &|request| request.topics[0].partitions[0].partition = -1,
            "UNKNOWN_TOPIC_OR_PARTITION",
        ),
        fetch(
            "session of a stranger",
            &|request| (request.session_id, request.session_epoch) = (12_345, 5),
            "FETCH_SESSION_ID_NOT_FOUND",
        ),
        fetch(
            "forgotten topics that were never asked for",
            &|request| {
                let partitions = vec![0, -1, i32::MAX];
                let topic = "no-such-topic".into();
                request.forgotten_topics_data =
                    vec![ForgottenTopic { topic, partitions, ..Default::default() }; 100];
            },
            RECORDS,
        ),
        fetch("no topics", &|request| request.topics.clear(), "an empty answer"),
    ]
}

fn offsets() -> Vec<Case> {
    let list = |input: &str, change: &dyn Fn(&mut ListOffsetsRequest), expected| {
        let mut request = end_offset_request(VICTIM);
        change(&mut request);
        let input = format!("ListOffsets: {input}");
        Case::new("B43", input, frame(request, LIST_OFFSETS), listed, expected)
    };
    let time = |request: &mut ListOffsetsRequest, time| {
        request.topics[0].partitions[0].timestamp = time;
    };
    vec![
        list("the least timestamp", &|request| time(request, i64::MIN), "INVALID_REQUEST"),
        list("the most timestamp", &|request| time(request, i64::MAX), "NONE"),
        list("isolation level 7", &|request| request.isolation_level = 7, "INVALID_REQUEST"),
        list(
            "leader epoch in the future",
            &|request| request.topics[0].partitions[0].current_leader_epoch = 1000,
            "UNKNOWN_LEADER_EPOCH",
        ),
        list(
            "partition 2^31 - 1",
            &|request| request.topics[0].partitions[0].partition_index = i32::MAX,
            "UNKNOWN_TOPIC_OR_PARTITION",
        ),
    ]
}

fn topics() -> Vec<Case> {
    let create = |input: &str, change: &dyn Fn(&mut CreatableTopic), expected| {
        let mut topic = new_topic("hostile");
        change(&mut topic);
        let mut request = create_request(vec![topic]);
        // Nothing of this may come into being.
        request.validate_only = false;
        let input = format!("CreateTopics: {input}");
        Case::new("B44", input, frame(request, CREATE_TOPICS), created, expected)
    };
    let assigned = |topic: &mut CreatableTopic, partitions: &[(i32, &[i32])]| {
        (topic.num_partitions, topic.replication_factor) = (-1, -1);
        let assignment = |(partition_index, brokers): &(i32, &[i32])| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: brokers.to_vec(),
        };
        topic.assignments = partitions.iter().map(assignment).collect();
    };
    let assign = |input: &str, partitions: &[(i32, &[i32])]| {
        let expected = "INVALID_REPLICA_ASSIGNMENT";
        create(input, &|topic| assigned(topic, partitions), expected)
    };
    let config = |name: String, value: String| CreatableTopicConfig {
        name: name.as_str().into(),
        value: Some(value.as_str().into()),
    };
    let factor = "INVALID_REPLICATION_FACTOR";
    let partitions = "INVALID_PARTITIONS";
    vec![
        create("replication factor 0", &|topic| topic.replication_factor = 0, factor),
        create("replication factor -2", &|topic| topic.replication_factor = -2, factor),
        create("replication factor 32,767", &|topic| topic.replication_factor = 0x7fff, factor),
        create("0 partitions", &|topic| topic.num_partitions = 0, partitions),
        create("-5 partitions", &|topic| topic.num_partitions = -5, partitions),
        create("10^9 partitions", &|topic| topic.num_partitions = 1_000_000_000, partitions),
        create(
            "10,000 unknown configs",
            &|topic| {
                let configs = (0..10_000).map(|n| config(format!("config.{n}"), "x".into()));
                topic.configs = configs.collect();
            },
            "INVALID_CONFIG",
        ),
        create(
            "a config of 32 KiB",
            &|topic| topic.configs = vec![config("retention.ms".into(), "9".repeat(32_000))],
            "INVALID_CONFIG",
        ),
        create(
            "a config twice",
            &|topic| topic.configs = vec![config("retention.ms".into(), "1000".into()); 2],
            "INVALID_CONFIG",
        ),
        create(
            "assignments and a count",
            &|topic| {
                assigned(topic, &[(0, &[0])]);
                topic.num_partitions = 1;
            },
            "INVALID_REQUEST",
        ),
        assign("a broker twice", &[(0, &[0, 0])]),
        assign("an unknown broker", &[(0, &[12_345])]),
        assign("broker -1", &[(0, &[-1])]),
        create(
            "a partition twice",
            &|topic| assigned(topic, &[(0, &[0]), (0, &[0])]),
            "INVALID_REPLICA_ASSIGNMENT",
        ),
        assign("partition 1 without 0", &[(1, &[0])]),
        assign("partition -1", &[(-1, &[0])]),
        assign("no brokers", &[(0, &[])]),
    ]
}

fn partitions() -> Vec<Case> {
    let add = |input: &str, topic: &str, count: i32, expected| {
        let topic = CreatePartitionsTopic { name: topic.into(), count, assignments: None };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: duration_ms(PATIENCE),
            validate_only: false,
        };
        let input = format!("CreatePartitions: {input}");
        Case::new("B44", input, frame(request, 2), partitions_created, expected)
    };
    let invalid = "INVALID_PARTITIONS";
    vec![
        add("as many as there are", VICTIM, 1, invalid),
        add("0", VICTIM, 0, invalid),
        add("-1", VICTIM, -1, invalid),
        add("10^9", VICTIM, 1_000_000_000, invalid),
        add("of a topic that does not exist", "no-such-topic", 2, "UNKNOWN_TOPIC_OR_PARTITION"),
    ]
}

fn deletions() -> Vec<Case> {
    let delete = |input: &str, topic: &str, partition_index: i32, offset: i64, expected| {
        let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
        let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
        let request = DeleteRecordsRequest { topics, timeout_ms: duration_ms(PATIENCE) };
        let input = format!("DeleteRecords: {input}");
        Case::new("B44", input, frame(request, 2), records_deleted, expected)
    };
    let range = "OFFSET_OUT_OF_RANGE";
    let unknown = "UNKNOWN_TOPIC_OR_PARTITION";
    vec![
        delete("beyond the high watermark", VICTIM, 0, 1_000_000, range),
        delete("the most offset", VICTIM, 0, i64::MAX, range),
        delete("offset -2", VICTIM, 0, -2, range),
        delete("the least offset", VICTIM, 0, i64::MIN, range),
        delete("partition -1", VICTIM, -1, 0, unknown),
        delete("a topic that does not exist", "no-such-topic", 0, 0, unknown),
    ]
}

fn duration_ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).expect("short")
}
