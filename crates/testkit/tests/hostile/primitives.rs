//! B9-B18: counts, lengths and tags that do not fit, surplus bytes, repetitions, masses, names and ids of topics.

use bytes::{BufMut, BytesMut};
use thalweg_kafka::messages::delete_topics::DeleteTopicState;
use thalweg_kafka::messages::metadata::MetadataRequestTopic;
use thalweg_kafka::messages::produce::PartitionProduceData;
use thalweg_kafka::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, ProduceRequest,
};
use thalweg_record::BatchBuilder;
use thalweg_types::{CompressionType, ProducerEpoch, ProducerId, Sequence, Timestamp, Uuid};

use crate::batches::one_record;
use crate::case::Case;
use crate::wire::{body, frame, frame_of};
use crate::witness::VICTIM;
use crate::words::{
    CREATE_TOPICS, FETCH, METADATA, METADATA_BY_ID, PRODUCE, create_request, created, deleted,
    described, described_4, described_by_id, fetch_request, fetched, fetched_4, fetched_13,
    metadata_request, new_topic, produce_request, produced, produced_3, produced_13,
};

const PRODUCE_KEY: i16 = 0;
const FETCH_KEY: i16 = 1;
const METADATA_KEY: i16 = 3;
const CREATE_TOPICS_KEY: i16 = 19;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = counts_and_lengths();
    cases.extend(products());
    cases.extend(tags());
    cases.extend(surplus());
    cases.extend(repetitions());
    cases.extend(masses());
    cases.extend(names());
    cases.extend(ids());
    cases
}

fn counts_and_lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for count in [-2, i32::MIN, i32::MAX, 3] {
        let mut body = Vec::new();
        body.put_i32(count);
        body.put_slice(&[0, 1, b'a']);
        let input = format!("Metadata for {count} topics, one there");
        cases.push(Case::closes("B9", input, frame_of(METADATA_KEY, 1, &body)));
    }
    let null = [&[0xff; 4][..], &[0, 0, 0, 9, 0]].concat();
    let input = "CreateTopics for -1 topics, where null is not allowed";
    cases.push(Case::closes("B9", input, frame_of(CREATE_TOPICS_KEY, 2, &null)));

    let compact = |varint: &[u8]| frame_of(METADATA_KEY, 9, &[varint, &[0, 0, 0, 0]].concat());
    let long: [(&str, &[u8]); 3] = [
        ("beyond 32 bits", &[0xff, 0xff, 0xff, 0xff, 0x1f]),
        ("of six bytes", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
        ("of 2^32 - 1", &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ];
    for (name, varint) in long {
        cases.push(Case::closes("B10", format!("compact count {name}"), compact(varint)));
    }
    let overlong = compact(&[0x81, 0x00]);
    let answer = "an empty answer";
    cases.push(Case::new("B10", "compact count 0 in two bytes", overlong, described, answer));

    let named = |length: i16| {
        let mut body = Vec::new();
        body.put_i32(1);
        body.put_i16(length);
        body.put_slice(b"abc");
        frame_of(METADATA_KEY, 1, &body)
    };
    cases.push(Case::closes("B12", "topic name beyond the frame", named(i16::MAX)));
    cases.push(Case::closes("B12", "topic name of length -2", named(-2)));
    for length in [i32::MAX, 1000, -2] {
        let mut body = produce_body_up_to_records();
        body.put_i32(length);
        body.put_slice(&[0; 10]);
        let input = format!("records of length {length}, 10 bytes there");
        cases.push(Case::closes("B12", input, frame_of(PRODUCE_KEY, 3, &body)));
    }
    cases
}

/// Produce version 3 to partition 0 of the victim: no transaction, acks of all, a second.
fn produce_body_up_to_records() -> Vec<u8> {
    let whole = body(produce_request(VICTIM, &[&[]]), 3);
    whole[..whole.len() - 4].to_vec()
}

fn products() -> Vec<Case> {
    // Each topic claims as many partitions as bytes follow it.
    let mut claims = Vec::new();
    claims.put_slice(&[0xff; 4]);
    claims.put_slice(&[0; 13]);
    claims.put_i32(1000);
    for _ in 0..1000 {
        claims.put_i16(0);
        claims.put_i32(1000);
    }
    let mut request = produce_request("no-such-topic", &[]);
    let partition = |index| PartitionProduceData { index, records: None };
    request.topic_data[0].partition_data = (0..1000).map(partition).collect();
    request.topic_data = vec![request.topic_data[0].clone(); 10];
    let mut empty = fetch_request("", 0);
    empty.topics[0].partitions.clear();
    empty.topics = vec![empty.topics[0].clone(); 20_000];
    vec![
        Case::closes(
            "B11",
            "Fetch for 1,000 topics of 1,000 partitions each, without their bytes",
            frame_of(FETCH_KEY, 4, &claims),
        ),
        Case::new(
            "B11",
            "Produce to 10 x 1,000 partitions of a topic that does not exist",
            frame(request, 3),
            produced_3,
            "UNKNOWN_TOPIC_OR_PARTITION x 10000",
        ),
        Case::new(
            "B11",
            "Fetch for 20,000 topics without partitions",
            frame(empty, 4),
            fetched_4,
            "an empty answer",
        ),
    ]
}

fn tags() -> Vec<Case> {
    // Metadata 9 for no topics at all; the tagged fields are last.
    let tagged = |tags: &[u8]| frame_of(METADATA_KEY, 9, &[&[1, 0, 0, 0][..], tags].concat());
    let closing: [(&str, &[u8]); 5] = [
        ("2^31 tagged fields", &[0x80, 0x80, 0x80, 0x80, 0x08]),
        ("a tag twice", &[2, 5, 0, 5, 0]),
        ("tags out of order", &[2, 5, 0, 4, 0]),
        ("a tagged field beyond the frame", &[1, 5, 9]),
        ("a tagged field of 2^32 - 1 bytes", &[1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ];
    let mut cases: Vec<_> =
        closing.into_iter().map(|(name, tags)| Case::closes("B13", name, tagged(tags))).collect();
    let plain = body(metadata_request(&[VICTIM]), 4);
    let with_tags = frame_of(METADATA_KEY, 4, &[&plain[..], &[1, 5, 0]].concat());
    cases.push(Case::closes("B13", "tagged fields in a version that has none", with_tags));

    let highest = tagged(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 7]);
    let answer = "an empty answer";
    cases.push(Case::new("B13", "the unknown tag 2^32 - 1", highest, described, answer));
    let mut large = vec![1, 5, 0x80, 0x80, 0x40];
    large.resize(5 + (1 << 20), 0xee);
    cases.push(Case::new("B13", "an unknown tag with 1 MiB", tagged(&large), described, answer));
    cases
}

fn surplus() -> Vec<Case> {
    let longer = |bytes: Vec<u8>, more: usize| [bytes, vec![0; more]].concat();
    let plain = body(metadata_request(&[VICTIM]), 4);
    let flexible = body(metadata_request(&[VICTIM]), METADATA);
    let produce = body(produce_request(VICTIM, &[&one_record()]), PRODUCE);
    vec![
        Case::closes("B14", "a byte too many", frame_of(METADATA_KEY, 4, &longer(plain, 1))),
        Case::closes(
            "B14",
            "1,000 bytes too many after tagged fields",
            frame_of(METADATA_KEY, METADATA, &longer(flexible, 1000)),
        ),
        Case::closes(
            "B14",
            "a byte too many after a valid Produce",
            frame_of(PRODUCE_KEY, PRODUCE, &longer(produce, 1)),
        ),
    ]
}

fn repetitions() -> Vec<Case> {
    let batch = one_record();
    let mut idempotent = BatchBuilder::new(CompressionType::None).producer(
        ProducerId(4_711),
        ProducerEpoch(0),
        Sequence(0),
    );
    idempotent.push(Timestamp(1), Some(b"key"), Some(b"value"), &[]).expect("fits");
    let idempotent = idempotent.finish().expect("not empty");
    let mut twice = produce_request(VICTIM, &[&batch]);
    twice.topic_data.push(twice.topic_data[0].clone());
    let mut fetch = fetch_request(VICTIM, 0);
    fetch.topics[0].partitions = vec![fetch.topics[0].partitions[0].clone(); 2];
    let create = create_request(vec![new_topic("twin"), new_topic("twin")]);
    vec![
        Case::new(
            "B15",
            "Produce with a partition twice",
            frame(produce_request(VICTIM, &[&batch, &batch]), PRODUCE),
            produced,
            "NONE x 2",
        )
        .appending(2),
        Case::new(
            "B15",
            "Produce with the same batch of an idempotent producer twice",
            frame(produce_request(VICTIM, &[&idempotent, &idempotent]), PRODUCE),
            produced,
            "NONE x 2",
        )
        .appending(1),
        Case::new("B15", "Produce with a topic twice", frame(twice, PRODUCE), produced, "NONE x 2")
            .appending(2),
        Case::new(
            "B15",
            "Fetch with a partition twice",
            frame(fetch, FETCH),
            fetched,
            "NONE with records",
        ),
        Case::new(
            "B15",
            "Metadata with a topic twice",
            frame(metadata_request(&[VICTIM, VICTIM]), METADATA),
            described,
            "NONE x 2",
        ),
        Case::new(
            "B15",
            "CreateTopics with a topic twice",
            frame(create, CREATE_TOPICS),
            created,
            "INVALID_REQUEST x 2",
        ),
    ]
}

fn masses() -> Vec<Case> {
    let short = metadata_request(&["ab"; 10_000]);
    let named: Vec<String> = (0..20_000).map(|number| format!("topic-{number:06}")).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let mut million = Vec::new();
    million.put_i32(1_000_000);
    million.put_bytes(0, 2_000_000);
    let create = create_request(vec![new_topic(""); 20_000]);
    vec![
        Case::closes(
            "B16",
            "Metadata for 1,000,000 empty names",
            frame_of(METADATA_KEY, 0, &million),
        ),
        Case::new(
            "B16",
            "Metadata for 10,000 unknown topics of two letters",
            frame(short, METADATA),
            described,
            "UNKNOWN_TOPIC_OR_PARTITION x 10000",
        ),
        Case::new(
            "B16",
            "Metadata for 20,000 unknown topics",
            frame(metadata_request(&named), METADATA),
            described,
            "UNKNOWN_TOPIC_OR_PARTITION x 20000",
        ),
        Case::new(
            "B16",
            "CreateTopics for 20,000 empty names",
            frame(create, CREATE_TOPICS),
            created,
            "INVALID_REQUEST x 20000",
        ),
    ]
}

fn names() -> Vec<Case> {
    let long = "a".repeat(250);
    let longest = "a".repeat(30_000);
    let names = [
        ("an empty name", ""),
        ("the name .", "."),
        ("the name ..", ".."),
        ("a name of 250 letters", &long),
        ("a name of 30,000 letters", &longest),
        ("a name with /", "../../etc/passwd"),
        ("a name with NUL", "a\0b"),
        ("a name with ü", "für"),
        ("a name with a line break and an escape", "a\n\x1b[31mb"),
    ];
    let mut cases = Vec::new();
    for (input, name) in names {
        let create =
            CreateTopicsRequest { validate_only: false, ..create_request(vec![new_topic(name)]) };
        cases.push(Case::new(
            "B17",
            format!("CreateTopics with {input}"),
            frame(create, CREATE_TOPICS),
            created,
            "INVALID_TOPIC_EXCEPTION",
        ));
        let metadata = metadata_request(&[name]);
        let creating = MetadataRequest { allow_auto_topic_creation: true, ..metadata };
        cases.push(Case::new(
            "B17",
            format!("Metadata, which may create, with {input}"),
            frame(creating, METADATA),
            described,
            "INVALID_TOPIC_EXCEPTION",
        ));
        cases.push(Case::new(
            "B17",
            format!("Produce with {input}"),
            frame(produce_request(name, &[&one_record()]), PRODUCE),
            produced,
            "UNKNOWN_TOPIC_OR_PARTITION",
        ));
    }
    let internal = "__consumer_offsets";
    let creating =
        MetadataRequest { allow_auto_topic_creation: true, ..metadata_request(&[internal]) };
    cases.push(Case::new(
        "B17",
        "Metadata, which may create, with an internal name",
        frame(creating, METADATA),
        described,
        "UNKNOWN_TOPIC_OR_PARTITION",
    ));
    cases.push(Case::new(
        "B17",
        "CreateTopics, checking only, with an internal name",
        frame(create_request(vec![new_topic(internal)]), CREATE_TOPICS),
        created,
        "NONE",
    ));
    cases.push(Case::new(
        "B17",
        "CreateTopics, checking only, with names that differ in . and _ only",
        frame(create_request(vec![new_topic("a.b"), new_topic("a_b")]), CREATE_TOPICS),
        created,
        "NONE, INVALID_TOPIC_EXCEPTION",
    ));
    cases
}

fn ids() -> Vec<Case> {
    let stranger = Uuid::from_bytes([0x5a; 16]);
    let metadata = |name: Option<&str>, topic_id| {
        let topic = MetadataRequestTopic { topic_id, name: name.map(Into::into) };
        frame(MetadataRequest { topics: Some(vec![topic]), ..Default::default() }, METADATA_BY_ID)
    };
    let produce = |topic_id| {
        let mut request: ProduceRequest = produce_request("", &[&one_record()]);
        request.topic_data[0].topic_id = topic_id;
        frame(request, 13)
    };
    let fetch = |topic_id| {
        let mut request = fetch_request("", 0);
        request.topics[0].topic_id = topic_id;
        frame(request, 13)
    };
    let delete = |topic_id| {
        let topics = vec![DeleteTopicState { name: None, topic_id }];
        frame(DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() }, 6)
    };
    let ids = [("the zero id", Uuid::ZERO), ("an id nobody has", stranger)];
    let mut cases = Vec::new();
    for (input, id) in ids {
        let unknown = "UNKNOWN_TOPIC_ID";
        let asked = if id.is_zero() { "INVALID_REQUEST" } else { unknown };
        let of = |call: &str| format!("{call} with {input}");
        let words = described_by_id;
        cases.push(Case::new("B18", of("Metadata"), metadata(None, id), words, asked));
        cases.push(Case::new("B18", of("Produce"), produce(id), produced_13, unknown));
        cases.push(Case::new("B18", of("Fetch"), fetch(id), fetched_13, unknown));
        cases.push(Case::new("B18", of("DeleteTopics"), delete(id), deleted, unknown));
    }
    let both = metadata(Some(VICTIM), stranger);
    let input = "Metadata with a name and another topic's id";
    cases.push(Case::new("B18", input, both, described_by_id, "UNKNOWN_TOPIC_ID"));
    let neither = BytesMut::from(&body(metadata_request(&[]), 4)[..]);
    let none = frame_of(METADATA_KEY, 4, &neither);
    cases.push(Case::new("B18", "Metadata for no topics", none, described_4, "an empty answer"));
    cases
}
