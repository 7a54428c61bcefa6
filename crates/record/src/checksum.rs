//! CRC-32C over a batch, by the processor's own instructions where it has them.

use crate::error::BatchError;
use crate::header::{BatchHeader, at};

/// Bytes of the batch that the checksum covers begin here.
const COVERED_FROM: usize = at::ATTRIBUTES;

/// Computes the checksum of `batch`, which is one whole batch (longer input is cut to the header's length), and compares it with the
/// stored one. Fails with [`BatchError::Truncated`] when bytes are missing and [`BatchError::Checksum`] when they differ.
pub fn verify_crc(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let needed = header.size_bytes();
    let covered = batch
        .get(COVERED_FROM..needed)
        .ok_or(BatchError::Truncated { needed, have: batch.len() })?;
    let computed = crc_fast::crc32_iscsi(covered);
    if computed == header.crc {
        Ok(())
    } else {
        Err(BatchError::Checksum { found: header.crc, computed })
    }
}

/// The checksum that belongs into `batch`, one whole batch.
pub(crate) fn compute(batch: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(batch.get(COVERED_FROM..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_polynomial_is_castagnolis() {
        // RFC 3720, appendix B.4: 32 zero bytes, and the digits every CRC catalogue lists.
        assert_eq!(crc_fast::crc32_iscsi(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc_fast::crc32_iscsi(b"123456789"), 0xe306_9283);
    }
}
