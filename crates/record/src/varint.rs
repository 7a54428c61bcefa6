//! Zigzag varints, the numbers inside records: 7 bits a byte, lowest first, sign in the lowest bit.
//!
//! Bounded both ways: at most 5 bytes for 32 bits and 10 for 64, and bits beyond the type's width are refused.

use bytes::{BufMut, BytesMut};

const MORE: u8 = 0x80;

/// Takes a 64-bit varint off the front of `bytes`; `None` when it is cut short or too wide.
pub(crate) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let (raw, rest) = take(bytes, u64::BITS)?;
    *bytes = rest;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Takes a 32-bit varint off the front of `bytes`; `None` when it is cut short or too wide.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (raw, rest) = take(bytes, u32::BITS)?;
    let raw = u32::try_from(raw).ok()?;
    *bytes = rest;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

fn take(bytes: &[u8], width_bits: u32) -> Option<(u64, &[u8])> {
    let mut raw = 0_u64;
    let mut shift = 0;
    let mut rest = bytes;
    while shift < width_bits {
        let (byte, after) = rest.split_first()?;
        rest = after;
        let bits = u64::from(byte & !MORE);
        // The last byte of a full-width number may only carry what still fits.
        if shift + 7 > width_bits && bits >> (width_bits - shift) != 0 {
            return None;
        }
        raw |= bits << shift;
        if byte & MORE == 0 {
            return Some((raw, rest));
        }
        shift += 7;
    }
    None
}

pub(crate) fn put_i64(target: &mut BytesMut, number: i64) {
    let mut raw = zigzag(number);
    while raw >= u64::from(MORE) {
        target.put_u8((raw & 0x7f) as u8 | MORE);
        raw >>= 7;
    }
    target.put_u8(raw as u8);
}

/// Zigzag of a 32-bit number and of the same number in 64 bits are the same bytes.
pub(crate) fn put_i32(target: &mut BytesMut, number: i32) {
    put_i64(target, i64::from(number));
}

/// Bytes that [`put_i64`] writes for `number`.
pub(crate) fn size_bytes(number: i64) -> usize {
    let significant = u64::BITS - zigzag(number).leading_zeros();
    significant.div_ceil(7).max(1) as usize
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_in_the_bytes_they_were_sized_for() {
        let edges =
            [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MIN), i64::MAX, i64::MIN];
        for number in edges {
            let mut bytes = BytesMut::new();
            put_i64(&mut bytes, number);
            assert_eq!(bytes.len(), size_bytes(number), "{number}");
            let mut rest = &bytes[..];
            assert_eq!(take_i64(&mut rest), Some(number));
            assert!(rest.is_empty());
        }
        for number in [0, -1, i32::MAX, i32::MIN] {
            let mut bytes = BytesMut::new();
            put_i32(&mut bytes, number);
            assert_eq!(take_i32(&mut &bytes[..]), Some(number));
        }
    }

    #[test]
    fn known_bytes_decode_to_known_numbers() {
        // The zigzag examples of the protocol buffers encoding guide.
        for (bytes, number) in [([0_u8].as_slice(), 0), (&[1], -1), (&[2], 1), (&[0xac, 2], 150)] {
            assert_eq!(take_i32(&mut { bytes }), Some(number));
        }
    }

    #[test]
    fn cut_endless_and_too_wide_numbers_are_refused_and_take_nothing() {
        for bytes in [&[][..], &[0x80], &[0x80, 0x80], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0x10]]
        {
            let mut rest = bytes;
            assert_eq!(take_i32(&mut rest), None, "{bytes:x?}");
            assert_eq!(rest, bytes);
        }
        let ten_bytes_too_wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(take_i64(&mut &ten_bytes_too_wide[..]), None);
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(i32::MIN));
    }
}
