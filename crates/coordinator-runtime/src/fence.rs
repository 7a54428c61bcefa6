//! The record with which a coordinator takes a partition over.
//!
//! It is an ordinary record with a key, so that compaction keeps one of them and clients skip it as they skip every kind they do not
//! know. Kafka's kinds of records in internal topics are numbered from 0 by the first two bytes of the key; ours is far away from them.
//!
//! ```text
//!   key     2 bytes  29798 ("tf")
//!   value   2 bytes  version, 0
//!           4 bytes  coordinator epoch
//!           4 bytes  node id of the coordinator
//!           8 bytes  chain of appends that it begins
//! ```
//!
//! All numbers are big-endian. Nothing is decided by what the record says: that it was appended is what counts.

use bytes::{BufMut, Bytes, BytesMut};
use thalweg_record::{BatchBuilder, BatchError};
use thalweg_types::{CompressionType, CoordinatorEpoch, NodeId, Timestamp};

/// Key of every fence.
pub const FENCE_KEY: [u8; 2] = *b"tf";

const VERSION: i16 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub coordinator_epoch: CoordinatorEpoch,
    pub node: NodeId,
    pub chain: u64,
}

impl Fence {
    pub fn value(self) -> Bytes {
        let mut value = BytesMut::with_capacity(18);
        value.put_i16(VERSION);
        value.put_i32(self.coordinator_epoch.0);
        value.put_i32(self.node.0);
        value.put_u64(self.chain);
        value.freeze()
    }

    /// The batch of one record that is appended.
    pub(crate) fn batch(self, timestamp: Timestamp) -> Result<Bytes, BatchError> {
        let mut builder = BatchBuilder::new(CompressionType::None);
        builder.push(timestamp, Some(&FENCE_KEY), Some(&self.value()), &[])?;
        Ok(builder.finish()?.freeze())
    }
}

pub(crate) fn is_fence(key: &[u8]) -> bool {
    key == FENCE_KEY
}

#[cfg(test)]
mod tests {
    use thalweg_record::{Batches, DecompressLimits, records};

    use super::*;

    #[test]
    fn a_fence_is_a_batch_of_one_keyed_record() {
        let fence =
            Fence { coordinator_epoch: CoordinatorEpoch(7), node: NodeId(3), chain: u64::MAX - 1 };
        let batch = fence.batch(Timestamp(5)).unwrap();
        let (header, bytes) = Batches::new(&batch).next().unwrap().unwrap();
        assert!(!header.attributes.is_control());
        let records = records(bytes, &DecompressLimits::default()).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        assert!(record.key.is_some_and(is_fence));
        let expected =
            [&[0, 0, 0, 0, 0, 7, 0, 0, 0, 3][..], &(u64::MAX - 1).to_be_bytes()].concat();
        assert_eq!(record.value, Some(&expected[..]));
    }
}
