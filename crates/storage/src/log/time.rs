//! Finding records by time (Kafka's ListOffsets by timestamp).

use std::sync::Arc;

use bytes::Bytes;
use thalweg_record::{DecompressLimits, records};
use thalweg_types::{LeaderEpoch, Offset, Timestamp};

use super::Log;
use crate::error::ReadError;
use crate::segment::{Miss, Patience, Segment};

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    pub timestamp: Timestamp,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// The first record whose timestamp is `target` or later; `None` when there is none. May wait for the disk.
    pub fn offset_for_timestamp(
        &self,
        target: Timestamp,
    ) -> Result<Option<TimedOffset>, ReadError> {
        self.find_record(target)
    }

    /// The first record with the largest timestamp of the log; `None` for a log without records that carry one. May wait for the disk.
    pub fn max_timestamp(&self) -> Result<Option<TimedOffset>, ReadError> {
        match self.inspect(|core| core.max_timestamp()) {
            Some((timestamp, _)) => self.find_record(timestamp),
            None => Ok(None),
        }
    }

    fn find_record(&self, target: Timestamp) -> Result<Option<TimedOffset>, ReadError> {
        let found = self.look_for_record(target);
        found.inspect_err(|error| self.shared.open_files.damages.met(error))
    }

    fn look_for_record(&self, target: Timestamp) -> Result<Option<TimedOffset>, ReadError> {
        let log_start = self.offsets().log_start();
        for segment in self.candidates(target) {
            let mut from = segment.scan_start_for(target)?.max(log_start);
            while let Some(batch) = first_batch_from(&segment, from, target)? {
                if let Some(found) = self.record_in(&batch, target, log_start, &segment)? {
                    return Ok(Some(found));
                }
                from = next_offset(&batch);
            }
        }
        // What is not in a segment is in the tail.
        let batches: Vec<Bytes> = {
            let state = self.state.lock();
            let newer = state.tail.iter().filter(|batch| batch.max_timestamp >= target);
            newer.map(|batch| batch.bytes.clone()).collect()
        };
        for batch in batches {
            if let Some(found) = record_from(&batch, target, log_start).unwrap_or(None) {
                return Ok(Some(self.timed(found)));
            }
        }
        Ok(None)
    }

    /// The segments on disk that may have such a record, oldest first.
    fn candidates(&self, target: Timestamp) -> Vec<Arc<Segment>> {
        let state = self.state.lock();
        let facts = state.core.segments().iter();
        let late = facts.filter(|f| f.max_timestamp.is_some_and(|(max, _)| max >= target));
        late.filter_map(|f| state.segments.get(&f.base_offset).cloned()).collect()
    }

    fn record_in(
        &self,
        batch: &Bytes,
        target: Timestamp,
        log_start: Offset,
        segment: &Segment,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let found =
            record_from(batch, target, log_start).map_err(|error| segment.corrupt(0, error))?;
        Ok(found.map(|found| self.timed(found)))
    }

    fn timed(&self, (timestamp, offset): (Timestamp, Offset)) -> TimedOffset {
        let leader_epoch = self.epoch_at(offset).unwrap_or(LeaderEpoch::NONE);
        TimedOffset { timestamp, offset, leader_epoch }
    }
}

/// The first batch at or after `from` that holds a record of `target` or later.
fn first_batch_from(
    segment: &Segment,
    from: Offset,
    target: Timestamp,
) -> Result<Option<Bytes>, ReadError> {
    let Some(start) = segment.locate(from, Patience::Wait).map_err(Miss::into_error)? else {
        return Ok(None);
    };
    let found =
        segment.walk_from(start.position, |located| located.header.max_timestamp >= target)?;
    found.map(|located| segment.read_batch(&located)).transpose()
}

fn next_offset(batch: &Bytes) -> Offset {
    let header = thalweg_record::BatchHeader::parse(batch).expect("read as a whole batch");
    header.next_offset()
}

/// The first record of a batch at or after both.
fn record_from(
    batch: &Bytes,
    target: Timestamp,
    log_start: Offset,
) -> Result<Option<(Timestamp, Offset)>, thalweg_record::BatchError> {
    let records = records(batch, &DecompressLimits::default())?;
    for record in records.iter() {
        let record = record?;
        if record.timestamp >= target && record.offset >= log_start {
            return Ok(Some((record.timestamp, record.offset)));
        }
    }
    Ok(None)
}
