//! Batches as they are in the log to what a consumer asked for.
//!
//! Payloads of uncompressed batches are handed out as slices of the batch's own bytes. Those of compressed ones are slices of one
//! buffer per batch.

use bytes::{Bytes, BytesMut};
use thalweg_proto::common::v1::Header;
use thalweg_proto::consumer::v1 as proto;
use thalweg_record::{BatchError, BatchHeader, Batches, DecompressLimits, Record, records};
use thalweg_rpc::Error;
use thalweg_types::{CompressionType, Offset};

use crate::words;

/// What a record takes from a budget besides its key, value and headers: its fields' tags, lengths and numbers, rounded up.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Up to here decompressing takes less time than handing the work to another thread is worth.
const DECOMPRESS_INLINE_BYTES_MAX: usize = 64 * 1024;

/// In which form records are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Records,
    Batches,
}

/// What was made of some batches.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) records: Vec<proto::Record>,
    pub(super) batches: Vec<Bytes>,
    /// Size of the above, as budgets and credit count it.
    pub(super) bytes: usize,
    /// Where to read on; `None`: where the reading began.
    pub(super) next_offset: Option<Offset>,
    /// The budget ended before the batches did.
    pub(super) is_cut: bool,
}

impl Form {
    pub(super) fn from_wire(value: i32) -> Result<Self, Error> {
        match proto::FetchFormat::try_from(value) {
            Ok(proto::FetchFormat::Unspecified | proto::FetchFormat::Records) => Ok(Self::Records),
            Ok(proto::FetchFormat::Batches) => Ok(Self::Batches),
            Err(_) => Err(Error::invalid_request(format!("format has no value {value}"))),
        }
    }
}

/// Turns batches into the form asked for, from the record at `from` on, until about `budget_bytes` are used up: the first record
/// (or, as batches, everything) is taken in any case.
pub(super) async fn decode(
    form: Form,
    batches: Vec<Bytes>,
    from: Offset,
    budget_bytes: usize,
) -> Result<Decoded, Error> {
    let result = match form {
        Form::Batches => as_they_are(batches),
        Form::Records if is_heavy(&batches) => {
            let work = move || as_records(&batches, from, budget_bytes);
            match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(_) => return Err(thalweg_types::ErrorCode::UnknownServerError.into()),
            }
        }
        Form::Records => as_records(&batches, from, budget_bytes),
    };
    result.map_err(|error| {
        Error::new(error.code(), format!("the log's batch at or after {from}: {error}"))
    })
}

/// Whether decoding would hold up the other calls of a thread.
fn is_heavy(batches: &[Bytes]) -> bool {
    let is_compressed = |bytes: &Bytes| {
        BatchHeader::parse(bytes)
            .is_ok_and(|header| header.attributes.compression() != Some(CompressionType::None))
    };
    batches.iter().map(Bytes::len).sum::<usize>() > DECOMPRESS_INLINE_BYTES_MAX
        && batches.iter().any(is_compressed)
}

fn as_they_are(batches: Vec<Bytes>) -> Result<Decoded, BatchError> {
    let mut decoded = Decoded::default();
    for bytes in batches.iter().filter(|bytes| !bytes.is_empty()) {
        for batch in Batches::new(bytes) {
            let (header, _) = batch?;
            decoded.next_offset = Some(header.next_offset());
        }
        decoded.bytes += bytes.len();
    }
    decoded.batches = batches;
    Ok(decoded)
}

pub(super) fn as_records(
    batches: &[Bytes],
    from: Offset,
    budget_bytes: usize,
) -> Result<Decoded, BatchError> {
    let mut decoded = Decoded::default();
    for bytes in batches {
        for batch in Batches::new(bytes) {
            let (header, batch) = batch?;
            if header.next_offset() <= from {
                continue;
            }
            // Markers of transactions are the log's own business.
            if !header.attributes.is_control() {
                take_batch(&mut decoded, &bytes.slice_ref(batch), from, budget_bytes)?;
                if decoded.is_cut {
                    return Ok(decoded);
                }
            }
            // Behind the whole batch, also where compaction has removed its last records.
            decoded.next_offset = Some(header.next_offset());
        }
    }
    Ok(decoded)
}

fn take_batch(
    decoded: &mut Decoded,
    batch: &Bytes,
    from: Offset,
    budget_bytes: usize,
) -> Result<(), BatchError> {
    let records = records(batch, &DecompressLimits::default())?;
    let mut payloads = match records.header().attributes.compression() {
        Some(CompressionType::None) => Payloads::Slices(batch),
        _ => Payloads::Copies(BytesMut::with_capacity(records.size_bytes())),
    };
    let timestamp_type = words::timestamp_type(records.header().attributes.timestamp_type());
    for record in &records {
        let record = record?;
        if record.offset < from {
            continue;
        }
        let next_offset = record.offset.checked_add(1);
        let record = payloads.record(&record, timestamp_type.into());
        let bytes = charged_bytes(&record);
        if !decoded.records.is_empty() && decoded.bytes.saturating_add(bytes) > budget_bytes {
            decoded.is_cut = true;
            return Ok(());
        }
        decoded.bytes += bytes;
        decoded.next_offset = next_offset;
        decoded.records.push(record);
    }
    Ok(())
}

/// What a record takes from a budget or a credit.
pub(super) fn charged_bytes(record: &proto::Record) -> usize {
    let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|header| header.key.len() + length(&header.value));
    RECORD_OVERHEAD_BYTES + length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

/// Where the payloads of one batch's records come from.
enum Payloads<'a> {
    /// They lie in the batch.
    Slices(&'a Bytes),
    /// They lie in a buffer that is about to go: copied into this one, which is large enough for all of them.
    Copies(BytesMut),
}

impl Payloads<'_> {
    fn record(&mut self, record: &Record<'_>, timestamp_type: i32) -> proto::Record {
        proto::Record {
            offset: record.offset.0,
            timestamp_ms: record.timestamp.0,
            timestamp_type,
            key: record.key.map(|key| self.take(key)),
            value: record.value.map(|value| self.take(value)),
            headers: record
                .headers
                .clone()
                .map(|header| Header {
                    // Kafka's clients write UTF-8 here, but nothing stops others.
                    key: String::from_utf8_lossy(header.key).into_owned(),
                    value: header.value.map(|value| self.take(value)),
                })
                .collect(),
        }
    }

    fn take(&mut self, field: &[u8]) -> Bytes {
        match self {
            Self::Slices(batch) => batch.slice_ref(field),
            Self::Copies(buffer) => {
                buffer.extend_from_slice(field);
                buffer.split().freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests;
