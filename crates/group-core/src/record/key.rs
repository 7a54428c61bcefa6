//! Keys: a kind, and whom the entry is about.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{GroupId, MemberId, PartitionIndex, TopicName};

use super::reader::Reader;
use super::writer::Writer;
use super::{DecodeError, topic_name};

/// The kinds that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub(super) enum Kind {
    LegacyOffset = 0,
    Offset = 1,
    Group = 2,
    ConsumerGroup = 3,
    ConsumerTopics = 4,
    ConsumerMember = 5,
    TargetEpoch = 6,
    Target = 7,
    CurrentAssignment = 8,
    RegularExpression = 16,
}

/// Whose offset it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey {
    pub group: GroupId,
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

/// A member of a group of the consumer protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberKey {
    pub group: GroupId,
    pub member: MemberId,
}

/// A regular expression that members of a group subscribe by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegularExpressionKey {
    pub group: GroupId,
    pub regular_expression: Arc<str>,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::LegacyOffset,
        Self::Offset,
        Self::Group,
        Self::ConsumerGroup,
        Self::ConsumerTopics,
        Self::ConsumerMember,
        Self::TargetEpoch,
        Self::Target,
        Self::CurrentAssignment,
        Self::RegularExpression,
    ];

    pub(super) fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i16 == code)
    }

    /// Of a value in a version that is not known.
    pub(super) fn unsupported(self, version: i16) -> DecodeError {
        DecodeError::UnsupportedVersion { kind: self as i16, version }
    }
}

/// Key of what a group has once.
pub(super) fn group(kind: Kind, group: &GroupId) -> Bytes {
    let mut writer = Writer::new(kind as i16);
    writer.text(group.as_str());
    writer.finish()
}

impl OffsetKey {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::new(Kind::Offset as i16);
        writer.text(self.group.as_str());
        writer.text(self.topic.as_str());
        writer.i32(self.partition.0);
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            group: reader.id()?,
            topic: topic_name(&reader.text()?)?,
            partition: PartitionIndex(reader.i32()?),
        })
    }
}

impl MemberKey {
    pub(super) fn encode(&self, kind: Kind) -> Bytes {
        let mut writer = Writer::new(kind as i16);
        writer.text(self.group.as_str());
        writer.text(self.member.as_str());
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { group: reader.id()?, member: reader.id()? })
    }
}

impl RegularExpressionKey {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::new(Kind::RegularExpression as i16);
        writer.text(self.group.as_str());
        writer.text(&self.regular_expression);
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { group: reader.id()?, regular_expression: reader.text()? })
    }
}
