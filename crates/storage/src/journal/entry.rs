//! What a journal frame says.
//!
//! Every entry's payload begins with the partition it is about; then, little-endian:
//!
//! ```text
//! batch        base offset 8 | leader epoch 4 | rolled 1     attachment: the record batch
//! epoch start  leader epoch 4 | start offset 8
//! log start    new log start 8
//! truncation   new log end 8
//! ```
//!
//! A truncation counts only if the log's folder says so too, see `cut.rs`: the entry gives it its place in the stream.

use bytes::Buf;
use thalweg_record::{BatchHeader, verify_crc};
use thalweg_types::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition, Uuid};

use crate::frame::Frame;

pub(super) const FILE_HEADER: u8 = 1;
pub(super) const FREE_FILE: u8 = 2;
/// Says nothing but what its header does: how far the stream was durable. Written when there is nothing else to carry that.
pub(super) const MARK: u8 = 3;
const BATCH: u8 = 16;
const EPOCH_START: u8 = 17;
const LOG_START: u8 = 18;
const TRUNCATION: u8 = 19;

/// Longest payload: a batch's.
const PAYLOAD_BYTES_MAX: usize = 33;

/// One thing that happened to one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) id: TopicIdPartition,
    pub(crate) kind: EntryKind<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind<'a> {
    /// A batch was appended; with `rolled`, as the first of a new segment.
    Batch { base_offset: Offset, leader_epoch: LeaderEpoch, rolled: bool, batch: &'a [u8] },
    /// A leader began.
    EpochStart { epoch: LeaderEpoch, start_offset: Offset },
    /// Records below are no longer readable.
    LogStart { to: Offset },
    /// What came before this entry may count no more: the log is to end at `to`, whatever this log's earlier entries say.
    Truncation { to: Offset },
}

/// The first frame of a file in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) base_position: u64,
    pub(super) previous_generation: Option<u64>,
    /// Stream position where the previous generation's frames end.
    pub(super) previous_end: u64,
    /// The oldest generation in use when this one was begun; older ones were freed.
    pub(super) oldest_generation: u64,
    /// What was durable when the file was begun; part of every frame's header, not of the payload.
    pub(super) durable_position: u64,
}

/// A payload on the stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload {
    bytes: [u8; PAYLOAD_BYTES_MAX],
    len: usize,
}

impl Payload {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.len..self.len + field.len()].copy_from_slice(field);
        self.len += field.len();
    }
}

impl std::ops::Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<'a> Entry<'a> {
    pub(super) fn kind_byte(&self) -> u8 {
        match self.kind {
            EntryKind::Batch { .. } => BATCH,
            EntryKind::EpochStart { .. } => EPOCH_START,
            EntryKind::LogStart { .. } => LOG_START,
            EntryKind::Truncation { .. } => TRUNCATION,
        }
    }

    pub(super) fn attachment(&self) -> &'a [u8] {
        match self.kind {
            EntryKind::Batch { batch, .. } => batch,
            _ => &[],
        }
    }

    pub(super) fn encode_payload(&self) -> Payload {
        let mut payload = Payload { bytes: [0; PAYLOAD_BYTES_MAX], len: 0 };
        payload.put(self.id.topic_id.0.as_bytes());
        payload.put(&self.id.partition.0.to_le_bytes());
        match self.kind {
            EntryKind::Batch { base_offset, leader_epoch, rolled, .. } => {
                payload.put(&base_offset.0.to_le_bytes());
                payload.put(&leader_epoch.0.to_le_bytes());
                payload.put(&[u8::from(rolled)]);
            }
            EntryKind::EpochStart { epoch, start_offset } => {
                payload.put(&epoch.0.to_le_bytes());
                payload.put(&start_offset.0.to_le_bytes());
            }
            EntryKind::LogStart { to } | EntryKind::Truncation { to } => {
                payload.put(&to.0.to_le_bytes());
            }
        }
        payload
    }

    /// The entry in a frame; `None` for a kind or a payload that this version does not write.
    pub(super) fn decode(frame: &'a Frame) -> Option<Self> {
        let mut rest = &frame.payload[..];
        let mut topic_id = [0; 16];
        rest.try_copy_to_slice(&mut topic_id).ok()?;
        let partition = PartitionIndex(rest.try_get_i32_le().ok()?);
        let kind = match frame.header.kind {
            BATCH => EntryKind::Batch {
                base_offset: Offset(rest.try_get_i64_le().ok()?),
                leader_epoch: LeaderEpoch(rest.try_get_i32_le().ok()?),
                rolled: rest.try_get_u8().ok()? != 0,
                batch: &frame.attachment,
            },
            EPOCH_START => EntryKind::EpochStart {
                epoch: LeaderEpoch(rest.try_get_i32_le().ok()?),
                start_offset: Offset(rest.try_get_i64_le().ok()?),
            },
            LOG_START => EntryKind::LogStart { to: Offset(rest.try_get_i64_le().ok()?) },
            TRUNCATION => EntryKind::Truncation { to: Offset(rest.try_get_i64_le().ok()?) },
            _ => return None,
        };
        let topic_id = TopicId(Uuid::from_bytes(topic_id));
        rest.is_empty().then_some(Self { id: TopicIdPartition { topic_id, partition }, kind })
    }
}

/// Whether a frame's attachment is the whole, undamaged batch that its payload names.
pub(super) fn is_named_batch(frame: &Frame) -> bool {
    let Some(entry) = Entry::decode(frame) else { return false };
    let EntryKind::Batch { base_offset, leader_epoch, batch, .. } = entry.kind else {
        return false;
    };
    BatchHeader::parse(batch).is_ok_and(|header| {
        header.base_offset == base_offset
            && header.leader_epoch == leader_epoch
            && header.size_bytes() == batch.len()
            && verify_crc(batch, &header).is_ok()
    })
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(33);
        bytes.extend_from_slice(&self.base_position.to_le_bytes());
        bytes.push(u8::from(self.previous_generation.is_some()));
        bytes.extend_from_slice(&self.previous_generation.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.previous_end.to_le_bytes());
        bytes.extend_from_slice(&self.oldest_generation.to_le_bytes());
        bytes
    }

    pub(super) fn decode(mut payload: &[u8], durable_position: u64) -> Option<Self> {
        let base_position = payload.try_get_u64_le().ok()?;
        let has_previous = payload.try_get_u8().ok()? != 0;
        let previous = payload.try_get_u64_le().ok()?;
        let previous_end = payload.try_get_u64_le().ok()?;
        let oldest_generation = payload.try_get_u64_le().ok()?;
        let previous_generation = has_previous.then_some(previous);
        payload.is_empty().then_some(Self {
            base_position,
            previous_generation,
            previous_end,
            oldest_generation,
            durable_position,
        })
    }
}
