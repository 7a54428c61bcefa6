//! The Kafka wire protocol: schemas, generated codec, framing, listener.
//!
//! ```text
//! bytes ─► listener (frames, headers, versions) ─► Request ─► Backend::handle ─► Response ─► segments ─► writev
//! ```
//!
//! The messages are generated from the files in `schema/`. Record batches pass through without being looked at: a request's are
//! split off its frame, a response's are sent from where they lie. The crate knows no storage and no rules; it calls a [`Backend`].

// The samples name this crate as its tests do.
#[cfg(feature = "fuzzing")]
extern crate self as thalweg_kafka;

pub mod api;
pub mod backend;
pub mod codec;
pub mod consumer_protocol;
pub mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod listener;
pub mod messages;

pub use api::{ApiRange, ApiTable, VersionRange};
pub use backend::{Backend, ClientSoftware, Features, Reply, RequestContext};
pub use codec::{DecodeError, EncodeError, KafkaString, Reader, Segments, Writer};
pub use messages::{ApiKey, Message, Request, Response};
