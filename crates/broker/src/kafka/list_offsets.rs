//! ListOffsets: an end of the log, or the first record at or after a time.

use thalweg_kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use thalweg_kafka::messages::{ListOffsetsRequest, ListOffsetsResponse};
use thalweg_types::{ErrorCode, IsolationLevel, LeaderEpoch, PartitionIndex, Timestamp};

use crate::broker::{Broker, TopicRef};
use crate::fetch::{ListedOffset, OffsetQuery, list_offset};

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
    broker: &Broker,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = IsolationLevel::from_wire(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let topic = TopicRef::Name(&topic.name);
            let mut answer = answer(broker, topic, wanted, isolation).await;
            if version < WITH_OFFSET_NOT_AVAILABLE
                && answer.error_code == ErrorCode::OffsetNotAvailable.code()
            {
                answer.error_code = ErrorCode::LeaderNotAvailable.code();
            }
            if version < WITH_LEADER_EPOCH {
                answer.leader_epoch = ListOffsetsPartitionResponse::default().leader_epoch;
            }
            partitions.push(answer);
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn answer(
    broker: &Broker,
    topic: TopicRef<'_>,
    wanted: &ListOffsetsPartition,
    isolation: Option<IsolationLevel>,
) -> ListOffsetsPartitionResponse {
    let partition_index = wanted.partition_index;
    let refused = |code: ErrorCode| ListOffsetsPartitionResponse {
        partition_index,
        error_code: code.code(),
        ..Default::default()
    };
    let (Some(isolation), Some(lookup)) = (isolation, Lookup::from_wire(wanted.timestamp)) else {
        return refused(ErrorCode::InvalidRequest);
    };
    let query = match lookup {
        Lookup::Here(query) => query,
        Lookup::Nowhere => {
            return ListOffsetsPartitionResponse { partition_index, ..Default::default() };
        }
    };
    let reader_epoch = LeaderEpoch(wanted.current_leader_epoch);
    let found = match broker.partition(&topic, PartitionIndex(partition_index)) {
        Ok(partition) => list_offset(&partition, query, isolation, reader_epoch).await,
        Err(unknown) => Err(unknown.into()),
    };
    match found {
        Ok(Some(ListedOffset { offset, timestamp, leader_epoch })) => {
            ListOffsetsPartitionResponse {
                partition_index,
                error_code: 0,
                timestamp: timestamp.0,
                offset: offset.0,
                leader_epoch: leader_epoch.0,
            }
        }
        Ok(None) => ListOffsetsPartitionResponse { partition_index, ..Default::default() },
        Err(error) => refused(error.code()),
    }
}

enum Lookup {
    Here(OffsetQuery),
    /// In a tier that this log does not have: no offset, no error.
    Nowhere,
}

impl Lookup {
    fn from_wire(timestamp: i64) -> Option<Self> {
        Some(match timestamp {
            LATEST => Self::Here(OffsetQuery::Latest),
            EARLIEST | EARLIEST_LOCAL => Self::Here(OffsetQuery::Earliest),
            MAX_TIMESTAMP => Self::Here(OffsetQuery::MaxTimestamp),
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Self::Nowhere,
            at if at >= 0 => Self::Here(OffsetQuery::Timestamp(Timestamp(at))),
            _ => return None,
        })
    }
}
