//! Segments: where one file ends and the next begins, and which one holds an offset or a timestamp.
//!
//! A log is cut into segments, named by their base offset; the last is the active one and alone grows. What the rules need to know of
//! a segment is a handful of numbers, [`SegmentFacts`], kept up to date batch by batch and found again by recovery.

use thalweg_record::BatchHeader;
use thalweg_types::{Offset, Timestamp};

use crate::config::LogConfig;
use crate::index::{IndexEntry, TimeIndexEntry};

/// Largest segment file: positions in the offset index have 32 bits, of which Kafka's tools read 31.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// Largest distance of an offset from its segment's base offset: the indexes keep it in 32 bits, of which Kafka's tools read 31.
const RELATIVE_OFFSET_MAX: i64 = i32::MAX as i64;

/// What the rules know of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its name: at or below the offset of its first record.
    pub base_offset: Offset,
    /// First offset after its last record; the base offset while it is empty.
    pub next_offset: Offset,
    /// Bytes of its batches.
    pub size_bytes: u64,
    /// Local time when it became the active segment, or when recovery found it.
    pub created_at: Timestamp,
    /// Local time of its last append, or of the file's last change when recovery found it.
    pub appended_at: Timestamp,
    /// Largest timestamp of the first batch, if the segment has one that carries a timestamp: its age is measured from here.
    pub first_timestamp: Option<Timestamp>,
    /// Largest timestamp of all batches, and the last offset of the first batch that holds it.
    pub max_timestamp: Option<(Timestamp, Offset)>,
    /// Bytes since the last entry of the offset index.
    pub bytes_since_index_entry: u64,
    /// Entries of the offset index.
    pub index_entry_count: u64,
    /// Newest timestamp in the time index, and its number of entries.
    pub last_indexed_timestamp: Option<Timestamp>,
    pub time_index_entry_count: u64,
}

/// Where an appended batch belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Base offset of the batch's segment.
    pub segment_base_offset: Offset,
    /// Where the batch begins in the segment file.
    pub position: u64,
    /// The entry to add to the segment's offset index, if one is due.
    pub index_entry: Option<IndexEntry>,
    /// The entry to add to its time index, if one is due.
    pub time_index_entry: Option<TimeIndexEntry>,
}

/// Why the active segment ends before a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollReason {
    /// The batch would take it past `segment.bytes`.
    Bytes,
    /// It has reached `segment.ms`, less its jitter.
    Age,
    /// One of its indexes has no room for another entry.
    IndexFull,
    /// The batch's last offset is too far from the base offset for the indexes.
    OffsetOverflow,
    /// Retention wants to delete it.
    Retention,
}

// ---- SegmentFacts ----

impl SegmentFacts {
    /// A new segment, whose first record will get `base_offset` or a later one.
    pub fn empty_at(base_offset: Offset, now: Timestamp) -> Self {
        Self {
            base_offset,
            next_offset: base_offset,
            size_bytes: 0,
            created_at: now,
            appended_at: now,
            first_timestamp: None,
            max_timestamp: None,
            bytes_since_index_entry: 0,
            index_entry_count: 0,
            last_indexed_timestamp: None,
            time_index_entry_count: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.size_bytes == 0
    }

    /// Distance of an offset from the base offset, as the indexes keep it; `None` if it lies outside their range.
    pub fn relative_offset(&self, offset: Offset) -> Option<u32> {
        u32::try_from(offset.records_since(self.base_offset))
            .ok()
            .filter(|relative| i64::from(*relative) <= RELATIVE_OFFSET_MAX)
    }

    /// Notes a batch at the segment's end and says where it belongs. Also what recovery calls for every batch of a segment file whose
    /// facts it does not trust; it then gets the indexes anew.
    pub fn push(&mut self, batch: &BatchHeader, config: &LogConfig, now: Timestamp) -> Placement {
        let (position, last_offset) = (self.size_bytes, batch.last_offset());
        let size_bytes = batch.size_bytes() as u64;
        if batch.max_timestamp.0 >= 0 {
            if self.is_empty() {
                self.first_timestamp = Some(batch.max_timestamp);
            }
            if self.max_timestamp.is_none_or(|(max, _)| batch.max_timestamp > max) {
                self.max_timestamp = Some((batch.max_timestamp, last_offset));
            }
        }
        let due = self.bytes_since_index_entry > config.index_interval_bytes;
        let index_entry = due.then(|| self.index(last_offset, position)).flatten();
        let time_index_entry = due.then(|| self.index_time()).flatten();
        if due {
            self.bytes_since_index_entry = 0;
        }
        self.bytes_since_index_entry += size_bytes;
        self.size_bytes += size_bytes;
        self.next_offset = batch.next_offset();
        self.appended_at = now;
        let segment_base_offset = self.base_offset;
        Placement { segment_base_offset, position, index_entry, time_index_entry }
    }

    fn index(&mut self, last_offset: Offset, position: u64) -> Option<IndexEntry> {
        let relative_offset = self.relative_offset(last_offset)?;
        let position = u32::try_from(position).ok()?;
        self.index_entry_count += 1;
        Some(IndexEntry { relative_offset, position })
    }

    /// The time index entry for the largest timestamp so far, unless the index has it. Due with every offset index entry and when
    /// the segment ends.
    pub fn index_time(&mut self) -> Option<TimeIndexEntry> {
        let (timestamp, offset) = self.max_timestamp?;
        if self.last_indexed_timestamp.is_some_and(|indexed| indexed >= timestamp) {
            return None;
        }
        let relative_offset = self.relative_offset(offset)?;
        self.last_indexed_timestamp = Some(timestamp);
        self.time_index_entry_count += 1;
        Some(TimeIndexEntry { timestamp, relative_offset })
    }

    /// How old its newest record is taken to be when retention asks: by the records' own timestamps where they have any.
    pub fn newest_timestamp(&self) -> Timestamp {
        self.max_timestamp.map_or(self.appended_at, |(timestamp, _)| timestamp)
    }

    fn is_index_full(&self, config: &LogConfig) -> bool {
        // One place in the time index is kept for the entry that ends the segment.
        let entries_max = config.segment_index_bytes / IndexEntry::SIZE_BYTES as u64;
        let time_entries_max = config.segment_index_bytes / TimeIndexEntry::SIZE_BYTES as u64;
        self.index_entry_count >= entries_max.max(1)
            || self.time_index_entry_count + 1 >= time_entries_max.max(2)
    }
}

// ---- When a segment ends ----

/// Whether the active segment ends before this batch, and why. `batch` carries the offset and the timestamps it will be stored with;
/// `jitter_ms` is the segment's own, see [`jitter_ms`].
pub fn roll_reason(
    active: &SegmentFacts,
    batch: &BatchHeader,
    config: &LogConfig,
    jitter_ms: i64,
    now: Timestamp,
) -> Option<RollReason> {
    if active.relative_offset(batch.last_offset()).is_none() {
        return Some(RollReason::OffsetOverflow);
    }
    if active.is_empty() {
        return None;
    }
    let bytes_max = config.segment_bytes.min(SEGMENT_BYTES_MAX);
    if active.size_bytes.saturating_add(batch.size_bytes() as u64) > bytes_max {
        return Some(RollReason::Bytes);
    }
    if age_ms(active, batch.max_timestamp, now) > config.segment_ms.saturating_sub(jitter_ms) {
        return Some(RollReason::Age);
    }
    active.is_index_full(config).then_some(RollReason::IndexFull)
}

/// A segment's age when a batch arrives: in the records' own time where both have it, so that replayed old data fills segments as it
/// did the first time; else in local time.
fn age_ms(active: &SegmentFacts, batch_timestamp: Timestamp, now: Timestamp) -> i64 {
    match active.first_timestamp {
        Some(first) if batch_timestamp.0 >= 0 => batch_timestamp.ms_since(first),
        _ => now.ms_since(active.created_at),
    }
}

/// How much earlier than `segment.ms` this segment ends: below `segment.jitter.ms`, and the same each time it is asked. The seed
/// differs from log to log, so that logs created together do not roll together.
pub fn jitter_ms(config: &LogConfig, seed: u64, base_offset: Offset) -> i64 {
    let bound = config.segment_jitter_ms.min(config.segment_ms);
    match u64::try_from(bound) {
        Ok(0) | Err(_) => 0,
        Ok(bound) => i64::try_from(mixed(seed ^ base_offset.0.cast_unsigned()) % bound)
            .expect("the remainder is below an i64"),
    }
}

/// Spreads neighbouring inputs over all 64 bits (the finaliser of SplitMix64, Steele et al. 2014).
fn mixed(input: u64) -> u64 {
    let first = (input ^ (input >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    second ^ (second >> 31)
}

// ---- Which segment ----

/// Index of the segment that holds the offset, or that would: the last whose base offset is at or below it. `None` below the first
/// segment and at or above the end of the last.
pub fn holding(segments: &[SegmentFacts], offset: Offset) -> Option<usize> {
    if segments.last().is_none_or(|last| offset >= last.next_offset) {
        return None;
    }
    segments.partition_point(|segment| segment.base_offset <= offset).checked_sub(1)
}

/// Index of the first segment with a record of timestamp `target` or later.
pub fn with_timestamp_from(segments: &[SegmentFacts], target: Timestamp) -> Option<usize> {
    segments.iter().position(|segment| segment.max_timestamp.is_some_and(|(max, _)| max >= target))
}

#[cfg(test)]
mod tests;
