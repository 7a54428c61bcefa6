//! Offsets by place or time.

use futures_util::{StreamExt as _, stream};
use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{IsolationLevel, LeaderEpoch, PartitionIndex, Timestamp, TopicName};

use super::fetch::PARTITIONS_MAX;
use crate::port::{BrokerPort, ListedOffset, OffsetQuery};
use crate::shared::Shared;
use crate::words;

/// Partitions asked for at the same time.
const QUERIES_IN_FLIGHT_MAX: usize = 64;

pub(super) async fn list<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ListOffsetsRequest,
) -> Result<proto::ListOffsetsResponse, Error> {
    words::some_but_at_most("queries", request.queries.len(), PARTITIONS_MAX)?;
    let isolation = words::isolation_level(request.isolation_level)?;
    let answers: Vec<_> =
        request.queries.into_iter().map(|query| answer(shared, query, isolation)).collect();
    let offsets = stream::iter(answers).buffered(QUERIES_IN_FLIGHT_MAX).collect().await;
    Ok(proto::ListOffsetsResponse { offsets })
}

async fn answer<B: BrokerPort>(
    shared: &Shared<B>,
    query: proto::OffsetQuery,
    isolation: IsolationLevel,
) -> proto::ListedOffset {
    let found = match check(&query) {
        Ok((topic, partition, at)) => {
            shared.broker.list_offset(topic, partition, at, isolation).await
        }
        Err(error) => Err(error),
    };
    let answer = proto::ListedOffset {
        topic: query.topic,
        partition: query.partition,
        ..Default::default()
    };
    match found {
        Ok(None) => answer,
        Ok(Some(found)) => with_offset(answer, found),
        Err(error) => proto::ListedOffset { error: Some(error.to_detail()), ..answer },
    }
}

fn with_offset(answer: proto::ListedOffset, found: ListedOffset) -> proto::ListedOffset {
    let ListedOffset { offset, timestamp, leader_epoch } = found;
    proto::ListedOffset {
        offset: Some(offset.0),
        timestamp_ms: (timestamp != Timestamp::NONE).then_some(timestamp.0),
        leader_epoch: (leader_epoch != LeaderEpoch::NONE).then_some(leader_epoch.0),
        ..answer
    }
}

fn check(query: &proto::OffsetQuery) -> Result<(TopicName, PartitionIndex, OffsetQuery), Error> {
    let at = match proto::OffsetSpec::try_from(query.spec) {
        Ok(proto::OffsetSpec::Earliest) => OffsetQuery::Earliest,
        Ok(proto::OffsetSpec::Latest) => OffsetQuery::Latest,
        Ok(proto::OffsetSpec::MaxTimestamp) => OffsetQuery::MaxTimestamp,
        Ok(proto::OffsetSpec::Timestamp) if query.timestamp_ms >= 0 => {
            OffsetQuery::Timestamp(Timestamp(query.timestamp_ms))
        }
        Ok(proto::OffsetSpec::Timestamp) => {
            let message = format!("timestamp_ms must not be negative: {}", query.timestamp_ms);
            return Err(Error::invalid_request(message));
        }
        Ok(proto::OffsetSpec::Unspecified) => {
            return Err(Error::invalid_request("spec must be given"));
        }
        Err(_) => {
            return Err(Error::invalid_request(format!("spec has no value {}", query.spec)));
        }
    };
    Ok((words::topic_name(&query.topic)?, words::partition(query.partition)?, at))
}
