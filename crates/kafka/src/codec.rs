//! Reading and writing of the protocol's primitive types.
//!
//! [`Reader`] consumes one frame from the front and never allocates more than the frame justifies; [`Writer`] gathers small fields
//! and refers to large ones, so that record bytes cross this crate without a copy in either direction.

mod error;
mod reader;
mod string;
mod writer;

pub use error::{DecodeError, EncodeError};
pub use reader::Reader;
pub use string::KafkaString;
pub use writer::{Segments, TaggedFields, Writer};
