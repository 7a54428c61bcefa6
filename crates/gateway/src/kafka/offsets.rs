//! ListOffsets, OffsetForLeaderEpoch and DeleteRecords: each partition is asked for at its leader, some of them at a time.

use futures_util::stream::{self, StreamExt as _};
use thalweg_kafka::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use thalweg_kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use thalweg_kafka::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use thalweg_kafka::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use thalweg_rpc::Error;
use thalweg_types::{
    ErrorCode, IsolationLevel, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicPartition,
};

use super::KafkaBackend;
use super::words::{TopicRef, read_code};
use crate::port::OffsetQuery;

/// Partitions of one request that are asked for at a time.
const ASKED_AT_ONCE: usize = 64;

/// What is said of a partition whose log start did not move.
const NO_LOW_WATERMARK: i64 = -1;

// ---- ListOffsets ----------------------------------------------------------------------------------------------------------------

/// Timestamps that stand for something else. Without tiers the local log is the whole log, so its earliest offset is the earliest of
/// all (KIP-405), and nothing is in a tier or waits to be (KIP-1005, KIP-1023).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version whose answer has room for the record's leader epoch (KIP-320); before it the field must stay unset.
const WITH_LEADER_EPOCH: i16 = 4;

/// First version whose clients know that a new leader may have to find out first (KIP-207); others are told a code that they try again on.
const WITH_OFFSET_NOT_AVAILABLE: i16 = 5;

pub(super) async fn list_offsets(
    backend: &KafkaBackend,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = IsolationLevel::from_wire(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let answers = topic.partitions.into_iter().map(|wanted| {
            let name = topic.name.clone();
            async move {
                match listed(backend, &name, &wanted, isolation).await {
                    Ok(answer) => answer,
                    Err(code) => not_listed(wanted.partition_index, version, code),
                }
            }
        });
        let mut partitions: Vec<_> = stream::iter(answers).buffered(ASKED_AT_ONCE).collect().await;
        if version < WITH_LEADER_EPOCH {
            for answer in &mut partitions {
                answer.leader_epoch = ListOffsetsPartitionResponse::default().leader_epoch;
            }
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn listed(
    backend: &KafkaBackend,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: Option<IsolationLevel>,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let partition_index = wanted.partition_index;
    let isolation = isolation.ok_or(ErrorCode::InvalidRequest)?;
    let query = match wanted.timestamp {
        LATEST => OffsetQuery::Latest,
        EARLIEST | EARLIEST_LOCAL => OffsetQuery::Earliest,
        MAX_TIMESTAMP => OffsetQuery::MaxTimestamp,
        // In a tier that no log has: no offset, no error.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => {
            return Ok(ListOffsetsPartitionResponse { partition_index, ..Default::default() });
        }
        at if at >= 0 => OffsetQuery::Timestamp(Timestamp(at)),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let at = find(backend, topic, partition_index)?;
    let reader_epoch = LeaderEpoch(wanted.current_leader_epoch);
    let found = backend.parts.brokers.find_offset(at, query, isolation, reader_epoch).await;
    Ok(match found.map_err(|error| read_code(&error))? {
        None => ListOffsetsPartitionResponse { partition_index, ..Default::default() },
        Some(found) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: ErrorCode::None.code(),
            timestamp: found.timestamp.0,
            offset: found.offset.0,
            leader_epoch: found.leader_epoch.0,
        },
    })
}

fn not_listed(partition_index: i32, version: i16, code: ErrorCode) -> ListOffsetsPartitionResponse {
    let code = match code {
        ErrorCode::OffsetNotAvailable if version < WITH_OFFSET_NOT_AVAILABLE => {
            ErrorCode::LeaderNotAvailable
        }
        code => code,
    };
    ListOffsetsPartitionResponse { partition_index, error_code: code.code(), ..Default::default() }
}

// ---- OffsetForLeaderEpoch -------------------------------------------------------------------------------------------------------

pub(super) async fn offset_for_leader_epoch(
    backend: &KafkaBackend,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let answers = topic.partitions.into_iter().map(|wanted| {
            let name = topic.topic.clone();
            async move { epoch_end(backend, &name, &wanted).await }
        });
        let partitions = stream::iter(answers).buffered(ASKED_AT_ONCE).collect().await;
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

/// An epoch that the log knows nothing of is no error: epoch and offset are then -1.
async fn epoch_end(
    backend: &KafkaBackend,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let partition = wanted.partition;
    let end = async {
        let at = find(backend, topic, partition)?;
        let epoch = LeaderEpoch(wanted.leader_epoch);
        let reader_epoch = LeaderEpoch(wanted.current_leader_epoch);
        let end = backend.parts.brokers.find_epoch_end(at, epoch, reader_epoch).await;
        end.map_err(|error| read_code(&error))
    };
    match end.await {
        Ok(Some(end)) => EpochEndOffset {
            error_code: ErrorCode::None.code(),
            partition,
            leader_epoch: end.epoch.0,
            end_offset: end.end_offset.0,
        },
        Ok(None) => EpochEndOffset { partition, ..Default::default() },
        Err(code) => EpochEndOffset { error_code: code.code(), partition, ..Default::default() },
    }
}

// ---- DeleteRecords --------------------------------------------------------------------------------------------------------------

pub(super) async fn delete_records(
    backend: &KafkaBackend,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let answers = topic.partitions.into_iter().map(|wanted| {
            let name = topic.name.clone();
            async move { deleted(backend, &name, &wanted).await }
        });
        let partitions = stream::iter(answers).buffered(ASKED_AT_ONCE).collect().await;
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}

async fn deleted(
    backend: &KafkaBackend,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> DeleteRecordsPartitionResult {
    let partition_index = wanted.partition_index;
    let log_start = async {
        let at = find(backend, topic, partition_index)?;
        let deleted = backend.parts.brokers.delete_records(at, Offset(wanted.offset)).await;
        deleted.map_err(|error: Error| read_code(&error))
    };
    let (low_watermark, code) = match log_start.await {
        Ok(log_start) => (log_start.0, ErrorCode::None),
        Err(code) => (NO_LOW_WATERMARK, code),
    };
    DeleteRecordsPartitionResult { partition_index, low_watermark, error_code: code.code() }
}

/// The partition of a request, if it exists.
fn find(backend: &KafkaBackend, topic: &str, index: i32) -> Result<TopicPartition, ErrorCode> {
    let image = backend.parts.feed.image();
    let topic = TopicRef::Name(topic).find(&image)?;
    let partition = PartitionIndex(index);
    match image.partition(topic.as_str(), partition) {
        Some(_) => Ok(TopicPartition { topic, partition }),
        None => Err(ErrorCode::UnknownTopicOrPartition),
    }
}
