//! Value of a committed offset.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{LeaderEpoch, Offset, Timestamp, TopicId};

use super::DecodeError;
use super::key::Kind;
use super::reader::Reader;
use super::writer::Writer;

/// Version with an expiry of its own, and the one that is written otherwise.
const VERSION_WITH_EXPIRY: i16 = 1;
const VERSION: i16 = 4;

/// An offset that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next to read.
    pub offset: Offset,
    /// Of the last record read, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub committed_at: Timestamp,
    /// Only when the client asked for one, as old versions can; it excludes the two fields that a stored value has since.
    pub expires_at: Option<Timestamp>,
    /// [`TopicId::ZERO`] when not known.
    pub topic_id: TopicId,
}

impl CommittedOffset {
    pub(super) fn encode(&self) -> Bytes {
        let Some(expires_at) = self.expires_at else { return self.encode_flexible() };
        let mut writer = Writer::new(VERSION_WITH_EXPIRY);
        writer.i64(self.offset.0);
        writer.text(&self.metadata);
        writer.i64(self.committed_at.0);
        writer.i64(expires_at.0);
        writer.finish()
    }

    fn encode_flexible(&self) -> Bytes {
        let mut writer = Writer::flexible(VERSION);
        writer.i64(self.offset.0);
        writer.i32(self.leader_epoch.0);
        writer.text(&self.metadata);
        writer.i64(self.committed_at.0);
        let topic_id = Writer::field(|field| field.uuid(self.topic_id.0));
        writer.tagged((!self.topic_id.is_zero()).then_some((0, topic_id)));
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !(0..=VERSION).contains(&version) {
            return Err(Kind::Offset.unsupported(version));
        }
        reader.set_flexible(version >= 4);
        let offset = Offset(reader.i64()?);
        let leader_epoch =
            if version >= 3 { LeaderEpoch(reader.i32()?) } else { LeaderEpoch::NONE };
        let metadata = reader.text()?;
        let committed_at = Timestamp(reader.i64()?);
        let expires_at =
            if version == VERSION_WITH_EXPIRY { Timestamp(reader.i64()?) } else { Timestamp::NONE };
        let mut topic_id = TopicId::ZERO;
        reader.tagged(|tag, field| {
            if tag == 0 {
                topic_id = TopicId(field.uuid()?);
            }
            Ok(tag == 0)
        })?;
        let expires_at = (expires_at != Timestamp::NONE).then_some(expires_at);
        Ok(Self { offset, leader_epoch, metadata, committed_at, expires_at, topic_id })
    }

    /// The value that goes with keys of kind 0.
    pub(super) fn decode_legacy(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if version != 0 {
            return Err(Kind::LegacyOffset.unsupported(version));
        }
        Self::decode(reader, 0)
    }
}
