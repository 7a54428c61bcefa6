//! What can be wrong with stored bytes.

use thalweg_types::InvalidTopicName;

/// The bytes are not the record they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{needed} bytes expected, {remaining} left")]
    Truncated { needed: usize, remaining: usize },
    #[error("length {0} is negative")]
    NegativeLength(i64),
    #[error("null where a value is required")]
    Null,
    #[error("a text is not UTF-8")]
    NotText,
    #[error("{count} elements cannot fit into the {remaining} bytes that are left")]
    TooManyElements { count: usize, remaining: usize },
    #[error("a variable-length number does not end within 32 bits")]
    VarintTooLong,
    #[error("tagged field {0} is not above the one before it")]
    TagOrder(u32),
    #[error("{0} bytes are left over")]
    TrailingBytes(usize),
    #[error("version {version} of kind {kind} is not known")]
    UnsupportedVersion { kind: i16, version: i16 },
    #[error(transparent)]
    TopicName(InvalidTopicName),
}
