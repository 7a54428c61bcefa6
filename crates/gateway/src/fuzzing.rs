//! Public requests and stored batches, open to the fuzzer: from a message to what the brokers are asked, and from batches to records, as
//! far as that needs no server.

pub use crate::consumer::fuzzing::{check_fetch, decode_records};
pub use crate::producer::fuzzing::check_and_pack;
