//! A snapshot of the producer states as bytes, so that recovery need not replay a whole log.
//!
//! A snapshot is a cache: whoever writes it to a file adds a checksum, and whoever cannot read one replays the log instead. It carries
//! the log end offset it was taken at, and all remembered batches of each producer, so that a restart forgets no repetition.
//!
//! ```text
//! version 1 | log end offset 8 | producers 4 |
//!   producer id 8 | epoch 2 | last heard 8 | batches 1 |
//!     base sequence 4 | last sequence 4 | base offset 8 | last offset 8 | max timestamp 8      x batches
//!                                                                                              x producers
//! ```
//!
//! All numbers are big-endian, producers in the order of their ids.

use std::collections::{BTreeMap, VecDeque};

use thalweg_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::{BATCHES_KEPT, ProducerBatch, ProducerState, ProducerStates};

const VERSION: u8 = 1;

/// The bytes are not a snapshot that this version wrote, or not all of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a producer snapshot: {0}")]
pub struct CorruptSnapshot(&'static str);

impl ProducerStates {
    /// The states as bytes, as they are when the log ends at `log_end`.
    pub fn snapshot(&self, log_end: Offset) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&log_end.0.to_be_bytes());
        let count = u32::try_from(self.producers.len()).expect("producers fit in memory");
        bytes.extend_from_slice(&count.to_be_bytes());
        for (producer_id, state) in &self.producers {
            bytes.extend_from_slice(&producer_id.0.to_be_bytes());
            bytes.extend_from_slice(&state.epoch.0.to_be_bytes());
            bytes.extend_from_slice(&state.last_heard.0.to_be_bytes());
            bytes.push(u8::try_from(state.batches.len()).expect("five batches at most"));
            for batch in &state.batches {
                write_batch(&mut bytes, batch);
            }
        }
        bytes
    }

    /// The states and the log end offset that a snapshot holds.
    pub fn restore(bytes: &[u8]) -> Result<(Self, Offset), CorruptSnapshot> {
        let mut reader = Reader { rest: bytes };
        if reader.take::<1>()? != [VERSION] {
            return Err(CorruptSnapshot("unknown version"));
        }
        let log_end = Offset(reader.i64()?);
        let count = u32::from_be_bytes(reader.take()?);
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let producer_id = ProducerId(reader.i64()?);
            let state = read_state(&mut reader, log_end)?;
            if producers.last_key_value().is_some_and(|(last, _)| *last >= producer_id) {
                return Err(CorruptSnapshot("producers out of order"));
            }
            producers.insert(producer_id, state);
        }
        if !reader.rest.is_empty() {
            return Err(CorruptSnapshot("bytes after the last producer"));
        }
        Ok((Self { producers }, log_end))
    }
}

fn write_batch(bytes: &mut Vec<u8>, batch: &ProducerBatch) {
    bytes.extend_from_slice(&batch.base_sequence.0.to_be_bytes());
    bytes.extend_from_slice(&batch.last_sequence.0.to_be_bytes());
    bytes.extend_from_slice(&batch.base_offset.0.to_be_bytes());
    bytes.extend_from_slice(&batch.last_offset.0.to_be_bytes());
    bytes.extend_from_slice(&batch.max_timestamp.0.to_be_bytes());
}

fn read_state(reader: &mut Reader<'_>, log_end: Offset) -> Result<ProducerState, CorruptSnapshot> {
    let epoch = ProducerEpoch(i16::from_be_bytes(reader.take()?));
    let last_heard = Timestamp(reader.i64()?);
    let [count] = reader.take::<1>()?;
    if count == 0 || usize::from(count) > BATCHES_KEPT {
        return Err(CorruptSnapshot("impossible number of batches"));
    }
    let mut batches: VecDeque<ProducerBatch> = VecDeque::with_capacity(usize::from(count));
    for _ in 0..count {
        let batch = ProducerBatch {
            base_sequence: Sequence(reader.i32()?),
            last_sequence: Sequence(reader.i32()?),
            base_offset: Offset(reader.i64()?),
            last_offset: Offset(reader.i64()?),
            max_timestamp: Timestamp(reader.i64()?),
        };
        let follows = batches.back().is_none_or(|last| last.last_offset < batch.base_offset);
        if !follows || batch.base_offset > batch.last_offset || batch.last_offset >= log_end {
            return Err(CorruptSnapshot("batch offsets out of order"));
        }
        if batch.base_sequence.0 < 0 || batch.last_sequence.0 < 0 {
            return Err(CorruptSnapshot("negative sequence"));
        }
        batches.push_back(batch);
    }
    Ok(ProducerState { epoch, batches, last_heard })
}

/// Takes fixed-size fields off the front of the bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], CorruptSnapshot> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(CorruptSnapshot("too short"))?;
        self.rest = rest;
        Ok(*field)
    }

    fn i32(&mut self) -> Result<i32, CorruptSnapshot> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, CorruptSnapshot> {
        self.take().map(i64::from_be_bytes)
    }
}
