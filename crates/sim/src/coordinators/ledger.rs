//! What simulated coordinators decide: a core of which it can be told what it knew. It counts, and every record says who counted.

use bytes::{BufMut as _, Bytes, BytesMut};
use thalweg_coordinator_runtime::{Core, CorruptRecord, Effects, KeyValue, Now, Token};
use thalweg_types::Moment;

const KEY: &[u8] = b"count";

/// How often it counts without being asked.
const ALARM_MS: u64 = 700;

/// Who counted when the core did it by itself.
pub(crate) const BY_ITSELF: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    version: u64,
    alarm: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Counts one up; the number names the call in the record.
    Add(u64),
    /// How far has it been counted?
    Look,
}

/// How far it has been counted, after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) u64);

/// The version that a stored record says, and who counted; `None` if it is none of the core's.
pub(crate) fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<(u64, u64)> {
    let value = value.filter(|_| key == Some(KEY))?;
    let number = |at: usize| Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?));
    Some((number(0)?, number(8)?))
}

impl Ledger {
    fn add(&mut self, by: u64) -> KeyValue {
        self.version += 1;
        let mut value = BytesMut::new();
        value.put_u64(self.version);
        value.put_u64(by);
        KeyValue { key: Bytes::from_static(KEY), value: Some(value.freeze()) }
    }
}

impl Core for Ledger {
    type Request = Ask;
    type Response = Version;
    type Event = ();

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CorruptRecord> {
        let Some((version, _)) = read(Some(key), value) else {
            return Err(CorruptRecord("not a count".to_owned()));
        };
        if version != self.version + 1 {
            return Err(CorruptRecord(format!("{version} after {}", self.version)));
        }
        self.version = version;
        Ok(())
    }

    fn start(&mut self, now: Now) -> Effects<Version> {
        self.alarm = Some(now.moment.saturating_add_ms(ALARM_MS));
        Effects { records: vec![self.add(BY_ITSELF)], answers: Vec::new() }
    }

    fn handle(&mut self, token: Token, request: Ask, _now: Now) -> Effects<Version> {
        let records = match request {
            Ask::Add(by) => vec![self.add(by)],
            Ask::Look => Vec::new(),
        };
        Effects { records, answers: vec![(token, Version(self.version))] }
    }

    fn handle_event(&mut self, (): (), _now: Now) -> Effects<Version> {
        Effects::default()
    }

    fn handle_deadline(&mut self, now: Now) -> Effects<Version> {
        self.start(now)
    }

    fn next_deadline(&self) -> Option<Moment> {
        self.alarm
    }

    fn cancel(&mut self, _token: Token) {}

    fn must_be_current(_request: &Ask) -> bool {
        true
    }
}
