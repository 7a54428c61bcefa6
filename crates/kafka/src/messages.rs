//! Every message of the protocol, generated from `schema/`: a module per call, a structure per message with the fields of all versions.
//!
//! Fields are named as in Kafka's definitions, in snake case. A value holds the fields of every version; decoding leaves those that
//! a version lacks at their defaults, encoding leaves them out (or refuses, when one is set that must not be lost).

#![allow(
    clippy::field_reassign_with_default,
    reason = "generated: fields that a version lacks stay at their defaults"
)]

use crate::api::VersionRange;
use crate::codec::{DecodeError, EncodeError, Reader, Writer};

/// What every top-level message can do.
pub trait Message: Sized + Default {
    const NAME: &'static str;
    const API_KEY: Option<ApiKey>;
    /// Versions this crate reads and writes.
    const VERSIONS: VersionRange;

    fn decode(version: i16, reader: &mut Reader) -> Result<Self, DecodeError>;
    fn encode(self, version: i16, writer: &mut Writer) -> Result<(), EncodeError>;
}

/// What the generated modules use.
mod prelude {
    pub(super) use bytes::{Bytes, BytesMut};
    pub(super) use thalweg_types::Uuid;

    pub(super) use super::{ApiKey, Message};
    pub(super) use crate::api::VersionRange;
    pub(super) use crate::codec::{
        DecodeError, EncodeError, KafkaString, Reader, TaggedFields, Writer,
    };
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
