//! What clients did and saw: the record that [`check`](crate::checker::check) judges.
//!
//! Every record's value says what it is (where it was sent to, by whom, which of that producer's records), is unique, and carries a
//! checksum of its own, so that a reader can tell what it got without asking anybody. Times are those of one clock, taken before a send
//! is handed over and after its answer has come: what is checked of them holds whatever happened in between.

use std::fmt;
use std::time::{Duration, Instant};

use crate::record_line::incompressible;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
}

/// What identifies a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// Where it was sent to.
    pub place: Place,
    pub producer: u32,
    /// Among all records of this producer, which go to one place: from 0, without gaps.
    pub number: u64,
}

/// What a producer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log, at this offset.
    Acknowledged(i64),
    /// It is not, and never will be.
    Failed,
    /// It may be.
    Unknown,
}

/// One record that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    pub value: Value,
    /// Before the client had it.
    pub begun: Duration,
    /// After its answer came, or when nobody waited any longer.
    pub ended: Duration,
    pub outcome: Outcome,
}

/// One record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub place: Place,
    pub offset: i64,
    /// `None`: the value is none that anybody sends, or it is damaged.
    pub value: Option<Value>,
}

/// What one consumer read from one place, in the order it came. The consumer was told where to begin and not to jump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub consumer: String,
    pub seen: Vec<Seen>,
}

/// An answer to the question where a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub place: Place,
    /// Before the question was asked.
    pub begun: Duration,
    pub offset: i64,
}

/// All of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub sends: Vec<Send>,
    /// By consumers that read while others wrote.
    pub readings: Vec<Reading>,
    /// By fresh consumers, from the beginning to the end, when all was over: one or more per place.
    pub drains: Vec<Reading>,
    pub ends: Vec<End>,
}

/// The clock of a history.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    #[expect(clippy::new_without_default, reason = "it begins now, which is no default")]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

impl Value {
    /// The bytes of a record: who it is, a filling that does not compress, a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let seed = self.number ^ u64::from(self.producer) << 40;
        let filling_bytes = (seed.wrapping_mul(2_654_435_761) >> 7) % 400;
        let mut bytes = format!("{self} ").into_bytes();
        bytes.extend(incompressible(seed, usize::try_from(filling_bytes).unwrap_or(0)));
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The value in a record's bytes; `None` when one of them is not as it was sent.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<8>()?;
        if checksum(content) != u64::from_be_bytes(*sum) {
            return None;
        }
        let end = content.iter().position(|byte| *byte == b' ')?;
        let mut parts = std::str::from_utf8(&content[..end]).ok()?.split('/');
        let mut part = || parts.next();
        let place = Place { topic: part()?.to_owned(), partition: part()?.parse().ok()? };
        Some(Self { place, producer: part()?.parse().ok()?, number: part()?.parse().ok()? })
    }
}

/// FNV-1a over everything: it only has to notice damage that no checksum of the system does.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.place, self.producer, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_from_its_bytes_and_from_no_others() {
        let place = Place { topic: "orders".to_owned(), partition: 2 };
        for number in 0..50 {
            let value = Value { place: place.clone(), producer: 7, number };
            let bytes = value.to_bytes();
            assert_eq!(Value::from_bytes(&bytes).as_ref(), Some(&value));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                assert_eq!(Value::from_bytes(&damaged), None, "byte {at} of {value}");
            }
        }
        assert_eq!(Value::from_bytes(b""), None);
        assert_eq!(Value::from_bytes(b"from somebody else"), None);
    }
}
