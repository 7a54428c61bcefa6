//! A quick look over the records of an uncompressed batch: whether every length, delta and count in them is as it must be.
//!
//! Every produced batch passes through here, so the way of a good one is short: nothing is allocated, nothing is built, and a number is
//! mostly one or two bytes. Whatever is not obviously fine is left to [`Records`](crate::Records), which reads the same bytes
//! thoroughly and words the error; so this must accept nothing that a reader would refuse.

use crate::error::BatchError;
use crate::header::{BatchHeader, HEADER_BYTES};
use crate::varint;

/// Bytes from which on a byte of a varint says that another one follows.
const MORE: u8 = 0x80;

/// Checks the records of an uncompressed client's batch that is whole: as many as the header says, numbered 0, 1, 2, ..., each with
/// lengths that add up to its own, and nothing after them.
pub(crate) fn check_records(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let bytes = batch.get(HEADER_BYTES..).unwrap_or_default();
    let count = u32::try_from(header.record_count).unwrap_or(0);
    if is_well_formed(bytes, count, header.base_timestamp.0) {
        return Ok(());
    }
    crate::records(batch, &crate::DecompressLimits::default())?
        .iter()
        .find_map(Result::err)
        .map_or(Ok(()), Err)
}

fn is_well_formed(bytes: &[u8], count: u32, base_timestamp: i64) -> bool {
    let mut rest = bytes;
    for index in 0..count {
        let Some(record) = take_field(&mut rest) else { return false };
        if !is_well_formed_record(record, index, base_timestamp) {
            return false;
        }
    }
    rest.is_empty()
}

#[inline]
fn is_well_formed_record(record: &[u8], index: u32, base_timestamp: i64) -> bool {
    let Some((_attributes, mut rest)) = record.split_first() else { return false };
    let Some(timestamp_delta) = take_i64(&mut rest) else { return false };
    let Some(offset_delta) = take_raw(&mut rest) else { return false };
    if base_timestamp.checked_add(timestamp_delta).is_none() || offset_delta != index << 1 {
        return false;
    }
    if skip_nullable(&mut rest).is_none() || skip_nullable(&mut rest).is_none() {
        return false;
    }
    match rest {
        // No headers.
        [0] => true,
        _ => are_well_formed_headers(rest),
    }
}

fn are_well_formed_headers(mut rest: &[u8]) -> bool {
    let Some(count) = take_raw(&mut rest) else { return false };
    // Negative, or more than there is room for: each takes two bytes at least.
    if count & 1 != 0 || (count >> 1) as usize > rest.len() / 2 {
        return false;
    }
    for _ in 0..count >> 1 {
        if take_field(&mut rest).is_none() || skip_nullable(&mut rest).is_none() {
            return false;
        }
    }
    rest.is_empty()
}

/// Takes a length, which must not be negative, and that many bytes.
#[inline]
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let raw = take_raw(rest)?;
    if raw & 1 != 0 {
        return None;
    }
    let (field, after) = rest.split_at_checked((raw >> 1) as usize)?;
    *rest = after;
    Some(field)
}

/// Skips a length and that many bytes; -1, which is 1 in zigzag, stands for null.
#[inline]
fn skip_nullable(rest: &mut &[u8]) -> Option<()> {
    let raw = take_raw(rest)?;
    if raw == 1 {
        return Some(());
    }
    if raw & 1 != 0 {
        return None;
    }
    *rest = rest.get((raw >> 1) as usize..)?;
    Some(())
}

/// Takes a 32-bit number as it is written: twice its value, or less than twice it when it is negative.
#[inline]
fn take_raw(rest: &mut &[u8]) -> Option<u32> {
    match **rest {
        [low, ref after @ ..] if low < MORE => {
            *rest = after;
            Some(u32::from(low))
        }
        [low, high, ref after @ ..] if high < MORE => {
            *rest = after;
            Some(u32::from(low & !MORE) | u32::from(high) << 7)
        }
        _ => varint::take_i32(rest).map(|number| ((number << 1) ^ (number >> 31)).cast_unsigned()),
    }
}

#[inline]
fn take_i64(rest: &mut &[u8]) -> Option<i64> {
    match **rest {
        [low, ref after @ ..] if low < MORE => {
            *rest = after;
            Some(i64::from(low >> 1) ^ -i64::from(low & 1))
        }
        _ => varint::take_i64(rest),
    }
}

#[cfg(test)]
mod tests;
