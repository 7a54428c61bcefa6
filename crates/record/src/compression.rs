//! The four codecs, both ways, as Kafka's clients write and read them.
//!
//! | codec  | stream in a batch |
//! |--------|-------------------|
//! | gzip   | one member (RFC 1952) |
//! | snappy | xerial framing (written, read) or one raw block (read: librdkafka and others send it) |
//! | lz4    | one frame, 64 KiB independent blocks when written |
//! | zstd   | one frame |
//!
//! A compressed stream is the cheapest way to make a server allocate, so decompression is streamed into a buffer that grows with what
//! comes out and stops at a limit, not by any size the stream declares. Exactly one stream is read; bytes behind it are an error.

use std::io::Read;

use bytes::BytesMut;
use thalweg_types::CompressionType;

use crate::error::BatchError;

mod encode;
mod snappy;

/// How much of the output is made at a time; the buffer never grows by more than its own size beyond what was made.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bounds of one batch's decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecompressLimits {
    /// Most bytes that may come out of one batch.
    pub output_bytes_max: usize,
    /// Most output per byte of input...
    pub ratio_max: usize,
    /// ...but this much may come out of any batch, because repetitive records honestly compress far beyond any sensible ratio.
    pub ratio_free_bytes: usize,
    /// Largest zstd window as a power of two: memory the decoder allocates because the stream says so.
    pub zstd_window_log_max: u32,
}

/// A codec's own measure of effort; `None`: its default. snappy has no levels, and lz4 is written at one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Level(pub(crate) Option<i32>);

impl Default for DecompressLimits {
    fn default() -> Self {
        Self {
            output_bytes_max: 256 * 1024 * 1024,
            // gzip cannot exceed 1032; lz4 and snappy stay below that too.
            ratio_max: 1100,
            ratio_free_bytes: 32 * 1024 * 1024,
            // What every zstd decoder accepts by default is 27; levels up to 19 use at most 23.
            zstd_window_log_max: 23,
        }
    }
}

impl DecompressLimits {
    /// Most bytes that `input_bytes` of stream may become.
    fn output_bytes_max(&self, input_bytes: usize) -> usize {
        input_bytes
            .saturating_mul(self.ratio_max)
            .max(self.ratio_free_bytes)
            .min(self.output_bytes_max)
    }
}

/// Decompresses one whole stream.
pub(crate) fn decompress(
    codec: CompressionType,
    stream: &[u8],
    limits: &DecompressLimits,
) -> Result<Vec<u8>, BatchError> {
    let bytes_max = limits.output_bytes_max(stream.len());
    let mut output = Output { codec, bytes: Vec::new(), bytes_max };
    let rest = match codec {
        CompressionType::None => {
            output.extend(stream)?;
            &[]
        }
        CompressionType::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(stream);
            output.read_all(&mut decoder)?;
            decoder.into_inner()
        }
        CompressionType::Snappy => snappy::decompress(stream, &mut output)?,
        CompressionType::Lz4 => decompress_lz4(stream, &mut output)?,
        CompressionType::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(stream)
                .map_err(|error| output.malformed(error))?
                .single_frame();
            decoder
                .window_log_max(limits.zstd_window_log_max)
                .map_err(|error| output.malformed(error))?;
            output.read_all(&mut decoder)?;
            decoder.finish()
        }
    };
    if !rest.is_empty() {
        return Err(output.malformed("bytes follow its end"));
    }
    Ok(output.bytes)
}

fn decompress_lz4<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], BatchError> {
    // The decoder also knows the legacy frame, whose block size is not bounded by its header; no Kafka client sends that.
    const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
    if !stream.starts_with(&MAGIC) {
        return Err(output.malformed("it does not begin with a frame header"));
    }
    let mut decoder = lz4_flex::frame::FrameDecoder::new(stream);
    output.read_all(&mut decoder)?;
    Ok(decoder.into_inner())
}

/// Compresses `records` behind what `target` already holds.
pub(crate) fn compress(
    codec: CompressionType,
    level: Level,
    records: &[u8],
    target: &mut BytesMut,
) -> Result<(), BatchError> {
    let malformed =
        |error: std::io::Error| BatchError::Compressed { codec, rule: error.to_string() };
    match codec {
        CompressionType::None => target.extend_from_slice(records),
        CompressionType::Gzip => encode::gzip(level, records, target).map_err(malformed)?,
        CompressionType::Snappy => snappy::compress(records, target).map_err(malformed)?,
        CompressionType::Lz4 => encode::lz4(records, target).map_err(malformed)?,
        CompressionType::Zstd => encode::zstd(level, records, target).map_err(malformed)?,
    }
    Ok(())
}

/// Decompressed bytes so far, and where they must end.
#[derive(Debug)]
pub(crate) struct Output {
    codec: CompressionType,
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    /// Reads one stream to its end. One byte beyond the limit is asked for, so that a stream of exactly the limit passes.
    fn read_all(&mut self, decoder: &mut impl Read) -> Result<(), BatchError> {
        loop {
            let start = self.bytes.len();
            let want = CHUNK_BYTES.min(self.bytes_max.saturating_add(1).saturating_sub(start));
            self.bytes.resize(start + want, 0);
            let free = self.bytes.get_mut(start..).unwrap_or_default();
            let made = decoder.read(free);
            self.bytes.truncate(start + made.as_ref().copied().unwrap_or(0));
            match made {
                Ok(0) => return Ok(()),
                Ok(_) if self.bytes.len() > self.bytes_max => return Err(self.too_large()),
                Ok(_) => {}
                Err(error) => return Err(self.malformed(error)),
            }
        }
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        if bytes.len() > self.bytes_max.saturating_sub(self.bytes.len()) {
            return Err(self.too_large());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Room for exactly `more_bytes` behind what is there.
    fn grow(&mut self, more_bytes: usize) -> Result<&mut [u8], BatchError> {
        let start = self.bytes.len();
        if more_bytes > self.bytes_max.saturating_sub(start) {
            return Err(self.too_large());
        }
        self.bytes.resize(start + more_bytes, 0);
        Ok(self.bytes.get_mut(start..).unwrap_or_default())
    }

    fn too_large(&self) -> BatchError {
        BatchError::Expansion { codec: self.codec, bytes_max: self.bytes_max }
    }

    fn malformed(&self, rule: impl std::fmt::Display) -> BatchError {
        BatchError::Compressed { codec: self.codec, rule: rule.to_string() }
    }
}

#[cfg(test)]
mod tests;
