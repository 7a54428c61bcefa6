//! The numbers both ends of a connection agree on, each with its reason.

use std::time::Duration;

/// Bytes a sender may have on its way in one stream before the receiver has taken them. With the usual 64 KiB, a stream of large
/// messages stops for every window update and costs twice the processor time.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The same for all streams of one connection together: two full streams.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Largest HTTP/2 frame. At 16 KiB, the protocol's default, the per-frame work dominates bulk streams.
pub(crate) const FRAME_BYTES_MAX: u32 = 256 * 1024;

/// Largest list of request headers: a few authentication tokens, not a bomb.
pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Calls one connection may have open at a time.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 1024;

/// Streams a client may open and reset before the server has looked at them, and resets the server itself may owe to a client's
/// mistakes; beyond that the connection is closed (CVE-2023-44487, CVE-2025-8671).
pub(crate) const PENDING_RESETS_MAX: usize = 64;

/// How often a silent connection is asked whether the other end still lives, and how long the answer may take. A frozen peer is
/// noticed within 15 seconds.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long opening a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes in flight in one direction of an in-memory connection.
pub(crate) const MEMORY_PIPE_BYTES: usize = 1024 * 1024;

/// Largest request message a server decodes: the largest batch (32 MiB) and what goes with it.
pub const REQUEST_BYTES_MAX: usize = 33 * 1024 * 1024;

/// Largest message a client of ours decodes: an answer at its limit (32 MiB) whose last batch or record went over it.
pub const MESSAGE_BYTES_MAX: usize = 2 * REQUEST_BYTES_MAX;

const _: () = assert!(
    CONNECTION_WINDOW_BYTES >= 2 * STREAM_WINDOW_BYTES,
    "one stalled stream must not stop the connection"
);
