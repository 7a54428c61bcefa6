//! OffsetForLeaderEpoch: where a leader epoch ends in this leader's log (KIP-320).

use thalweg_kafka::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use thalweg_kafka::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use thalweg_types::{ErrorCode, LeaderEpoch, PartitionIndex};

use crate::broker::{Broker, TopicRef};
use crate::partition::Partition;

pub(super) fn offset_for_leader_epoch(
    broker: &Broker,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = TopicRef::Name(&topic.topic);
        let answer = |wanted: &OffsetForLeaderPartition| match broker
            .partition(&name, PartitionIndex(wanted.partition))
        {
            Ok(partition) => answer(&partition, wanted),
            Err(unknown) => refused(wanted, unknown.code()),
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

/// An epoch this log knows nothing of is no error: epoch and offset are then -1.
fn answer(partition: &Partition, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let reader_epoch = LeaderEpoch(wanted.current_leader_epoch);
    match partition.epoch_end(LeaderEpoch(wanted.leader_epoch), reader_epoch) {
        Ok(Some(end)) => EpochEndOffset {
            error_code: ErrorCode::None.code(),
            partition: wanted.partition,
            leader_epoch: end.epoch.0,
            end_offset: end.end_offset.0,
        },
        Ok(None) => refused(wanted, ErrorCode::None),
        Err(error) => refused(wanted, error.code()),
    }
}

fn refused(wanted: &OffsetForLeaderPartition, code: ErrorCode) -> EpochEndOffset {
    EpochEndOffset { error_code: code.code(), partition: wanted.partition, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use thalweg_record::BatchHeader;
    use thalweg_types::Acks;

    use super::*;
    use crate::bench::{Bench, batch, follow, lead};

    fn append(partition: &Partition, records: usize) {
        let batch = batch(records);
        let header = BatchHeader::parse(&batch).unwrap();
        partition.append(batch, &header, Acks::Leader, None).unwrap();
    }

    /// What a reader that believes in `current_leader_epoch` is told of `leader_epoch`: error code, epoch, end.
    fn ask(partition: &Partition, current: i32, leader_epoch: i32) -> (i16, i32, i64) {
        let wanted =
            OffsetForLeaderPartition { partition: 0, current_leader_epoch: current, leader_epoch };
        let told = answer(partition, &wanted);
        (told.error_code, told.leader_epoch, told.end_offset)
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins_and_the_current_one_at_the_log_end() {
        let bench = Bench::stepped();
        let partition = bench.leading();
        append(&partition, 3);
        lead(&partition, 4);
        append(&partition, 2);

        assert_eq!(ask(&partition, 4, 1), (0, 1, 3));
        assert_eq!(ask(&partition, 4, 4), (0, 4, 5));
        assert_eq!(ask(&partition, -1, 2), (0, 1, 3), "nothing was written in epoch 2");
        assert_eq!(ask(&partition, -1, 0), (0, 0, 0), "older than the log");
    }

    #[test]
    fn an_epoch_that_the_log_does_not_know_has_no_end() {
        let bench = Bench::stepped();
        let partition = bench.leading();
        append(&partition, 1);

        for unknown in [2, i32::MAX, -1, i32::MIN] {
            assert_eq!(ask(&partition, -1, unknown), (0, -1, -1), "{unknown}");
        }
    }

    #[test]
    fn a_reader_of_another_epoch_and_one_that_asks_another_node_are_told_so() {
        let bench = Bench::stepped();
        let partition = bench.leading_again();

        assert_eq!(ask(&partition, 1, 1), (ErrorCode::FencedLeaderEpoch.code(), -1, -1));
        assert_eq!(ask(&partition, 3, 1), (ErrorCode::UnknownLeaderEpoch.code(), -1, -1));
        follow(&partition, 5, 3);
        assert_eq!(ask(&partition, 3, 1), (ErrorCode::NotLeaderOrFollower.code(), -1, -1));
    }
}
