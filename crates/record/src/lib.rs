//! RecordBatch v2: bytes to borrowed views, CRC, bounded compression.
//!
//! The batch is the unit of everything: the same bytes are received, kept in memory, written to disk and sent. This crate owns their
//! format. It reads a batch without copying it, checks what a client sent, assigns what the log decides (offset, leader epoch, append
//! time) in place, and builds batches. It knows no files, no sockets, no clock.
//!
//! ```text
//!  position  bytes  field                      in the CRC
//!  --------  -----  -------------------------  ----------
//!         0      8  base offset                no    assigned by the log
//!         8      4  batch length               no    bytes after this field: whole batch = 12 + length
//!        12      4  partition leader epoch     no    assigned by the log
//!        16      1  magic, always 2            no
//!        17      4  CRC-32C                    no    over everything after it
//!        21      2  attributes                 yes   codec 0-2, timestamp type 3, transactional 4, control 5, delete horizon 6
//!        23      4  last offset delta          yes
//!        27      8  base timestamp             yes
//!        35      8  max timestamp              yes
//!        43      8  producer id                yes
//!        51      2  producer epoch             yes
//!        53      4  base sequence              yes
//!        57      4  record count               yes
//!        61      -  records, as one compressed stream if a codec is set
//! ```
//!
//! All numbers are big-endian; inside records they are zigzag varints. What comes from outside is never trusted: every length is
//! compared with the bytes that are there before it is used, and no error path panics or allocates by a number that was sent.

#![warn(clippy::indexing_slicing)]

mod batches;
mod builder;
mod checksum;
mod compression;
mod error;
mod header;
mod produce;
mod recompress;
mod records;
mod stamp;
mod varint;
mod walk;

pub use batches::Batches;
pub use builder::BatchBuilder;
pub use checksum::verify_crc;
pub use compression::DecompressLimits;
pub use error::BatchError;
pub use header::{Attributes, BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC};
pub use produce::{ProduceLimits, check_produced};
pub use records::{Headers, Record, RecordHeader, Records, RecordsIter, records};
pub use stamp::{stamp, stamp_log_append_time};
