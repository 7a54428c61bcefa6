//! OffsetCommit, once it is known that the caller may.

use thalweg_types::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId, TopicName};

use super::{Offsets, resolve};
use crate::record::{CommittedOffset, OffsetKey, Record};
use crate::request::{CommitOffsets, PartitionCommit, TopicRef};
use crate::response::TopicErrors;
use crate::step::Step;
use crate::topics::TopicFacts;

impl Offsets {
    /// Every partition is decided by itself; only when all together are too much for one append, none is committed.
    pub(crate) fn commit(
        &mut self,
        step: &mut Step<'_>,
        commit: &CommitOffsets,
    ) -> Vec<TopicErrors> {
        let mut records = Vec::new();
        let mut answer = Vec::with_capacity(commit.topics.len());
        for topic in &commit.topics {
            let found = find(&topic.topic, step);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for item in &topic.partitions {
                let error = match &found {
                    Ok((name, facts)) => check(item, facts, step)
                        .map(|()| records.push(record(commit, name, facts, item, step))),
                    Err(error) => Err(*error),
                };
                partitions.push((item.partition, error.err().unwrap_or(ErrorCode::None)));
            }
            answer.push(TopicErrors { topic: topic.topic.clone(), partitions });
        }
        if !fits(&records, step.config.records_bytes_max) {
            return commit.refused(ErrorCode::InvalidCommitOffsetSize);
        }
        for (key, value) in records {
            self.insert(key.clone(), value.clone());
            if let Some(used) = self.topics.get_mut(&key.topic) {
                used.seen = step.topics.topic(key.topic.as_str()).map(|facts| facts.id);
            }
            step.record(Record::Offset(key, Some(value)));
        }
        answer
    }
}

fn find(topic: &TopicRef, step: &Step<'_>) -> Result<(TopicName, TopicFacts), ErrorCode> {
    let unknown = match topic {
        TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
        TopicRef::Id(_) => ErrorCode::UnknownTopicId,
    };
    let name = resolve(topic, step.topics).ok_or(unknown)?;
    let facts = step.topics.topic(name.as_str()).ok_or(unknown)?;
    Ok((name, facts))
}

fn check(item: &PartitionCommit, facts: &TopicFacts, step: &Step<'_>) -> Result<(), ErrorCode> {
    if !(0..facts.partitions).contains(&item.partition.0) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    if item.metadata.len() > step.config.offset_metadata_bytes_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    // Below zero there is nothing to read; stored, it would later be taken for "nothing committed".
    if item.offset < Offset::ZERO {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    Ok(())
}

fn record(
    commit: &CommitOffsets,
    topic: &TopicName,
    facts: &TopicFacts,
    item: &PartitionCommit,
    step: &Step<'_>,
) -> (OffsetKey, CommittedOffset) {
    let committed_at = step.now.wall;
    let retention_ms = commit.retention_ms.filter(|ms| *ms >= 0);
    let expires_at = retention_ms.map(|ms| committed_at.saturating_add_ms(ms));
    let key =
        OffsetKey { group: commit.group.clone(), topic: topic.clone(), partition: item.partition };
    (key, value(item, facts, committed_at, expires_at))
}

/// What is kept: exactly what a record can say, for after a replay it is all there is.
fn value(
    item: &PartitionCommit,
    facts: &TopicFacts,
    committed_at: Timestamp,
    expires_at: Option<Timestamp>,
) -> CommittedOffset {
    let (leader_epoch, topic_id) = match expires_at {
        Some(_) => (LeaderEpoch::NONE, TopicId::ZERO),
        None => (item.leader_epoch.max(LeaderEpoch::NONE), facts.id),
    };
    CommittedOffset {
        offset: item.offset,
        leader_epoch,
        metadata: item.metadata.clone(),
        committed_at,
        expires_at,
        topic_id,
    }
}

/// Whether one batch can hold them all. Few are not worth counting.
fn fits(records: &[(OffsetKey, CommittedOffset)], bytes_max: usize) -> bool {
    /// Key and value without texts, and what the batch needs for a record.
    const FIXED_BYTES_MAX: usize = 128;
    let bytes = |(key, value): &(OffsetKey, CommittedOffset)| {
        FIXED_BYTES_MAX + key.group.as_str().len() + key.topic.as_str().len() + value.metadata.len()
    };
    records.iter().map(bytes).sum::<usize>() <= bytes_max
}
