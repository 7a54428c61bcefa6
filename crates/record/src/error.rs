//! Everything that can be wrong with the bytes of a batch, and the protocol's code for it.

use thalweg_types::{CompressionType, ErrorCode};

/// Why bytes were refused. Each variant is one condition; numbers are as they were found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch is cut short: {needed} bytes are needed, {have} are there")]
    Truncated { needed: usize, have: usize },
    #[error("no batch at all")]
    Empty,
    #[error("{0} bytes follow the batch: exactly one batch is allowed")]
    MoreThanOne(usize),
    #[error("batch length {0} is below the size of a header")]
    Length(i32),
    #[error("the batch has {bytes} bytes, {bytes_max} are allowed")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("record format {0} is not supported, only 2 is")]
    Magic(i8),
    #[error("checksum {found:#010x} is stored, the bytes have {computed:#010x}")]
    Checksum { found: u32, computed: u32 },
    #[error("compression code {0} is not assigned")]
    Codec(u8),
    #[error("{record_count} records do not go with last offset delta {last_offset_delta}")]
    Counts { record_count: i32, last_offset_delta: i32 },
    #[error("a client must leave the base offset 0, it is {0}")]
    BaseOffset(i64),
    #[error("offsets leave the number space: base {base_offset}, last delta {last_offset_delta}")]
    OffsetOverflow { base_offset: i64, last_offset_delta: i32 },
    #[error("a client may not write control records")]
    Control,
    #[error("a client may not set the delete horizon")]
    DeleteHorizon,
    #[error("producer id {producer_id}, epoch {producer_epoch}, sequence {base_sequence}: {rule}")]
    Producer {
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        /// The rule that is broken.
        rule: &'static str,
    },
    #[error("timestamps out of range: base {base_timestamp}, max {max_timestamp}")]
    Timestamps { base_timestamp: i64, max_timestamp: i64 },
    #[error("record {index}: {rule}")]
    Record {
        /// Position of the record in its batch, from 0.
        index: i32,
        rule: &'static str,
    },
    #[error("{0} bytes follow the last record")]
    TrailingBytes(usize),
    #[error("{codec} stream: {rule}")]
    Compressed { codec: CompressionType, rule: String },
    #[error("the {codec} stream expands beyond {bytes_max} bytes")]
    Expansion { codec: CompressionType, bytes_max: usize },
    #[error("a batch cannot hold more: {0}")]
    Full(&'static str),
}

impl BatchError {
    /// What a Kafka client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. } | Self::Length(_) | Self::Checksum { .. } => {
                ErrorCode::CorruptMessage
            }
            Self::TooLarge { .. } | Self::Expansion { .. } | Self::Full(_) => {
                ErrorCode::MessageTooLarge
            }
            Self::Codec(_) => ErrorCode::UnsupportedCompressionType,
            Self::Timestamps { .. } => ErrorCode::InvalidTimestamp,
            Self::Empty
            | Self::MoreThanOne(_)
            | Self::Magic(_)
            | Self::Counts { .. }
            | Self::BaseOffset(_)
            | Self::OffsetOverflow { .. }
            | Self::Control
            | Self::DeleteHorizon
            | Self::Producer { .. }
            | Self::Record { .. }
            | Self::TrailingBytes(_)
            | Self::Compressed { .. } => ErrorCode::InvalidRecord,
        }
    }
}
