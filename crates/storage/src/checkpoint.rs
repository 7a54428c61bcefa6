//! The log dir's checkpoint: how far each log's segments hold what the journal holds.
//!
//! One file for all logs of the dir, replaced as a whole after every pass of writing behind. It is a cache: recovery without it scans
//! the last segment of each log and replays all of the journal, and comes to the same result. With it, recovery looks only at what
//! is newer. It is one frame (see `frame.rs`), whose payload is, little-endian:
//!
//! ```text
//! version 1 | logs 4 |
//!   topic id 16 | partition 4 | covered position 8 | log start 8 | high watermark 8 | leader epoch 4 | producers 8 |
//!   epochs 4 | { epoch 4, start offset 8 } x epochs |
//!   active segment: base 8, next 8, bytes 8, created 8, appended 8, first timestamp 1+8, max timestamp 1+8+8,
//!                   bytes since index entry 8, index entries 8, last indexed timestamp 1+8, time index entries 8      x logs
//! ```

use bytes::{Buf, BufMut, BytesMut};
use thalweg_log_core::{EpochEntry, EpochIndex, SegmentFacts};
use thalweg_types::{
    LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicIdPartition, Uuid,
};

use crate::frame;

const VERSION: u8 = 1;
const KIND: u8 = 1;
/// A log's own, written where its end is taken back; see `cut.rs`.
const CUT_KIND: u8 = 2;
const SETTLED_CUT_KIND: u8 = 3;

/// What is known of one log's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogCheckpoint {
    pub(crate) id: TopicIdPartition,
    /// Everything the journal says about this log below this stream position is in the folder or in this entry.
    pub(crate) covered_position: u64,
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    /// The newest the log was told of, even when it wrote nothing.
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) producers: ProducersAt,
    pub(crate) epochs: EpochIndex,
    /// The newest segment as its file is, up to the log end at that time.
    pub(crate) active: SegmentFacts,
}

/// Where the producer states at the checkpoint's log end are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProducersAt {
    /// There are no producers.
    Empty,
    /// In the `.snapshot` file of this offset.
    Snapshot(Offset),
}

pub(crate) fn encode(logs: &[LogCheckpoint]) -> BytesMut {
    encode_as(KIND, logs)
}

/// The content of one log's `truncation` file.
pub(crate) fn encode_cut(log: &LogCheckpoint, is_settled: bool) -> BytesMut {
    encode_as(if is_settled { SETTLED_CUT_KIND } else { CUT_KIND }, std::slice::from_ref(log))
}

fn encode_as(kind: u8, logs: &[LogCheckpoint]) -> BytesMut {
    let mut payload = BytesMut::with_capacity(16 + logs.len() * 192);
    payload.put_u8(VERSION);
    payload.put_u32_le(u32::try_from(logs.len()).expect("logs fit in memory"));
    for log in logs {
        put_log(&mut payload, log);
    }
    let mut bytes = BytesMut::new();
    frame::encode(&mut bytes, kind, 0, 0, 0, &payload);
    bytes
}

/// `None` for anything but a whole, undamaged checkpoint of this version.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<LogCheckpoint>> {
    decode_as(KIND, bytes)
}

/// What a `truncation` file says, and whether it is settled; `None` for anything but a whole, undamaged one of this version.
pub(crate) fn decode_cut(bytes: &[u8]) -> Option<(LogCheckpoint, bool)> {
    let settled = decode_as(SETTLED_CUT_KIND, bytes);
    let is_settled = settled.is_some();
    let mut logs = settled.or_else(|| decode_as(CUT_KIND, bytes))?;
    let log = logs.pop()?;
    logs.is_empty().then_some((log, is_settled))
}

fn decode_as(kind: u8, bytes: &[u8]) -> Option<Vec<LogCheckpoint>> {
    let header = frame::Header::parse(bytes).filter(|header| header.kind == kind)?;
    let payload = bytes.get(frame::HEADER_BYTES..)?.get(..header.payload_bytes as usize)?;
    if crc_fast::crc32_iscsi(payload) != header.payload_crc {
        return None;
    }
    let mut rest = payload;
    if rest.try_get_u8().ok()? != VERSION {
        return None;
    }
    let count = rest.try_get_u32_le().ok()?;
    let mut logs = Vec::new();
    for _ in 0..count {
        logs.push(get_log(&mut rest)?);
    }
    rest.is_empty().then_some(logs)
}

fn put_log(target: &mut BytesMut, log: &LogCheckpoint) {
    target.put_slice(log.id.topic_id.0.as_bytes());
    target.put_i32_le(log.id.partition.0);
    target.put_u64_le(log.covered_position);
    target.put_i64_le(log.log_start.0);
    target.put_i64_le(log.high_watermark.0);
    target.put_i32_le(log.leader_epoch.0);
    target.put_i64_le(match log.producers {
        ProducersAt::Empty => Offset::NONE.0,
        ProducersAt::Snapshot(offset) => offset.0,
    });
    let epochs = log.epochs.entries();
    target.put_u32_le(u32::try_from(epochs.len()).expect("epochs fit in memory"));
    for entry in epochs {
        target.put_i32_le(entry.epoch.0);
        target.put_i64_le(entry.start_offset.0);
    }
    put_facts(target, &log.active);
}

fn put_facts(target: &mut BytesMut, facts: &SegmentFacts) {
    target.put_i64_le(facts.base_offset.0);
    target.put_i64_le(facts.next_offset.0);
    target.put_u64_le(facts.size_bytes);
    target.put_i64_le(facts.created_at.0);
    target.put_i64_le(facts.appended_at.0);
    put_timestamp(target, facts.first_timestamp);
    put_timestamp(target, facts.max_timestamp.map(|(timestamp, _)| timestamp));
    target.put_i64_le(facts.max_timestamp.map_or(Offset::NONE.0, |(_, offset)| offset.0));
    target.put_u64_le(facts.bytes_since_index_entry);
    target.put_u64_le(facts.index_entry_count);
    put_timestamp(target, facts.last_indexed_timestamp);
    target.put_u64_le(facts.time_index_entry_count);
}

fn put_timestamp(target: &mut BytesMut, timestamp: Option<Timestamp>) {
    target.put_u8(u8::from(timestamp.is_some()));
    target.put_i64_le(timestamp.unwrap_or(Timestamp::NONE).0);
}

fn get_log(rest: &mut &[u8]) -> Option<LogCheckpoint> {
    let mut topic_id = [0; 16];
    rest.try_copy_to_slice(&mut topic_id).ok()?;
    let id = TopicIdPartition {
        topic_id: TopicId(Uuid::from_bytes(topic_id)),
        partition: PartitionIndex(rest.try_get_i32_le().ok()?),
    };
    let covered_position = rest.try_get_u64_le().ok()?;
    let log_start = Offset(rest.try_get_i64_le().ok()?);
    let high_watermark = Offset(rest.try_get_i64_le().ok()?);
    let leader_epoch = LeaderEpoch(rest.try_get_i32_le().ok()?);
    let producers = match Offset(rest.try_get_i64_le().ok()?) {
        Offset::NONE => ProducersAt::Empty,
        offset => ProducersAt::Snapshot(offset),
    };
    let mut entries = Vec::new();
    for _ in 0..rest.try_get_u32_le().ok()? {
        entries.push(EpochEntry {
            epoch: LeaderEpoch(rest.try_get_i32_le().ok()?),
            start_offset: Offset(rest.try_get_i64_le().ok()?),
        });
    }
    let epochs = EpochIndex::restore(entries).ok()?;
    let active = get_facts(rest)?;
    Some(LogCheckpoint {
        id,
        covered_position,
        log_start,
        high_watermark,
        leader_epoch,
        producers,
        epochs,
        active,
    })
}

fn get_facts(rest: &mut &[u8]) -> Option<SegmentFacts> {
    let base_offset = Offset(rest.try_get_i64_le().ok()?);
    let next_offset = Offset(rest.try_get_i64_le().ok()?);
    let size_bytes = rest.try_get_u64_le().ok()?;
    let created_at = Timestamp(rest.try_get_i64_le().ok()?);
    let appended_at = Timestamp(rest.try_get_i64_le().ok()?);
    let first_timestamp = get_timestamp(rest)?;
    let max_timestamp = get_timestamp(rest)?;
    let max_timestamp_offset = Offset(rest.try_get_i64_le().ok()?);
    Some(SegmentFacts {
        base_offset,
        next_offset,
        size_bytes,
        created_at,
        appended_at,
        first_timestamp,
        max_timestamp: max_timestamp.map(|timestamp| (timestamp, max_timestamp_offset)),
        bytes_since_index_entry: rest.try_get_u64_le().ok()?,
        index_entry_count: rest.try_get_u64_le().ok()?,
        last_indexed_timestamp: get_timestamp(rest)?,
        time_index_entry_count: rest.try_get_u64_le().ok()?,
    })
}

fn get_timestamp(rest: &mut &[u8]) -> Option<Option<Timestamp>> {
    let present = rest.try_get_u8().ok()? == 1;
    let timestamp = Timestamp(rest.try_get_i64_le().ok()?);
    Some(present.then_some(timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(partition: i32) -> LogCheckpoint {
        let entry = EpochEntry { epoch: LeaderEpoch(3), start_offset: Offset(5) };
        LogCheckpoint {
            id: TopicIdPartition {
                topic_id: TopicId(Uuid::from_random_bits(77)),
                partition: PartitionIndex(partition),
            },
            covered_position: 1 << 40,
            log_start: Offset(5),
            high_watermark: Offset(90),
            leader_epoch: LeaderEpoch(4),
            producers: ProducersAt::Snapshot(Offset(100)),
            epochs: EpochIndex::restore(vec![entry]).unwrap(),
            active: SegmentFacts {
                next_offset: Offset(100),
                size_bytes: 12_345,
                first_timestamp: Some(Timestamp(1)),
                max_timestamp: Some((Timestamp(9), Offset(50))),
                ..SegmentFacts::empty_at(Offset(10), Timestamp(2))
            },
        }
    }

    #[test]
    fn checkpoints_round_trip() {
        let mut second = log(1);
        second.producers = ProducersAt::Empty;
        second.active = SegmentFacts::empty_at(Offset(10), Timestamp(2));
        for logs in [vec![], vec![log(0)], vec![log(0), second]] {
            assert_eq!(decode(&encode(&logs)), Some(logs));
        }
    }

    #[test]
    fn truncations_round_trip_and_are_not_taken_for_checkpoints() {
        for is_settled in [false, true] {
            let bytes = encode_cut(&log(0), is_settled);
            assert_eq!(decode_cut(&bytes), Some((log(0), is_settled)));
            assert_eq!(decode(&bytes), None);
        }
        assert_eq!(decode_cut(&encode(&[log(0)])), None);
        assert_eq!(decode_cut(&encode_as(CUT_KIND, &[log(0), log(1)])), None);
        assert_eq!(decode_cut(&encode_as(CUT_KIND, &[])), None);
    }

    #[test]
    fn every_flipped_or_missing_byte_makes_it_no_checkpoint() {
        let bytes = encode(&[log(0)]);
        let content = bytes.len() - bytes.len() % 8;
        for at in 0..content {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            let found = decode(&damaged);
            assert!(found.is_none() || found == Some(vec![log(0)]), "byte {at}");
            assert!(decode(&bytes[..at.saturating_sub(8)]).is_none());
        }
    }
}
