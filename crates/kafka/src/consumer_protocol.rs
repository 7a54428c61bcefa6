//! What consumers of one group tell each other through the coordinator: the bytes inside JoinGroup's and SyncGroup's messages.
//!
//! ```text
//! subscription  version i16, topics [string], user data bytes or null, 1+ owned [topic string, [partition i32]],
//!               2+ generation i32, 3+ rack string or null
//! assignment    version i16, assigned [topic string, [partition i32]], user data bytes or null
//! ```
//!
//! A version above 3 is read as version 3 and what is left over is skipped, as Kafka's consumers do: later versions only add at the end.

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, EncodeError, KafkaString, Reader, Writer};

/// Version that is written unless another is asked for.
pub const VERSION_MAX: i16 = 3;

/// `protocol_type` of groups whose members speak this.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Fewest bytes of a topic in a list: two lengths.
const TOPIC_BYTES_MIN: usize = 2 + 4;

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicPartitions {
    pub topic: KafkaString,
    pub partitions: Vec<i32>,
}

/// What a member wants to read, and what it still owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<KafkaString>,
    /// For the assignor; the sticky one keeps what it assigned last in it.
    pub user_data: Option<Bytes>,
    /// From version 1 on (KIP-429).
    pub owned_partitions: Vec<TopicPartitions>,
    /// The generation in which they were owned, from version 2 on (KIP-792); -1 if none.
    pub generation_id: i32,
    /// From version 3 on (KIP-881).
    pub rack_id: Option<KafkaString>,
}

/// What a member shall read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    pub assigned_partitions: Vec<TopicPartitions>,
    pub user_data: Option<Bytes>,
}

// ---- Subscription ----

impl Default for Subscription {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            user_data: None,
            owned_partitions: Vec::new(),
            generation_id: -1,
            rack_id: None,
        }
    }
}

impl Subscription {
    /// Reads the metadata of a JoinGroup protocol.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let (version, mut reader) = open(bytes)?;
        let mut subscription = Self {
            topics: reader.array(false, 2, |reader| reader.string(false))?,
            user_data: reader.nullable_bytes(false, true)?,
            ..Self::default()
        };
        if version >= 1 {
            subscription.owned_partitions = topics(&mut reader)?;
        }
        if version >= 2 {
            subscription.generation_id = reader.i32()?;
        }
        if version >= 3 {
            subscription.rack_id = reader.nullable_string(false, true)?;
        }
        Ok(subscription)
    }

    /// Writes it in `version`, leaving out what that version cannot say.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = begin(version)?;
        writer.array(self.topics.clone(), false, |writer, topic| writer.string(topic, false))?;
        writer.nullable_bytes(self.user_data.clone(), false, true)?;
        if version >= 1 {
            put_topics(&mut writer, &self.owned_partitions)?;
        }
        if version >= 2 {
            writer.i32(self.generation_id);
        }
        if version >= 3 {
            writer.nullable_string(self.rack_id.clone(), false, true)?;
        }
        Ok(writer.finish().to_bytes())
    }
}

// ---- Assignment ----

impl Assignment {
    /// Reads what SyncGroup answered. No bytes at all stand for no partitions: a member that the leader has forgotten.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (_, mut reader) = open(bytes)?;
        Ok(Self {
            assigned_partitions: topics(&mut reader)?,
            user_data: reader.nullable_bytes(false, true)?,
        })
    }

    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = begin(version)?;
        put_topics(&mut writer, &self.assigned_partitions)?;
        writer.nullable_bytes(self.user_data.clone(), false, true)?;
        Ok(writer.finish().to_bytes())
    }
}

// ---- Both ----

fn open(bytes: &Bytes) -> Result<(i16, Reader), DecodeError> {
    let mut reader = Reader::new(BytesMut::from(&bytes[..]));
    let version = reader.i16()?;
    if version < 0 {
        return Err(DecodeError::UnsupportedVersion { version, min: 0, max: VERSION_MAX });
    }
    Ok((version.min(VERSION_MAX), reader))
}

fn begin(version: i16) -> Result<Writer, EncodeError> {
    if !(0..=VERSION_MAX).contains(&version) {
        return Err(EncodeError::UnsupportedVersion { version, min: 0, max: VERSION_MAX });
    }
    let mut writer = Writer::new();
    writer.i16(version);
    Ok(writer)
}

fn topics(reader: &mut Reader) -> Result<Vec<TopicPartitions>, DecodeError> {
    reader.array(false, TOPIC_BYTES_MIN, |reader| {
        Ok(TopicPartitions {
            topic: reader.string(false)?,
            partitions: reader.array(false, 4, Reader::i32)?,
        })
    })
}

fn put_topics(writer: &mut Writer, topics: &[TopicPartitions]) -> Result<(), EncodeError> {
    writer.array(topics.to_vec(), false, |writer, one| {
        writer.string(one.topic, false)?;
        writer.array(one.partitions, false, |writer, partition| {
            writer.i32(partition);
            Ok(())
        })
    })
}
