//! Fetch, for consumers. Every answer is a full one: no fetch session is kept, which the session id 0 says (KIP-227).

use std::time::Duration;

use bytes::Bytes;
use thalweg_kafka::messages::fetch::{
    FetchPartition as WirePartition, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use thalweg_kafka::messages::{FetchRequest, FetchResponse};
use thalweg_record::Batches;
use thalweg_types::{
    CompressionType, ErrorCode, IsolationLevel, LeaderEpoch, Offset, PartitionIndex,
};

use super::topic_ref;
use crate::broker::Broker;
use crate::error::{FetchError, NotLeading, Unknown};
use crate::fetch::{FetchCall, FetchPartition, Fetched};

/// First version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// First version whose reader understands zstd (KIP-110).
const ZSTD_SINCE: i16 = 10;

pub(super) async fn fetch(broker: &Broker, version: i16, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 {
        return refuse_all(ErrorCode::FetchSessionIdNotFound);
    }
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Followers do not replicate over this listener; a client that poses as one must not move anything.
        return refuse_all(ErrorCode::ClusterAuthorizationFailed);
    }
    let Some(isolation) = IsolationLevel::from_wire(request.isolation_level) else {
        return refuse_all(ErrorCode::InvalidRequest);
    };

    let mut partitions = Vec::new();
    for topic in &request.topics {
        let target = topic_ref(version >= TOPIC_IDS_SINCE, &topic.topic, topic.topic_id);
        for wanted in &topic.partitions {
            partitions.push(FetchPartition {
                target: broker.partition(&target, PartitionIndex(wanted.partition)),
                offset: Offset(wanted.fetch_offset),
                max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
                reader_epoch: LeaderEpoch(wanted.current_leader_epoch),
            });
        }
    }
    let max_bytes =
        usize::try_from(request.max_bytes).unwrap_or(0).min(broker.options().fetch_bytes_max);
    let call = FetchCall {
        partitions,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        isolation,
    };

    let mut fetched = broker.fetch(&call).await.into_iter();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let answer = |wanted: &WirePartition| {
            let result = fetched.next().expect("a fetch answers every partition asked");
            partition_data(wanted.partition, result, version)
        };
        responses.push(FetchableTopicResponse {
            partitions: topic.partitions.iter().map(answer).collect(),
            topic: topic.topic,
            topic_id: topic.topic_id,
        });
    }
    FetchResponse { responses, ..Default::default() }
}

fn partition_data(
    partition_index: i32,
    result: Result<Fetched, FetchError>,
    version: i16,
) -> PartitionData {
    let refused = |code: ErrorCode, current_leader| PartitionData {
        partition_index,
        error_code: code.code(),
        high_watermark: -1,
        current_leader,
        ..Default::default()
    };
    match result {
        Ok(fetched) if version < ZSTD_SINCE && holds_zstd(&fetched.batches) => {
            refused(ErrorCode::UnsupportedCompressionType, LeaderIdAndEpoch::default())
        }
        Ok(fetched) => PartitionData {
            partition_index,
            high_watermark: fetched.high_watermark.0,
            last_stable_offset: fetched.last_stable_offset.0,
            log_start_offset: fetched.log_start_offset.0,
            preferred_read_replica: -1,
            records: fetched.batches,
            ..Default::default()
        },
        Err(error) => refused(error.code(), leader_hint(&error)),
    }
}

/// Whom to ask instead (KIP-951).
fn leader_hint(error: &FetchError) -> LeaderIdAndEpoch {
    match error {
        FetchError::NotLeading(NotLeading::NotLeader { leader, epoch })
        | FetchError::Unknown(Unknown::Elsewhere { leader, epoch }) => {
            LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.0 }
        }
        _ => LeaderIdAndEpoch::default(),
    }
}

fn holds_zstd(slices: &[Bytes]) -> bool {
    slices
        .iter()
        .flat_map(|slice| Batches::new(slice))
        .flatten()
        .any(|(header, _)| header.attributes.compression() == Some(CompressionType::Zstd))
}

fn refuse_all(code: ErrorCode) -> FetchResponse {
    FetchResponse { error_code: code.code(), ..Default::default() }
}
