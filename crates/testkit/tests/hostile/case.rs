//! One line of the table: what is sent, how the answer is put into words, and which words are expected.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use thalweg_types::ErrorCode;

use crate::wire::{Arrival, Connection, PATIENCE};

/// How long the server may think about an answer that must not come.
const SILENCE: Duration = Duration::from_millis(150);

/// Expected when the server must end the connection.
pub(crate) const CLOSED: &str = "connection closed";
/// Expected when the server must wait, for more bytes or for what was asked.
pub(crate) const WAITS: &str = "waits, connection open";

/// Puts an answer into words.
pub(crate) type Words = fn(BytesMut) -> String;

pub(crate) struct Case {
    /// Which kind of bad input.
    pub(crate) id: &'static str,
    pub(crate) input: String,
    pub(crate) act: Act,
    pub(crate) expected: &'static str,
    /// Records that the table's topics hold more of afterwards.
    pub(crate) appended: i64,
}

pub(crate) enum Act {
    /// The bytes are sent on a new connection; what comes back is put into words.
    Send(Vec<u8>, Words),
    /// Something with more steps than that.
    Do(Box<dyn Fn(SocketAddr) -> String>),
}

impl Case {
    pub(crate) fn new(
        id: &'static str,
        input: impl Into<String>,
        bytes: Vec<u8>,
        words: Words,
        expected: &'static str,
    ) -> Self {
        Self { id, input: input.into(), act: Act::Send(bytes, words), expected, appended: 0 }
    }

    /// Nothing but the end of the connection may follow.
    pub(crate) fn closes(id: &'static str, input: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::new(id, input, bytes, unexpected, CLOSED)
    }

    /// Nothing may follow, and the connection stays.
    pub(crate) fn waits(id: &'static str, input: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::new(id, input, bytes, unexpected, WAITS)
    }

    pub(crate) fn steps(
        id: &'static str,
        input: impl Into<String>,
        steps: impl Fn(SocketAddr) -> String + 'static,
        expected: &'static str,
    ) -> Self {
        Self { id, input: input.into(), act: Act::Do(Box::new(steps)), expected, appended: 0 }
    }

    /// The case is valid after all, and this many records are appended.
    #[must_use]
    pub(crate) fn appending(self, records: i64) -> Self {
        Self { appended: records, ..self }
    }

    /// Does it and says in words what came of it.
    pub(crate) fn observe(&self, address: SocketAddr) -> String {
        match &self.act {
            Act::Do(steps) => steps(address),
            Act::Send(bytes, words) => {
                let mut connection = Connection::open(address);
                connection.send(bytes);
                let wait = if self.expected == WAITS { SILENCE } else { PATIENCE };
                in_words(connection.receive(wait), *words)
            }
        }
    }
}

pub(crate) fn in_words(arrival: Arrival, words: Words) -> String {
    match arrival {
        Arrival::Frame(answer) => words(answer),
        Arrival::Closed => CLOSED.into(),
        Arrival::Nothing => WAITS.into(),
    }
}

fn unexpected(answer: BytesMut) -> String {
    format!("an answer of {} bytes", answer.len())
}

/// Kafka's names of the codes; equal ones in a row are counted.
pub(crate) fn codes(codes: impl IntoIterator<Item = i16>) -> String {
    let mut runs: Vec<(i16, usize)> = Vec::new();
    for code in codes {
        match runs.last_mut() {
            Some((last, count)) if *last == code => *count += 1,
            _ => runs.push((code, 1)),
        }
    }
    let words = runs.into_iter().map(|(code, count)| {
        let name = ErrorCode::from_code(code).map_or("?", ErrorCode::name);
        if count == 1 { name.to_owned() } else { format!("{name} x {count}") }
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { "an empty answer".into() } else { words.join(", ") }
}
