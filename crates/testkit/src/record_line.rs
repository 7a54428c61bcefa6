//! Records as lines of text: what the client programs read and write (`clients/README.md`).

use std::fmt::Write;

/// A record without its offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordLine {
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl RecordLine {
    /// The line that a program reads, with its line end.
    pub fn to_line(&self) -> String {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| format!("{name}:{}", hex(value))).collect();
        let (key, value) = (hex(&self.key), hex(&self.value));
        format!("{}\t{key}\t{value}\t{}\n", self.timestamp_ms, headers.join(","))
    }

    /// Offset and record from a line that a program wrote.
    ///
    /// # Panics
    /// When it is no such line.
    pub fn parse(line: &str) -> (i64, Self) {
        let fields: Vec<_> = line.split('\t').collect();
        let [offset, timestamp, key, value, headers] = fields[..] else {
            panic!("not a record: {line:?}");
        };
        let headers = headers.split(',').filter(|header| !header.is_empty()).map(|header| {
            let (name, value) = header.split_once(':').expect("a header is NAME:VALUE");
            (name.to_owned(), unhex(value))
        });
        let record = Self {
            timestamp_ms: timestamp.parse().expect("a timestamp is a number"),
            key: unhex(key),
            value: unhex(value),
            headers: headers.collect(),
        };
        (offset.parse().expect("an offset is a number"), record)
    }
}

/// `count` records that use all the format has: null and empty keys and values, headers with and without value, text that compresses and
/// bytes that do not. Record *i* has the timestamp 1700000000000 + 10 *i*.
pub fn sample(count: usize) -> Vec<RecordLine> {
    let record = |i: usize| RecordLine {
        timestamp_ms: 1_700_000_000_000 + 10 * i as i64,
        key: match i % 4 {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(format!("key-{i}").into_bytes()),
        },
        value: match i % 5 {
            0 => None,
            1 => Some(Vec::new()),
            2 => Some(incompressible(i as u64, 2000)),
            _ => Some(format!("value {i} ").repeat(30).into_bytes()),
        },
        headers: match i % 3 {
            0 => Vec::new(),
            _ => vec![
                ("trace".to_owned(), Some(format!("t-{i}").into_bytes())),
                ("empty".to_owned(), Some(Vec::new())),
                ("none".to_owned(), None),
            ],
        },
    };
    (0..count).map(record).collect()
}

/// Bytes that no codec makes smaller, the same for the same seed.
pub fn incompressible(seed: u64, count: usize) -> Vec<u8> {
    // splitmix64: each output is a hash of a counter.
    let word = |i: u64| {
        let mut mixed = seed.wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..).flat_map(|i| word(i).to_le_bytes()).take(count).collect()
}

fn hex(bytes: &Option<Vec<u8>>) -> String {
    let Some(bytes) = bytes else { return "-".to_owned() };
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |index| u8::from_str_radix(&text[index..index + 2], 16).expect("hexadecimal");
    (text != "-").then(|| (0..text.len()).step_by(2).map(digit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        for (offset, record) in sample(60).into_iter().enumerate() {
            let line = format!("{offset}\t{}", record.to_line());
            assert_eq!(RecordLine::parse(line.trim_end_matches('\n')), (offset as i64, record));
        }
    }
}
