//! Batches to the brokers, and what became of them to one answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use thalweg_proto::producer::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{Acks, ErrorCode, Offset, Outcome, PartitionIndex, TopicName};
use tokio::time::Instant;

use super::Plan;
use super::batches::Part;
use crate::port::{BrokerPort, ProduceCall, Produced};
use crate::shared::Shared;

/// Pause before a partition that is just being set up is tried again.
const NEW_TOPIC_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Where the batches of one plan go, all the same way.
struct Delivery<B> {
    shared: Arc<Shared<B>>,
    topic: TopicName,
    acks: Acks,
    timeout: Duration,
    topic_is_new: bool,
    expected_offset: Option<Offset>,
}

/// Hands every batch over at the first poll; resolves when all have been answered.
pub(super) async fn deliver<B: BrokerPort>(
    shared: Arc<Shared<B>>,
    plan: Plan,
    deadline: Deadline,
) -> Result<proto::ProduceResponse, Error> {
    let Plan { order, parts, topic_is_new } = plan;
    let timeout = order.timeout.min(deadline.remaining());
    if timeout.is_zero() {
        return Err(Error::expired_before_start());
    }
    let delivery = Delivery {
        shared,
        topic: order.topic,
        acks: order.acks,
        timeout,
        topic_is_new,
        expected_offset: order.expected_offset,
    };
    let results = join_all(parts.into_iter().map(|part| delivery.deliver_part(part))).await;
    if let Some(error) = common_failure(&results) {
        return Err(error);
    }
    let partitions = results.into_iter().map(|(part, result)| answered(part, result)).collect();
    Ok(proto::ProduceResponse { topic: delivery.topic.to_string(), partitions })
}

impl<B: BrokerPort> Delivery<B> {
    async fn deliver_part(&self, mut part: Part) -> (Part, Result<Produced, Error>) {
        let batch = std::mem::take(&mut part.batch);
        self.shared.metrics.produced_records.inc_by(part.record_count.into());
        self.shared.metrics.produced_bytes.inc_by(batch.len() as u64);
        let result = match self.topic_is_new {
            false => self.shared.broker.produce(self.call(part.partition, batch)).await,
            true => self.deliver_to_new_partition(part.partition, batch).await,
        };
        (part, result)
    }

    /// The partition was created a moment ago: its leader may still be getting ready.
    async fn deliver_to_new_partition(
        &self,
        partition: PartitionIndex,
        batch: BytesMut,
    ) -> Result<Produced, Error> {
        let give_up_at = Instant::now() + self.timeout;
        loop {
            let result = self.shared.broker.produce(self.call(partition, batch.clone())).await;
            match result {
                Err(error) if is_getting_ready(&error) && Instant::now() < give_up_at => {
                    tokio::time::sleep(NEW_TOPIC_RETRY_PAUSE).await;
                }
                settled => return settled,
            }
        }
    }

    fn call(&self, partition: PartitionIndex, batch: BytesMut) -> ProduceCall {
        ProduceCall {
            topic: self.topic.clone(),
            partition,
            batch,
            acks: self.acks,
            timeout: self.timeout,
            expected_offset: self.expected_offset,
        }
    }
}

fn is_getting_ready(error: &Error) -> bool {
    error.outcome == Outcome::NotApplied
        && matches!(
            error.code,
            ErrorCode::UnknownTopicOrPartition
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::NotLeaderOrFollower
        )
}

/// The error of the whole request, if no part of it succeeded.
fn common_failure(results: &[(Part, Result<Produced, Error>)]) -> Option<Error> {
    let errors: Vec<&Error> =
        results.iter().map_while(|(_, result)| result.as_ref().err()).collect();
    if errors.len() < results.len() {
        return None;
    }
    let first = Error::clone(errors.first()?);
    let is_unknown = errors.iter().any(|error| error.outcome == Outcome::Unknown);
    Some(Error {
        outcome: if is_unknown { Outcome::Unknown } else { Outcome::NotApplied },
        retriable: errors.iter().all(|error| error.retriable),
        ..first
    })
}

fn answered(part: Part, result: Result<Produced, Error>) -> proto::ProducedPartition {
    let answer = proto::ProducedPartition {
        partition: part.partition.0,
        base_offset: Offset::NONE.0,
        record_count: part.record_count,
        record_indexes: part.record_indexes,
        log_append_time_ms: None,
        log_start_offset: Offset::NONE.0,
        error: None,
    };
    match result {
        Ok(produced) => proto::ProducedPartition {
            base_offset: produced.base_offset.0,
            log_append_time_ms: produced.log_append_time.map(|time| time.0),
            log_start_offset: produced.log_start_offset.0,
            ..answer
        },
        Err(error) => proto::ProducedPartition { error: Some(error.to_detail()), ..answer },
    }
}
