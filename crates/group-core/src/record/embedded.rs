//! What consumers of the classic protocol tell each other inside JoinGroup and SyncGroup, as far as it concerns a coordinator that assigns itself.
//!
//! ```text
//!   subscription   version: i16   topics: [string]   user data: bytes or null
//!                  from 1 on: owned: [topic: string, partitions: [i32]]   2: generation: i32   3: rack: string or null
//!   assignment     version: i16   [topic: string, partitions: [i32]]   user data: bytes or null
//! ```
//!
//! Later versions add at the end, so what is left over is not looked at.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{PartitionIndex, TopicName};

use super::DecodeError;
use super::reader::Reader;
use super::writer::Writer;

/// A topic and its number of partitions, both as lengths.
const TOPIC_BYTES_MIN: usize = 6;

/// Partitions by the names of their topics.
pub(crate) type NamedPartitions = Vec<(TopicName, Vec<PartitionIndex>)>;

/// What a member wants to read, and what it still does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) version: i16,
    pub(crate) topics: Vec<TopicName>,
    /// Empty before version 1, when members gave everything up to join.
    pub(crate) owned: NamedPartitions,
    pub(crate) rack: Option<Arc<str>>,
}

impl Subscription {
    /// Names that no topic can have are left out.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        let names = reader.list(2, Reader::text)?;
        let topics = names.iter().filter_map(|name| TopicName::new(name).ok()).collect();
        reader.nullable_bytes()?;
        let owned = if version >= 1 { partitions(&mut reader)? } else { Vec::new() };
        if version >= 2 {
            reader.i32()?;
        }
        let rack = if version >= 3 { reader.nullable_text()? } else { None };
        Ok(Self { version, topics, owned, rack: rack.filter(|rack| !rack.is_empty()) })
    }
}

/// What a member was assigned; nothing if there are no bytes.
pub(crate) fn decode_assignment(bytes: &Bytes) -> Result<NamedPartitions, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    reader.i16()?;
    partitions(&mut reader)
}

/// In the version of the member's subscription.
pub(crate) fn encode_assignment(version: i16, assigned: &NamedPartitions) -> Bytes {
    let mut writer = Writer::new(version);
    writer.list(assigned, |writer, (topic, partitions)| {
        writer.text(topic.as_str());
        writer.list(partitions, |writer, partition| writer.i32(partition.0));
    });
    writer.no_bytes();
    writer.finish()
}

fn partitions(reader: &mut Reader) -> Result<NamedPartitions, DecodeError> {
    let topics = reader.list(TOPIC_BYTES_MIN, |reader| {
        let name = reader.text()?;
        let partitions = reader.list(4, |reader| reader.i32().map(PartitionIndex))?;
        Ok(TopicName::new(&name).ok().map(|name| (name, partitions)))
    })?;
    Ok(topics.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    #[test]
    fn subscriptions_of_every_version_are_read() {
        let mut bytes = vec![0, 0, 0, 0, 0, 2, 0, 1, b't', 0, 1, b'/', 0, 0, 0, 1, 9];
        let read = |version: u8, bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[1] = version;
            Subscription::decode(&Bytes::from(bytes))
        };
        let plain = read(0, &bytes).unwrap();
        assert_eq!((plain.topics, plain.owned.len()), (vec![topic("t")], 0));
        bytes.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 7]);
        let owned = vec![(topic("t"), vec![PartitionIndex(4), PartitionIndex(7)])];
        assert_eq!(read(1, &bytes).unwrap().owned, owned);
        bytes.extend([0, 0, 0, 5, 0, 1, b'r']);
        assert_eq!(read(2, &bytes).unwrap().rack, None);
        assert_eq!(read(3, &bytes).unwrap().rack.as_deref(), Some("r"));
        bytes.push(0xff);
        assert_eq!(read(9, &bytes).unwrap().owned, owned, "what comes after is not looked at");
        for end in 0..bytes.len() - 1 {
            assert!(read_cut(&bytes, end).is_err(), "{end}");
        }
    }

    fn read_cut(bytes: &[u8], end: usize) -> Result<Subscription, DecodeError> {
        let mut bytes = bytes[..end].to_vec();
        if end > 1 {
            bytes[1] = 3;
        }
        Subscription::decode(&Bytes::from(bytes))
    }

    #[test]
    fn assignments_are_read_as_they_were_written() {
        let assigned = vec![
            (topic("a"), vec![PartitionIndex(0), PartitionIndex(3)]),
            (topic("b"), vec![PartitionIndex(1)]),
        ];
        let bytes = encode_assignment(1, &assigned);
        assert_eq!(bytes[..2], [0, 1]);
        assert_eq!(bytes[bytes.len() - 4..], [0xff; 4], "no user data");
        assert_eq!(decode_assignment(&bytes), Ok(assigned));
        assert_eq!(decode_assignment(&Bytes::new()), Ok(vec![]));
        assert!(decode_assignment(&bytes.slice(..9)).is_err());
    }
}
