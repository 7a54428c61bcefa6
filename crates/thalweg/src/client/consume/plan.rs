//! Which partitions are read, from where, and up to where.

use std::collections::BTreeMap;

use thalweg_proto::consumer::v1 as proto;
use thalweg_proto::consumer::v1::consumer_client::ConsumerClient;
use thalweg_types::Offset;

use crate::cli::Consume;
use crate::cli::values::StartAt;
use crate::client::{Failure, Server};

/// The reading still to be done. Positions only move forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    topic: String,
    partitions: BTreeMap<i32, Range>,
}

/// What is left to read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    next: Offset,
    /// Exclusive; `None` goes on for ever.
    end: Option<Offset>,
}

impl Plan {
    /// Asks the server for partitions and offsets.
    pub(super) async fn make(server: &Server, arguments: &Consume) -> Result<Self, Failure> {
        let topic = arguments.topic.to_string();
        let described = server.describe_led_topic(&topic).await?;
        let known: Vec<i32> = described.partitions.iter().map(|p| p.partition).collect();
        let wanted = match arguments.partitions.as_slice() {
            [] => known,
            chosen => chosen.to_vec(),
        };
        if let Some(absent) = wanted.iter().find(|partition| {
            !described.partitions.iter().any(|known| known.partition == **partition)
        }) {
            return Err(Failure::Usage(format!("topic {topic} has no partition {absent}")));
        }
        let starts = offsets(server, &topic, &wanted, arguments.from).await?;
        let ends = match arguments.follow {
            true => BTreeMap::new(),
            false => offsets(server, &topic, &wanted, StartAt::Latest).await?,
        };
        let range = |partition: i32| {
            let next = starts.get(&partition).copied()?;
            Some((partition, Range { next, end: ends.get(&partition).copied() }))
        };
        Ok(Self { topic, partitions: wanted.into_iter().filter_map(range).collect() })
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Partitions with something left to read, and the next offset of each.
    pub(super) fn open(&self) -> impl Iterator<Item = (i32, Offset)> {
        let open = self.partitions.iter().filter(|(_, range)| !range.is_done());
        open.map(|(partition, range)| (*partition, range.next))
    }

    pub(super) fn is_done(&self) -> bool {
        self.partitions.values().all(Range::is_done)
    }

    pub(super) fn is_partition_done(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_none_or(Range::is_done)
    }

    /// Whether the record at `offset` is wanted: not seen yet, and before the end.
    pub(super) fn wants(&self, partition: i32, offset: Offset) -> bool {
        let Some(range) = self.partitions.get(&partition) else { return false };
        offset >= range.next && range.end.is_none_or(|end| offset < end)
    }

    /// Everything of `partition` before `next` has been dealt with.
    pub(super) fn advance(&mut self, partition: i32, next: Offset) {
        if let Some(range) = self.partitions.get_mut(&partition) {
            range.next = range.next.max(next);
        }
    }
}

impl Range {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// One offset for each partition.
async fn offsets(
    server: &Server,
    topic: &str,
    partitions: &[i32],
    at: StartAt,
) -> Result<BTreeMap<i32, Offset>, Failure> {
    let (spec, timestamp_ms) = match at {
        StartAt::Offset(offset) => {
            return Ok(partitions.iter().map(|partition| (*partition, offset)).collect());
        }
        StartAt::Earliest => (proto::OffsetSpec::Earliest, 0),
        StartAt::Latest => (proto::OffsetSpec::Latest, 0),
        StartAt::Timestamp(timestamp) => (proto::OffsetSpec::Timestamp, timestamp.0),
    };
    let mut found = list(server, topic, partitions, spec, timestamp_ms).await?;
    let unmatched: Vec<i32> =
        partitions.iter().filter(|partition| !found.contains_key(partition)).copied().collect();
    if !unmatched.is_empty() && spec == proto::OffsetSpec::Timestamp {
        // No record is that young yet: whatever comes next is.
        found.extend(list(server, topic, &unmatched, proto::OffsetSpec::Latest, 0).await?);
    }
    match partitions.iter().find(|partition| !found.contains_key(partition)) {
        Some(absent) => {
            Err(Failure::Protocol(format!("no offset for partition {absent} of {topic}")))
        }
        None => Ok(found),
    }
}

async fn list(
    server: &Server,
    topic: &str,
    partitions: &[i32],
    spec: proto::OffsetSpec,
    timestamp_ms: i64,
) -> Result<BTreeMap<i32, Offset>, Failure> {
    let queries = partitions
        .iter()
        .map(|partition| proto::OffsetQuery {
            topic: topic.to_owned(),
            partition: *partition,
            spec: spec.into(),
            timestamp_ms,
        })
        .collect();
    let request = proto::ListOffsetsRequest { queries, ..Default::default() };
    let mut client = ConsumerClient::new(server.channel())
        .max_decoding_message_size(thalweg_rpc::MESSAGE_BYTES_MAX);
    let response = client.list_offsets(request).await.map_err(|status| server.failed(status))?;
    let mut found = BTreeMap::new();
    for listed in response.into_inner().offsets {
        if let Some(error) = listed.error {
            let what = format!("partition {} of {topic}", listed.partition);
            return Err(Failure::refused(what, error));
        }
        found.extend(listed.offset.map(|offset| (listed.partition, Offset(offset))));
    }
    Ok(found)
}

#[cfg(test)]
impl Plan {
    /// A plan from plain numbers: partition, next, end.
    pub(super) fn of(topic: &str, ranges: &[(i32, i64, Option<i64>)]) -> Self {
        let range = |&(partition, next, end): &(i32, i64, Option<i64>)| {
            (partition, Range { next: Offset(next), end: end.map(Offset) })
        };
        Self { topic: topic.to_owned(), partitions: ranges.iter().map(range).collect() }
    }
}
