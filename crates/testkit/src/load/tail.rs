//! A consumer over gRPC that reads one partition while others write it, and asks now and then where it ends.

use std::net::SocketAddr;
use std::time::Duration;

use thalweg_proto::consumer::v1 as proto;
use thalweg_proto::consumer::v1::consumer_client::ConsumerClient;
use thalweg_rpc::channel;
use tokio::time::sleep;
use tonic::transport::Channel;

use super::Run;
use crate::history::{End, Place, Reading, Seen, Value};

/// Longest wait of the server for something new.
const WAIT_MS: u32 = 100;

const PAUSE: Duration = Duration::from_millis(20);

/// Reads until the run is stopped.
pub(crate) async fn consume(run: &Run, place: &Place, grpc: SocketAddr) {
    let channel = channel(&grpc.to_string()).expect("an address of a listener");
    let mut client = ConsumerClient::new(channel);
    let mut reading = Reading { consumer: format!("tail of {place}"), seen: Vec::new() };
    let mut next = 0;
    while !run.is_stopped() {
        let begun = run.clock.now();
        if let Some(offset) = end_of(&mut client, place).await {
            run.ended(End { place: place.clone(), begun, offset });
        }
        match fetch(&mut client, place, next, WAIT_MS).await {
            Some((records, next_offset)) => {
                next = next_offset;
                reading.seen.extend(records.into_iter().map(|(offset, bytes)| Seen {
                    place: place.clone(),
                    offset,
                    value: Value::from_bytes(&bytes),
                }));
            }
            None => sleep(PAUSE).await,
        }
    }
    run.read(reading);
}

/// Offsets and values from an offset on, and where to read on; `None` when there is no answer.
pub(super) async fn fetch(
    client: &mut ConsumerClient<Channel>,
    place: &Place,
    from: i64,
    max_wait_ms: u32,
) -> Option<(Vec<(i64, Vec<u8>)>, i64)> {
    let partition = proto::FetchPartition {
        topic: place.topic.clone(),
        partition: place.partition,
        offset: from,
        ..Default::default()
    };
    let request = proto::FetchRequest {
        partitions: vec![partition],
        min_bytes: 1,
        max_wait_ms,
        ..Default::default()
    };
    let answer = client.fetch(request).await.ok()?.into_inner();
    let fetched = answer.partitions.into_iter().next()?;
    if fetched.error.is_some() {
        return None;
    }
    let value = |record: proto::Record| {
        (record.offset, record.value.map(|value| value.to_vec()).unwrap_or_default())
    };
    Some((fetched.records.into_iter().map(value).collect(), fetched.next_offset))
}

/// Where a partition ends; `None` when there is no answer.
pub(super) async fn end_of(client: &mut ConsumerClient<Channel>, place: &Place) -> Option<i64> {
    let query = proto::OffsetQuery {
        topic: place.topic.clone(),
        partition: place.partition,
        spec: proto::OffsetSpec::Latest.into(),
        ..Default::default()
    };
    let request = proto::ListOffsetsRequest { queries: vec![query], ..Default::default() };
    let answer = client.list_offsets(request).await.ok()?.into_inner();
    let listed = answer.offsets.into_iter().next()?;
    if listed.error.is_some() { None } else { listed.offset }
}
