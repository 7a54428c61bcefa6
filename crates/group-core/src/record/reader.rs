//! Reads one key or value from its front to its end.
//!
//! A count is believed only when that many elements can stand in the bytes that are left, so a value takes memory in proportion to its size.
//! Text is copied out, byte fields share the buffer they came in.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use thalweg_types::Uuid;

use super::DecodeError;

/// Bits that one byte of a variable-length number carries, and how many bytes 32 bits take.
const VARINT_BITS: u32 = 7;
const VARINT_BYTES_MAX: u32 = 5;

#[derive(Debug)]
pub(super) struct Reader {
    bytes: Bytes,
    /// Whether lengths are compact and tagged fields follow each structure.
    flexible: bool,
}

impl Reader {
    pub(super) fn new(bytes: &Bytes) -> Self {
        Self { bytes: bytes.clone(), flexible: false }
    }

    /// From here on, lengths are compact and structures end in tagged fields.
    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        let remaining = self.bytes.len();
        if remaining < needed {
            return Err(DecodeError::Truncated { needed, remaining });
        }
        Ok(())
    }

    pub(super) fn i8(&mut self) -> Result<i8, DecodeError> {
        self.need(1)?;
        Ok(self.bytes.get_i8())
    }

    pub(super) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.need(2)?;
        Ok(self.bytes.get_i16())
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.need(4)?;
        Ok(self.bytes.get_i32())
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.bytes.get_i64())
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.need(16)?;
        let mut bytes = [0; 16];
        self.bytes.copy_to_slice(&mut bytes);
        Ok(Uuid::from_bytes(bytes))
    }

    fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u64;
        for position in 0..VARINT_BYTES_MAX {
            self.need(1)?;
            let byte = self.bytes.get_u8();
            value |= u64::from(byte & 0x7f) << (position * VARINT_BITS);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::VarintTooLong);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A length; `None` stands for null. Not flexible: 16 bits for texts, 32 for all else.
    fn length(&mut self, is_text: bool) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            let raw = self.unsigned_varint()? as usize;
            return Ok(raw.checked_sub(1));
        }
        let raw = if is_text { i64::from(self.i16()?) } else { i64::from(self.i32()?) };
        match raw {
            -1 => Ok(None),
            _ => usize::try_from(raw).map(Some).map_err(|_| DecodeError::NegativeLength(raw)),
        }
    }

    pub(super) fn nullable_text(&mut self) -> Result<Option<Arc<str>>, DecodeError> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        self.need(length)?;
        let bytes = self.bytes.split_to(length);
        let text = std::str::from_utf8(&bytes).map_err(|_| DecodeError::NotText)?;
        Ok(Some(Arc::from(text)))
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>, DecodeError> {
        self.nullable_text()?.ok_or(DecodeError::Null)
    }

    /// A text that names somebody.
    pub(super) fn id<T: From<Arc<str>>>(&mut self) -> Result<T, DecodeError> {
        self.text().map(T::from)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.length(false)?.ok_or(DecodeError::Null)?;
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(false)? else { return Ok(None) };
        self.need(length)?;
        Ok(Some(self.bytes.split_to(length)))
    }

    /// A list whose elements take at least `element_bytes_min` each.
    pub(super) fn list<T>(
        &mut self,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.length(false)?.ok_or(DecodeError::Null)?;
        let remaining = self.bytes.len();
        if count.saturating_mul(element_bytes_min.max(1)) > remaining {
            return Err(DecodeError::TooManyElements { count, remaining });
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    /// The tagged fields of a structure, if this version has any: `known` takes what it knows, the rest is skipped.
    pub(super) fn tagged(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.unsigned_varint()?;
        let mut last = None;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if last.is_some_and(|last| tag <= last) {
                return Err(DecodeError::TagOrder(tag));
            }
            last = Some(tag);
            let length = self.unsigned_varint()? as usize;
            self.need(length)?;
            let mut field = Self { bytes: self.bytes.split_to(length), flexible: true };
            if known(tag, &mut field)? {
                field.end()?;
            }
        }
        Ok(())
    }

    /// Tagged fields of which we know none.
    pub(super) fn no_tagged(&mut self) -> Result<(), DecodeError> {
        self.tagged(|_, _| Ok(false))
    }
}
