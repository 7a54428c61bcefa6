//! Fetch: split by leader and put together again, in full or within a session (KIP-227).
//!
//! Sessions end here and not at the brokers: a client's session names partitions of all of them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use thalweg_kafka::fetch::{
    Bounds, Call, NEW_SESSION, NO_SESSION, Session, Topic, WITHOUT_SESSION, Wanted,
};
use thalweg_kafka::messages::fetch::PartitionData;
use thalweg_kafka::messages::{FetchRequest, FetchResponse};
use thalweg_record::Batches;
use thalweg_types::{
    CompressionType, ErrorCode, IsolationLevel, LeaderEpoch, Offset, PartitionIndex, TopicName,
};

use super::KafkaBackend;
use super::words::{TopicRef, read_code};
use crate::port::{FetchCall, FetchPartition, Fetched};

/// First version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// First version whose reader understands zstd (KIP-110).
const ZSTD_SINCE: i16 = 10;

/// What a client reads.
#[derive(Debug)]
pub(super) struct Reading {
    partitions: Vec<Asked>,
    first: usize,
    bounds: Bounds,
}

#[derive(Debug)]
pub(super) struct Asked {
    /// Where it is, or why it cannot be read.
    target: Result<(TopicName, PartitionIndex), ErrorCode>,
    wanted: Wanted,
}

pub(super) async fn fetch(
    backend: &KafkaBackend,
    version: i16,
    request: FetchRequest,
) -> FetchResponse {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Followers do not replicate over this listener; a client that poses as one must not move anything.
        return refuse_all(ErrorCode::ClusterAuthorizationFailed);
    }
    let Some(isolation) = IsolationLevel::from_wire(request.isolation_level) else {
        return refuse_all(ErrorCode::InvalidRequest);
    };
    match request.session_epoch {
        NEW_SESSION | WITHOUT_SESSION => full(backend, version, request, isolation).await,
        _ => incremental(backend, version, request, isolation).await,
    }
}

/// Names everything the client reads and is answered with everything. Closes the session it names.
async fn full(
    backend: &KafkaBackend,
    version: i16,
    request: FetchRequest,
    isolation: IsolationLevel,
) -> FetchResponse {
    if request.session_id != NO_SESSION {
        backend.sessions.close(request.session_id);
    }
    let by_id = version >= TOPIC_IDS_SINCE;
    let is_new = request.session_epoch == NEW_SESSION;
    let mut session = Session::<Reading>::default();
    session.update(&request, by_id, isolation, backend.options.fetch_bytes_max);
    drop(request);
    resolve(backend, &mut session);
    let told = read(backend, session.call(), version).await;
    let responses = session.answer(told, true);
    let session_id =
        if is_new { backend.sessions.keep(session, by_id, Instant::now()) } else { NO_SESSION };
    FetchResponse { session_id, responses, ..Default::default() }
}

/// Names what has changed in what the client reads and is answered with what is news.
async fn incremental(
    backend: &KafkaBackend,
    version: i16,
    request: FetchRequest,
    isolation: IsolationLevel,
) -> FetchResponse {
    let by_id = version >= TOPIC_IDS_SINCE;
    let lent =
        backend.sessions.lend(request.session_id, request.session_epoch, by_id, Instant::now());
    let mut lent = match lent {
        Ok(lent) => lent,
        Err(code) => return refuse_all(code),
    };
    let session = lent.session();
    session.update(&request, by_id, isolation, backend.options.fetch_bytes_max);
    session.forget(&request.forgotten_topics_data, by_id);
    drop(request);
    if session.partition_count() == 0 {
        lent.close();
        return FetchResponse::default();
    }
    resolve(backend, session);
    let told = read(backend, session.call(), version).await;
    let responses = session.answer(told, false);
    FetchResponse { session_id: lent.id(), responses, ..Default::default() }
}

fn resolve(backend: &KafkaBackend, session: &mut Session<Reading>) {
    let image = backend.parts.feed.image();
    session.resolve(|topic, partition, asked| {
        let named = match topic {
            Topic::Name(name) => TopicRef::Name(name),
            Topic::Id(id) => TopicRef::Id(*id),
        };
        asked.target =
            named.find(&image).and_then(|name| match image.partition(name.as_str(), partition) {
                Some(_) => Ok((name, partition)),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            });
    });
}

/// What was found of every partition, in the order of the session.
async fn read(backend: &KafkaBackend, reading: &Reading, version: i16) -> Vec<PartitionData> {
    let mut told: Vec<_> = reading.partitions.iter().map(Asked::refusal).collect();
    let (call, places) = reading.call();
    let fetched = backend.parts.brokers.fetch_within(call, &backend.memory).await;
    for (place, fetched) in places.into_iter().zip(fetched) {
        if let Some(told) = told.get_mut(place) {
            *told = match fetched.result {
                Ok(fetched) => partition_data(fetched, version),
                Err(error) => refused(read_code(&error)),
            };
        }
    }
    told
}

impl Reading {
    /// What is asked of the brokers, in the order in which it is to be answered, and where in the session each partition is.
    fn call(&self) -> (FetchCall, Vec<usize>) {
        let first = self.first.min(self.partitions.len());
        let places = (first..self.partitions.len()).chain(0..first);
        let found = places.filter_map(|place| {
            let Asked { target, wanted } = self.partitions.get(place)?;
            let (topic, partition) = target.clone().ok()?;
            let partition = FetchPartition {
                topic,
                partition,
                offset: wanted.offset,
                max_bytes: wanted.max_bytes,
                current_leader_epoch: wanted.reader_epoch,
            };
            Some((partition, place))
        });
        let (partitions, places): (Vec<_>, Vec<_>) = found.unzip();
        let Bounds { min_bytes, max_bytes, max_wait, isolation } = self.bounds;
        // A reader should not wait to learn that it is lost.
        let is_whole = partitions.len() == self.partitions.len();
        let max_wait = if is_whole { max_wait } else { Duration::ZERO };
        (
            FetchCall {
                partitions,
                min_bytes,
                max_bytes,
                max_wait,
                isolation,
                rack: String::new(),
            },
            places,
        )
    }
}

impl Asked {
    /// What is told unless something is found.
    fn refusal(&self) -> PartitionData {
        refused(self.target.as_ref().err().copied().unwrap_or(ErrorCode::NotLeaderOrFollower))
    }
}

impl Call for Reading {
    type Partition = Asked;

    fn new() -> Self {
        let bounds = Bounds {
            min_bytes: 0,
            max_bytes: 0,
            max_wait: Duration::ZERO,
            isolation: IsolationLevel::ReadUncommitted,
        };
        Self { partitions: Vec::new(), first: 0, bounds }
    }

    fn unresolved() -> Asked {
        let wanted = Wanted { offset: Offset::ZERO, max_bytes: 0, reader_epoch: LeaderEpoch::NONE };
        Asked { target: Err(ErrorCode::UnknownTopicOrPartition), wanted }
    }

    fn ask(partition: &mut Asked, wanted: Wanted) {
        partition.wanted = wanted;
    }

    fn release(partition: &mut Asked) {
        partition.target = Err(ErrorCode::UnknownTopicOrPartition);
    }

    fn partitions_mut(&mut self) -> &mut Vec<Asked> {
        &mut self.partitions
    }

    fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    fn first_mut(&mut self) -> &mut usize {
        &mut self.first
    }
}

/// Of a partition whose number the session knows.
fn partition_data(fetched: Fetched, version: i16) -> PartitionData {
    if version < ZSTD_SINCE && holds_zstd(&fetched.batches) {
        return refused(ErrorCode::UnsupportedCompressionType);
    }
    PartitionData {
        high_watermark: fetched.high_watermark.0,
        last_stable_offset: fetched.last_stable_offset.0,
        log_start_offset: fetched.log_start_offset.0,
        preferred_read_replica: -1,
        records: fetched.batches,
        ..Default::default()
    }
}

fn refused(code: ErrorCode) -> PartitionData {
    PartitionData { error_code: code.code(), high_watermark: -1, ..Default::default() }
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
