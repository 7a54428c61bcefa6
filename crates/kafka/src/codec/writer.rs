//! Writes messages as a list of segments: small fields gathered, record bytes referred to.

use bytes::{BufMut, Bytes, BytesMut};

use thalweg_types::Uuid;

use super::{EncodeError, KafkaString};

/// Room for the length that stands before a frame.
const LENGTH_BYTES: usize = 4;

/// One encoded frame, its length first, in the pieces in which it is to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments {
    pub parts: Vec<Bytes>,
    /// Sum of the parts.
    pub bytes: usize,
}

impl Segments {
    /// All of it in one piece: for tests and small messages.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.bytes);
        self.parts.iter().for_each(|part| whole.extend_from_slice(part));
        whole.freeze()
    }
}

#[derive(Debug, Default)]
pub struct Writer {
    /// Small fields since the last piece that is only referred to.
    gathered: BytesMut,
    /// The first piece, still writable for the length in front; empty until there are several.
    head: BytesMut,
    /// The pieces after `head`.
    parts: Vec<Bytes>,
    parts_bytes: usize,
}

/// Tagged fields of one structure, already encoded, in rising order of their tags.
#[derive(Debug, Default)]
pub struct TaggedFields {
    count: u32,
    encoded: Writer,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a frame: [`Self::finish_frame`] puts its length in front.
    pub fn frame() -> Self {
        let mut writer = Self { gathered: BytesMut::with_capacity(256), ..Self::default() };
        writer.gathered.put_bytes(0, LENGTH_BYTES);
        writer
    }

    /// Ends a frame begun by [`Self::frame`].
    pub fn finish_frame(mut self) -> Result<Segments, EncodeError> {
        let length = (self.parts_bytes + self.gathered.len()).saturating_sub(LENGTH_BYTES);
        let length = i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?;
        let first = if self.head.is_empty() { &mut self.gathered } else { &mut self.head };
        first
            .get_mut(..LENGTH_BYTES)
            .expect("a frame begins with room for its length")
            .copy_from_slice(&length.to_be_bytes());
        Ok(self.finish())
    }

    /// What was written.
    pub fn finish(self) -> Segments {
        let Self { gathered, head, mut parts, parts_bytes } = self;
        let bytes = parts_bytes + gathered.len();
        if head.is_empty() && parts.is_empty() {
            return Segments { parts: vec![gathered.freeze()], bytes };
        }
        if !gathered.is_empty() {
            parts.push(gathered.freeze());
        }
        if !head.is_empty() {
            parts.insert(0, head.freeze());
        }
        Segments { parts, bytes }
    }

    /// Ends the piece being gathered.
    fn cut(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.parts_bytes += self.gathered.len();
        let piece = self.gathered.split();
        if self.head.is_empty() && self.parts.is_empty() {
            self.head = piece;
        } else {
            self.parts.push(piece.freeze());
        }
    }

    // ---- fixed sizes ----

    pub fn bool(&mut self, value: bool) {
        self.gathered.put_u8(u8::from(value));
    }

    pub fn i8(&mut self, value: i8) {
        self.gathered.put_i8(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.gathered.put_i16(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.gathered.put_u16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.gathered.put_i32(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.gathered.put_u32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.gathered.put_i64(value);
    }

    pub fn f64(&mut self, value: f64) {
        self.gathered.put_f64(value);
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.gathered.put_slice(value.as_bytes());
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.gathered.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.gathered.put_u8(value as u8);
    }

    // ---- lengths ----

    fn null(&mut self, flexible: bool, nullable: bool, short: bool) -> Result<(), EncodeError> {
        match (nullable, flexible, short) {
            (false, _, _) => return Err(EncodeError::Null),
            (true, true, _) => self.unsigned_varint(0),
            (true, false, true) => self.i16(-1),
            (true, false, false) => self.i32(-1),
        }
        Ok(())
    }

    fn length(&mut self, length: usize, flexible: bool, short: bool) -> Result<(), EncodeError> {
        let too_long = |_| EncodeError::TooLong(length);
        match (flexible, short) {
            (true, _) => {
                // Kafka reads compact lengths as a signed number, strings among them as a short one.
                let most = if short { i16::MAX as usize } else { i32::MAX as usize - 1 };
                if length > most {
                    return Err(EncodeError::TooLong(length));
                }
                self.unsigned_varint(u32::try_from(length).map_err(too_long)? + 1);
            }
            (false, true) => self.i16(i16::try_from(length).map_err(too_long)?),
            (false, false) => self.i32(i32::try_from(length).map_err(too_long)?),
        }
        Ok(())
    }

    // ---- text and bytes ----

    pub fn string(&mut self, text: KafkaString, flexible: bool) -> Result<(), EncodeError> {
        self.length(text.len(), flexible, true)?;
        self.gathered.put_slice(text.as_bytes());
        Ok(())
    }

    pub fn nullable_string(
        &mut self,
        text: Option<KafkaString>,
        flexible: bool,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        match text {
            Some(text) => self.string(text, flexible),
            None => self.null(flexible, nullable, true),
        }
    }

    pub fn bytes(&mut self, bytes: Bytes, flexible: bool) -> Result<(), EncodeError> {
        self.length(bytes.len(), flexible, false)?;
        self.gathered.put_slice(&bytes);
        Ok(())
    }

    pub fn nullable_bytes(
        &mut self,
        bytes: Option<Bytes>,
        flexible: bool,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        match bytes {
            Some(bytes) => self.bytes(bytes, flexible),
            None => self.null(flexible, nullable, false),
        }
    }

    pub fn records(&mut self, records: BytesMut, flexible: bool) -> Result<(), EncodeError> {
        self.shared_records(vec![records.freeze()], flexible)
    }

    pub fn nullable_records(
        &mut self,
        records: Option<BytesMut>,
        flexible: bool,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        match records {
            Some(records) => self.records(records, flexible),
            None => self.null(flexible, nullable, false),
        }
    }

    /// Refers to `pieces`, which together are one field.
    pub fn shared_records(
        &mut self,
        pieces: Vec<Bytes>,
        flexible: bool,
    ) -> Result<(), EncodeError> {
        let bytes = pieces.iter().map(Bytes::len).sum();
        self.length(bytes, flexible, false)?;
        self.cut();
        self.parts.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        self.parts_bytes += bytes;
        Ok(())
    }

    // ---- lists and structures ----

    pub fn array<T>(
        &mut self,
        items: Vec<T>,
        flexible: bool,
        mut put: impl FnMut(&mut Self, T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(items.len(), flexible, false)?;
        items.into_iter().try_for_each(|item| put(self, item))
    }

    pub fn nullable_array<T>(
        &mut self,
        items: Option<Vec<T>>,
        flexible: bool,
        nullable: bool,
        put: impl FnMut(&mut Self, T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match items {
            Some(items) => self.array(items, flexible, put),
            None => self.null(flexible, nullable, false),
        }
    }

    pub fn nullable_struct<T>(
        &mut self,
        item: Option<T>,
        nullable: bool,
        put: impl FnOnce(&mut Self, T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match (item, nullable) {
            (Some(item), true) => {
                self.i8(1);
                put(self, item)
            }
            (Some(item), false) => put(self, item),
            (None, true) => {
                self.i8(-1);
                Ok(())
            }
            (None, false) => Err(EncodeError::Null),
        }
    }

    pub fn no_tagged_fields(&mut self) {
        self.unsigned_varint(0);
    }

    pub fn tagged_fields(&mut self, fields: TaggedFields) {
        self.unsigned_varint(fields.count);
        let encoded = fields.encoded.finish();
        encoded.parts.iter().for_each(|part| self.gathered.put_slice(part));
    }
}

impl TaggedFields {
    /// Adds one field that is not at its default; tags must come in rising order.
    pub fn put(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut value = Writer::new();
        write(&mut value)?;
        let value = value.finish();
        self.count += 1;
        self.encoded.unsigned_varint(tag);
        let size = u32::try_from(value.bytes).map_err(|_| EncodeError::TooLong(value.bytes))?;
        self.encoded.unsigned_varint(size);
        value.parts.iter().for_each(|part| self.encoded.gathered.put_slice(part));
        Ok(())
    }
}
