//! What the logs of replicas here hold, for who must choose among them when nobody leads (R14).

use thalweg_metadata_feed::codec::uuid_from_proto;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LogIndex, PartitionIndex, TopicId, TopicIdPartition};

use super::words;
use crate::broker::Broker;

/// Replicas of one call.
const REPLICAS_MAX: usize = 1_000;

pub(super) async fn describe(
    broker: &Broker,
    request: proto::DescribeReplicasRequest,
) -> Result<proto::DescribeReplicasResponse, Error> {
    let count = request.replicas.len();
    if count > REPLICAS_MAX {
        let message = format!("at most {REPLICAS_MAX} replicas, not {count}");
        return Err(Error::invalid_request(message).not_applied());
    }
    let wanted = request.replicas.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    // Who does not know yet that nobody leads may still take records from who led.
    let index = LogIndex(request.index);
    broker.served(index).await;
    if broker.served_index() < index {
        let message = format!("this broker does not go by the metadata up to {index} yet");
        return Err(Error::new(ErrorCode::ReplicaNotAvailable, message).not_applied());
    }
    let replicas = wanted.into_iter().map(|id| state(broker, id)).collect();
    Ok(proto::DescribeReplicasResponse { broker_epoch: broker.broker_epoch.0, replicas })
}

pub(super) fn read(name: &proto::ReplicaName) -> Result<TopicIdPartition, Error> {
    let topic_id = uuid_from_proto("topic_id", &name.topic_id)
        .map_err(|error| Error::invalid_request(error.to_string()).not_applied())?;
    Ok(TopicIdPartition { topic_id: TopicId(topic_id), partition: PartitionIndex(name.partition) })
}

fn state(broker: &Broker, id: TopicIdPartition) -> proto::ReplicaState {
    let found = match broker.hosted.get(id) {
        Some(partition) => partition.holding(),
        None if broker.log_dir.suspects().iter().any(|suspect| suspect.id == Some(id)) => {
            Err(Error::new(ErrorCode::KafkaStorageError, "its files are damaged"))
        }
        None => Err(Error::new(ErrorCode::ReplicaNotAvailable, "there is no such replica here")),
    };
    match found {
        Ok(holding) => proto::ReplicaState {
            last_epoch: holding.last_epoch.0,
            flushed_end: holding.durable_end.0,
            high_watermark: holding.high_watermark.0,
            refusal: None,
        },
        Err(error) => proto::ReplicaState {
            last_epoch: -1,
            refusal: Some(words::refusal(&error.not_applied())),
            ..Default::default()
        },
    }
}
