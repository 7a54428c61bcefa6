//! FindEpochEnds and DeleteRecords, as gateways ask for them: an answer or a refusal for each partition.

use std::sync::Arc;

use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_storage::StorageError;
use thalweg_types::{ErrorCode, LeaderEpoch, Offset, TopicPartition};

use super::words;
use crate::broker::{Broker, TopicRef};
use crate::error::{DeleteRecordsError, FetchError};
use crate::fetch::blocking;
use crate::partition::Partition;

/// Partitions of one call.
const PARTITIONS_MAX: usize = 10_000;

/// What is said of a partition whose log start did not move.
const NO_OFFSET: i64 = -1;

pub(super) fn epoch_ends(
    broker: &Broker,
    request: proto::FindEpochEndsRequest,
) -> Result<proto::FindEpochEndsResponse, Error> {
    check_count(request.partitions.len())?;
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for wanted in request.partitions {
        let at = words::partition(&wanted.topic, wanted.partition)?;
        partitions.push(match epoch_end(broker, &at, &wanted) {
            Ok(found) => found,
            Err(error) => proto::EpochEnd {
                refusal: Some(words::refusal(&words::unreadable(broker, &error, &at))),
                ..NOTHING_KNOWN
            },
        });
    }
    Ok(proto::FindEpochEndsResponse { partitions })
}

const NOTHING_KNOWN: proto::EpochEnd =
    proto::EpochEnd { epoch: LeaderEpoch::NONE.0, end_offset: NO_OFFSET, refusal: None };

fn epoch_end(
    broker: &Broker,
    at: &TopicPartition,
    wanted: &proto::EpochQuery,
) -> Result<proto::EpochEnd, FetchError> {
    let partition = broker.partition(&TopicRef::Name(at.topic.as_str()), at.partition)?;
    let reader_epoch = LeaderEpoch(wanted.leader_epoch);
    let end = partition.epoch_end(LeaderEpoch(wanted.epoch), reader_epoch)?;
    Ok(end.map_or(NOTHING_KNOWN, |end| proto::EpochEnd {
        epoch: end.epoch.0,
        end_offset: end.end_offset.0,
        refusal: None,
    }))
}

pub(super) async fn delete(
    broker: &Broker,
    request: proto::DeleteRecordsRequest,
) -> Result<proto::DeleteRecordsResponse, Error> {
    check_count(request.partitions.len())?;
    let mut wanted = Vec::with_capacity(request.partitions.len());
    for deletion in request.partitions {
        let at = words::partition(&deletion.topic, deletion.partition)?;
        let found = broker.partition(&TopicRef::Name(at.topic.as_str()), at.partition);
        wanted.push((Offset(deletion.before_offset), found.map_err(DeleteRecordsError::from)));
    }
    let log_dir = Arc::clone(&broker.log_dir);
    // Writing to the journal and flushing it wait for the disk.
    let partitions = blocking(move || {
        let delete = |(to, found): (Offset, Result<Arc<Partition>, DeleteRecordsError>)| {
            found.and_then(|partition| partition.delete_records(to))
        };
        let deleted: Vec<_> = wanted.into_iter().map(delete).collect();
        // What a client is told is gone must not be there again after a crash.
        match log_dir.step_flush() {
            Ok(_) => deleted.into_iter().map(told).collect(),
            Err(failed) => {
                let failed = refused(&DeleteRecordsError::from(StorageError::from(failed)));
                deleted
                    .into_iter()
                    .map(|one| one.map_or_else(|e| refused(&e), |_| failed.clone()))
                    .collect()
            }
        }
    })
    .await;
    Ok(proto::DeleteRecordsResponse { partitions })
}

fn told(deleted: Result<Offset, DeleteRecordsError>) -> proto::Deleted {
    match deleted {
        Ok(log_start) => proto::Deleted { log_start_offset: log_start.0, refusal: None },
        Err(error) => refused(&error),
    }
}

fn refused(error: &DeleteRecordsError) -> proto::Deleted {
    let error = Error::new(error.code(), error.to_string());
    proto::Deleted { log_start_offset: NO_OFFSET, refusal: Some(words::refusal(&error)) }
}

fn check_count(count: usize) -> Result<(), Error> {
    if count <= PARTITIONS_MAX {
        return Ok(());
    }
    let message = format!("at most {PARTITIONS_MAX} partitions, not {count}");
    Err(Error::new(ErrorCode::InvalidRequest, message).not_applied())
}
