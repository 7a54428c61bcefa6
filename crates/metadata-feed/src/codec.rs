//! Facts as protobuf messages and as bytes.
//!
//! Decoding checks what the types demand: identities of 16 bytes, valid names, known enum values. A fact this build does not know is
//! an error, never skipped: an image that lacks a committed fact would be a lie.

mod decode;
mod encode;

use bytes::Bytes;
use prost::Message as _;
use thalweg_metadata_core::{Position, Record};
use thalweg_proto::internal::metadata::v1 as proto;
use thalweg_types::{ControllerEpoch, LogIndex, Uuid};

pub use decode::{
    endpoint_from_proto, node_role_from_proto, partition_from_proto, record_from_proto,
};
pub use encode::{endpoint_to_proto, node_role_to_proto, partition_to_proto, record_to_proto};

/// The bytes or message are not a fact that this build knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not a metadata fact: {0}")]
    Malformed(String),
    #[error("field {field} of a metadata fact is missing")]
    Missing { field: &'static str },
    #[error("field {field} of a metadata fact cannot be {value}")]
    Invalid { field: &'static str, value: String },
}

pub fn encode_record(record: &Record) -> Bytes {
    record_to_proto(record).encode_to_vec().into()
}

pub fn decode_record(bytes: Bytes) -> Result<Record, DecodeError> {
    let message =
        proto::Record::decode(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    record_from_proto(message)
}

pub fn position_to_proto(position: Position) -> proto::Position {
    proto::Position { index: position.index.0, controller_epoch: position.controller_epoch.0 }
}

pub fn position_from_proto(position: &proto::Position) -> Position {
    Position {
        index: LogIndex(position.index),
        controller_epoch: ControllerEpoch(position.controller_epoch),
    }
}

/// An identity field: exactly 16 bytes.
pub fn uuid_from_proto(field: &'static str, bytes: &[u8]) -> Result<Uuid, DecodeError> {
    let sized = <[u8; 16]>::try_from(bytes)
        .map_err(|_| DecodeError::Invalid { field, value: format!("{} bytes", bytes.len()) })?;
    Ok(Uuid::from_bytes(sized))
}

pub fn uuid_to_proto(uuid: Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

#[cfg(test)]
mod tests;
