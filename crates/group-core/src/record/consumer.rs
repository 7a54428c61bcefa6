//! Values of a group of the consumer protocol (KIP-848).

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{
    AssignmentEpoch, GroupEpoch, InstanceId, MemberEpoch, PartitionIndex, Timestamp, TopicId,
    TopicName,
};

use super::key::Kind;
use super::reader::Reader;
use super::writer::Writer;
use super::{AssignedPartitions, DecodeError, topic_name};

/// All these values have one version.
const VERSION: i16 = 0;

/// The group itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerGroupMetadata {
    pub epoch: GroupEpoch,
    /// Of all topics that the group subscribes to; 0 when there is none (KIP-1101).
    pub metadata_hash: i64,
}

/// A topic as the group last saw it, in groups of versions before 4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    pub topic_id: TopicId,
    pub topic: TopicName,
    pub partitions: i32,
    /// Racks of each partition; not used any more.
    pub racks: Vec<(PartitionIndex, Vec<Arc<str>>)>,
}

/// A member and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub subscribed_names: Vec<TopicName>,
    pub subscribed_regex: Option<Arc<str>>,
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<Arc<str>>,
    /// Set while the member speaks the classic protocol.
    pub classic: Option<ClassicMemberMetadata>,
}

/// What a member that speaks the classic protocol said when it joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMemberMetadata {
    pub session_timeout_ms: i32,
    /// Names with metadata, its favourite first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// What a member has, and how far it is on its way to its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentAssignment {
    pub epoch: MemberEpoch,
    /// The epoch before: a member whose answer was lost repeats with it.
    pub previous_epoch: MemberEpoch,
    /// Kafka's number of the member's state.
    pub state: i8,
    pub assigned: AssignedPartitions,
    pub pending_revocation: AssignedPartitions,
}

/// The topics that a regular expression matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegularExpression {
    pub topics: Vec<TopicName>,
    /// Of the metadata it was resolved on.
    pub version: i64,
    pub resolved_at: Timestamp,
}

// ---- Group ----

impl ConsumerGroupMetadata {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::flexible(VERSION);
        writer.i32(self.epoch.0);
        let hash = Writer::field(|field| field.i64(self.metadata_hash));
        writer.tagged((self.metadata_hash != 0).then_some((0, hash)));
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        begin(reader, Kind::ConsumerGroup, version)?;
        let epoch = GroupEpoch(reader.i32()?);
        let mut metadata_hash = 0;
        reader.tagged(|tag, field| {
            if tag == 0 {
                metadata_hash = field.i64()?;
            }
            Ok(tag == 0)
        })?;
        Ok(Self { epoch, metadata_hash })
    }
}

pub(super) fn encode_topics(topics: &[TopicMetadata]) -> Bytes {
    let mut writer = Writer::flexible(VERSION);
    writer.list(topics, |writer, topic| {
        writer.uuid(topic.topic_id.0);
        writer.text(topic.topic.as_str());
        writer.i32(topic.partitions);
        writer.list(&topic.racks, |writer, (partition, racks)| {
            writer.i32(partition.0);
            writer.list(racks, |writer, rack| writer.text(rack));
            writer.no_tagged();
        });
        writer.no_tagged();
    });
    writer.no_tagged();
    writer.finish()
}

pub(super) fn decode_topics(
    reader: &mut Reader,
    version: i16,
) -> Result<Vec<TopicMetadata>, DecodeError> {
    begin(reader, Kind::ConsumerTopics, version)?;
    let topics = reader.list(23, |reader| {
        let topic = TopicMetadata {
            topic_id: TopicId(reader.uuid()?),
            topic: topic_name(&reader.text()?)?,
            partitions: reader.i32()?,
            racks: reader.list(6, |reader| {
                let partition = PartitionIndex(reader.i32()?);
                let racks = reader.list(1, Reader::text)?;
                reader.no_tagged()?;
                Ok((partition, racks))
            })?,
        };
        reader.no_tagged()?;
        Ok(topic)
    })?;
    reader.no_tagged()?;
    Ok(topics)
}

// ---- Member ----

impl MemberMetadata {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::flexible(VERSION);
        writer.nullable_text(self.instance.as_ref().map(InstanceId::as_str));
        writer.nullable_text(self.rack.as_deref());
        writer.text(&self.client_id);
        writer.text(&self.client_host);
        writer.list(&self.subscribed_names, |writer, name| writer.text(name.as_str()));
        writer.nullable_text(self.subscribed_regex.as_deref());
        writer.i32(self.rebalance_timeout_ms);
        writer.nullable_text(self.server_assignor.as_deref());
        writer.tagged(self.classic.as_ref().map(|classic| (0, classic.encode())));
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        begin(reader, Kind::ConsumerMember, version)?;
        let mut value = Self {
            instance: reader.nullable_text()?.map(InstanceId::from),
            rack: reader.nullable_text()?,
            client_id: reader.text()?,
            client_host: reader.text()?,
            subscribed_names: reader.list(1, |reader| topic_name(&reader.text()?))?,
            subscribed_regex: reader.nullable_text()?,
            rebalance_timeout_ms: reader.i32()?,
            server_assignor: reader.nullable_text()?,
            classic: None,
        };
        reader.tagged(|tag, field| {
            if tag == 0 {
                value.classic = ClassicMemberMetadata::decode(field)?;
            }
            Ok(tag == 0)
        })?;
        Ok(value)
    }
}

impl ClassicMemberMetadata {
    /// As a nullable structure: a byte that says that it is there, then its fields.
    fn encode(&self) -> Bytes {
        Writer::field(|writer| {
            writer.i8(1);
            writer.i32(self.session_timeout_ms);
            writer.list(&self.protocols, |writer, (name, metadata)| {
                writer.text(name);
                writer.bytes(metadata);
                writer.no_tagged();
            });
            writer.no_tagged();
        })
    }

    fn decode(reader: &mut Reader) -> Result<Option<Self>, DecodeError> {
        if reader.i8()? < 0 {
            return Ok(None);
        }
        let value = Self {
            session_timeout_ms: reader.i32()?,
            protocols: reader.list(3, |reader| {
                let protocol = (reader.text()?, reader.bytes()?);
                reader.no_tagged()?;
                Ok(protocol)
            })?,
        };
        reader.no_tagged()?;
        Ok(Some(value))
    }
}

// ---- Assignments ----

pub(super) fn encode_target_epoch(epoch: AssignmentEpoch) -> Bytes {
    let mut writer = Writer::flexible(VERSION);
    writer.i32(epoch.0);
    writer.no_tagged();
    writer.finish()
}

pub(super) fn decode_target_epoch(
    reader: &mut Reader,
    version: i16,
) -> Result<AssignmentEpoch, DecodeError> {
    begin(reader, Kind::TargetEpoch, version)?;
    let epoch = AssignmentEpoch(reader.i32()?);
    reader.no_tagged()?;
    Ok(epoch)
}

pub(super) fn encode_target(target: &AssignedPartitions) -> Bytes {
    let mut writer = Writer::flexible(VERSION);
    put_partitions(&mut writer, target);
    writer.no_tagged();
    writer.finish()
}

pub(super) fn decode_target(
    reader: &mut Reader,
    version: i16,
) -> Result<AssignedPartitions, DecodeError> {
    begin(reader, Kind::Target, version)?;
    let target = partitions(reader)?;
    reader.no_tagged()?;
    Ok(target)
}

impl CurrentAssignment {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::flexible(VERSION);
        writer.i32(self.epoch.0);
        writer.i32(self.previous_epoch.0);
        writer.i8(self.state);
        put_partitions(&mut writer, &self.assigned);
        put_partitions(&mut writer, &self.pending_revocation);
        writer.no_tagged();
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        begin(reader, Kind::CurrentAssignment, version)?;
        let value = Self {
            epoch: MemberEpoch(reader.i32()?),
            previous_epoch: MemberEpoch(reader.i32()?),
            state: reader.i8()?,
            assigned: partitions(reader)?,
            pending_revocation: partitions(reader)?,
        };
        reader.no_tagged()?;
        Ok(value)
    }
}

fn put_partitions(writer: &mut Writer, partitions: &AssignedPartitions) {
    writer.list(partitions, |writer, (topic_id, partitions)| {
        writer.uuid(topic_id.0);
        writer.list(partitions, |writer, partition| writer.i32(partition.0));
        writer.no_tagged();
    });
}

fn partitions(reader: &mut Reader) -> Result<AssignedPartitions, DecodeError> {
    reader.list(18, |reader| {
        let topic_id = TopicId(reader.uuid()?);
        let partitions = reader.list(4, |reader| reader.i32().map(PartitionIndex))?;
        reader.no_tagged()?;
        Ok((topic_id, partitions))
    })
}

// ---- Regular expressions ----

impl RegularExpression {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::flexible(VERSION);
        writer.list(&self.topics, |writer, topic| writer.text(topic.as_str()));
        writer.i64(self.version);
        writer.i64(self.resolved_at.0);
        writer.no_tagged();
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        begin(reader, Kind::RegularExpression, version)?;
        let value = Self {
            topics: reader.list(1, |reader| topic_name(&reader.text()?))?,
            version: reader.i64()?,
            resolved_at: Timestamp(reader.i64()?),
        };
        reader.no_tagged()?;
        Ok(value)
    }
}

fn begin(reader: &mut Reader, kind: Kind, version: i16) -> Result<(), DecodeError> {
    if version != VERSION {
        return Err(kind.unsupported(version));
    }
    reader.set_flexible(true);
    Ok(())
}
