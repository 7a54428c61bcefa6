//! gRPC Produce without an identity: nothing is sent twice. A refusal that says "not applied" is a promise that the records never show;
//! without an answer, or with one that says "unknown", they may.

use std::net::SocketAddr;
use std::time::Duration;

use thalweg_proto::producer::v1::produce_request::Payload;
use thalweg_proto::producer::v1::producer_client::ProducerClient;
use thalweg_rpc::{Error, channel};
use thalweg_types::Outcome as Applied;
use tokio::time::{sleep, timeout};

use super::{PACE, Producer, Run, stream};
use crate::history::Outcome;

/// Records of one call.
const COUNT: u64 = 3;

/// One call of so many is refused by the log, because a key makes its batch larger than `max.message.bytes`.
const REFUSED_EVERY: u64 = 8;
const KEY_BYTES: usize = 1_100_000;

const PAUSE: Duration = Duration::from_millis(10);

/// Longest wait for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Calls until the run is stopped.
pub(crate) async fn produce(run: &Run, producer: &Producer, grpc: SocketAddr) {
    let channel = channel(&grpc.to_string()).expect("an address of a listener");
    let mut client = ProducerClient::new(channel);
    let mut next = 0;
    while !run.is_stopped() {
        let begun = run.clock.now();
        let mut request = stream::request(producer, next, COUNT);
        if next / COUNT % REFUSED_EVERY == REFUSED_EVERY - 1
            && let Some(Payload::Records(records)) = &mut request.payload
        {
            records.records[0].key = Some(vec![0; KEY_BYTES].into());
        }
        let call = client.produce(request);
        let outcome = match timeout(ANSWER_TIME_MAX, call).await {
            Err(_) => Outcome::Unknown,
            Ok(Ok(answer)) => match answer.into_inner().partitions.pop() {
                Some(partition) => match partition.error {
                    None => Outcome::Acknowledged(partition.base_offset),
                    Some(error) => outcome_of(&Error::from_detail(error)),
                },
                None => Outcome::Unknown,
            },
            Ok(Err(status)) => outcome_of(&Error::from(status)),
        };
        run.sent(producer, (next, COUNT), begun, outcome);
        next += COUNT;
        match outcome {
            Outcome::Acknowledged(_) => sleep(PACE / 4).await,
            _ => sleep(PAUSE).await,
        }
    }
}

fn outcome_of(error: &Error) -> Outcome {
    match error.outcome {
        Applied::NotApplied => Outcome::Failed,
        Applied::Unknown => Outcome::Unknown,
    }
}
