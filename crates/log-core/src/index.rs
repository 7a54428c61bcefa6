//! The sparse indexes of one segment: how a read finds its place without scanning a file from its beginning.
//!
//! Both are sorted arrays of fixed-size entries, in Kafka's formats, big-endian and relative to the segment's base offset:
//!
//! ```text
//! .index      relative offset 4 | position 4          the batch whose last offset this is begins at this file position
//! .timeindex  timestamp 8       | relative offset 4   no record up to this offset is later than this timestamp
//! ```
//!
//! The look-up of offset 911, in a log whose segments begin at 0, 450 and 900: the segment that begins at 900 holds it; its entry
//! with the largest relative offset at or below 11 is [10, 1367]; a scan of a few batches from position 1367 finds it.

use thalweg_types::Timestamp;

/// One entry of a segment's offset index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Last offset of the indexed batch, relative to the segment's base offset.
    pub relative_offset: u32,
    /// Where that batch begins in the segment file.
    pub position: u32,
}

/// One entry of a segment's time index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeIndexEntry {
    /// Largest timestamp in the segment up to here.
    pub timestamp: Timestamp,
    /// Last offset of the batch that holds it, relative to the segment's base offset.
    pub relative_offset: u32,
}

impl IndexEntry {
    /// Bytes of one entry in the file.
    pub const SIZE_BYTES: usize = 8;

    pub fn to_bytes(self) -> [u8; Self::SIZE_BYTES] {
        (u64::from(self.relative_offset) << 32 | u64::from(self.position)).to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; Self::SIZE_BYTES]) -> Self {
        let [a, b, c, d, position @ ..] = bytes;
        Self {
            relative_offset: u32::from_be_bytes([a, b, c, d]),
            position: u32::from_be_bytes(position),
        }
    }
}

impl TimeIndexEntry {
    /// Bytes of one entry in the file.
    pub const SIZE_BYTES: usize = 12;

    pub fn to_bytes(self) -> [u8; Self::SIZE_BYTES] {
        let bits = u128::from(self.timestamp.0.cast_unsigned()) << 32;
        let [_, _, _, _, bytes @ ..] = (bits | u128::from(self.relative_offset)).to_be_bytes();
        bytes
    }

    pub fn from_bytes(bytes: [u8; Self::SIZE_BYTES]) -> Self {
        let [timestamp @ .., a, b, c, d] = bytes;
        Self {
            timestamp: Timestamp(i64::from_be_bytes(timestamp)),
            relative_offset: u32::from_be_bytes([a, b, c, d]),
        }
    }
}

/// The last entry at or below the relative offset: from the batch it names a scan meets the one that holds the offset. `None`: from the
/// beginning of the file.
pub fn entry_for(entries: &[IndexEntry], relative_offset: u32) -> Option<IndexEntry> {
    let after = entries.partition_point(|entry| entry.relative_offset <= relative_offset);
    after.checked_sub(1).and_then(|at| entries.get(at)).copied()
}

/// File position from which a scan meets the batch that holds the relative offset, by [`entry_for`].
pub fn position_of(entries: &[IndexEntry], relative_offset: u32) -> u32 {
    entry_for(entries, relative_offset).map_or(0, |entry| entry.position)
}

/// Relative offset from which a scan meets the first record whose timestamp is `target` or later: that of the last entry at or below
/// it, or the beginning of the segment.
pub fn scan_start_for_timestamp(entries: &[TimeIndexEntry], target: Timestamp) -> u32 {
    let after = entries.partition_point(|entry| entry.timestamp <= target);
    after.checked_sub(1).and_then(|at| entries.get(at)).map_or(0, |entry| entry.relative_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(relative_offset: u32, position: u32) -> IndexEntry {
        IndexEntry { relative_offset, position }
    }

    #[test]
    fn a_look_up_starts_at_the_last_entry_at_or_below_the_offset() {
        let entries = [entry(4, 700), entry(10, 1367), entry(17, 2900)];
        assert_eq!(position_of(&entries, 911 - 900), 1367);
        assert_eq!(position_of(&entries, 10), 1367);
        assert_eq!(position_of(&entries, 9), 700);
        assert_eq!(position_of(&entries, 3), 0);
        assert_eq!(position_of(&entries, u32::MAX), 2900);
        assert_eq!(position_of(&[], 5), 0);
    }

    #[test]
    fn a_timestamp_look_up_starts_no_later_than_the_first_record_that_old() {
        let entry = |timestamp, relative_offset| TimeIndexEntry {
            timestamp: Timestamp(timestamp),
            relative_offset,
        };
        let entries = [entry(1000, 3), entry(2000, 9)];
        assert_eq!(scan_start_for_timestamp(&entries, Timestamp(999)), 0);
        assert_eq!(scan_start_for_timestamp(&entries, Timestamp(1000)), 3);
        assert_eq!(scan_start_for_timestamp(&entries, Timestamp(1001)), 3);
        assert_eq!(scan_start_for_timestamp(&entries, Timestamp(5000)), 9);
    }

    #[test]
    fn entries_are_big_endian_and_round_trip() {
        let offset = entry(10, 1367);
        assert_eq!(offset.to_bytes(), [0, 0, 0, 10, 0, 0, 0x05, 0x57]);
        assert_eq!(IndexEntry::from_bytes(offset.to_bytes()), offset);
        for timestamp in [-1, 0, 1_700_000_000_000, i64::MAX, i64::MIN] {
            let time = TimeIndexEntry { timestamp: Timestamp(timestamp), relative_offset: 0x0102 };
            assert_eq!(time.to_bytes()[..8], timestamp.to_be_bytes());
            assert_eq!(time.to_bytes()[8..], [0, 0, 1, 2]);
            assert_eq!(TimeIndexEntry::from_bytes(time.to_bytes()), time);
        }
    }
}
