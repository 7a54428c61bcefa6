//! Writing gzip, lz4 and zstd, where no level is given at the settings Kafka's clients default to.

use std::io::{self, Write};

use bytes::{BufMut, BytesMut};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::Level;

/// zstd's own default, and Kafka's.
const ZSTD_LEVEL: i32 = 3;

/// Highest level of gzip; beyond it the encoder panics.
const GZIP_LEVEL_MAX: u32 = 9;

/// Up to this level zstd chooses windows that our own readers, and all others, accept by default; beyond it the window is set.
const ZSTD_LEVEL_OF_SMALL_WINDOWS: i32 = 19;
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

pub(super) fn gzip(level: Level, records: &[u8], target: &mut BytesMut) -> io::Result<()> {
    let level = level.0.and_then(|level| u32::try_from(level).ok());
    let effort = level.map_or_else(flate2::Compression::default, |level| {
        flate2::Compression::new(level.min(GZIP_LEVEL_MAX))
    });
    let mut encoder = flate2::write::GzEncoder::new(target.writer(), effort);
    encoder.write_all(records)?;
    encoder.finish().map(drop)
}

/// Independent blocks: the Java client refuses linked ones. No content checksum: the batch has its CRC.
pub(super) fn lz4(records: &[u8], target: &mut BytesMut) -> io::Result<()> {
    let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, target.writer());
    encoder.write_all(records)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn zstd(level: Level, records: &[u8], target: &mut BytesMut) -> io::Result<()> {
    let level = level.0.unwrap_or(ZSTD_LEVEL);
    let mut encoder = zstd::Encoder::new(target.writer(), level)?;
    if level > ZSTD_LEVEL_OF_SMALL_WINDOWS {
        encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
    }
    encoder.write_all(records)?;
    encoder.finish().map(drop)
}
