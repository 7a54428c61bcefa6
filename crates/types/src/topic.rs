//! Topics and partitions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::id::uuid_identity;
use crate::uuid::{ParseUuidError, Uuid};

/// Longest topic name. With `-<partition>` and a deletion suffix it still fits in a file name of 255 bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

uuid_identity! {
    /// Identity of one life of a topic: a topic deleted and created again under the same name has another one (KIP-516).
    TopicId
}

/// A valid topic name: 1 to 249 characters out of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// The name breaks one of Kafka's rules for topic names; the text says which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    #[error("a topic name must not be empty")]
    Empty,
    #[error("a topic name must not be {0:?}")]
    Reserved(&'static str),
    #[error("a topic name has at most {TOPIC_NAME_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    #[error("a topic name holds only ASCII letters, digits, '.', '_' and '-', not {0:?}")]
    Character(char),
}

impl TopicName {
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        match name {
            "" => return Err(InvalidTopicName::Empty),
            "." => return Err(InvalidTopicName::Reserved(".")),
            ".." => return Err(InvalidTopicName::Reserved("..")),
            _ => {}
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(InvalidTopicName::TooLong(name.len()));
        }
        match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(character) => Err(InvalidTopicName::Character(character)),
            None => Ok(Self(name.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Internal topics are written by the system only; Kafka marks them by two leading underscores and so do we.
    pub fn is_internal(&self) -> bool {
        matches!(&*self.0, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
    }

    /// Kafka's collision rule: metric names replace `.` by `_`, so two names that differ only there may not both exist.
    pub fn collides_with(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.bytes().zip(other.0.bytes()).all(|(a, b)| {
                let fold = |byte| if byte == b'.' { b'_' } else { byte };
                fold(a) == fold(b)
            })
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for TopicName {
    type Err = InvalidTopicName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Number of a partition within its topic, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(pub i32);

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition by name: what people, folders and old protocol versions use. Displays as `name-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A partition by identity: what logs, journals and rules use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIdPartition {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_rules_say_which_rule() {
        assert_eq!(TopicName::new(""), Err(InvalidTopicName::Empty));
        assert_eq!(TopicName::new(".."), Err(InvalidTopicName::Reserved("..")));
        assert_eq!(TopicName::new("a/b"), Err(InvalidTopicName::Character('/')));
        assert_eq!(TopicName::new("ä"), Err(InvalidTopicName::Character('ä')));
        assert_eq!(TopicName::new(&"x".repeat(250)), Err(InvalidTopicName::TooLong(250)));
        assert!(TopicName::new(&"x".repeat(249)).is_ok());
    }

    #[test]
    fn names_that_differ_only_in_dot_and_underscore_collide() {
        let name = |text| TopicName::new(text).expect("valid");
        assert!(name("a.b").collides_with(&name("a_b")));
        assert!(!name("a.b").collides_with(&name("a-b")));
    }
}
