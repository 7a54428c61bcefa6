//! One segment's batches in the order of the file, whether they are whole or not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use thalweg_env::fs::{File, Fs, OpenMode};
use thalweg_record::{BatchError, BatchHeader, HEADER_BYTES, verify_crc};
use thalweg_types::Offset;

use crate::frame;
use crate::layout;
use crate::segment::{Patience, Window};

/// How much is read at a time when a whole batch is searched behind a damaged one.
const SEARCH_BYTES: usize = 256 << 10;

/// How many places that look like a batch are checked on one such search, so that hostile contents cannot make it quadratic.
const CANDIDATES_MAX: usize = 256;

/// Where the magic byte lies in a batch.
const MAGIC_AT: usize = 16;

/// What a segment holds at one place.
#[derive(Debug, Clone)]
pub enum Piece {
    Batch(StoredBatch),
    Bad(BadBytes),
}

/// A batch whose beginning and end are known. Its checksum may still be wrong.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// Byte position in the file.
    pub position: u64,
    pub header: BatchHeader,
    pub bytes: Bytes,
    /// What comparing it with its checksum gave.
    pub crc: Result<(), BatchError>,
}

/// Bytes that are no batch.
#[derive(Debug, Clone)]
pub struct BadBytes {
    /// Byte position in the file.
    pub position: u64,
    /// Up to the next whole batch, or the end of the file.
    pub bytes: u64,
    pub reason: BadReason,
    /// Whether a whole batch follows.
    pub is_followed: bool,
    /// Nothing but zeros: room that was made and not filled.
    pub is_blank: bool,
}

/// Why bytes are no batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BadReason {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("a batch of {bytes} bytes, larger than any can be")]
    TooLarge { bytes: usize },
    #[error("offset {found} in a segment that begins at {base_offset}")]
    BelowSegment { found: Offset, base_offset: Offset },
}

/// Walks a segment file of a length that is taken once, at the beginning: what is appended meanwhile is not seen.
#[derive(Debug)]
pub struct SegmentScan {
    path: PathBuf,
    file: Arc<dyn File>,
    window: Window,
    base_offset: Offset,
    position: u64,
    end: u64,
    /// No batch further on has a smaller offset.
    offset_min: Offset,
}

impl SegmentScan {
    /// Opens the segment of a folder that begins at `base_offset`.
    pub fn open(fs: &dyn Fs, folder: &Path, base_offset: Offset) -> io::Result<Self> {
        let path = folder.join(layout::file_name(base_offset, "log"));
        let file = fs.open(&path, OpenMode::Read)?;
        let end = file.len()?;
        let window = Window::new(Patience::Wait);
        Ok(Self { path, file, window, base_offset, position: 0, end, offset_min: base_offset })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file.
    pub fn size_bytes(&self) -> u64 {
        self.end
    }

    /// What comes next in the file; `None` at its end.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let reason = match self.batch_at(self.position)? {
            Ok(batch) => {
                let after = self.position + batch.bytes.len() as u64;
                // A wrong checksum may mean that the length is wrong.
                match &batch.crc {
                    Ok(()) => {
                        self.offset_min = self.offset_min.max(batch.header.next_offset());
                        self.position = after;
                        return Ok(Some(Piece::Batch(batch)));
                    }
                    Err(_) if self.may_begin_at(after)? => {
                        self.position = after;
                        return Ok(Some(Piece::Batch(batch)));
                    }
                    Err(error) => BadReason::Batch(error.clone()),
                }
            }
            Err(reason) => reason,
        };
        let position = self.position;
        let (next, is_blank) = self.find_whole_batch()?;
        self.position = next.unwrap_or(self.end);
        let bytes = self.position - position;
        let is_followed = next.is_some();
        Ok(Some(Piece::Bad(BadBytes { position, bytes, reason, is_followed, is_blank })))
    }

    fn header_at(&mut self, position: u64) -> io::Result<Result<BatchHeader, BadReason>> {
        let window = self.window.at(&*self.file, position, HEADER_BYTES, self.end)?;
        let header = match BatchHeader::parse(window.unwrap_or_default()) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.into())),
        };
        let (base_offset, found) = (self.base_offset, header.base_offset);
        let bytes = header.size_bytes();
        let left = self.end - position;
        Ok(if found < base_offset {
            Err(BadReason::BelowSegment { found, base_offset })
        } else if bytes > frame::CONTENT_BYTES_MAX {
            Err(BadReason::TooLarge { bytes })
        } else if bytes as u64 > left {
            let have = usize::try_from(left).unwrap_or(usize::MAX);
            Err(BatchError::Truncated { needed: bytes, have }.into())
        } else {
            Ok(header)
        })
    }

    fn batch_at(&mut self, position: u64) -> io::Result<Result<StoredBatch, BadReason>> {
        let header = match self.header_at(position)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        let size_bytes = header.size_bytes();
        let window = self.window.at(&*self.file, position, size_bytes, self.end)?;
        let held = window.and_then(|held| held.get(..size_bytes)).unwrap_or_default();
        let bytes = Bytes::copy_from_slice(held);
        let crc = verify_crc(&bytes, &header);
        Ok(Ok(StoredBatch { position, header, bytes, crc }))
    }

    fn may_begin_at(&mut self, position: u64) -> io::Result<bool> {
        Ok(position >= self.end || self.header_at(position)?.is_ok())
    }

    /// The first place behind the current one that holds a whole batch with a right checksum, and whether all before it is zero.
    fn find_whole_batch(&mut self) -> io::Result<(Option<u64>, bool)> {
        let (mut candidates, mut is_blank) = (0, true);
        let mut at = self.position;
        let mut piece = Vec::new();
        while at < self.end {
            let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            piece.resize(left.min(SEARCH_BYTES), 0);
            self.file.read_exact_at(&mut piece, at)?;
            // The places whose whole header is in this piece; the others are in the next one.
            let places = piece.len().saturating_sub(HEADER_BYTES);
            for place in usize::from(at == self.position)..places {
                let position = at + place as u64;
                let looks_so = piece.get(place + MAGIC_AT) == Some(&2)
                    && piece.get(place..).is_some_and(|bytes| self.follows(bytes, position));
                if !looks_so || candidates >= CANDIDATES_MAX {
                    continue;
                }
                candidates += 1;
                if self.batch_at(position)?.is_ok_and(|batch| batch.crc.is_ok()) {
                    is_blank &= piece.iter().take(place).all(|byte| *byte == 0);
                    return Ok((Some(position), is_blank));
                }
            }
            is_blank &= piece.iter().all(|byte| *byte == 0);
            if left <= SEARCH_BYTES {
                break;
            }
            at += places as u64;
        }
        Ok((None, is_blank))
    }

    fn follows(&self, bytes: &[u8], position: u64) -> bool {
        BatchHeader::parse(bytes).is_ok_and(|header| {
            header.base_offset >= self.offset_min
                && header.base_offset.records_since(self.base_offset) <= i64::from(i32::MAX)
                && header.size_bytes() as u64 <= self.end - position
        })
    }
}
