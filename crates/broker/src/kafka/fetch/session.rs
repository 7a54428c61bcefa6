//! One fetch session (KIP-227): what a client reads, kept here so that its requests name only what they change; and what it was last
//! told of each partition, so that its answers hold only what is news.
//!
//! A partition is in an answer when it brings records, when its high watermark or log start offset is another one than the client was
//! told last, or when it cannot be read. After an error nothing counts as told, so that its end is news as well.
//!
//! Partitions that brought records are looked at last by the next fetch: the answer's size limit starves nobody.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;
use std::time::Duration;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::FetchRequest;
use thalweg_kafka::messages::fetch::{
    FetchPartition as WirePartition, FetchableTopicResponse, ForgottenTopic, PartitionData,
};
use thalweg_types::{
    ErrorCode, IsolationLevel, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, Uuid,
};

use super::partition_data;
use crate::broker::TopicRef;
use crate::error::{FetchError, Unknown};
use crate::fetch::{FetchCall, FetchPartition, Fetched};
use crate::partition::Partition;

/// Memory of one partition of a session, without its topic's name: what is asked, what was told, and its place in the index.
pub(super) const PARTITION_BYTES: usize = 256;

/// The partitions of one client, in the order in which they came.
#[derive(Debug)]
pub(super) struct Session {
    /// Who answers.
    broker: NodeId,
    /// What is read, partition by partition as in `entries`. Holds no partition between two requests: a session must not keep the
    /// files of a topic that was deleted.
    call: FetchCall,
    entries: Vec<Entry>,
    places: HashMap<Key, usize>,
    /// Bytes of the names of topics.
    names_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    told: Told,
}

/// What the client knows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start_offset: i64,
}

/// A partition as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    topic: Topic,
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Topic {
    Name(KafkaString),
    Id(Uuid),
}

impl Session {
    pub(super) fn new(broker: NodeId) -> Self {
        let call = FetchCall {
            partitions: Vec::new(),
            first: 0,
            min_bytes: 0,
            max_bytes: 0,
            max_wait: Duration::ZERO,
            isolation: IsolationLevel::ReadUncommitted,
        };
        Self { broker, call, entries: Vec::new(), places: HashMap::new(), names_bytes: 0 }
    }

    pub(super) fn partition_count(&self) -> usize {
        self.entries.len()
    }

    /// An upper bound of the memory it holds, nearly.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * PARTITION_BYTES + self.names_bytes
    }

    pub(super) fn call(&self) -> &FetchCall {
        &self.call
    }

    // ---- requests ----

    /// Takes over what a request says: partitions to read from now on or from another offset, then those to read no longer.
    pub(super) fn update(
        &mut self,
        request: &FetchRequest,
        by_id: bool,
        isolation: IsolationLevel,
        fetch_bytes_max: usize,
    ) {
        for topic in &request.topics {
            let name = Topic::new(by_id, &topic.topic, topic.topic_id);
            for wanted in &topic.partitions {
                self.want(Key { topic: name.clone(), partition: wanted.partition }, wanted);
            }
        }
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(fetch_bytes_max);
        self.call.min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
        self.call.max_bytes = max_bytes;
        self.call.max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        self.call.isolation = isolation;
    }

    /// The partitions a client reads no longer. Those it never read do no harm.
    pub(super) fn forget(&mut self, forgotten: &[ForgottenTopic], by_id: bool) {
        for topic in forgotten {
            let name = Topic::new(by_id, &topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                self.remove(&Key { topic: name.clone(), partition: *partition });
            }
        }
        // What a large session leaves behind must not be held by a small one.
        if self.entries.capacity() > 4 * self.entries.len().max(16) {
            self.entries.shrink_to_fit();
            self.call.partitions.shrink_to_fit();
            self.places.shrink_to_fit();
        }
    }

    fn want(&mut self, key: Key, wanted: &WirePartition) {
        let place = match self.places.entry(key) {
            Place::Occupied(place) => *place.get(),
            Place::Vacant(place) => {
                let key = place.key().clone();
                place.insert(self.entries.len());
                self.names_bytes += key.topic.bytes();
                self.entries.push(Entry { key, told: Told::NOTHING });
                self.call.partitions.push(FetchPartition {
                    target: Err(Unknown::TopicOrPartition),
                    offset: Offset(0),
                    max_bytes: 0,
                    reader_epoch: LeaderEpoch::NONE,
                });
                self.entries.len() - 1
            }
        };
        if let Some(asked) = self.call.partitions.get_mut(place) {
            asked.offset = Offset(wanted.fetch_offset);
            asked.max_bytes = usize::try_from(wanted.partition_max_bytes).unwrap_or(0);
            asked.reader_epoch = LeaderEpoch(wanted.current_leader_epoch);
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(place) = self.places.remove(key) else { return };
        self.names_bytes -= key.topic.bytes();
        self.entries.swap_remove(place);
        self.call.partitions.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
        if self.call.first >= self.entries.len() {
            self.call.first = 0;
        }
    }

    /// Looks up every partition as the cluster is now.
    pub(super) fn resolve(
        &mut self,
        mut find: impl FnMut(&TopicRef<'_>, PartitionIndex) -> Result<Arc<Partition>, Unknown>,
    ) {
        for (entry, asked) in self.entries.iter().zip(&mut self.call.partitions) {
            asked.target = find(&entry.key.topic.to_ref(), PartitionIndex(entry.key.partition));
        }
    }

    /// Lets go of the partitions until the next request.
    pub(super) fn release(&mut self) {
        for asked in &mut self.call.partitions {
            asked.target = Err(Unknown::TopicOrPartition);
        }
    }

    // ---- answers ----

    /// What the client is told of `fetched`, one result per partition: all of it, or what is news.
    pub(super) fn answer(
        &mut self,
        fetched: Vec<Result<Fetched, FetchError>>,
        version: i16,
        all: bool,
    ) -> Vec<FetchableTopicResponse> {
        let mut responses: Vec<(Topic, FetchableTopicResponse)> = Vec::new();
        let mut last_with_records = None;
        for (place, (entry, result)) in self.entries.iter_mut().zip(fetched).enumerate() {
            if !all && entry.told.is_still(&result) {
                continue;
            }
            let data = partition_data(self.broker, entry.key.partition, result, version);
            entry.told = Told::by(&data);
            if !data.records.is_empty() {
                last_with_records = Some(place);
            }
            match responses.last_mut() {
                Some((topic, response)) if *topic == entry.key.topic => {
                    response.partitions.push(data);
                }
                _ => {
                    let (topic, topic_id) = entry.key.topic.to_wire();
                    let partitions = vec![data];
                    let response = FetchableTopicResponse { topic, topic_id, partitions };
                    responses.push((entry.key.topic.clone(), response));
                }
            }
        }
        if let Some(place) = last_with_records {
            self.call.first = (place + 1) % self.entries.len().max(1);
        }
        responses.into_iter().map(|(_, response)| response).collect()
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Told
// ---------------------------------------------------------------------------------------------------------------------------------

impl Told {
    const NOTHING: Self = Self { high_watermark: -1, log_start_offset: -1 };

    /// What an answer tells.
    fn by(data: &PartitionData) -> Self {
        if data.error_code != ErrorCode::None.code() {
            return Self { high_watermark: -1, log_start_offset: data.log_start_offset };
        }
        let PartitionData { high_watermark, log_start_offset, .. } = *data;
        Self { high_watermark, log_start_offset }
    }

    /// Whether `result` is no news to who was told this.
    fn is_still(self, result: &Result<Fetched, FetchError>) -> bool {
        result.as_ref().is_ok_and(|fetched| {
            fetched.batches.is_empty()
                && fetched.high_watermark.0 == self.high_watermark
                && fetched.log_start_offset.0 == self.log_start_offset
        })
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Topic
// ---------------------------------------------------------------------------------------------------------------------------------

impl Topic {
    fn new(by_id: bool, name: &KafkaString, id: Uuid) -> Self {
        if by_id { Self::Id(id) } else { Self::Name(name.clone()) }
    }

    fn to_ref(&self) -> TopicRef<'_> {
        match self {
            Self::Name(name) => TopicRef::Name(name),
            Self::Id(id) => TopicRef::Id(TopicId(*id)),
        }
    }

    fn to_wire(&self) -> (KafkaString, Uuid) {
        match self {
            Self::Name(name) => (name.clone(), Uuid::default()),
            Self::Id(id) => (KafkaString::default(), *id),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Name(name) => name.len(),
            Self::Id(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
