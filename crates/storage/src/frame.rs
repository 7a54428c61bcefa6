//! Checksummed frames in an append-only stream of bytes, and the verdict on a stream that was found after a crash.
//!
//! A frame says what it is, where it belongs and what was known to be durable when it was written:
//!
//! ```text
//!  byte  bytes  field, little-endian
//!     0      4  magic "TLF1"
//!     4      1  kind: the owner's business
//!     5      3  zero
//!     8      8  generation: one use of one file; a frame of an earlier use is never taken for one of this use
//!    16      8  position: of this header in the stream, so that a misdirected write is seen
//!    24      8  durable position: everything below was covered by a successful flush when this frame was written
//!    32      4  payload bytes
//!    36      4  attachment bytes
//!    40      4  CRC-32C of the payload
//!    44      4  CRC-32C of bytes 0..44
//!    48      -  payload, then attachment, then zeros up to a multiple of 8
//! ```
//!
//! An attachment is data that carries its own checksum (a record batch): it is not summed twice, the owner checks it on a scan.
//!
//! ## Torn tail or corruption?
//!
//! After a power cut, the frames since the last flush may be there in any mixture, so the first bad frame ends the log; what follows
//! was never acknowledged. But a bad frame that was once *flushed* is corruption, and cutting there would lose acknowledged data.
//! The durable positions tell the two apart: a bad frame at position `p` is corruption exactly if some intact frame of this
//! generation, or the caller, knows that more than `p` was durable; else it is a torn tail.
//!
//! A log that goes on after a torn tail must not do so with the same generation in the same file: intact frames behind the tear
//! would be taken for new ones. It cuts the file there first (and syncs that), or starts another file or generation.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use thalweg_env::fs::File;

const MAGIC: u32 = u32::from_le_bytes(*b"TLF1");

/// Size of a frame's header.
pub const HEADER_BYTES: usize = 48;

/// Frames begin at multiples of this, so that a search for one after a bad stretch is fast.
pub const ALIGNMENT_BYTES: u64 = 8;

/// Largest payload and attachment together; beyond it a length is damage, and no memory is asked for it. The largest Kafka request
/// (100 MiB) fits.
pub const CONTENT_BYTES_MAX: usize = 128 << 20;

/// How much of a file a scan reads at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A frame's header. `kind`, `generation`, `position` and `durable_position` are the writer's; lengths and sum follow from the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    pub generation: u64,
    pub position: u64,
    pub durable_position: u64,
    pub payload_bytes: u32,
    pub attachment_bytes: u32,
    pub payload_crc: u32,
}

/// An intact frame, found by a scan.
#[derive(Debug, Clone)]
pub struct Frame {
    pub header: Header,
    pub payload: Bytes,
    /// Not yet checked, unless the scan's check did.
    pub attachment: Bytes,
}

/// What a scan is to look at.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions {
    /// Which frames belong to the stream.
    pub generation: u64,
    /// Stream position of the file's first byte.
    pub base_position: u64,
    /// Where to begin and where the file's frames end at the latest, as stream positions.
    pub start: u64,
    pub end: u64,
    /// What the caller knows to be durable, as a stream position; 0 for nothing.
    pub durable_position: u64,
}

/// Where the intact frames end, and what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanEnd {
    /// Stream position after the last intact frame of the unbroken run from the start.
    pub position: u64,
    /// Everything below is known to have been durable, by the caller or any intact frame in the file, the ones behind a bad one included.
    pub durable_position: u64,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing of this generation follows.
    Clean,
    /// Remains of frames follow that no flush ever covered: cut here.
    Torn,
    /// What follows was durable once and is damaged: do not cut.
    Corrupt,
}

/// Whether a frame's attachment is what its payload says.
pub type AttachmentCheck<'a> = &'a dyn Fn(&Frame) -> bool;

// ---- Writing ----

/// Bytes that a frame with this content takes in the stream.
pub fn frame_bytes(payload_bytes: usize, attachment_bytes: usize) -> u64 {
    ((HEADER_BYTES + payload_bytes + attachment_bytes) as u64).next_multiple_of(ALIGNMENT_BYTES)
}

/// The zeros that follow the content up to the next frame.
pub fn padding(payload_bytes: usize, attachment_bytes: usize) -> &'static [u8] {
    let content = HEADER_BYTES + payload_bytes + attachment_bytes;
    &[0; ALIGNMENT_BYTES as usize][..content.next_multiple_of(ALIGNMENT_BYTES as usize) - content]
}

/// Appends a whole frame without attachment, padding included.
pub fn encode(
    target: &mut BytesMut,
    kind: u8,
    generation: u64,
    position: u64,
    durable_position: u64,
    payload: &[u8],
) {
    let header = Header::new(kind, generation, position, durable_position, payload, 0);
    target.reserve(HEADER_BYTES + payload.len() + ALIGNMENT_BYTES as usize);
    target.put_slice(&header.to_bytes());
    target.put_slice(payload);
    target.put_slice(padding(payload.len(), 0));
}

impl Header {
    /// The header of a frame with this payload and an attachment of this size.
    ///
    /// # Panics
    /// When payload and attachment exceed [`CONTENT_BYTES_MAX`] together.
    pub fn new(
        kind: u8,
        generation: u64,
        position: u64,
        durable_position: u64,
        payload: &[u8],
        attachment_bytes: usize,
    ) -> Self {
        assert!(
            payload.len() + attachment_bytes <= CONTENT_BYTES_MAX,
            "a frame's content is limited to {CONTENT_BYTES_MAX} bytes"
        );
        let length = |bytes: usize| u32::try_from(bytes).expect("the limit fits in 32 bits");
        Self {
            kind,
            generation,
            position,
            durable_position,
            payload_bytes: length(payload.len()),
            attachment_bytes: length(attachment_bytes),
            payload_crc: crc_fast::crc32_iscsi(payload),
        }
    }

    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut fields = &mut bytes[..];
        fields.put_u32_le(MAGIC);
        fields.put_u8(self.kind);
        fields.put_slice(&[0; 3]);
        fields.put_u64_le(self.generation);
        fields.put_u64_le(self.position);
        fields.put_u64_le(self.durable_position);
        fields.put_u32_le(self.payload_bytes);
        fields.put_u32_le(self.attachment_bytes);
        fields.put_u32_le(self.payload_crc);
        let crc = crc_fast::crc32_iscsi(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` for anything that is none, damaged or not. The content is not looked at.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(0) != MAGIC || bytes[5..8] != [0; 3] {
            return None;
        }
        let header = Self {
            kind: bytes[4],
            generation: u64_at(8),
            position: u64_at(16),
            durable_position: u64_at(24),
            payload_bytes: u32_at(32),
            attachment_bytes: u32_at(36),
            payload_crc: u32_at(40),
        };
        let plausible = header.content_bytes() <= CONTENT_BYTES_MAX;
        (plausible && u32_at(44) == crc_fast::crc32_iscsi(&bytes[..44])).then_some(header)
    }

    /// Stream position after this frame.
    pub fn end_position(&self) -> u64 {
        self.position.saturating_add(frame_bytes(
            self.payload_bytes as usize,
            self.attachment_bytes as usize,
        ))
    }

    fn content_bytes(&self) -> usize {
        (self.payload_bytes as usize).saturating_add(self.attachment_bytes as usize)
    }
}

// ---- Scanning ----

/// Hands every intact frame from `options.start` on to `visit`, in order, up to the first place that holds none, and judges what
/// follows. `check` looks at attachments; give `|_| true` when there are none.
pub fn scan(
    file: &dyn File,
    options: ScanOptions,
    check: AttachmentCheck<'_>,
    mut visit: impl FnMut(Frame),
) -> io::Result<ScanEnd> {
    let mut reader = Reader::new(file, options)?;
    let mut position = options.start;
    let mut durable_position = options.durable_position;
    while let Some(frame) = reader.frame_at(position, check)? {
        durable_position = durable_position.max(frame.header.durable_position);
        position = frame.header.end_position();
        visit(frame);
    }
    let behind = reader.marks_behind(position, check)?;
    if let Some(mark) = behind {
        durable_position = durable_position.max(mark);
    }
    let damaged_header = reader.has_remains_at(position)?;
    let verdict = if durable_position > position {
        Verdict::Corrupt
    } else if behind.is_some() || damaged_header {
        Verdict::Torn
    } else {
        Verdict::Clean
    };
    Ok(ScanEnd { position, durable_position, verdict })
}

/// Reads a file in large pieces, by stream position.
struct Reader<'a> {
    file: &'a dyn File,
    options: ScanOptions,
    /// The piece in memory and its stream position.
    chunk: Bytes,
    chunk_position: u64,
}

impl<'a> Reader<'a> {
    fn new(file: &'a dyn File, mut options: ScanOptions) -> io::Result<Self> {
        let file_end = options.base_position.saturating_add(file.len()?);
        options.end = options.end.min(file_end);
        Ok(Self { file, options, chunk: Bytes::new(), chunk_position: options.start })
    }

    /// The bytes from `position` on, at least `bytes` of them; `None` when the stream ends before.
    fn bytes_at(&mut self, position: u64, bytes: usize) -> io::Result<Option<Bytes>> {
        if position < self.options.base_position
            || position.saturating_add(bytes as u64) > self.options.end
        {
            return Ok(None);
        }
        let within =
            position.checked_sub(self.chunk_position).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = within
            && at.saturating_add(bytes) <= self.chunk.len()
        {
            return Ok(Some(self.chunk.slice(at..)));
        }
        let left = usize::try_from(self.options.end - position).unwrap_or(usize::MAX);
        // Fresh memory costs more than reading into it: the last chunk's is used again unless somebody holds a piece of it.
        let mut chunk = std::mem::take(&mut self.chunk).try_into_mut().unwrap_or_default();
        chunk.resize(bytes.max(CHUNK_BYTES).min(left), 0);
        self.file.read_exact_at(&mut chunk, position - self.options.base_position)?;
        self.chunk = chunk.freeze();
        self.chunk_position = position;
        Ok(Some(self.chunk.clone()))
    }

    fn header_at(&mut self, position: u64) -> io::Result<Option<Header>> {
        let Some(bytes) = self.bytes_at(position, HEADER_BYTES)? else { return Ok(None) };
        Ok(Header::parse(&bytes)
            .filter(|h| h.generation == self.options.generation && h.position == position))
    }

    fn frame_at(&mut self, position: u64, check: AttachmentCheck<'_>) -> io::Result<Option<Frame>> {
        let Some(header) = self.header_at(position)? else { return Ok(None) };
        let whole = HEADER_BYTES + header.content_bytes();
        let Some(bytes) = self.bytes_at(position, whole)? else { return Ok(None) };
        let payload_end = HEADER_BYTES + header.payload_bytes as usize;
        let frame = Frame {
            header,
            payload: bytes.slice(HEADER_BYTES..payload_end),
            attachment: bytes.slice(payload_end..whole),
        };
        let intact = crc_fast::crc32_iscsi(&frame.payload) == header.payload_crc
            && (frame.attachment.is_empty() || check(&frame));
        Ok(intact.then_some(frame))
    }

    /// The largest durable position of the intact frames behind a bad place; `None` when there are none.
    fn marks_behind(
        &mut self,
        position: u64,
        check: AttachmentCheck<'_>,
    ) -> io::Result<Option<u64>> {
        let mut marks = None;
        let mut at = position.saturating_add(ALIGNMENT_BYTES);
        while let Some(found) = self.find_header(at)? {
            at = found.saturating_add(ALIGNMENT_BYTES);
            if let Some(frame) = self.frame_at(found, check)? {
                marks = marks.max(Some(frame.header.durable_position));
                at = frame.header.end_position();
            }
        }
        Ok(marks)
    }

    /// The first place from `position` on that holds a header of this stream.
    fn find_header(&mut self, mut position: u64) -> io::Result<Option<u64>> {
        while let Some(bytes) = self.bytes_at(position, HEADER_BYTES)? {
            let mut candidates = bytes.chunks_exact(ALIGNMENT_BYTES as usize);
            let hit = candidates.position(|at| at[..4] == MAGIC.to_le_bytes());
            let Some(hit) = hit else {
                // A chunk may end within a header, but not within the 8 bytes that its magic lies in.
                position += (bytes.len() as u64 / ALIGNMENT_BYTES).max(1) * ALIGNMENT_BYTES;
                continue;
            };
            position += hit as u64 * ALIGNMENT_BYTES;
            if self.header_at(position)?.is_some() {
                return Ok(Some(position));
            }
            position += ALIGNMENT_BYTES;
        }
        Ok(None)
    }

    /// Whether the place where the next frame would be shows that one was begun: a header of this stream with bad content, or
    /// a damaged header.
    fn has_remains_at(&mut self, position: u64) -> io::Result<bool> {
        if self.header_at(position)?.is_some() {
            return Ok(true);
        }
        let left = usize::try_from(self.options.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let Some(bytes) = self.bytes_at(position, left.min(HEADER_BYTES))? else {
            return Ok(false);
        };
        let here = &bytes[..left.min(HEADER_BYTES)];
        let stale = Header::parse(here).is_some();
        Ok(!stale && here.iter().any(|byte| *byte != 0))
    }
}

#[cfg(test)]
mod tests;
