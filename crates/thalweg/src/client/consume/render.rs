//! Records as bytes on standard output.

use std::io::{self, Write};

use jiff::Timestamp as Instant;
use serde::ser::{Serialize, SerializeMap, Serializer};
use thalweg_record::{Record, RecordHeader};
use thalweg_types::Timestamp;

use crate::cli::{Consume, RecordFormat};

/// Characters of a key in the table; the value, which stands last, is never cut.
const KEY_COLUMN: usize = 16;

/// Writes one record after another in the form asked for.
#[derive(Debug)]
pub(super) enum Renderer {
    /// Value and delimiter, with the key in front if a separator is given. Null is written as nothing.
    Raw {
        key_separator: Option<Vec<u8>>,
        delimiter: Vec<u8>,
    },
    /// One object for each line. Bytes that are no UTF-8 stand in base64 under the name with `_base64`.
    Json {
        topic: String,
    },
    Table,
}

impl Renderer {
    pub(super) fn new(arguments: &Consume) -> Self {
        match arguments.output {
            RecordFormat::Raw => Self::Raw {
                key_separator: arguments.key_separator.clone().map(|text| text.0),
                delimiter: match arguments.no_delimiter {
                    true => Vec::new(),
                    false => arguments.delimiter.0.clone(),
                },
            },
            RecordFormat::Json => Self::Json { topic: arguments.topic.to_string() },
            RecordFormat::Table => Self::Table,
        }
    }

    /// What stands above the first record.
    pub(super) fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Table => writeln!(
                out,
                "{:<9}  {:>12}  {:<24}  {:<KEY_COLUMN$}  VALUE",
                "PARTITION", "OFFSET", "TIMESTAMP", "KEY"
            ),
            Self::Raw { .. } | Self::Json { .. } => Ok(()),
        }
    }

    pub(super) fn record(
        &self,
        out: &mut impl Write,
        partition: i32,
        record: &Record<'_>,
    ) -> io::Result<()> {
        match self {
            Self::Raw { key_separator, delimiter } => {
                if let Some(separator) = key_separator {
                    out.write_all(record.key.unwrap_or_default())?;
                    out.write_all(separator)?;
                }
                out.write_all(record.value.unwrap_or_default())?;
                out.write_all(delimiter)
            }
            Self::Json { topic } => {
                serde_json::to_writer(&mut *out, &Facts { topic, partition, record })?;
                out.write_all(b"\n")
            }
            Self::Table => writeln!(
                out,
                "{partition:<9}  {:>12}  {:<24}  {:<KEY_COLUMN$}  {}",
                record.offset,
                time(record.timestamp),
                shortened(&text(record.key)),
                text(record.value)
            ),
        }
    }
}

/// A record as a JSON object, its members in the order a reader looks for them.
pub(crate) struct Facts<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) record: &'a Record<'a>,
}

/// A header of a record as a JSON object.
struct HeaderFacts<'a>(RecordHeader<'a>);

impl Serialize for Facts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &self.record.offset.0)?;
        map.serialize_entry("timestamp_ms", &self.record.timestamp.0)?;
        bytes_entry(&mut map, ["key", "key_base64"], self.record.key)?;
        bytes_entry(&mut map, ["value", "value_base64"], self.record.value)?;
        let headers: Vec<_> = self.record.headers.clone().map(HeaderFacts).collect();
        map.serialize_entry("headers", &headers)?;
        map.end()
    }
}

impl Serialize for HeaderFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        bytes_entry(&mut map, ["key", "key_base64"], Some(self.0.key))?;
        bytes_entry(&mut map, ["value", "value_base64"], self.0.value)?;
        map.end()
    }
}

/// Null, text, or base64 under the second name.
fn bytes_entry<M: SerializeMap>(
    map: &mut M,
    [name, base64_name]: [&str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes {
        None => map.serialize_entry(name, &()),
        Some(bytes) => match str::from_utf8(bytes) {
            Ok(text) => map.serialize_entry(name, text),
            Err(_) => map.serialize_entry(base64_name, &base64(bytes)),
        },
    }
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, position| {
            (bits << 8) | u32::from(group.get(position).copied().unwrap_or_default())
        });
        for position in 0..4 {
            let sextet = (bits >> (18 - 6 * position)) & 0x3f;
            let padding = position > group.len();
            text.push(if padding { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

/// Text that cannot upset a terminal: control characters and broken UTF-8 are shown, not sent.
pub(crate) fn text(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let mut shown = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

pub(crate) fn shortened(text: &str) -> String {
    if text.chars().count() <= KEY_COLUMN {
        return text.to_owned();
    }
    text.chars().take(KEY_COLUMN - 3).chain("...".chars()).collect()
}

pub(crate) fn time(timestamp: Timestamp) -> String {
    match Instant::from_millisecond(timestamp.0) {
        Ok(instant) if timestamp != Timestamp::NONE => format!("{instant:.3}"),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use thalweg_record::{BatchBuilder, DecompressLimits, records};
    use thalweg_types::CompressionType;

    use super::*;

    fn rendered(renderer: &Renderer, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
        let header = RecordHeader { key: b"h", value: Some(b"\xff\x00") };
        let mut builder = BatchBuilder::new(CompressionType::None);
        builder.push(Timestamp(1500), key, value, &[header]).unwrap();
        let batch = builder.finish().unwrap();
        let decoded = records(&batch, &DecompressLimits::default()).unwrap();
        let record = decoded.iter().next().unwrap().unwrap();
        let mut out = Vec::new();
        renderer.begin(&mut out).unwrap();
        renderer.record(&mut out, 2, &record).unwrap();
        out
    }

    #[test]
    fn raw_output_is_the_value_byte_for_byte() {
        let raw = Renderer::Raw { key_separator: None, delimiter: b"\n".to_vec() };
        assert_eq!(rendered(&raw, Some(b"k"), Some(b"\x00\xffv\r")), b"\x00\xffv\r\n");
        assert_eq!(rendered(&raw, None, None), b"\n");
        let keyed = Renderer::Raw { key_separator: Some(b"=".to_vec()), delimiter: Vec::new() };
        assert_eq!(rendered(&keyed, Some(b"k"), Some(b"v")), b"k=v");
    }

    #[test]
    fn json_output_tells_null_from_empty_and_keeps_bytes_that_are_no_text() {
        let line = rendered(&Renderer::Json { topic: "t".to_owned() }, None, Some(b"\xfe"));
        let facts: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            facts,
            json!({
                "topic": "t", "partition": 2, "offset": 0, "timestamp_ms": 1500,
                "key": null, "value_base64": "/g==",
                "headers": [{ "key": "h", "value_base64": "/wA=" }],
            })
        );
        let line = rendered(&Renderer::Json { topic: "t".to_owned() }, Some(b""), Some(b"\"\n"));
        assert!(String::from_utf8(line).unwrap().contains(r#""key":"","value":"\"\n""#));
    }

    #[test]
    fn the_table_shows_control_characters_instead_of_sending_them() {
        let text = rendered(&Renderer::Table, Some(&[b'k'; 40]), Some(b"a\x1b[2J\nb"));
        let text = String::from_utf8(text).unwrap();
        let row = text.lines().nth(1).unwrap();
        assert_eq!(
            row,
            "2                     0  1970-01-01T00:00:01.500Z  kkkkkkkkkkkkk...  a\\u{1b}[2J\\nb"
        );
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn base64_pads_every_length() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }
}
