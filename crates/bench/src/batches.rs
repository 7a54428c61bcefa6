//! The batches that are sent: one generated batch, or a file's lines.

use std::io::BufRead;
use std::time::SystemTime;

use bytes::Bytes;
use thalweg_record::{BatchBuilder, BatchHeader};
use thalweg_types::{CompressionType, Timestamp};

use crate::error::Error;

/// Bytes of a record beside its value, at most: length, timestamp and offset deltas, no key, no headers.
const RECORD_OVERHEAD_BYTES: usize = 24;

/// A batch ready to be sent, and how many records it has.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) records: u64,
}

/// One batch as full as its limit allows, of at least one record. The values do not compress well, as payloads that are worth
/// measuring do not.
pub(crate) fn generated(
    compression: CompressionType,
    batch_bytes: u32,
    record_bytes: u32,
) -> Result<Batch, Error> {
    let mut builder = BatchBuilder::new(compression);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut value = vec![0; record_bytes as usize];
    loop {
        for byte in &mut value {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *byte = state.to_be_bytes()[0];
        }
        builder.push(now(), None, Some(&value), &[])?;
        let grown = builder.size_estimate() + value.len() + RECORD_OVERHEAD_BYTES;
        if grown > batch_bytes as usize {
            return finished(builder);
        }
    }
}

/// Hands over `lines`, without their newlines, in batches of at most `batch_bytes` (a longer line has its own).
pub(crate) fn of_lines(
    mut lines: impl BufRead,
    compression: CompressionType,
    batch_bytes: u32,
    mut take: impl FnMut(Batch) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut batch = BatchBuilder::new(compression);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let value = line.strip_suffix(b"\n").unwrap_or(&line);
        let grown = batch.size_estimate() + value.len() + RECORD_OVERHEAD_BYTES;
        if !batch.is_empty() && grown > batch_bytes as usize {
            take(finished(std::mem::replace(&mut batch, BatchBuilder::new(compression)))?)?;
        }
        batch.push(now(), None, Some(value), &[])?;
        line.clear();
    }
    if batch.is_empty() { Ok(()) } else { take(finished(batch)?) }
}

fn finished(builder: BatchBuilder) -> Result<Batch, Error> {
    let bytes = Bytes::from(builder.finish()?.to_vec());
    let records = u64::from(BatchHeader::parse(&bytes)?.record_count.unsigned_abs());
    Ok(Batch { bytes, records })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_batch_fills_its_limit_and_is_valid() {
        let batch = generated(CompressionType::None, 65_536, 1024).expect("built");
        let header = BatchHeader::parse(&batch.bytes).expect("a batch");
        thalweg_record::verify_crc(&batch.bytes, &header).expect("its CRC is right");
        let size = batch.bytes.len();
        assert_eq!(header.size_bytes(), size);
        assert!(size <= 65_536 && size > 65_536 - 1024 - RECORD_OVERHEAD_BYTES);
        assert_eq!(generated(CompressionType::None, 1, 1024).expect("built").records, 1);
    }

    #[test]
    fn lines_go_into_batches_whole_and_in_order() {
        let text = b"one\n\nthree\nfour";
        let mut counts = Vec::new();
        of_lines(&text[..], CompressionType::None, 100, |batch| {
            counts.push(batch.records);
            Ok(())
        })
        .expect("batches");
        assert_eq!(counts.iter().sum::<u64>(), 4);
        assert!(counts.len() > 1, "a small limit makes several batches");
    }
}
