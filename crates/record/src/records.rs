//! The records of a batch, borrowed from its bytes or from the one buffer it was decompressed into.
//!
//! ```text
//! record  = length varint, then exactly that many bytes:
//!           attributes 1 (unused), timestamp delta varlong, offset delta varint,
//!           key length varint (-1 = null), key, value length varint (-1 = null), value,
//!           header count varint, then per header: key length varint, key, value length varint (-1 = null), value
//! ```

use std::borrow::Cow;

use thalweg_types::{CompressionType, Offset, Timestamp, TimestampType};

use crate::compression::{self, DecompressLimits};
use crate::error::BatchError;
use crate::header::{BatchHeader, HEADER_BYTES};
use crate::varint;

/// Decompressed records of one batch: iterate with [`iter`](Self::iter) or `for record in &records`.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
}

/// One record. Slices point into the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: Offset,
    /// The producer's time, or the append time where the batch says so.
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// A header of a record. The key is UTF-8 by convention, which nobody enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// The headers of one record, already checked; iterates without failing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
    count: usize,
}

/// Iterator over [`Records`]. Ends after the first error.
#[derive(Debug, Clone)]
pub struct RecordsIter<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    /// Records yielded so far.
    index: i32,
    /// Offset deltas must exceed this one.
    last_delta: i32,
    failed: bool,
}

/// The records of `batch`, one whole batch whose CRC was checked when it was received or read. Decompresses once, within `limits`;
/// uncompressed records are borrowed. Malformed records show while iterating.
pub fn records<'a>(batch: &'a [u8], limits: &DecompressLimits) -> Result<Records<'a>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let needed = header.size_bytes();
    let stored = batch
        .get(HEADER_BYTES..needed)
        .ok_or(BatchError::Truncated { needed, have: batch.len() })?;
    let codec = header.attributes.compression();
    let bytes = match codec.ok_or_else(|| BatchError::Codec(header.attributes.codec()))? {
        CompressionType::None => Cow::Borrowed(stored),
        // Compaction leaves an empty batch with its codec bits and no stream at all.
        _ if header.record_count == 0 && stored.is_empty() => Cow::Borrowed(stored),
        compressed => Cow::Owned(compression::decompress(compressed, stored, limits)?),
    };
    Ok(Records { header, bytes })
}

// ---------------------------------------------------------------- Records

impl Records<'_> {
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of the records after decompression.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Them all, uncompressed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter {
            header: self.header,
            rest: &self.bytes,
            index: 0,
            last_delta: -1,
            failed: false,
        }
    }
}

impl<'a> IntoIterator for &'a Records<'_> {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

// ---------------------------------------------------------------- RecordsIter

impl<'a> Iterator for RecordsIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.index >= self.header.record_count {
            if self.rest.is_empty() {
                return None;
            }
            self.failed = true;
            return Some(Err(BatchError::TrailingBytes(self.rest.len())));
        }
        let record = self.take_record().map_err(|rule| {
            self.failed = true;
            BatchError::Record { index: self.index, rule }
        });
        self.index += 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count in the header is not to be believed: each record takes at least one byte.
        (0, Some(self.rest.len().saturating_add(1)))
    }
}

impl std::iter::FusedIterator for RecordsIter<'_> {}

impl<'a> RecordsIter<'a> {
    fn take_record(&mut self) -> Result<Record<'a>, &'static str> {
        let length = varint::take_i32(&mut self.rest).ok_or("its length is malformed")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let (mut body, rest) =
            self.rest.split_at_checked(length).ok_or("its length exceeds the batch")?;
        self.rest = rest;

        let (_attributes, after) = body.split_first().ok_or("it is empty")?;
        body = after;
        let timestamp_delta =
            varint::take_i64(&mut body).ok_or("its timestamp delta is malformed")?;
        let offset_delta = varint::take_i32(&mut body).ok_or("its offset delta is malformed")?;
        let key = take_nullable(&mut body).ok_or("its key is malformed")?;
        let value = take_nullable(&mut body).ok_or("its value is malformed")?;
        let headers = take_headers(&mut body)?;
        if !body.is_empty() {
            return Err("its length exceeds its content");
        }
        Ok(Record {
            offset: self.offset(offset_delta)?,
            timestamp: self.timestamp(timestamp_delta)?,
            key,
            value,
            headers,
        })
    }

    fn offset(&mut self, delta: i32) -> Result<Offset, &'static str> {
        if delta <= self.last_delta {
            return Err("its offset does not follow the one before");
        }
        if delta > self.header.last_offset_delta {
            return Err("its offset is after the last of the batch");
        }
        self.last_delta = delta;
        self.header.base_offset.checked_add(i64::from(delta)).ok_or("its offset overflows")
    }

    fn timestamp(&self, delta: i64) -> Result<Timestamp, &'static str> {
        match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => Ok(self.header.max_timestamp),
            TimestampType::CreateTime => {
                let time = self.header.base_timestamp.0.checked_add(delta);
                time.map(Timestamp).ok_or("its timestamp overflows")
            }
        }
    }
}

/// Checks all headers in front and takes them as one slice.
fn take_headers<'a>(body: &mut &'a [u8]) -> Result<Headers<'a>, &'static str> {
    let count = varint::take_i32(body).ok_or("its header count is malformed")?;
    let count = usize::try_from(count).map_err(|_| "its header count is negative")?;
    // Each header takes at least two bytes; a count beyond that is refused before counting to it.
    if count > body.len() / 2 {
        return Err("its header count exceeds its length");
    }
    let headers = Headers { rest: body, count };
    for _ in 0..count {
        take_header(body).ok_or("a header is malformed")?;
    }
    Ok(headers)
}

fn take_header<'a>(body: &mut &'a [u8]) -> Option<RecordHeader<'a>> {
    let key = take_nullable(body)??;
    let value = take_nullable(body)?;
    Some(RecordHeader { key, value })
}

/// Takes a length and that many bytes; the outer `None` is malformed, the inner one null.
fn take_nullable<'a>(body: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::take_i32(body)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
    *body = rest;
    Some(Some(bytes))
}

// ---------------------------------------------------------------- Headers

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.count = self.count.checked_sub(1)?;
        take_header(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl std::iter::FusedIterator for Headers<'_> {}

#[cfg(test)]
mod tests;
