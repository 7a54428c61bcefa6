//! Everything that is in a partition in the end, by fresh clients over both protocols, which must agree byte for byte.

use std::net::SocketAddr;

use thalweg_proto::consumer::v1::consumer_client::ConsumerClient;
use thalweg_rpc::channel;
use tokio::time::{Duration, Instant, sleep};

use super::{Run, tail};
use crate::client::Client;
use crate::history::{Place, Reading, Seen, Value};

/// Records that one run of the client program is asked for.
const AT_A_TIME: usize = 50_000;

/// Longest time without progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records with their offsets.
type Contents = Vec<(i64, Vec<u8>)>;

/// Reads the place over both protocols; complains when they differ.
pub(crate) fn drain(run: &Run, place: &Place, client: Client, kafka: &str, grpc: SocketAddr) {
    let mut over_grpc = Contents::new();
    super::block_on(async { over_grpc = read_grpc(place, grpc).await });
    let over_kafka = read_kafka(client, kafka, place, over_grpc.len());
    if over_kafka != over_grpc {
        let at = over_kafka.iter().zip(&over_grpc).position(|(kafka, grpc)| kafka != grpc);
        let (kafka, grpc) = (over_kafka.len(), over_grpc.len());
        run.complain(format!(
            "{place}: {kafka} records over Kafka and {grpc} over gRPC are not the same, the first difference is at {at:?}"
        ));
    }
    for (protocol, contents) in [("Kafka", over_kafka), ("gRPC", over_grpc)] {
        let seen = contents.into_iter().map(|(offset, bytes)| Seen {
            place: place.clone(),
            offset,
            value: Value::from_bytes(&bytes),
        });
        let consumer = format!("drain of {place} over {protocol}");
        run.drained(Reading { consumer, seen: seen.collect() });
    }
}

/// From the beginning to where the partition ends now.
async fn read_grpc(place: &Place, grpc: SocketAddr) -> Contents {
    let channel = channel(&grpc.to_string()).expect("an address of a listener");
    let mut client = ConsumerClient::new(channel);
    let mut contents = Contents::new();
    let (mut next, mut end, mut moved) = (0, None, Instant::now());
    while end.is_none_or(|end| next < end) {
        assert!(moved.elapsed() < PATIENCE, "{place}: nothing at {next} of {end:?}");
        if end.is_none() {
            end = tail::end_of(&mut client, place).await;
        }
        match tail::fetch(&mut client, place, next, 0).await {
            Some((records, next_offset)) if next_offset > next => {
                contents.extend(records);
                (next, moved) = (next_offset, Instant::now());
            }
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
    contents
}

/// As many records as the other protocol has, and a check that there are no more.
fn read_kafka(client: Client, kafka: &str, place: &Place, count: usize) -> Contents {
    let partition = place.partition.to_string();
    let offsets = client.run(kafka, "offsets", &[&place.topic, &partition, "0"]).expect_success();
    let latest = offsets.lines().find_map(|line| line.strip_prefix("latest "));
    let latest = latest.and_then(|latest| latest.parse::<usize>().ok()).expect("a latest offset");
    let mut contents = Contents::new();
    while contents.len() < count.min(latest) {
        let from = contents.len();
        let wanted = AT_A_TIME.min(latest - from);
        let at = i64::try_from(from).expect("a run is short");
        let read = client.consume(kafka, &place.topic, place.partition, at, wanted);
        contents
            .extend(read.into_iter().map(|(at, record)| (at, record.value.unwrap_or_default())));
    }
    assert_eq!(latest, count, "{place}: Kafka and gRPC say different ends");
    contents
}
