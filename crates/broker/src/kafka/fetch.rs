//! Fetch, for consumers: in full, or within a session (KIP-227), of which [`Sessions`] tells.

mod session;
mod sessions;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use thalweg_env::Random;
use thalweg_kafka::messages::fetch::{LeaderIdAndEpoch, PartitionData};
use thalweg_kafka::messages::{FetchRequest, FetchResponse};
use thalweg_record::Batches;
use thalweg_types::{CompressionType, ErrorCode, IsolationLevel, NodeId};

use super::{Readers, hints};
use crate::broker::Broker;
use crate::error::FetchError;
use crate::fetch::Fetched;
use session::Session;
pub(crate) use sessions::Sessions;
use sessions::{BYTES_MAX, NEW_SESSION, NO_SESSION, WITHOUT_SESSION};

/// First version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
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
    match request.session_epoch {
        NEW_SESSION | WITHOUT_SESSION => full(broker, readers, version, request, isolation).await,
        _ => incremental(broker, readers, version, request, isolation).await,
    }
}

/// Names everything the client reads and is answered with everything. Closes the session it names.
async fn full(
    broker: &Broker,
    readers: &Readers,
    version: i16,
    request: FetchRequest,
    isolation: IsolationLevel,
) -> FetchResponse {
    if request.session_id != NO_SESSION {
        readers.sessions.close(request.session_id);
    }
    let by_id = version >= TOPIC_IDS_SINCE;
    let is_new = request.session_epoch == NEW_SESSION;
    let mut session = Session::new(broker.node_id());
    session.update(&request, by_id, isolation, broker.options().fetch_bytes_max);
    drop(request);
    session.resolve(|topic, partition| broker.partition(topic, partition));
    let fetched = broker.fetch_within(session.call(), Some(&readers.memory)).await;
    let responses = session.answer(fetched, version, true);
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
    isolation: IsolationLevel,
) -> FetchResponse {
    let by_id = version >= TOPIC_IDS_SINCE;
    let lent =
        readers.sessions.lend(request.session_id, request.session_epoch, by_id, Instant::now());
    let mut lent = match lent {
        Ok(lent) => lent,
        Err(code) => return refuse_all(code),
    };
    let session = lent.session();
    session.update(&request, by_id, isolation, broker.options().fetch_bytes_max);
    session.forget(&request.forgotten_topics_data, by_id);
    drop(request);
    if session.partition_count() == 0 {
        lent.close();
        return FetchResponse::default();
    }
    session.resolve(|topic, partition| broker.partition(topic, partition));
    let fetched = broker.fetch_within(session.call(), Some(&readers.memory)).await;
    let responses = session.answer(fetched, version, false);
    let node_endpoints = hints::fetch_endpoints(broker, &responses);
    FetchResponse { session_id: lent.id(), responses, node_endpoints, ..Default::default() }
}

fn partition_data(
    broker: NodeId,
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
