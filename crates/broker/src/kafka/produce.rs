//! Produce: each partition's batch is appended in the order asked; then all acknowledgements are awaited together.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use thalweg_kafka::messages::ProduceRequest;
use thalweg_kafka::messages::ProduceResponse;
use thalweg_kafka::messages::produce::{
    LeaderIdAndEpoch, PartitionProduceData, PartitionProduceResponse, TopicProduceResponse,
};
use thalweg_kafka::{KafkaString, Reply, Response};
use thalweg_record::BatchHeader;
use thalweg_storage::Appended;
use thalweg_types::{Acks, CompressionType, ErrorCode, NodeId, PartitionIndex};

use super::{hints, topic_ref};
use crate::broker::{Broker, TopicRef};
use crate::error::{AppendError, ProduceError};
use crate::partition::Pending;

/// First version that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// First version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;

/// One partition of the request, appended or refused.
type Appending = (i32, Result<Pending, AppendError>);

pub(super) async fn produce(broker: &Broker, version: i16, request: ProduceRequest) -> Reply {
    let Some(acks) = Acks::from_wire(request.acks) else {
        return Reply::Response(Response::Produce(refuse_all(
            request,
            ErrorCode::InvalidRequiredAcks,
        )));
    };
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));

    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let target = topic_ref(version >= TOPIC_IDS_SINCE, &topic.name, topic.topic_id);
        let mut appending: Vec<Appending> = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            appending.push((index, append(broker, version, &target, data, acks).await));
        }
        topics.push((topic.name.clone(), topic.topic_id, appending));
    }

    if acks == Acks::None {
        let refused = topics.iter().flat_map(|(_, _, all)| all).any(|(_, one)| one.is_err());
        // Without an answer, closing the connection is the only way to say that something was refused.
        return if refused { Reply::Close } else { Reply::None };
    }

    let mut responses = Vec::with_capacity(topics.len());
    for (name, topic_id, appending) in topics {
        let acknowledged = appending.into_iter().map(async |(index, one)| {
            let result = match one {
                Ok(pending) => broker.acknowledged(pending, wait).await,
                Err(refused) => Err(ProduceError::Refused(refused)),
            };
            partition_response(broker.node_id(), index, result)
        });
        let partition_responses = join_all(acknowledged).await;
        responses.push(TopicProduceResponse { name, topic_id, partition_responses });
    }
    let node_endpoints = hints::produce_endpoints(broker, &responses);
    let response = ProduceResponse { responses, node_endpoints, ..Default::default() };
    Reply::Response(Response::Produce(response))
}

async fn append(
    broker: &Broker,
    version: i16,
    topic: &TopicRef<'_>,
    data: PartitionProduceData,
    acks: Acks,
) -> Result<Pending, AppendError> {
    let partition = broker.partition(topic, PartitionIndex(data.index))?;
    let batch: BytesMut = data.records.unwrap_or_default();
    if version < ZSTD_SINCE && is_zstd(&batch) {
        return Err(AppendError::CompressionNotCarried(CompressionType::Zstd));
    }
    broker.append(&partition, batch, acks).await
}

fn is_zstd(batch: &[u8]) -> bool {
    BatchHeader::parse(batch)
        .is_ok_and(|header| header.attributes.compression() == Some(CompressionType::Zstd))
}

fn partition_response(
    broker: NodeId,
    index: i32,
    result: Result<Appended, ProduceError>,
) -> PartitionProduceResponse {
    match result {
        Ok(appended) => PartitionProduceResponse {
            index,
            base_offset: appended.base_offset.0,
            log_append_time_ms: appended.log_append_time.map_or(-1, |time| time.0),
            log_start_offset: appended.log_start_offset.0,
            ..Default::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: error.code().code(),
            base_offset: -1,
            error_message: Some(KafkaString::from(error.to_string().as_str())),
            current_leader: leader_hint(broker, &error),
            ..Default::default()
        },
    }
}

/// Whom to ask instead (KIP-951).
fn leader_hint(broker: NodeId, error: &ProduceError) -> LeaderIdAndEpoch {
    let leader = match error {
        ProduceError::Refused(AppendError::NotLeading(error)) => {
            hints::of_not_leading(broker, *error)
        }
        ProduceError::Refused(AppendError::Unknown(error)) => hints::of_unknown(error),
        _ => None,
    };
    leader.map_or_else(LeaderIdAndEpoch::default, |(leader, epoch)| LeaderIdAndEpoch {
        leader_id: leader.0,
        leader_epoch: epoch.0,
    })
}

fn refuse_all(request: ProduceRequest, code: ErrorCode) -> ProduceResponse {
    let refuse = |data: PartitionProduceData| PartitionProduceResponse {
        index: data.index,
        error_code: code.code(),
        base_offset: -1,
        ..Default::default()
    };
    let responses = request
        .topic_data
        .into_iter()
        .map(|topic| TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: topic.partition_data.into_iter().map(refuse).collect(),
        })
        .collect();
    ProduceResponse { responses, ..Default::default() }
}
