//! Producing: from a client's bytes to a pending acknowledgement.
//!
//! The way is the same for both protocols: check the batch without walking its records, wait for room if there is none, let the
//! partition stamp and journal it, and wait for the position that `acks` names. Everything up to the journal happens at the first
//! poll, so calls made one after the other append in that order even when their acknowledgements overlap.

use std::time::Duration;

use bytes::BytesMut;
use thalweg_record::{BatchHeader, DecompressLimits, ProduceLimits, check_produced, records};
use thalweg_storage::Appended;
use thalweg_types::Acks;
use tokio::time::timeout;

use crate::admission::Admission;
use crate::error::{AppendError, ProduceError};
use crate::partition::{AckError, Partition, Pending};

/// Appends one batch; what is returned waits for the acknowledgement.
///
/// # Errors
///
/// Nothing was appended.
pub(crate) async fn append(
    admission: &Admission,
    partition: &Partition,
    batch: BytesMut,
    acks: Acks,
) -> Result<Pending, AppendError> {
    let rules = partition.rules();
    let header = check_produced(&batch, &ProduceLimits { batch_bytes_max: rules.batch_bytes_max })?;
    if rules.keys_required {
        check_keys(&batch, &header)?;
    }
    let _permit = admission.enter().await?;
    partition.append(batch, &header, acks)
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

/// The one rule that needs the records themselves: compaction keeps the last record of each key, so each must have one.
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
