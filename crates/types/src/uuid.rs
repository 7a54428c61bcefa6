//! A 128-bit identity in the notation Kafka tools print: 22 characters of unpadded URL-safe base64.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of the text form: 128 bits at 6 bits a character, rounded up.
const TEXT_CHARS: usize = 22;

/// 128 bits, big-endian on the wire (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

/// The text is not 22 characters of URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a 22-character URL-safe base64 identity")]
pub struct ParseUuidError(pub String);

impl Uuid {
    /// "No identity" on the Kafka wire.
    pub const ZERO: Self = Self([0; 16]);

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Turns 128 random bits into a version 4 identity, and one whose text never begins with `-`, so that it can be passed to
    /// command-line tools.
    pub fn from_random_bits(bits: u128) -> Self {
        let mut bytes = bits.to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        if bytes[0] >> 2 == 62 {
            bytes[0] &= 0x7f;
        }
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0_u8; TEXT_CHARS];
        for (position, character) in text.iter_mut().enumerate() {
            // 22 characters carry 132 bits: the last one holds the lowest two bits, shifted up by four.
            let shift = 122 - 6 * i32::try_from(position).expect("22 positions fit in i32");
            let sextet = if shift >= 0 { bits >> shift } else { bits << -shift };
            *character = ALPHABET[(sextet & 0x3f) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseUuidError(text.chars().take(64).collect());
        if text.len() != TEXT_CHARS {
            return Err(fail());
        }
        let mut bits = 0_u128;
        for (position, character) in text.bytes().enumerate() {
            let sextet =
                ALPHABET.iter().position(|known| *known == character).ok_or_else(fail)? as u128;
            if position + 1 < TEXT_CHARS {
                bits = (bits << 6) | sextet;
            } else if sextet & 0x0f == 0 {
                bits = (bits << 2) | (sextet >> 4);
            } else {
                return Err(fail());
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for bits in [0, 1, 3, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let uuid = Uuid::from_bytes(bits.to_be_bytes());
            assert_eq!(uuid.to_string().parse(), Ok(uuid));
        }
    }

    #[test]
    fn text_form_is_url_safe_base64() {
        // Java: Uuid.METADATA_TOPIC_ID is 0...01 and prints so.
        assert_eq!(Uuid::from_bytes(1_u128.to_be_bytes()).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn other_lengths_characters_and_loose_bits_are_refused() {
        for text in
            ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAA+Q", "AAAAAAAAAAAAAAAAAAAAAB"]
        {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }

    #[test]
    fn random_identities_never_begin_with_a_dash() {
        assert!(!Uuid::from_random_bits(u128::MAX - (1 << 122)).to_string().starts_with('-'));
        assert!(!Uuid::from_random_bits(62 << 122).to_string().starts_with('-'));
    }
}
