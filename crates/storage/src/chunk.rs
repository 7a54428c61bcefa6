//! What a read hands out: batches in memory, or a place in a file.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thalweg_env::fs::BLOCK_BYTES;
use thalweg_log_core::EpochIndex;
use thalweg_record::{BatchError, BatchHeader, Batches, verify_crc};
use thalweg_types::Offset;

use crate::error::ReadError;
use crate::read_buffers::ReadBuffers;
use crate::segment::{Miss, Patience, Segment};

/// Reads of this size and more go past the page cache: who asks for so much reads on and on, and old records are rarely read twice.
/// Smaller ones are better served by the kernel, which reads ahead for them.
const DIRECT_BYTES_MIN: usize = 128 << 10;

/// Read beyond what was asked for: batches between the index entry and the offset wanted.
const WALK_BYTES: usize = 64 << 10;

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
    /// Of the segment when this was made; it holds `from`.
    pub(crate) written_bytes: u64,
    /// Which leader wrote what: no checksum covers a batch's own word.
    pub(crate) epochs: EpochIndex,
    pub(crate) from: Offset,
    pub(crate) end: Offset,
    pub(crate) bytes_max: usize,
    pub(crate) at_least_one: bool,
    pub(crate) buffers: Arc<ReadBuffers>,
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
        if self.bytes_max >= DIRECT_BYTES_MIN {
            return Ok(None);
        }
        match self.read_with(Patience::CachedOnly) {
            Ok(slice) => Ok(Some(slice)),
            Err(Miss::WouldWait) => Ok(None),
            Err(Miss::Failed(_)) if self.segment.is_cut() => Ok(Some(self.nothing())),
            Err(Miss::Failed(error)) => {
                self.segment.note_damage(&error);
                Err(error)
            }
        }
    }

    /// Reads, waiting for the disk as needed.
    pub fn read(&self) -> Result<FileSlice, ReadError> {
        match self.read_waiting() {
            // Cut off while it was read: what is there now is another history's.
            Err(_) if self.segment.is_cut() => Ok(self.nothing()),
            read => read.inspect_err(|error| self.segment.note_damage(error)),
        }
    }

    fn nothing(&self) -> FileSlice {
        FileSlice { bytes: Bytes::new(), next_offset: self.from }
    }

    fn read_waiting(&self) -> Result<FileSlice, ReadError> {
        if self.bytes_max >= DIRECT_BYTES_MIN
            && let Some(slice) = self.read_direct()?
        {
            return Ok(slice);
        }
        self.read_with(Patience::Wait).map_err(Miss::into_error)
    }

    /// One read past the page cache, from the index entry before the wanted offset on; `None` when that does not bring the whole first
    /// batch.
    fn read_direct(&self) -> Result<Option<FileSlice>, ReadError> {
        let block = BLOCK_BYTES as u64;
        let scan_start = self.segment.scan_start(self.from)?;
        let start = scan_start / block * block;
        let left = self.segment.written_bytes().saturating_sub(start);
        let wanted = self.bytes_max.saturating_add(WALK_BYTES + BLOCK_BYTES);
        let readable = usize::try_from(left).map_or(wanted, |left| wanted.min(left));
        let whole_blocks = readable.next_multiple_of(BLOCK_BYTES);
        let mut buffer = self.buffers.take(whole_blocks);
        let read = self.segment.read_blocks(&mut buffer[..whole_blocks], start)?;
        let bytes = self.buffers.lend(buffer).slice(..read.min(readable));
        let Some(first) = self.find_first(&bytes, usize::try_from(scan_start - start).unwrap_or(0))
        else {
            return Ok(None);
        };
        let (at, header) = first;
        let first_bytes = header.size_bytes();
        if first_bytes > self.bytes_max && !self.at_least_one {
            return Ok(Some(self.nothing()));
        }
        let end = at.saturating_add(self.bytes_max.max(first_bytes)).min(bytes.len());
        if first_bytes > end - at {
            return Ok(None);
        }
        let bytes = bytes.slice(at..end);
        // The index may have led to a place where no batch begins: whether there is damage is for the slow way to say.
        let checked = self.check_batches(&bytes, start + at as u64).ok();
        Ok(checked.map(|(kept, next_offset)| FileSlice { bytes: bytes.slice(..kept), next_offset }))
    }

    /// The batch in `bytes` that holds the wanted offset. Whatever does not fit is left to the slow way to report.
    fn find_first(&self, bytes: &[u8], mut at: usize) -> Option<(usize, BatchHeader)> {
        let mut expected = None;
        loop {
            let header = BatchHeader::parse(bytes.get(at..)?).ok()?;
            let follows = expected.is_none_or(|expected| header.base_offset == expected);
            if header.base_offset < self.segment.base_offset || !follows {
                return None;
            }
            expected = Some(header.next_offset());
            if header.next_offset() > self.from {
                let fits = header.base_offset <= self.from && header.next_offset() <= self.end;
                return fits.then_some((at, header));
            }
            at += header.size_bytes();
        }
    }

    fn read_with(&self, patience: Patience) -> Result<FileSlice, Miss> {
        let nothing = self.nothing();
        let Some(first) = self.segment.locate(self.from, patience)? else {
            // Cut off meanwhile, or lost: then an empty answer would be given for ever.
            let end = self.segment.written_bytes();
            if end < self.written_bytes {
                return Ok(nothing);
            }
            let missing = format!("offset {} is missing", self.from);
            return Err(self.segment.corrupt(end, missing).into());
        };
        if first.header.base_offset > self.from {
            return Err(self.segment.corrupt(first.position, "offsets that skip some").into());
        }
        let first_bytes = first.header.size_bytes();
        if first.header.next_offset() > self.end {
            if patience == Patience::CachedOnly {
                return Err(Miss::WouldWait);
            }
            // The end lies between batches, unless this header is damaged.
            self.segment.read_batch(&first)?;
            return Ok(nothing);
        }
        if first_bytes > self.bytes_max && !self.at_least_one {
            return Ok(nothing);
        }
        let left = self.segment.written_bytes().saturating_sub(first.position);
        let wanted = self.bytes_max.max(first_bytes);
        let mut bytes = BytesMut::zeroed(usize::try_from(left).map_or(wanted, |l| wanted.min(l)));
        self.segment.fill(&mut bytes, first.position, patience)?;
        let (kept, next_offset) = self.check_batches(&bytes, first.position)?;
        if kept == 0 && self.segment.written_bytes() >= self.written_bytes {
            let reason = "a batch that reaches past the end";
            return Err(self.segment.corrupt(first.position, reason).into());
        }
        bytes.truncate(kept);
        Ok(FileSlice { bytes: bytes.freeze(), next_offset })
    }

    /// Checks the whole batches below the end: how many bytes they are, and the offset after them. Damage behind sound batches ends them;
    /// who reads on from there is told.
    fn check_batches(&self, bytes: &[u8], position: u64) -> Result<(usize, Offset), ReadError> {
        let (mut kept, mut next_offset) = (0, self.from);
        for batch in Batches::new(bytes) {
            let (header, batch) = match batch {
                Ok(batch) => batch,
                Err(BatchError::Truncated { .. }) => break,
                Err(_) if kept > 0 => break,
                Err(error) => return Err(self.segment.corrupt(position, error)),
            };
            if header.next_offset() > self.end {
                break;
            }
            let follows = match kept {
                0 => header.base_offset <= next_offset && next_offset < header.next_offset(),
                _ => header.base_offset == next_offset,
            };
            let epoch = self.epochs.epoch_at(next_offset);
            let reason = match verify_crc(batch, &header) {
                Err(error) => Some(error.to_string()),
                Ok(()) if !follows => Some("offsets that do not follow".to_owned()),
                Ok(()) if epoch.is_some_and(|epoch| epoch != header.leader_epoch) => {
                    Some(format!("leader epoch {}, not the log's", header.leader_epoch))
                }
                Ok(()) => None,
            };
            match reason {
                None => {}
                Some(_) if kept > 0 => break,
                Some(reason) => return Err(self.segment.corrupt(position, reason)),
            }
            kept += batch.len();
            next_offset = header.next_offset();
        }
        Ok((kept, next_offset))
    }
}
