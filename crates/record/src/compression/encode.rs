//! Writing gzip, lz4 and zstd at the settings Kafka's clients default to.

use std::io::{self, Write};

use bytes::{BufMut, BytesMut};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// zstd's own default, and Kafka's.
const ZSTD_LEVEL: i32 = 3;

pub(super) fn gzip(records: &[u8], target: &mut BytesMut) -> io::Result<()> {
    let mut encoder =
        flate2::write::GzEncoder::new(target.writer(), flate2::Compression::default());
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

pub(super) fn zstd(records: &[u8], target: &mut BytesMut) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(target.writer(), ZSTD_LEVEL)?;
    encoder.write_all(records)?;
    encoder.finish().map(drop)
}
