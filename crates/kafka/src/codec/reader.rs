//! Reads one frame from its front to its end.
//!
//! Two bounds hold for every input. A count is believed only when that many elements can stand in the bytes that are left. And all
//! lists and strings together may take at most
//!
//! ```text
//! 7 x frame + 48 KiB + the smaller of 25 x frame and 4 MiB
//! ```
//!
//! because a structure of two bytes on the wire can be fifty in memory. Most requests need one to five times their size. What needs
//! more is a list of very short names: one of two letters is 4 bytes on the wire and 58 here, and a client may well ask for ten
//! thousand of them. Such a request is small, so the steep part of the bound ends at 4 MiB: a frame of a hundred megabytes
//! that holds nothing but empty names is an attack, and does not get thirty-two times its size.

use bytes::{Bytes, BytesMut};

use thalweg_types::Uuid;

use super::{DecodeError, KafkaString};

/// Memory that a frame of any size may turn into, as a multiple of its size. With the frame itself that makes eight.
const EXPANSION_MAX: usize = 7;

/// What a small frame may take besides, as a multiple of its size: enough for lists of names of one letter (3 bytes become
/// 57), with room to spare.
const SMALL_EXPANSION_MAX: usize = 25;

/// Where that ends: frames that use it up are above 160 KiB, 40,000 names of two letters.
const SMALL_EXPANSION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What any frame may turn into, however small it is.
const EXPANSION_BASE_BYTES: usize = 48 * 1024;

/// Heap cost of a string besides its text: two reference counts, and rounding up to whole words.
const STRING_OVERHEAD_BYTES: usize = 24;

/// One frame (or the rest of one). `records` and `bytes` fields are split off it without a copy.
#[derive(Debug)]
pub struct Reader {
    frame: BytesMut,
    /// Bytes of `frame` that have been read.
    position: usize,
    /// Where in `frame` reading must stop: its end, or the end of the tagged field being read.
    end: usize,
    budget_bytes: usize,
    budget_limit_bytes: usize,
}

/// Most memory that the lists and strings of a frame may take.
fn expansion_limit_bytes(frame_bytes: usize) -> usize {
    let small = frame_bytes.saturating_mul(SMALL_EXPANSION_MAX).min(SMALL_EXPANSION_BYTES_MAX);
    frame_bytes
        .saturating_mul(EXPANSION_MAX)
        .saturating_add(EXPANSION_BASE_BYTES)
        .saturating_add(small)
}

impl Reader {
    pub fn new(frame: BytesMut) -> Self {
        let limit = expansion_limit_bytes(frame.len());
        let end = frame.len();
        Self { frame, position: 0, end, budget_bytes: limit, budget_limit_bytes: limit }
    }

    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Refuses bytes after the end of the message.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    // ---- fixed sizes ----

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.frame.get(self.position..self.end).unwrap_or_default();
        let Some(bytes) = rest.first_chunk::<N>() else {
            return Err(DecodeError::Truncated { needed: N, remaining: rest.len() });
        };
        self.position += N;
        Ok(*bytes)
    }

    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.fixed().map(|[byte]| byte != 0)
    }

    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed().map(Uuid::from_bytes)
    }

    /// Seven bits a byte, lowest first. More bytes than needed are accepted, as Kafka does; more than five are not.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    // ---- lengths ----

    /// A byte length that fits in what is left. `None` is null.
    fn length(&mut self, flexible: bool, short: bool) -> Result<Option<usize>, DecodeError> {
        let length = match (flexible, short) {
            (true, _) => i64::from(self.unsigned_varint()?) - 1,
            (false, true) => i64::from(self.i16()?),
            (false, false) => i64::from(self.i32()?),
        };
        if length == -1 {
            return Ok(None);
        }
        let needed = usize::try_from(length).map_err(|_| DecodeError::NegativeLength(length))?;
        if needed > self.remaining() {
            return Err(DecodeError::Truncated { needed, remaining: self.remaining() });
        }
        Ok(Some(needed))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.budget_bytes.checked_sub(bytes) {
            Some(rest) => {
                self.budget_bytes = rest;
                Ok(())
            }
            None => Err(DecodeError::Expands { limit: self.budget_limit_bytes }),
        }
    }

    /// Splits the next `bytes` off the frame. The caller has checked that they are there.
    fn split(&mut self, bytes: usize) -> BytesMut {
        let _read = self.frame.split_to(self.position);
        self.end -= self.position + bytes;
        self.position = 0;
        self.frame.split_to(bytes)
    }

    // ---- text and bytes ----

    pub fn nullable_string(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<KafkaString>, DecodeError> {
        let Some(length) = self.length(flexible, true)? else {
            return if nullable { Ok(None) } else { Err(DecodeError::Null) };
        };
        if length > 0 {
            self.spend(length + STRING_OVERHEAD_BYTES)?;
        }
        let bytes = self.frame.get(self.position..self.position + length).unwrap_or_default();
        // As Kafka reads text: what is not UTF-8 is replaced, by a character that no name may contain.
        let text = String::from_utf8_lossy(bytes);
        let grown_bytes = text.len().saturating_sub(length);
        let text = KafkaString::from(&*text);
        self.spend(grown_bytes)?;
        self.position += length;
        Ok(Some(text))
    }

    pub fn string(&mut self, flexible: bool) -> Result<KafkaString, DecodeError> {
        self.nullable_string(flexible, false)?.ok_or(DecodeError::Null)
    }

    /// Record batches of a request: their own part of the frame, writable, so that offsets are stamped where they lie.
    pub fn nullable_records(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<BytesMut>, DecodeError> {
        match self.length(flexible, false)? {
            Some(length) => Ok(Some(self.split(length))),
            None if nullable => Ok(None),
            None => Err(DecodeError::Null),
        }
    }

    pub fn records(&mut self, flexible: bool) -> Result<BytesMut, DecodeError> {
        self.nullable_records(flexible, false)?.ok_or(DecodeError::Null)
    }

    /// Record batches of a response, which a server gathers from several places: read as one slice, none when null or empty.
    pub fn shared_records(&mut self, flexible: bool) -> Result<Vec<Bytes>, DecodeError> {
        let records = self.nullable_records(flexible, true)?.filter(|records| !records.is_empty());
        Ok(records.map(BytesMut::freeze).into_iter().collect())
    }

    pub fn nullable_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<Bytes>, DecodeError> {
        Ok(self.nullable_records(flexible, nullable)?.map(BytesMut::freeze))
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.records(flexible).map(BytesMut::freeze)
    }

    // ---- lists and structures ----

    /// A list whose elements take at least `bytes_min` bytes each on the wire.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = match flexible {
            true => i64::from(self.unsigned_varint()?) - 1,
            false => i64::from(self.i32()?),
        };
        if count == -1 {
            return if nullable { Ok(None) } else { Err(DecodeError::Null) };
        }
        let count = usize::try_from(count).map_err(|_| DecodeError::NegativeLength(count))?;
        let remaining = self.remaining();
        if count.checked_mul(bytes_min).is_none_or(|bytes| bytes > remaining) {
            return Err(DecodeError::TooManyElements { count, remaining });
        }
        self.spend(count.saturating_mul(size_of::<T>()))?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        bytes_min: usize,
        item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, false, bytes_min, item)?.ok_or(DecodeError::Null)
    }

    /// A structure behind a byte that says whether it is there.
    pub fn nullable_struct<T>(
        &mut self,
        nullable: bool,
        item: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        // Only a version in which it may be null has the byte.
        if nullable && self.i8()? < 0 {
            return Ok(None);
        }
        item(self).map(Some)
    }

    /// Tagged fields (KIP-482): strictly rising tags; `known` reads those it knows and says so, the others are skipped.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        let mut last = None;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if last.is_some_and(|last| tag <= last) {
                return Err(DecodeError::TagOrder { tag });
            }
            last = Some(tag);
            let size = usize::try_from(self.unsigned_varint()?).unwrap_or(usize::MAX);
            let remaining = self.remaining();
            let after = remaining
                .checked_sub(size)
                .ok_or(DecodeError::Truncated { needed: size, remaining })?;
            self.end -= after;
            let was_known = known(tag, self)?;
            if !was_known {
                self.position = self.end;
            }
            if self.remaining() > 0 {
                return Err(DecodeError::TaggedFieldLeftOver(self.remaining()));
            }
            self.end += after;
        }
        Ok(())
    }

    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }
}
