//! The gateway's way to the broker when both live in one process: calls, translated, without a copy or a hop.

use std::sync::Arc;

use thalweg_broker::error::{AppendError, FetchError, NotLeading, ProduceError, Unknown};
use thalweg_broker::fetch::list_offset;
use thalweg_broker::{Broker, TopicRef, fetch};
use thalweg_gateway::port::{
    BrokerPort, FetchCall, FetchedPartition, Fetched, ListedOffset, OffsetQuery, ProduceCall,
    Produced,
};
use thalweg_metadata_core::{Endpoint, Image};
use thalweg_rpc::{Error, LeaderHint};
use thalweg_types::{
    Acks, ErrorCode, IsolationLevel, LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch,
    ProducerId, TopicName, TopicPartition,
};

/// The broker of this process, as its gateway sees it.
#[derive(Debug, Clone)]
pub(crate) struct LocalBroker(pub(crate) Arc<Broker>);

impl BrokerPort for LocalBroker {
    async fn produce(&self, call: ProduceCall) -> Result<Produced, Error> {
        let broker = &self.0;
        let place = TopicPartition { topic: call.topic, partition: call.partition };
        let refuse = |error: ProduceError| produce_error(&error, &place, &broker.image());
        let partition = broker
            .partition(&TopicRef::Name(place.topic.as_str()), place.partition)
            .map_err(|unknown| refuse(AppendError::from(unknown).into()))?;
        let pending = broker
            .append(&partition, call.batch, call.acks)
            .await
            .map_err(|refused| refuse(refused.into()))?;
        if call.acks == Acks::None {
            return Ok(Produced {
                base_offset: Offset::NONE,
                log_append_time: None,
                log_start_offset: Offset::NONE,
            });
        }
        let appended = broker.acknowledged(pending, call.timeout).await.map_err(refuse)?;
        Ok(Produced {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
        })
    }

    async fn fetch(&self, call: FetchCall) -> Result<Vec<FetchedPartition>, Error> {
        let broker = &self.0;
        let partitions = call.partitions.iter().map(|wanted| fetch::FetchPartition {
            target: broker.partition(&TopicRef::Name(wanted.topic.as_str()), wanted.partition),
            offset: wanted.offset,
            max_bytes: wanted.max_bytes,
            reader_epoch: wanted.current_leader_epoch,
        });
        let inner = fetch::FetchCall {
            partitions: partitions.collect(),
            min_bytes: call.min_bytes,
            max_bytes: call.max_bytes,
            max_wait: call.max_wait,
            isolation: call.isolation,
        };
        let fetched = broker.fetch(&inner).await;
        let image = broker.image();
        let answer = call.partitions.into_iter().zip(fetched).map(|(wanted, result)| {
            let place = TopicPartition { topic: wanted.topic, partition: wanted.partition };
            let result = match result {
                Ok(fetched) => Ok(Fetched {
                    high_watermark: fetched.high_watermark,
                    last_stable_offset: fetched.last_stable_offset,
                    log_start_offset: fetched.log_start_offset,
                    batches: fetched.batches,
                }),
                Err(error) => Err(fetch_error(&error, &place, &image)),
            };
            FetchedPartition { topic: place.topic, partition: place.partition, result }
        });
        Ok(answer.collect())
    }

    async fn list_offset(
        &self,
        topic: TopicName,
        partition: PartitionIndex,
        at: OffsetQuery,
        isolation: IsolationLevel,
    ) -> Result<Option<ListedOffset>, Error> {
        let query = match at {
            OffsetQuery::Earliest => fetch::OffsetQuery::Earliest,
            OffsetQuery::Latest => fetch::OffsetQuery::Latest,
            OffsetQuery::MaxTimestamp => fetch::OffsetQuery::MaxTimestamp,
            OffsetQuery::Timestamp(timestamp) => fetch::OffsetQuery::Timestamp(timestamp),
        };
        let found = self
            .0
            .partition(&TopicRef::Name(topic.as_str()), partition)
            .map_err(FetchError::from)
            .and_then(|found| list_offset(&found, query, isolation, LeaderEpoch::NONE))
            .map_err(|error| {
                fetch_error(&error, &TopicPartition { topic, partition }, &self.0.image())
            })?;
        Ok(found.map(|found| ListedOffset {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
        }))
    }

    async fn init_producer(&self) -> Result<(ProducerId, ProducerEpoch), Error> {
        Ok((self.0.new_producer_id().await?, ProducerEpoch(0)))
    }
}

fn produce_error(error: &ProduceError, place: &TopicPartition, image: &Image) -> Error {
    let leader = match error {
        ProduceError::Refused(AppendError::NotLeading(error)) => not_leading(error),
        ProduceError::Refused(AppendError::Unknown(error)) => elsewhere(error),
        _ => None,
    };
    let message = format!("{place}: {error}");
    Error {
        outcome: error.outcome(),
        ..with_hint(Error::new(error.code(), message), leader, place, image)
    }
}

/// Reading changes nothing, so whatever went wrong was not applied.
fn fetch_error(error: &FetchError, place: &TopicPartition, image: &Image) -> Error {
    let leader = match error {
        FetchError::NotLeading(error) => not_leading(error),
        FetchError::Unknown(error) => elsewhere(error),
        _ => None,
    };
    let message = format!("{place}: {error}");
    with_hint(Error::new(error.code(), message), leader, place, image).not_applied()
}

fn not_leading(error: &NotLeading) -> Option<(NodeId, LeaderEpoch)> {
    match error {
        NotLeading::NotLeader { leader, epoch } => Some((*leader, *epoch)),
        _ => None,
    }
}

fn elsewhere(error: &Unknown) -> Option<(NodeId, LeaderEpoch)> {
    match error {
        Unknown::Elsewhere { leader, epoch } => Some((*leader, *epoch)),
        _ => None,
    }
}

fn with_hint(
    error: Error,
    leader: Option<(NodeId, LeaderEpoch)>,
    place: &TopicPartition,
    image: &Image,
) -> Error {
    let Some((node_id, leader_epoch)) = leader else { return error };
    let endpoint = image
        .node(node_id)
        .and_then(|node| node.endpoint(Endpoint::PUBLIC))
        .map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
    debug_assert_eq!(error.code, ErrorCode::NotLeaderOrFollower);
    error.with_leader(LeaderHint { partition: place.clone(), node_id, leader_epoch, endpoint })
}
