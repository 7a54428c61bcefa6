//! Records that are decided and not sent yet, as batches.

use std::collections::VecDeque;

use bytes::Bytes;
use thalweg_record::{BatchBuilder, BatchError};
use thalweg_types::{CompressionType, Timestamp};

use crate::core::KeyValue;

/// What a record takes in a batch beside its key and value, at most; and a batch's header.
const RECORD_OVERHEAD_BYTES: usize = 32;
const HEADER_BYTES: usize = 61;

#[derive(Debug, Default)]
pub(super) struct Batches {
    /// The last one still grows.
    waiting: VecDeque<BatchBuilder>,
    bytes: usize,
}

impl Batches {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the records of one decision: into one batch where that is possible, so that they are appended together.
    pub(super) fn push(
        &mut self,
        records: &[KeyValue],
        timestamp: Timestamp,
        batch_bytes_max: usize,
    ) -> Result<(), BatchError> {
        let sizes = records.iter().map(size_bytes);
        if sizes.clone().any(|bytes| bytes + HEADER_BYTES > batch_bytes_max) {
            return Err(BatchError::Full("what a batch of the partition may have"));
        }
        let total: usize = sizes.sum();
        let mut room = match self.waiting.back() {
            Some(batch) if batch.size_estimate() + total <= batch_bytes_max => {
                batch_bytes_max - batch.size_estimate()
            }
            _ => 0,
        };
        for record in records {
            let bytes = size_bytes(record);
            if bytes > room {
                self.waiting.push_back(BatchBuilder::new(CompressionType::None));
                room = batch_bytes_max - HEADER_BYTES;
            }
            room -= bytes;
            if let Some(batch) = self.waiting.back_mut() {
                batch.push(timestamp, Some(&record.key), record.value.as_deref(), &[])?;
            }
            self.bytes += bytes;
        }
        Ok(())
    }

    /// The next batch to be sent, and its number of records.
    pub(super) fn pop(&mut self) -> Option<(Bytes, i64)> {
        let batch = self.waiting.pop_front()?;
        let count = i64::from(batch.record_count());
        if self.waiting.is_empty() {
            self.bytes = 0;
        } else {
            self.bytes = self.bytes.saturating_sub(batch.size_estimate());
        }
        let batch = batch.finish().expect("a batch is begun with its first record");
        Some((batch.freeze(), count))
    }
}

fn size_bytes(record: &KeyValue) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + RECORD_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> KeyValue {
        KeyValue { key: Bytes::from_static(b"k"), value: Some(Bytes::from(vec![0; bytes])) }
    }

    #[test]
    fn decisions_share_a_batch_and_are_not_split_while_they_fit_into_one() {
        let mut batches = Batches::default();
        for _ in 0..2 {
            batches.push(&[record(100), record(100)], Timestamp(1), 1_000).unwrap();
        }
        batches.push(&[record(300), record(300)], Timestamp(1), 1_000).unwrap();
        let counts: Vec<_> = std::iter::from_fn(|| batches.pop()).map(|(_, count)| count).collect();
        assert_eq!(counts, [4, 2]);
        assert!(batches.is_empty() && batches.bytes() == 0);
    }

    #[test]
    fn a_large_decision_is_split_and_no_batch_is_larger_than_allowed() {
        let mut batches = Batches::default();
        batches.push(&vec![record(200); 50], Timestamp(1), 1_000).unwrap();
        let mut count = 0;
        while let Some((batch, records)) = batches.pop() {
            assert!(batch.len() <= 1_000, "{}", batch.len());
            count += records;
        }
        assert_eq!(count, 50);
    }

    #[test]
    fn a_record_that_fits_into_no_batch_is_refused_with_all_of_its_decision() {
        let mut batches = Batches::default();
        assert!(batches.push(&[record(1), record(1_000)], Timestamp(1), 1_000).is_err());
        assert!(batches.is_empty());
    }
}
