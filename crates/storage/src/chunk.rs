//! What a read hands out: batches in memory, or a place in a file.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thalweg_record::{BatchError, Batches, verify_crc};
use thalweg_types::Offset;

use crate::error::ReadError;
use crate::segment::{Miss, Patience, Segment};

/// Records from one place of a log on.
#[derive(Debug, Clone, Default)]
pub struct ReadSlice {
    /// In offset order. Either batches from memory, or exactly one file range; empty at the end of what may be read.
    pub chunks: Vec<Chunk>,
    /// Bytes in `chunks`; for a file range, how many it gives at most.
    pub bytes: usize,
}

#[derive(Debug, Clone)]
pub enum Chunk {
    /// One or more whole batches, as received.
    Tail(Bytes),
    /// Batches on disk, not read yet.
    File(FileRange),
}

/// A place in a segment and how much to take from there. Stays readable when retention deletes the segment.
#[derive(Debug, Clone)]
pub struct FileRange {
    pub(crate) segment: Arc<Segment>,
    pub(crate) from: Offset,
    pub(crate) end: Offset,
    pub(crate) bytes_max: usize,
    pub(crate) at_least_one: bool,
}

/// Whole batches that were read from disk, each checked against its CRC (D2).
#[derive(Debug, Clone, Default)]
pub struct FileSlice {
    /// The first batch may begin below the offset asked for, which lies in it.
    pub bytes: Bytes,
    /// Where to read on.
    pub next_offset: Offset,
}

impl FileRange {
    /// Reads without waiting for the disk; `None` when something is not in memory. For event loops.
    pub fn read_cached(&self) -> Result<Option<FileSlice>, ReadError> {
        match self.read_with(Patience::CachedOnly) {
            Ok(slice) => Ok(Some(slice)),
            Err(Miss::WouldWait) => Ok(None),
            Err(Miss::Failed(error)) => Err(error),
        }
    }

    /// Reads, waiting for the disk as needed.
    pub fn read(&self) -> Result<FileSlice, ReadError> {
        self.read_with(Patience::Wait).map_err(Miss::into_error)
    }

    fn read_with(&self, patience: Patience) -> Result<FileSlice, Miss> {
        let nothing = FileSlice { bytes: Bytes::new(), next_offset: self.from };
        let Some(first) = self.segment.locate(self.from, patience)? else { return Ok(nothing) };
        let first_bytes = first.header.size_bytes();
        let is_too_large = first_bytes > self.bytes_max && !self.at_least_one;
        if first.header.next_offset() > self.end || is_too_large {
            return Ok(nothing);
        }
        let left = self.segment.written_bytes().saturating_sub(first.position);
        let wanted = self.bytes_max.max(first_bytes);
        let mut bytes = BytesMut::zeroed(usize::try_from(left).map_or(wanted, |l| wanted.min(l)));
        self.segment.fill(&mut bytes, first.position, patience)?;
        Ok(self.whole_batches(bytes, first.position)?)
    }

    /// Keeps the whole batches below the end, after checking each.
    fn whole_batches(&self, mut bytes: BytesMut, position: u64) -> Result<FileSlice, ReadError> {
        let (mut kept, mut next_offset) = (0, self.from);
        for batch in Batches::new(&bytes) {
            let at = position + kept as u64;
            let (header, batch) = match batch {
                Ok(batch) => batch,
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => return Err(self.segment.corrupt(at, error)),
            };
            if header.next_offset() > self.end {
                break;
            }
            if header.next_offset() <= next_offset {
                return Err(self.segment.corrupt(at, "offsets that go back"));
            }
            verify_crc(batch, &header).map_err(|error| self.segment.corrupt(at, error))?;
            kept += batch.len();
            next_offset = header.next_offset();
        }
        bytes.truncate(kept);
        Ok(FileSlice { bytes: bytes.freeze(), next_offset })
    }
}
