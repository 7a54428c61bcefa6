//! Facts on the wire, and the image that follows them behind an atomic pointer.
//!
//! ```text
//!  controller ── WatchMetadata ──► Feed task ── apply ──► Image ──► ArcSwap ──► feed.image()     (no lock, no call)
//!                (snapshot, then                                    ├─ watch ──► feed.wait_for(index)
//!                 entries without gaps)                             └─ list ───► feed.subscribe().next()
//! ```
//!
//! [`codec`] turns facts into bytes and back, for the controller's log and store as well as for the stream. [`Feed`] keeps one node's
//! image up to date. The rules of what facts mean are the metadata core's; nothing is decided here.

pub mod codec;
mod controllers;
mod feed;

pub use codec::{DecodeError, decode_record, encode_record};
pub use controllers::controllers;
pub use feed::{Change, Feed, FeedOptions, FeedStopped, Publisher, Subscription};
