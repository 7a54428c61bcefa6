//! One fetch session (KIP-227): what a client reads, kept here so that its requests name only what they change; and what it was last
//! told of each partition, so that its answers hold only what is news.
//!
//! A partition is in an answer when it brings records, when its high watermark or log start offset is another one than the client was
//! told last, or when it cannot be read. After an error nothing counts as told, so that its end is news as well.
//!
//! Partitions that brought records are looked at last by the next fetch: the answer's size limit starves nobody.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::time::Duration;

use thalweg_types::{ErrorCode, IsolationLevel, LeaderEpoch, Offset, PartitionIndex, Uuid};

use super::{Bounds, Call, Wanted};
use crate::KafkaString;
use crate::messages::FetchRequest;
use crate::messages::fetch::{
    FetchPartition as WirePartition, FetchableTopicResponse, ForgottenTopic, PartitionData,
};

/// Memory of one partition of a session, without its topic's name: what is asked, what was told, and its place in the index.
pub const PARTITION_BYTES: usize = 256;

/// What of that may be the server's.
const CALL_PARTITION_BYTES_MAX: usize = 64;

/// The partitions of one client, in the order in which they came.
#[derive(Debug)]
pub struct Session<C: Call> {
    /// What is read, partition by partition as in `entries`. Holds no partition between two requests: a session must not keep the
    /// files of a topic that was deleted.
    call: C,
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

/// A topic as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    Name(KafkaString),
    Id(Uuid),
}

impl<C: Call> Default for Session<C> {
    fn default() -> Self {
        const { assert!(size_of::<C::Partition>() <= CALL_PARTITION_BYTES_MAX) };
        Self { call: C::new(), entries: Vec::new(), places: HashMap::new(), names_bytes: 0 }
    }
}

impl<C: Call> Session<C> {
    pub fn partition_count(&self) -> usize {
        self.entries.len()
    }

    /// An upper bound of the memory it holds, nearly.
    pub fn bytes(&self) -> usize {
        self.entries.len() * PARTITION_BYTES + self.names_bytes
    }

    pub fn call(&self) -> &C {
        &self.call
    }

    /// For what a request says besides its partitions and bounds.
    pub fn call_mut(&mut self) -> &mut C {
        &mut self.call
    }

    // ---- requests ----

    /// Takes over what a request says: partitions to read from now on or from another offset, then those to read no longer.
    pub fn update(
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
        self.call.set_bounds(Bounds {
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            isolation,
        });
    }

    /// The partitions a client reads no longer. Those it never read do no harm.
    pub fn forget(&mut self, forgotten: &[ForgottenTopic], by_id: bool) {
        for topic in forgotten {
            let name = Topic::new(by_id, &topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                self.remove(&Key { topic: name.clone(), partition: *partition });
            }
        }
        // What a large session leaves behind must not be held by a small one.
        if self.entries.capacity() > 4 * self.entries.len().max(16) {
            self.entries.shrink_to_fit();
            self.call.partitions_mut().shrink_to_fit();
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
                self.call.partitions_mut().push(C::unresolved());
                self.entries.len() - 1
            }
        };
        if let Some(asked) = self.call.partitions_mut().get_mut(place) {
            let wanted = Wanted {
                offset: Offset(wanted.fetch_offset),
                max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
                reader_epoch: LeaderEpoch(wanted.current_leader_epoch),
            };
            C::ask(asked, wanted);
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(place) = self.places.remove(key) else { return };
        self.names_bytes -= key.topic.bytes();
        self.entries.swap_remove(place);
        self.call.partitions_mut().swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
        let first = self.call.first_mut();
        if *first >= self.entries.len() {
            *first = 0;
        }
    }

    /// Looks up every partition as the cluster is now.
    pub fn resolve(&mut self, mut find: impl FnMut(&Topic, PartitionIndex, &mut C::Partition)) {
        for (entry, asked) in self.entries.iter().zip(self.call.partitions_mut()) {
            find(&entry.key.topic, PartitionIndex(entry.key.partition), asked);
        }
    }

    /// Lets go of the partitions until the next request.
    pub fn release(&mut self) {
        self.call.partitions_mut().iter_mut().for_each(C::release);
    }

    // ---- answers ----

    /// What the client is told of `fetched`, one result per partition, which is given its number here: all of it, or what is news.
    pub fn answer(
        &mut self,
        fetched: impl IntoIterator<Item = PartitionData>,
        all: bool,
    ) -> Vec<FetchableTopicResponse> {
        let mut responses: Vec<(Topic, FetchableTopicResponse)> = Vec::new();
        let mut last_with_records = None;
        for (place, (entry, mut data)) in self.entries.iter_mut().zip(fetched).enumerate() {
            if !all && entry.told.is_still(&data) {
                continue;
            }
            data.partition_index = entry.key.partition;
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
            *self.call.first_mut() = (place + 1) % self.entries.len().max(1);
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

    /// Whether `data` is no news to who was told this.
    fn is_still(self, data: &PartitionData) -> bool {
        data.error_code == ErrorCode::None.code()
            && data.records.is_empty()
            && data.preferred_read_replica < 0
            && data.high_watermark == self.high_watermark
            && data.log_start_offset == self.log_start_offset
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Topic
// ---------------------------------------------------------------------------------------------------------------------------------

impl Topic {
    fn new(by_id: bool, name: &KafkaString, id: Uuid) -> Self {
        if by_id { Self::Id(id) } else { Self::Name(name.clone()) }
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
