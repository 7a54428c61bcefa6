//! The gRPC API as a stranger meets it, by reflection; and what was written by one protocol read by the other.

use serde_json::{Value, json};
use thalweg_testkit::{Client, Grpcurl, Library, RecordLine, Server, sample};

use crate::{CODECS, assert_same_records};

#[test]
fn reflection_names_the_services_and_health_says_serving() {
    let test = "grpcurl lists services";
    let Some(server) = Server::start(test) else { return };
    let Some(grpcurl) = Grpcurl::find(server.grpc(), test) else { return };

    let services = grpcurl.services();
    for service in [
        "grpc.health.v1.Health",
        "thalweg.producer.v1.Producer",
        "thalweg.consumer.v1.Consumer",
        "thalweg.admin.v1.Admin",
    ] {
        assert!(services.iter().any(|name| name == service), "{service} is not in {services:?}");
    }
    let health = grpcurl.call("grpc.health.v1.Health/Check", &json!({}));
    assert_eq!(health["status"], "SERVING");
}

#[test]
fn records_produced_by_grpc_are_fetched_by_grpc() {
    let test = "grpcurl produces and fetches";
    let Some(server) = Server::start(test) else { return };
    let Some(grpcurl) = Grpcurl::find(server.grpc(), test) else { return };
    let records = sample(50);

    let produced = produce(&grpcurl, "events", &records, "COMPRESSION_ZSTD");
    assert_eq!(produced["partitions"][0]["baseOffset"], "0");
    assert_eq!(produced["partitions"][0]["recordCount"], 50);
    let produced = produce(&grpcurl, "events", &records, "COMPRESSION_NONE");
    assert_eq!(produced["partitions"][0]["baseOffset"], "50");

    let fetched = fetch(&grpcurl, "events", 50);
    assert_same_records(&fetched, 50, &records);

    let query = |spec: &str, at: i64| {
        let query = json!({ "topic": "events", "partition": 0, "spec": spec, "timestampMs": at });
        let answer = grpcurl
            .call("thalweg.consumer.v1.Consumer/ListOffsets", &json!({ "queries": [query] }));
        answer["offsets"][0]["offset"].clone()
    };
    assert_eq!(query("OFFSET_SPEC_EARLIEST", 0), "0");
    assert_eq!(query("OFFSET_SPEC_LATEST", 0), "100");
    assert_eq!(query("OFFSET_SPEC_TIMESTAMP", records[7].timestamp_ms), "7");
    assert_eq!(query("OFFSET_SPEC_MAX_TIMESTAMP", 0), "49");
    assert_eq!(query("OFFSET_SPEC_TIMESTAMP", records[49].timestamp_ms + 1), Value::Null);
}

#[test]
fn refusals_carry_the_kafka_error_and_the_outcome() {
    let test = "grpcurl sees typed errors";
    let Some(server) = Server::start(test) else { return };
    let Some(grpcurl) = Grpcurl::find(server.grpc(), test) else { return };
    let request = json!({
        "topic": "nowhere",
        "partition": 0,
        "records": { "records": [{ "value": Grpcurl::encode_bytes(b"x") }] },
    });
    let refused =
        grpcurl.try_call("thalweg.producer.v1.Producer/Produce", &request).expect_failure();
    assert!(refused.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{refused}");
    assert!(refused.contains("OUTCOME_NOT_APPLIED"), "{refused}");
}

#[test]
fn what_kafka_clients_produce_grpc_fetches() {
    let test = "Kafka to gRPC";
    let Some(server) = Server::start(test) else { return };
    let Some(grpcurl) = Grpcurl::find(server.grpc(), test) else { return };
    let records = sample(100);
    for library in Library::ALL {
        let Some(client) = Client::find(library, test) else { continue };
        for codec in CODECS {
            let topic = format!("{library:?}-{codec}");
            client.produce(server.kafka(), &topic, 0, codec, &records);
            assert_same_records(&fetch(&grpcurl, &topic, 0), 0, &records);
        }
    }
}

#[test]
fn what_grpc_produces_kafka_clients_consume() {
    let test = "gRPC to Kafka";
    let Some(server) = Server::start(test) else { return };
    let Some(grpcurl) = Grpcurl::find(server.grpc(), test) else { return };
    let records = sample(100);
    let mut written = Vec::new();
    for codec in CODECS {
        let compression = format!("COMPRESSION_{}", codec.to_uppercase());
        produce(&grpcurl, "events", &records, &compression);
        written.extend(records.clone());
    }
    for library in Library::ALL {
        let Some(client) = Client::find(library, test) else { continue };
        let read = client.consume(server.kafka(), "events", 0, 0, written.len());
        assert_same_records(&read, 0, &written);
    }
}

/// Produces to partition 0, creating the topic; returns the answer.
fn produce(grpcurl: &Grpcurl, topic: &str, records: &[RecordLine], compression: &str) -> Value {
    let records: Vec<_> = records.iter().map(record_json).collect();
    let request = json!({
        "topic": topic,
        "partition": 0,
        "records": { "records": records },
        "compression": compression,
        "createTopic": true,
    });
    grpcurl.call("thalweg.producer.v1.Producer/Produce", &request)
}

fn record_json(record: &RecordLine) -> Value {
    let header = |(key, value): &(String, Option<Vec<u8>>)| {
        let mut header = json!({ "key": key });
        set_bytes(&mut header, "value", value.as_deref());
        header
    };
    let headers: Vec<_> = record.headers.iter().map(header).collect();
    let timestamp = record.timestamp_ms.to_string();
    let mut json = json!({ "timestampMs": timestamp, "headers": headers });
    set_bytes(&mut json, "key", record.key.as_deref());
    set_bytes(&mut json, "value", record.value.as_deref());
    json
}

/// Null is the absence of the field: JSON's own null is refused for bytes.
fn set_bytes(message: &mut Value, field: &str, bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes {
        message[field] = Grpcurl::encode_bytes(bytes).into();
    }
}

/// Everything in partition 0 from an offset on.
fn fetch(grpcurl: &Grpcurl, topic: &str, from: i64) -> Vec<(i64, RecordLine)> {
    let partition = json!({
        "topic": topic, "partition": 0, "offset": from.to_string(), "maxBytes": 32 << 20,
    });
    let request = json!({ "partitions": [partition], "maxBytes": 32 << 20, "format": "FETCH_FORMAT_RECORDS" });
    let answer = grpcurl.call("thalweg.consumer.v1.Consumer/Fetch", &request);
    let fetched = &answer["partitions"][0];
    assert!(fetched["error"].is_null(), "{}", fetched["error"]);
    let records = fetched["records"].as_array().expect("a list of records");
    records.iter().map(|record| (number(&record["offset"]), record_line(record))).collect()
}

fn record_line(record: &Value) -> RecordLine {
    let bytes = |value: &Value| value.as_str().map(Grpcurl::decode_bytes);
    let headers = record["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    RecordLine {
        timestamp_ms: number(&record["timestampMs"]),
        key: bytes(&record["key"]),
        value: bytes(&record["value"]),
        headers: headers
            .iter()
            .map(|header| {
                let key = header["key"].as_str().expect("a header has a key");
                (key.to_owned(), bytes(&header["value"]))
            })
            .collect(),
    }
}

/// JSON carries 64-bit numbers as text.
fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value}"))
}
