//! The simplest core of which it can be told what it knew: it counts, and writes down who counted.

use bytes::{BufMut, Bytes, BytesMut};
use thalweg_coordinator_runtime::{Core, CorruptRecord, Effects, KeyValue, Now, Token};
use thalweg_types::Moment;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    version: u64,
    /// When it counts by itself.
    alarm: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Counts one up; the number names the call in the record.
    Add(u64),
    /// How far has it been counted?
    Look,
    /// The same, and a moment ago will do.
    Peek,
}

/// The version, after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) u64);

/// Who counted when the core did it by itself.
pub(crate) const BY_ITSELF: u64 = u64::MAX;

impl Ledger {
    fn add(&mut self, by: u64) -> KeyValue {
        self.version += 1;
        let mut value = BytesMut::new();
        value.put_u64(self.version);
        value.put_u64(by);
        KeyValue { key: Bytes::from_static(b"count"), value: Some(value.freeze()) }
    }
}

/// The version that a record says, and who counted.
pub(crate) fn read(value: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().unwrap());
    (number(0), number(8))
}

impl Core for Ledger {
    type Request = Ask;
    type Response = Version;
    type Event = ();

    fn replay(&mut self, _key: &[u8], value: Option<&[u8]>) -> Result<(), CorruptRecord> {
        let (version, _) = read(value.unwrap());
        if version != self.version + 1 {
            return Err(CorruptRecord(format!("{version} after {}", self.version)));
        }
        self.version = version;
        Ok(())
    }

    fn start(&mut self, now: Now) -> Effects<Version> {
        self.alarm = Some(now.moment.saturating_add_ms(300));
        Effects { records: vec![self.add(BY_ITSELF)], answers: Vec::new() }
    }

    fn handle(&mut self, token: Token, request: Ask, _now: Now) -> Effects<Version> {
        let records = match request {
            Ask::Add(by) => vec![self.add(by)],
            Ask::Look | Ask::Peek => Vec::new(),
        };
        Effects { records, answers: vec![(token, Version(self.version))] }
    }

    fn handle_event(&mut self, (): (), _now: Now) -> Effects<Version> {
        Effects { records: vec![self.add(BY_ITSELF), self.add(BY_ITSELF)], answers: Vec::new() }
    }

    fn handle_deadline(&mut self, now: Now) -> Effects<Version> {
        self.start(now)
    }

    fn next_deadline(&self) -> Option<Moment> {
        self.alarm
    }

    fn cancel(&mut self, _token: Token) {}

    fn must_be_current(request: &Ask) -> bool {
        *request != Ask::Peek
    }
}
