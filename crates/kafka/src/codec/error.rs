//! What can be wrong with bytes from the wire, and with values that are to be put on it.

use thalweg_types::ErrorCode;

/// The bytes are not the message they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{needed} bytes expected, {remaining} left")]
    Truncated { needed: usize, remaining: usize },
    #[error("length {0} is negative")]
    NegativeLength(i64),
    #[error("null where a value is required")]
    Null,
    #[error("{count} elements cannot fit into the {remaining} bytes that are left")]
    TooManyElements { count: usize, remaining: usize },
    #[error("the message would take more than {limit} bytes of memory")]
    Expands { limit: usize },
    #[error("a variable-length number does not end within 32 bits")]
    VarintTooLong,
    #[error("tagged field {tag} is not above the one before it")]
    TagOrder { tag: u32 },
    #[error("{0} bytes of a tagged field are left over")]
    TaggedFieldLeftOver(usize),
    #[error("{0} bytes are left over")]
    TrailingBytes(usize),
    #[error("version {version} is not one of {min} to {max}")]
    UnsupportedVersion { version: i16, min: i16, max: i16 },
}

impl DecodeError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::InvalidRequest,
        }
    }
}

/// The value cannot be said in that version: a fault of the program, not of its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{field} is set but does not exist in version {version}")]
    NotInVersion { field: &'static str, version: i16 },
    #[error("null where this version requires a value")]
    Null,
    #[error("{0} bytes or elements are more than the length field can say")]
    TooLong(usize),
    #[error("version {version} is not one of {min} to {max}")]
    UnsupportedVersion { version: i16, min: i16, max: i16 },
}
