//! Snappy in the two forms that Kafka clients send.
//!
//! ```text
//! xerial  = 82 "SNAPPY" 00, version 4 = 1, compatible version 4 = 1, then chunks: length 4, one raw block of that many bytes
//! raw     = one raw block: decompressed length varint, then literals and copies
//! ```
//!
//! The Java client writes and expects xerial framing (named after the author of its snappy library); librdkafka reads both and writes
//! raw. A raw block cannot begin with the xerial magic: its first byte would announce a length and a copy before any literal.

use std::io;

use bytes::{BufMut, BytesMut};

use super::Output;
use crate::error::BatchError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;

/// What goes into one chunk before compression: the size the Java library uses.
const CHUNK_INPUT_BYTES: usize = 32 * 1024;

/// A raw block's densest element is a copy of 64 bytes in 3. A block that declares more than this many bytes per byte of itself cannot be
/// honest, and is refused before its output is allocated.
const BLOCK_RATIO_MAX: usize = 22;

/// Decompresses either form; returns what follows it, which is always nothing.
pub(super) fn decompress<'a>(
    stream: &'a [u8],
    output: &mut Output,
) -> Result<&'a [u8], BatchError> {
    let Some(framed) = stream.strip_prefix(&MAGIC) else {
        decompress_block(stream, output)?;
        return Ok(&[]);
    };
    let mut rest = framed
        .get(HEADER_BYTES - MAGIC.len()..)
        .ok_or_else(|| output.malformed("its frame header is cut short"))?;
    while let Some((length, after)) = rest.split_first_chunk() {
        let block = usize::try_from(i32::from_be_bytes(*length))
            .ok()
            .and_then(|length| after.split_at_checked(length))
            .ok_or_else(|| output.malformed("a chunk is longer than the stream"))?;
        decompress_block(block.0, output)?;
        rest = block.1;
    }
    Ok(rest)
}

fn decompress_block(block: &[u8], output: &mut Output) -> Result<(), BatchError> {
    let declared = snap::raw::decompress_len(block).map_err(|error| output.malformed(error))?;
    if declared > block.len().saturating_mul(BLOCK_RATIO_MAX) {
        return Err(output.malformed("a block declares more than it can hold"));
    }
    let target = output.grow(declared)?;
    let made = snap::raw::Decoder::new().decompress(block, target);
    match made {
        Ok(made) if made == declared => Ok(()),
        Ok(_) => Err(output.malformed("a block holds less than it declares")),
        Err(error) => Err(output.malformed(error)),
    }
}

pub(super) fn compress(records: &[u8], target: &mut BytesMut) -> io::Result<()> {
    target.put_slice(&MAGIC);
    target.put_u32(VERSION);
    target.put_u32(VERSION);
    let mut encoder = snap::raw::Encoder::new();
    for chunk in records.chunks(CHUNK_INPUT_BYTES) {
        let block = encoder.compress_vec(chunk)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        target.put_u32(length);
        target.put_slice(&block);
    }
    Ok(())
}
