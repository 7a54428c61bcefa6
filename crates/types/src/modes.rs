//! Choices that clients and operators make, with their wire values and config spellings.

use std::fmt;
use std::str::FromStr;

/// The text or number names none of the choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not one of: {allowed}")]
pub struct UnknownMode {
    pub given: String,
    pub allowed: &'static str,
}

/// When an acknowledged record counts as safe (`thalweg.durability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// On the disk of every in-sync replica before it is acknowledged.
    #[default]
    Fsync,
    /// In the memory of every in-sync replica before it is acknowledged: what Kafka does by default.
    Replicated,
}

/// How many replicas must have a record before the producer is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acks {
    /// No answer at all.
    None,
    /// The leader has it (durably, on `fsync` topics).
    Leader,
    /// Every in-sync replica has it.
    All,
}

/// What a reader may see of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IsolationLevel {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

/// Whose clock a record's timestamp is from (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// How the records of a batch are compressed: the lowest three bits of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CompressionType {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Acks {
    /// From the Produce request's field: 0, 1 or -1.
    pub fn from_wire(acks: i16) -> Option<Self> {
        match acks {
            0 => Some(Self::None),
            1 => Some(Self::Leader),
            -1 => Some(Self::All),
            _ => None,
        }
    }

    pub fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

impl IsolationLevel {
    pub fn from_wire(level: i8) -> Option<Self> {
        match level {
            0 => Some(Self::ReadUncommitted),
            1 => Some(Self::ReadCommitted),
            _ => None,
        }
    }
}

impl CompressionType {
    /// From the code in a batch's attributes; 5 to 7 are unassigned.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    pub fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Implements the config spelling of a choice both ways.
macro_rules! spelled {
    ($name:ident, $allowed:literal, $($variant:ident = $text:literal $(| $also:literal)*),+) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }

        impl FromStr for $name {
            type Err = UnknownMode;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text $(| $also)* => Ok(Self::$variant),)+
                    _ => Err(UnknownMode { given: text.chars().take(64).collect(), allowed: $allowed }),
                }
            }
        }
    };
}

spelled!(Durability, "fsync, replicated", Fsync = "fsync", Replicated = "replicated");
spelled!(Acks, "0, 1, all", None = "0", Leader = "1", All = "all" | "-1");
spelled!(
    IsolationLevel,
    "read_uncommitted, read_committed",
    ReadUncommitted = "read_uncommitted",
    ReadCommitted = "read_committed"
);
spelled!(
    TimestampType,
    "CreateTime, LogAppendTime",
    CreateTime = "CreateTime",
    LogAppendTime = "LogAppendTime"
);
spelled!(
    CompressionType,
    "none, gzip, snappy, lz4, zstd",
    None = "none" | "uncompressed",
    Gzip = "gzip",
    Snappy = "snappy",
    Lz4 = "lz4",
    Zstd = "zstd"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_codes_round_trip_and_unassigned_ones_are_refused() {
        for code in 0..=4 {
            assert_eq!(CompressionType::from_code(code).map(CompressionType::code), Some(code));
        }
        assert_eq!(CompressionType::from_code(5), None);
        assert_eq!(Acks::from_wire(2), None);
        assert_eq!(IsolationLevel::from_wire(7), None);
    }

    #[test]
    fn a_wrong_spelling_names_the_right_ones() {
        let error = "sync".parse::<Durability>().expect_err("not a durability");
        assert_eq!(error.to_string(), r#""sync" is not one of: fsync, replicated"#);
    }
}
