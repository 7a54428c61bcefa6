//! What is stored in `__consumer_offsets`: records of the kinds and bytes that Kafka has for groups, so that its tools can read them.
//!
//! ```text
//! key    kind: i16, big-endian          value   version: i16, or no value: the entry is gone
//!        fields, never flexible                 fields; compact lengths and tagged fields in flexible versions (KIP-482)
//!
//!    kind  key                          value versions   written   flexible from
//!    0     group, topic, partition      0                never     -          offsets of very old versions
//!    1     group, topic, partition      0-4              4, or 1   4          committed offset; 1 when it has an expiry of its own
//!    2     group                        0-4              3         4          group of the classic protocol, members included
//!    3     group                        0                0         0          group of the consumer protocol: its epoch
//!    4     group                        0                0         0          its topics (before Kafka 4.1)
//!    5     group, member                0                0         0          a member and what it subscribes to
//!    6     group                        0                0         0          epoch of the target assignment
//!    7     group, member                0                0         0          a member's target
//!    8     group, member                0                0         0          what a member has, and how far it is on its way
//!    16    group, regular expression    0                0         0          the topics that it matched
//! ```
//!
//! Kinds between and beyond are of share and streams groups and of later versions; they are skipped. Flexible values may carry tagged fields
//! we do not know, which are skipped as well; other versions than these are refused, because nobody can know what they mean.

mod classic;
mod consumer;
pub(crate) mod embedded;
mod error;
mod key;
mod offset;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;

use thalweg_types::{AssignmentEpoch, GroupId, MemberId, PartitionIndex, TopicId, TopicName};

pub use classic::{ClassicMember, GroupMetadata};
pub use consumer::{
    ClassicMemberMetadata, ConsumerGroupMetadata, CurrentAssignment, MemberMetadata,
    RegularExpression, TopicMetadata,
};
pub use error::DecodeError;
pub use key::{MemberKey, OffsetKey, RegularExpressionKey};
pub use offset::CommittedOffset;

use key::Kind;
use reader::Reader;

/// Partitions by topic, as several values have them.
pub type AssignedPartitions = Vec<(TopicId, Vec<PartitionIndex>)>;

/// One stored fact: an entry and what it is now, or `None` that it is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Offset(OffsetKey, Option<CommittedOffset>),
    Group(GroupId, Option<GroupMetadata>),
    ConsumerGroup(GroupId, Option<ConsumerGroupMetadata>),
    /// Not written any more: the hash in [`ConsumerGroupMetadata`] has taken its place.
    ConsumerTopics(GroupId, Option<Vec<TopicMetadata>>),
    ConsumerMember(MemberKey, Option<MemberMetadata>),
    TargetEpoch(GroupId, Option<AssignmentEpoch>),
    Target(MemberKey, Option<AssignedPartitions>),
    CurrentAssignment(MemberKey, Option<CurrentAssignment>),
    RegularExpression(RegularExpressionKey, Option<RegularExpression>),
}

impl Record {
    pub fn group(&self) -> &GroupId {
        match self {
            Self::Offset(key, _) => &key.group,
            Self::Group(group, _)
            | Self::ConsumerGroup(group, _)
            | Self::ConsumerTopics(group, _)
            | Self::TargetEpoch(group, _) => group,
            Self::ConsumerMember(key, _)
            | Self::Target(key, _)
            | Self::CurrentAssignment(key, _) => &key.group,
            Self::RegularExpression(key, _) => &key.group,
        }
    }

    /// Bytes of key and value together, and a bound of what a batch needs for the record besides.
    pub fn encoded_bytes(&self) -> usize {
        const RECORD_OVERHEAD_BYTES: usize = 24;
        let (key, value) = encode(self);
        key.len() + value.map_or(0, |value| value.len()) + RECORD_OVERHEAD_BYTES
    }
}

/// The record's key and value. Texts are within [`ID_BYTES_MAX`](crate::ID_BYTES_MAX): the rules see to that before anything is decided; one
/// that is not is cut there, for a wrong text is better than bytes that nobody can read.
pub fn encode(record: &Record) -> (Bytes, Option<Bytes>) {
    match record {
        Record::Offset(key, value) => (key.encode(), value.as_ref().map(CommittedOffset::encode)),
        Record::Group(group, value) => {
            (key::group(Kind::Group, group), value.as_ref().map(GroupMetadata::encode))
        }
        Record::ConsumerGroup(group, value) => (
            key::group(Kind::ConsumerGroup, group),
            value.as_ref().map(ConsumerGroupMetadata::encode),
        ),
        Record::ConsumerTopics(group, value) => (
            key::group(Kind::ConsumerTopics, group),
            value.as_ref().map(|topics| consumer::encode_topics(topics)),
        ),
        Record::ConsumerMember(key, value) => {
            (key.encode(Kind::ConsumerMember), value.as_ref().map(MemberMetadata::encode))
        }
        Record::TargetEpoch(group, value) => {
            (key::group(Kind::TargetEpoch, group), value.map(consumer::encode_target_epoch))
        }
        Record::Target(key, value) => {
            (key.encode(Kind::Target), value.as_ref().map(consumer::encode_target))
        }
        Record::CurrentAssignment(key, value) => {
            (key.encode(Kind::CurrentAssignment), value.as_ref().map(CurrentAssignment::encode))
        }
        Record::RegularExpression(key, value) => {
            (key.encode(), value.as_ref().map(RegularExpression::encode))
        }
    }
}

/// Reads a record back. `None`: a kind that is not ours to know.
pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Record>, DecodeError> {
    let mut reader = Reader::new(key);
    let Some(kind) = Kind::from_code(reader.i16()?) else { return Ok(None) };
    let record = match kind {
        Kind::LegacyOffset => {
            let key = OffsetKey::decode(&mut reader)?;
            Record::Offset(key, read(value, CommittedOffset::decode_legacy)?)
        }
        Kind::Offset => {
            Record::Offset(OffsetKey::decode(&mut reader)?, read(value, CommittedOffset::decode)?)
        }
        Kind::Group => Record::Group(reader.id()?, read(value, GroupMetadata::decode)?),
        Kind::ConsumerGroup => {
            Record::ConsumerGroup(reader.id()?, read(value, ConsumerGroupMetadata::decode)?)
        }
        Kind::ConsumerTopics => {
            Record::ConsumerTopics(reader.id()?, read(value, consumer::decode_topics)?)
        }
        Kind::ConsumerMember => Record::ConsumerMember(
            MemberKey::decode(&mut reader)?,
            read(value, MemberMetadata::decode)?,
        ),
        Kind::TargetEpoch => {
            Record::TargetEpoch(reader.id()?, read(value, consumer::decode_target_epoch)?)
        }
        Kind::Target => {
            Record::Target(MemberKey::decode(&mut reader)?, read(value, consumer::decode_target)?)
        }
        Kind::CurrentAssignment => Record::CurrentAssignment(
            MemberKey::decode(&mut reader)?,
            read(value, CurrentAssignment::decode)?,
        ),
        Kind::RegularExpression => Record::RegularExpression(
            RegularExpressionKey::decode(&mut reader)?,
            read(value, RegularExpression::decode)?,
        ),
    };
    reader.end()?;
    Ok(Some(record))
}

/// Reads a value to its end, if there is one.
fn read<T>(
    value: Option<&Bytes>,
    decode: impl FnOnce(&mut Reader, i16) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    let decoded = decode(&mut reader, version)?;
    reader.end()?;
    Ok(Some(decoded))
}

/// The texts after a version number, with which a consumer's subscription begins; what follows them is not looked at.
pub(crate) fn leading_texts(bytes: &Bytes) -> Result<Vec<std::sync::Arc<str>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.i16()?;
    reader.list(2, Reader::text)
}

/// A topic's name as stored.
fn topic_name(text: &str) -> Result<TopicName, DecodeError> {
    TopicName::new(text).map_err(DecodeError::TopicName)
}

impl MemberKey {
    pub fn new(group: &GroupId, member: &MemberId) -> Self {
        Self { group: group.clone(), member: member.clone() }
    }
}
