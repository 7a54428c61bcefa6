//! Values of arguments that are more than a number or a word.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp as Instant;
use thalweg_types::{Offset, Timestamp};

/// Units of configs that count milliseconds, and what they are worth.
const MS_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Longest time that makes sense to wait; timers overflow far beyond it.
const SPAN_MS_MAX: u64 = 4 * 604_800_000;

/// Units of configs that count bytes.
const BYTES_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Where the gRPC listener is, as a URI that a channel can be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    pub(crate) uri: String,
}

/// A config: `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A stretch of time, given with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// Bytes between or behind records, given with escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delimiter(pub(crate) Vec<u8>);

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartAt {
    Earliest,
    Latest,
    Offset(Offset),
    /// The first record that is not older.
    Timestamp(Timestamp),
}

impl FromStr for Bootstrap {
    type Err = String;

    /// `localhost` becomes `127.0.0.1`, which is where a server listens by default; the name may resolve to `::1` first.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("https://") {
            return Err("TLS is not supported yet; use HOST:PORT".to_owned());
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = authority
            .rsplit_once(':')
            .ok_or_else(|| format!("{text:?} is not HOST:PORT, such as localhost:50051"))?;
        let valid_host = !host.is_empty()
            && host.chars().all(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']')
            });
        let valid_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        if !valid_host || !valid_port {
            return Err(format!("{text:?} is not HOST:PORT, such as localhost:50051"));
        }
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        Ok(Self { uri: format!("http://{host}:{port}") })
    }
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: without_unit(name, value) })
            }
            _ => Err(format!("{text:?} is not NAME=VALUE, such as retention.ms=1d")),
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match scaled(text, MS_UNITS) {
            Some(1..=SPAN_MS_MAX) if !text.ends_with(|c: char| c.is_ascii_digit()) => {}
            _ => return Err(format!("{text:?} is not a time with a unit, such as 30s, up to 4w")),
        }
        Ok(Self(Duration::from_millis(scaled(text, MS_UNITS).unwrap_or_default())))
    }
}

/// A time or size in the unit that the config counts in. What is no number with a unit stays: the server says what is wrong with it.
fn without_unit(name: &str, value: &str) -> String {
    let units = match name.rsplit_once('.') {
        Some((_, "ms")) => MS_UNITS,
        Some((_, "bytes")) => BYTES_UNITS,
        _ => return value.to_owned(),
    };
    match scaled(value, units) {
        Some(scaled) => scaled.to_string(),
        None => value.to_owned(),
    }
}

/// A number with one of the units.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(known, _)| *known == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((plain, escaped)) = rest.split_once('\\') {
            bytes.extend_from_slice(plain.as_bytes());
            let mut characters = escaped.chars();
            match characters.next() {
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('r') => bytes.push(b'\r'),
                Some('0') => bytes.push(0),
                Some('\\') => bytes.push(b'\\'),
                Some('x') => {
                    let digits = characters.as_str().get(..2).unwrap_or_default();
                    let byte = u8::from_str_radix(digits, 16)
                        .map_err(|_| format!("\\x needs two hexadecimal digits in {text:?}"))?;
                    bytes.push(byte);
                    characters.nth(1);
                }
                _ => return Err(format!("escapes are \\t \\n \\r \\0 \\\\ \\xNN, in {text:?}")),
            }
            rest = characters.as_str();
        }
        bytes.extend_from_slice(rest.as_bytes());
        Ok(Self(bytes))
    }
}

impl FromStr for StartAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(ms) = text.strip_prefix('@') {
            return match ms.parse() {
                Ok(ms @ 0..) => Ok(Self::Timestamp(Timestamp(ms))),
                _ => Err(format!("{text:?}: @ must be followed by milliseconds since 1970")),
            };
        }
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(offset @ 0..) = text.parse() {
            return Ok(Self::Offset(Offset(offset)));
        }
        match text.parse::<Instant>() {
            Ok(instant) if instant.as_millisecond() >= 0 => {
                Ok(Self::Timestamp(Timestamp(instant.as_millisecond())))
            }
            _ => Err(format!(
                "{text:?} is none of: earliest, latest, an offset, a time such as 2026-01-31T12:00:00Z, @ and milliseconds"
            )),
        }
    }
}
