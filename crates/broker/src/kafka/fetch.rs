//! Fetch, for consumers: in full, or within a session (KIP-227), of which [`Sessions`](thalweg_kafka::fetch::Sessions) tells.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thalweg_env::Random;
use thalweg_kafka::fetch::{
    BYTES_MAX, Bounds, Call, NEW_SESSION, NO_SESSION, Session, Topic, WITHOUT_SESSION, Wanted,
};
use thalweg_kafka::messages::fetch::{LeaderIdAndEpoch, PartitionData};
use thalweg_kafka::messages::{FetchRequest, FetchResponse};
use thalweg_record::Batches;
use thalweg_types::{
    CompressionType, ErrorCode, IsolationLevel, LeaderEpoch, NodeId, Offset, TopicId,
};

use super::{Readers, hints};
use crate::broker::{Broker, TopicRef};
use crate::error::{FetchError, Unknown};
use crate::fetch::{FetchCall, FetchPartition, Fetched, Replicas};

/// What consumers read of this broker.
pub(super) type Sessions = thalweg_kafka::fetch::Sessions<FetchCall>;

/// First version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// First version in which a leader can name another replica (KIP-392).
const FOLLOWERS_SINCE: i16 = 11;
/// First version whose reader understands zstd (KIP-110).
const ZSTD_SINCE: i16 = 10;

/// The sessions of a broker that has none yet.
pub(super) fn new_sessions(slots_max: usize, random: Arc<dyn Random>) -> Sessions {
    Sessions::new(slots_max, BYTES_MAX, random)
}

pub(super) async fn fetch(
    broker: &Broker,
    readers: &Readers,
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
    let replicas = replicas(broker, version, &request);
    let reading = Reading { isolation, replicas };
    match request.session_epoch {
        NEW_SESSION | WITHOUT_SESSION => full(broker, readers, version, request, reading).await,
        _ => incremental(broker, readers, version, request, reading).await,
    }
}

/// What holds for all partitions of a request.
struct Reading {
    isolation: IsolationLevel,
    replicas: Replicas,
}

/// Who may answer (KIP-392): a client of such a version turns to the leader when a follower refuses it.
fn replicas(broker: &Broker, version: i16, request: &FetchRequest) -> Replicas {
    if version < FOLLOWERS_SINCE {
        return Replicas::default();
    }
    Replicas { followers_too: true, preferred: broker.nearer_than_here(&request.rack_id) }
}

/// Names everything the client reads and is answered with everything. Closes the session it names.
async fn full(
    broker: &Broker,
    readers: &Readers,
    version: i16,
    request: FetchRequest,
    reading: Reading,
) -> FetchResponse {
    if request.session_id != NO_SESSION {
        readers.sessions.close(request.session_id);
    }
    let by_id = version >= TOPIC_IDS_SINCE;
    let is_new = request.session_epoch == NEW_SESSION;
    let mut session = Session::<FetchCall>::default();
    session.update(&request, by_id, reading.isolation, broker.options().fetch_bytes_max);
    session.call_mut().replicas = reading.replicas;
    drop(request);
    resolve(broker, &mut session);
    let fetched = broker.fetch_within(session.call(), Some(&readers.memory)).await;
    let told = fetched.into_iter().map(|one| partition_data(broker.node_id(), one, version));
    let responses = session.answer(told, true);
    let session_id =
        if is_new { readers.sessions.keep(session, by_id, Instant::now()) } else { NO_SESSION };
    let node_endpoints = hints::fetch_endpoints(broker, &responses);
    FetchResponse { session_id, responses, node_endpoints, ..Default::default() }
}

/// Names what has changed in what the client reads and is answered with what is news.
async fn incremental(
    broker: &Broker,
    readers: &Readers,
    version: i16,
    request: FetchRequest,
    reading: Reading,
) -> FetchResponse {
    let by_id = version >= TOPIC_IDS_SINCE;
    let lent =
        readers.sessions.lend(request.session_id, request.session_epoch, by_id, Instant::now());
    let mut lent = match lent {
        Ok(lent) => lent,
        Err(code) => return refuse_all(code),
    };
    let session = lent.session();
    session.update(&request, by_id, reading.isolation, broker.options().fetch_bytes_max);
    session.call_mut().replicas = reading.replicas;
    session.forget(&request.forgotten_topics_data, by_id);
    drop(request);
    if session.partition_count() == 0 {
        lent.close();
        return FetchResponse::default();
    }
    resolve(broker, session);
    let fetched = broker.fetch_within(session.call(), Some(&readers.memory)).await;
    let told = fetched.into_iter().map(|one| partition_data(broker.node_id(), one, version));
    let responses = session.answer(told, false);
    let node_endpoints = hints::fetch_endpoints(broker, &responses);
    FetchResponse { session_id: lent.id(), responses, node_endpoints, ..Default::default() }
}

fn resolve(broker: &Broker, session: &mut Session<FetchCall>) {
    session.resolve(|topic, partition, asked| {
        let topic = match topic {
            Topic::Name(name) => TopicRef::Name(name),
            Topic::Id(id) => TopicRef::Id(TopicId(*id)),
        };
        asked.target = broker.partition(&topic, partition);
    });
}

/// Of a partition whose number the session knows.
fn partition_data(
    broker: NodeId,
    result: Result<Fetched, FetchError>,
    version: i16,
) -> PartitionData {
    let refused = |code: ErrorCode, current_leader| PartitionData {
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
            high_watermark: fetched.high_watermark.0,
            last_stable_offset: fetched.last_stable_offset.0,
            log_start_offset: fetched.log_start_offset.0,
            preferred_read_replica: fetched.read_at.unwrap_or(NodeId::NONE).0,
            records: fetched.batches,
            ..Default::default()
        },
        Err(error) => refused(error.code(), leader_hint(broker, &error)),
    }
}

/// Whom to ask instead (KIP-951).
fn leader_hint(broker: NodeId, error: &FetchError) -> LeaderIdAndEpoch {
    let leader = match error {
        FetchError::NotLeading(error) => hints::of_not_leading(broker, *error),
        FetchError::Unknown(error) => hints::of_unknown(error),
        _ => None,
    };
    leader.map_or_else(LeaderIdAndEpoch::default, |(leader, epoch)| LeaderIdAndEpoch {
        leader_id: leader.0,
        leader_epoch: epoch.0,
    })
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

impl Call for FetchCall {
    type Partition = FetchPartition;

    fn new() -> Self {
        Self {
            partitions: Vec::new(),
            first: 0,
            min_bytes: 0,
            max_bytes: 0,
            max_wait: Duration::ZERO,
            isolation: IsolationLevel::ReadUncommitted,
            replicas: Replicas::default(),
        }
    }

    fn unresolved() -> FetchPartition {
        FetchPartition {
            target: Err(Unknown::TopicOrPartition),
            offset: Offset::ZERO,
            max_bytes: 0,
            reader_epoch: LeaderEpoch::NONE,
        }
    }

    fn ask(partition: &mut FetchPartition, wanted: Wanted) {
        partition.offset = wanted.offset;
        partition.max_bytes = wanted.max_bytes;
        partition.reader_epoch = wanted.reader_epoch;
    }

    /// A session must not keep the files of a topic that was deleted.
    fn release(partition: &mut FetchPartition) {
        partition.target = Err(Unknown::TopicOrPartition);
    }

    fn partitions_mut(&mut self) -> &mut Vec<FetchPartition> {
        &mut self.partitions
    }

    fn set_bounds(&mut self, bounds: Bounds) {
        self.min_bytes = bounds.min_bytes;
        self.max_bytes = bounds.max_bytes;
        self.max_wait = bounds.max_wait;
        self.isolation = bounds.isolation;
    }

    fn first_mut(&mut self) -> &mut usize {
        &mut self.first
    }
}
