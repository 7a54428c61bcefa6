//! DeleteRecords: the log start moves up to the offset asked for; the segments below it go with the next retention.

use std::sync::Arc;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use thalweg_kafka::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use thalweg_storage::{LogDir, StorageError};
use thalweg_types::{ErrorCode, Offset, PartitionIndex};

use crate::broker::{Broker, TopicRef};
use crate::error::{DeleteRecordsError, Unknown};
use crate::fetch::blocking;
use crate::partition::Partition;

/// What is said of a partition whose log start did not move.
const NO_LOW_WATERMARK: i64 = -1;

/// A partition as a request names it, and what was found of it.
type Wanted = (DeleteRecordsPartition, Result<Arc<Partition>, Unknown>);

pub(super) async fn delete_records(
    broker: &Broker,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut wanted = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = TopicRef::Name(&topic.name);
        let find = |wanted: DeleteRecordsPartition| {
            let found = broker.partition(&name, PartitionIndex(wanted.partition_index));
            (wanted, found)
        };
        let found: Vec<_> = topic.partitions.into_iter().map(find).collect();
        wanted.push((topic.name, found));
    }
    let log_dir = Arc::clone(&broker.log_dir);
    // Writing to the journal and flushing it wait for the disk.
    let topics = blocking(move || answer_all(&log_dir, wanted)).await;
    DeleteRecordsResponse { topics, ..Default::default() }
}

/// Deletes, and flushes: what a client is told is gone must not be there again after a crash.
fn answer_all(
    log_dir: &LogDir,
    wanted: Vec<(KafkaString, Vec<Wanted>)>,
) -> Vec<DeleteRecordsTopicResult> {
    let delete = |(name, partitions): (KafkaString, Vec<Wanted>)| DeleteRecordsTopicResult {
        name,
        partitions: partitions.into_iter().map(|(wanted, found)| answer(&wanted, found)).collect(),
    };
    let mut topics: Vec<_> = wanted.into_iter().map(delete).collect();
    if let Err(failed) = log_dir.step_flush() {
        let code = DeleteRecordsError::from(StorageError::from(failed)).code();
        for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.error_code == ErrorCode::None.code() {
                partition.error_code = code.code();
                partition.low_watermark = NO_LOW_WATERMARK;
            }
        }
    }
    topics
}

fn answer(
    wanted: &DeleteRecordsPartition,
    found: Result<Arc<Partition>, Unknown>,
) -> DeleteRecordsPartitionResult {
    let deleted = found
        .map_err(DeleteRecordsError::from)
        .and_then(|partition| partition.delete_records(Offset(wanted.offset)));
    let (low_watermark, error_code) = match deleted {
        Ok(log_start) => (log_start.0, ErrorCode::None),
        Err(error) => (NO_LOW_WATERMARK, error.code()),
    };
    DeleteRecordsPartitionResult {
        partition_index: wanted.partition_index,
        low_watermark,
        error_code: error_code.code(),
    }
}

#[cfg(test)]
mod tests {
    use thalweg_log_core::{CleanupPolicy, LogConfig};
    use thalweg_record::BatchHeader;
    use thalweg_types::Acks;

    use super::*;
    use crate::bench::{Bench, batch, follow};

    /// Five records, four of them committed.
    fn filled(bench: &Bench) -> Arc<Partition> {
        let partition = bench.leading();
        for records in [4, 1] {
            let batch = batch(records);
            let header = BatchHeader::parse(&batch).unwrap();
            partition.append(batch, &header, Acks::Leader, None).unwrap();
            if records == 4 {
                bench.log_dir.step_flush().unwrap();
            }
        }
        partition
    }

    fn ask(partition: &Arc<Partition>, offset: i64) -> (i64, i16) {
        let wanted = DeleteRecordsPartition { partition_index: 0, offset };
        let told = answer(&wanted, Ok(Arc::clone(partition)));
        (told.low_watermark, told.error_code)
    }

    #[test]
    fn the_log_begins_where_it_was_asked_to_and_never_moves_back() {
        let bench = Bench::stepped();
        let partition = filled(&bench);

        assert_eq!(ask(&partition, 2), (2, 0));
        assert_eq!(ask(&partition, 1), (2, 0), "they are gone");
        assert_eq!(partition.log().offsets().log_start(), Offset(2));
        assert_eq!(ask(&partition, -1), (4, 0), "everything that is committed");
        assert_eq!(partition.log().offsets().log_start(), Offset(4));
    }

    #[test]
    fn an_answer_is_given_when_it_is_durable() {
        let bench = Bench::stepped();
        let partition = filled(&bench);
        let wanted = DeleteRecordsPartition { partition_index: 0, offset: 2 };
        let wanted = vec![("t".into(), vec![(wanted, Ok(partition))])];

        let told = answer_all(&bench.log_dir, wanted);

        assert_eq!(told[0].partitions[0].low_watermark, 2);
        // What is left is the journal's own note of the flush.
        assert!(bench.log_dir.step_flush().unwrap());
        assert!(!bench.log_dir.step_flush().unwrap());
    }

    #[test]
    fn what_is_not_committed_cannot_be_deleted() {
        let bench = Bench::stepped();
        let partition = filled(&bench);

        for offset in [5, i64::MAX, -2, i64::MIN] {
            let expected = (-1, ErrorCode::OffsetOutOfRange.code());
            assert_eq!(ask(&partition, offset), expected, "{offset}");
        }
        assert_eq!(partition.log().offsets().log_start(), Offset(0));
    }

    #[test]
    fn who_does_not_lead_and_who_keeps_a_record_of_every_key_deletes_nothing() {
        let bench = Bench::stepped();
        let partition = filled(&bench);
        let cleanup_policy = CleanupPolicy { delete: false, compact: true };
        partition.log().configure(LogConfig { cleanup_policy, ..LogConfig::default() });
        assert_eq!(ask(&partition, 1), (-1, ErrorCode::PolicyViolation.code()));

        partition.log().configure(LogConfig::default());
        follow(&partition, 2, 2);
        assert_eq!(ask(&partition, 1), (-1, ErrorCode::NotLeaderOrFollower.code()));
        let wanted = DeleteRecordsPartition { partition_index: 3, offset: 0 };
        let told = answer(&wanted, Err(Unknown::TopicOrPartition));
        assert_eq!(told.partition_index, 3);
        assert_eq!(told.error_code, ErrorCode::UnknownTopicOrPartition.code());
        assert_eq!(partition.log().offsets().log_start(), Offset(0));
    }
}
