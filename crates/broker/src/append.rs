//! Producing: from a client's bytes to a pending acknowledgement.
//!
//! The way is the same for both protocols: check the batch, wait for room if there is none, let the partition stamp and journal it, and
//! wait for the position that `acks` names. Everything up to the journal happens at the first poll, so calls made one after the other
//! append in that order even when their acknowledgements overlap.
//!
//! Only a topic that chooses the codec of its batches (`compression.type` other than `producer`) has batches of other codecs unpacked and
//! compressed anew; what its producers compress themselves in that codec is stored as it came.

use std::time::Duration;

use bytes::BytesMut;
use thalweg_record::{BatchHeader, DecompressLimits, ProduceLimits, check_produced, records};
use thalweg_storage::Appended;
use thalweg_types::Acks;
use tokio::time::timeout;

use crate::admission::Admission;
use crate::error::{AppendError, ProduceError};
use crate::partition::{AckError, AppendRules, Compression, Condition, Partition, Pending};

/// What a batch may unpack to while it is compressed anew, as a multiple of the largest batch allowed; the memory is the thread's for the
/// while.
const UNPACKED_RATIO_MAX: usize = 8;
/// Smaller ones are never refused for it.
const UNPACKED_BYTES_FREE: usize = 16 << 20;

/// A batch that was checked and is what will be stored, but for the fields the log assigns.
#[derive(Debug)]
pub(crate) struct Checked {
    batch: BytesMut,
    header: BatchHeader,
    /// Bytes of records that were compressed anew.
    pub(crate) recompressed_bytes: Option<usize>,
}

/// Checks a batch as the topic's configuration asks, and compresses it anew where the topic chooses the codec. That happens here and
/// now, on the thread of the producer's connection: the next batch of that producer must not overtake this one.
///
/// # Errors
///
/// Nothing was appended.
pub(crate) fn check(rules: AppendRules, batch: BytesMut) -> Result<Checked, AppendError> {
    let header = check_produced(&batch, &ProduceLimits { batch_bytes_max: rules.batch_bytes_max })?;
    if rules.keys_required {
        check_keys(&batch, &header)?;
    }
    match rules.compression {
        // Control batches, which hold one marker, stay as they are.
        Some(target) if !target.is_met_by(&header) => recompress(rules, target, &batch),
        _ => Ok(Checked { batch, header, recompressed_bytes: None }),
    }
}

/// Appends one batch; what is returned waits for the acknowledgement.
///
/// # Errors
///
/// Nothing was appended.
pub(crate) async fn append(
    admission: &Admission,
    partition: &Partition,
    checked: Checked,
    acks: Acks,
    condition: Option<&Condition>,
) -> Result<Pending, AppendError> {
    let _permit = admission.enter().await?;
    partition.append(checked.batch, &checked.header, acks, condition)
}

/// Waits for the acknowledgement, as long as the producer does.
pub(crate) async fn acknowledged(
    pending: Pending,
    wait: Duration,
) -> Result<Appended, ProduceError> {
    match timeout(wait, pending.acknowledged()).await {
        Ok(verdict) => Ok(verdict?),
        Err(_elapsed) => Err(AckError::TimedOut.into()),
    }
}

fn recompress(
    rules: AppendRules,
    target: Compression,
    batch: &[u8],
) -> Result<Checked, AppendError> {
    let limits = DecompressLimits {
        output_bytes_max: rules
            .batch_bytes_max
            .saturating_mul(UNPACKED_RATIO_MAX)
            .max(UNPACKED_BYTES_FREE)
            .min(DecompressLimits::default().output_bytes_max),
        ..DecompressLimits::default()
    };
    let unpacked = records(batch, &limits)?;
    let batch = unpacked.recompressed(target.codec, target.level)?;
    let (bytes, bytes_max) = (batch.len(), rules.batch_bytes_max);
    if bytes > bytes_max {
        return Err(AppendError::TooLargeRecompressed { codec: target.codec, bytes, bytes_max });
    }
    let header = BatchHeader::parse(&batch)?;
    Ok(Checked { batch, header, recompressed_bytes: Some(unpacked.size_bytes()) })
}

impl Compression {
    fn is_met_by(self, header: &BatchHeader) -> bool {
        header.attributes.is_control() || header.attributes.compression() == Some(self.codec)
    }
}

/// Compaction keeps the last record of each key, so each must have one.
fn check_keys(batch: &[u8], header: &BatchHeader) -> Result<(), AppendError> {
    if header.attributes.is_control() {
        return Ok(());
    }
    for record in records(batch, &DecompressLimits::default())?.iter() {
        if record?.key.is_none() {
            return Err(AppendError::KeylessRecord);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use thalweg_record::BatchBuilder;
    use thalweg_types::{
        CompressionType, ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp,
    };

    use super::*;
    use crate::bench::Bench;

    fn rules(codec: Option<CompressionType>) -> AppendRules {
        let compression = codec.map(|codec| Compression { codec, level: None });
        AppendRules { batch_bytes_max: 1 << 20, keys_required: false, compression }
    }

    /// Of three records, which together hold the value.
    fn batch(codec: CompressionType, sequence: i32, value: &[u8]) -> BytesMut {
        let mut builder =
            BatchBuilder::new(codec).producer(ProducerId(1), ProducerEpoch(0), Sequence(sequence));
        for part in value.chunks(value.len().div_ceil(3)) {
            builder.push(Timestamp(1_000), None, Some(part), &[]).unwrap();
        }
        builder.finish().unwrap()
    }

    /// Bytes that no codec makes smaller.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(bytes).collect()
    }

    #[test]
    fn a_topics_codec_replaces_the_producers_and_its_own_is_left_alone() {
        let sent = batch(CompressionType::Lz4, 0, b"value");
        let kept = check(rules(None), sent.clone()).unwrap();
        assert_eq!((&kept.batch, kept.recompressed_bytes), (&sent, None));
        let same = check(rules(Some(CompressionType::Lz4)), sent.clone()).unwrap();
        assert_eq!((&same.batch, same.recompressed_bytes), (&sent, None));

        let stored = check(rules(Some(CompressionType::Zstd)), sent.clone()).unwrap();
        assert_eq!(stored.header.attributes.compression(), Some(CompressionType::Zstd));
        assert!(stored.recompressed_bytes.is_some());
        let plain = check(rules(Some(CompressionType::None)), sent).unwrap();
        assert_eq!(plain.header.attributes.compression(), Some(CompressionType::None));
    }

    #[test]
    fn a_batch_that_is_too_large_once_compressed_anew_is_refused() {
        let sent = batch(CompressionType::Zstd, 0, &[7; 100_000]);
        let small = AppendRules { batch_bytes_max: 10_000, ..rules(Some(CompressionType::None)) };
        assert!(sent.len() < small.batch_bytes_max);
        let refused = check(small, sent).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::MessageTooLarge);
        assert!(refused.to_string().contains("10000 are allowed"), "{refused}");

        let noise = batch(CompressionType::None, 0, &noise(3_000));
        let size = noise.len();
        let exact = AppendRules { batch_bytes_max: size, ..rules(Some(CompressionType::Snappy)) };
        let refused = check(exact, noise).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::MessageTooLarge, "it grew: {refused}");
    }

    #[test]
    fn what_unpacks_beyond_the_bound_is_refused_before_it_is_unpacked() {
        let sent = batch(CompressionType::Zstd, 0, &vec![0; 17 << 20]);
        let refused = check(rules(Some(CompressionType::Lz4)), sent.clone()).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::MessageTooLarge, "{refused}");
        assert!(check(rules(Some(CompressionType::Zstd)), sent).is_ok(), "nobody unpacks it");
    }

    #[test]
    fn malformed_records_do_not_get_a_new_checksum() {
        let malformed = |codec| {
            let mut sent = batch(codec, 0, b"value");
            sent[61] = 0x7f;
            // Which also makes the checksum right.
            thalweg_record::stamp_log_append_time(&mut sent, Timestamp(1_000));
            sent
        };
        let sent = malformed(CompressionType::Lz4);
        assert!(check(rules(None), sent.clone()).is_ok(), "its readers will find out");
        let refused = check(rules(Some(CompressionType::Gzip)), sent).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidRecord, "{refused}");
        for codec in [None, Some(CompressionType::Gzip)] {
            let refused = check(rules(codec), malformed(CompressionType::None)).unwrap_err();
            assert_eq!(refused.code(), ErrorCode::InvalidRecord, "{refused}");
        }
    }

    #[tokio::test]
    async fn a_batch_sent_again_is_still_a_duplicate() {
        let bench = Bench::running();
        let partition = bench.leading();
        let (log_dir, events) =
            (std::sync::Arc::clone(&bench.log_dir), std::sync::Arc::clone(&bench.events));
        let admission = Admission::new(log_dir, events, Duration::from_secs(5));
        let send = async |codec, sequence| {
            let sent = batch(codec, sequence, b"value");
            let checked = check(rules(Some(CompressionType::Zstd)), sent).unwrap();
            append(&admission, &partition, checked, Acks::Leader, None).await.unwrap().appended
        };
        let first = send(CompressionType::Lz4, 0).await;
        let again = send(CompressionType::Lz4, 0).await;
        let next = send(CompressionType::None, 3).await;
        assert_eq!((first.base_offset.0, first.duplicate), (0, false));
        assert_eq!((again.base_offset.0, again.duplicate), (0, true));
        assert_eq!((next.base_offset.0, next.duplicate), (3, false));
    }
}
