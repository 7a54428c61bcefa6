//! Writes one key or value.

use bytes::{BufMut, Bytes, BytesMut};

use thalweg_types::Uuid;

use crate::config::ID_BYTES_MAX;

#[derive(Debug)]
pub(super) struct Writer {
    bytes: BytesMut,
    flexible: bool,
}

impl Writer {
    /// Begins a key of this kind or a value of this version.
    pub(super) fn new(kind_or_version: i16) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_i16(kind_or_version);
        Self { bytes, flexible: false }
    }

    /// The same, for a value with compact lengths and tagged fields.
    pub(super) fn flexible(version: i16) -> Self {
        Self { flexible: true, ..Self::new(version) }
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.bytes.put_i8(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.bytes.put_slice(value.as_bytes());
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.nullable_text(Some(text));
    }

    pub(super) fn nullable_text(&mut self, text: Option<&str>) {
        let text = text.map(|text| cut(text, ID_BYTES_MAX));
        match (self.flexible, text) {
            (true, None) => self.unsigned_varint(0),
            (true, Some(text)) => self.unsigned_varint(text.len() + 1),
            (false, None) => self.bytes.put_i16(-1),
            // Within 15 bits: it has been cut.
            (false, Some(text)) => self.bytes.put_u16(text.len() as u16),
        }
        self.bytes.put_slice(text.unwrap_or_default().as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.put_slice(bytes);
    }

    /// A byte field that is not there; never in flexible versions here.
    pub(super) fn no_bytes(&mut self) {
        self.bytes.put_i32(-1);
    }

    /// Length of a list or of a byte field. What has one is held to a limit far below 31 bits before.
    fn count(&mut self, count: usize) {
        if self.flexible {
            self.unsigned_varint(count + 1);
        } else {
            self.bytes.put_u32(count as u32);
        }
    }

    pub(super) fn list<T>(&mut self, list: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.count(list.len());
        list.iter().for_each(|item| element(self, item));
    }

    pub(super) fn no_tagged(&mut self) {
        if self.flexible {
            self.bytes.put_u8(0);
        }
    }

    /// The structure's tagged fields: none, or this one.
    pub(super) fn tagged(&mut self, field: Option<(usize, Bytes)>) {
        let Some((tag, value)) = field else { return self.no_tagged() };
        self.unsigned_varint(1);
        self.unsigned_varint(tag);
        self.unsigned_varint(value.len());
        self.bytes.put_slice(&value);
    }

    /// The bytes of a tagged field.
    pub(super) fn field(write: impl FnOnce(&mut Self)) -> Bytes {
        let mut writer = Self { bytes: BytesMut::new(), flexible: true };
        write(&mut writer);
        writer.finish()
    }
}

/// The longest beginning of `text` that has at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
