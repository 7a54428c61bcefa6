//! The bytes of coordinators' batches, beside the simulated disks.

use std::collections::BTreeMap;

use bytes::Bytes;
use thalweg_record::{BatchHeader, DecompressLimits, records, stamp};
use thalweg_types::{ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::ledger;
use crate::disk::Batch;

/// Values of coordinators' records begin here, far from those of clients.
const FIRST_VALUE: u64 = 1 << 60;

/// The bytes behind coordinators' batches: simulated disks keep numbers only.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// By the value of the first record.
    kept: BTreeMap<u64, Kept>,
    next: u64,
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    /// What each record says: the version, and who counted.
    counts: Vec<Option<(u64, u64)>>,
}

impl Batches {
    /// The batch as simulated disks keep it.
    pub(crate) fn keep(&mut self, bytes: Bytes) -> Option<Batch> {
        let header = BatchHeader::parse(&bytes).ok()?;
        let all = records(&bytes, &DecompressLimits::default()).ok()?;
        let counts = all.iter().map(|record| {
            let record = record.ok()?;
            ledger::read(record.key, record.value)
        });
        let counts: Vec<_> = counts.collect();
        let value = FIRST_VALUE + self.next;
        self.next += counts.len() as u64;
        let nobody = (ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE);
        let batch = Batch::new(nobody, header.record_count, value, Timestamp::NONE);
        self.kept.insert(value, Kept { bytes, counts });
        Some(batch)
    }

    /// As a coordinator reads it.
    pub(super) fn read(&self, batch: &Batch) -> Option<Bytes> {
        let mut bytes = self.kept.get(&batch.value)?.bytes.to_vec();
        stamp(&mut bytes, batch.base(), batch.header.leader_epoch);
        Some(bytes.into())
    }

    /// What a record says, by its value.
    pub(crate) fn count_at(&self, value: u64) -> Option<(u64, u64)> {
        let (first, kept) = self.kept.range(..=value).next_back()?;
        *kept.counts.get(usize::try_from(value - first).ok()?)?
    }
}
