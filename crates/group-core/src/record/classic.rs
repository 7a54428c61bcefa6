//! Value of a group of the classic protocol.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{GenerationId, InstanceId, MemberId, Timestamp};

use super::DecodeError;
use super::key::Kind;
use super::reader::Reader;
use super::writer::Writer;

const VERSION: i16 = 3;
const VERSION_MAX: i16 = 4;

/// A generation of a group: who is in it, and who was assigned what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Empty: a group that only commits offsets.
    pub protocol_type: Arc<str>,
    pub generation: GenerationId,
    /// `None`: nobody is in the group.
    pub protocol: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    /// When the group came into its state; since when it is empty, if it is.
    pub state_since: Timestamp,
    pub members: Vec<ClassicMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// What the member told the leader in the chosen protocol.
    pub subscription: Bytes,
    /// What the leader gave the member.
    pub assignment: Bytes,
}

impl GroupMetadata {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::new(VERSION);
        writer.text(&self.protocol_type);
        writer.i32(self.generation.0);
        writer.nullable_text(self.protocol.as_deref());
        writer.nullable_text(self.leader.as_ref().map(MemberId::as_str));
        writer.i64(self.state_since.0);
        writer.list(&self.members, |writer, member| member.encode(writer));
        writer.finish()
    }

    pub(super) fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !(0..=VERSION_MAX).contains(&version) {
            return Err(Kind::Group.unsupported(version));
        }
        reader.set_flexible(version >= 4);
        let value = Self {
            protocol_type: reader.text()?,
            generation: GenerationId(reader.i32()?),
            protocol: reader.nullable_text()?,
            leader: reader.nullable_text()?.map(MemberId::from),
            state_since: if version >= 2 { Timestamp(reader.i64()?) } else { Timestamp::NONE },
            members: reader
                .list(ClassicMember::BYTES_MIN, |reader| ClassicMember::decode(reader, version))?,
        };
        reader.no_tagged()?;
        Ok(value)
    }
}

impl ClassicMember {
    /// Three texts, two byte fields, one number, in any version.
    const BYTES_MIN: usize = 9;

    fn encode(&self, writer: &mut Writer) {
        writer.text(self.member.as_str());
        writer.nullable_text(self.instance.as_ref().map(InstanceId::as_str));
        writer.text(&self.client_id);
        writer.text(&self.client_host);
        writer.i32(self.rebalance_timeout_ms);
        writer.i32(self.session_timeout_ms);
        writer.bytes(&self.subscription);
        writer.bytes(&self.assignment);
    }

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let member = reader.id()?;
        let instance = if version >= 3 { reader.nullable_text()? } else { None };
        let client_id = reader.text()?;
        let client_host = reader.text()?;
        let rebalance_timeout_ms = if version >= 1 { reader.i32()? } else { -1 };
        let session_timeout_ms = reader.i32()?;
        let value = Self {
            member,
            instance: instance.map(InstanceId::from),
            client_id,
            client_host,
            rebalance_timeout_ms,
            session_timeout_ms,
            subscription: reader.bytes()?,
            assignment: reader.bytes()?,
        };
        reader.no_tagged()?;
        Ok(value)
    }
}
