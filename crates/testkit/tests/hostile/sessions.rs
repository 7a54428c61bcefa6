//! B43: fetch sessions that are lost, mixed up, enormous, or too many.

use std::net::SocketAddr;

use bytes::BytesMut;
use thalweg_kafka::messages::fetch::{FetchPartition, ForgottenTopic};
use thalweg_kafka::messages::{FetchRequest, FetchResponse, ListOffsetsResponse};

use crate::case::{Case, codes, in_words};
use crate::wire::{Connection, PATIENCE, decode, frame};
use crate::witness::VICTIM;
use crate::words::{FETCH, LIST_OFFSETS, end_offset_request, fetch_request, fetched};

/// Fetches that each ask for a session: twenty times as many as there may be.
const SESSIONS: usize = 20_000;

/// First version that names topics by id.
const FETCH_BY_ID: i16 = 13;

pub(crate) fn cases() -> Vec<Case> {
    let session = |input: &str, steps: fn(&mut Session) -> String, expected| {
        let converse = move |address| steps(&mut Session::begin(address));
        Case::steps("B43", format!("Fetch session: {input}"), converse, expected)
    };
    vec![
        session("nothing new", |session| session.next(|_| {}), "in the session, an empty answer"),
        session(
            "an epoch twice",
            |session| {
                session.next(|_| {});
                session.next(|request| request.session_epoch -= 1)
            },
            "INVALID_FETCH_SESSION_EPOCH",
        ),
        session(
            "an epoch too far",
            |session| session.next(|request| request.session_epoch = i32::MAX),
            "INVALID_FETCH_SESSION_EPOCH",
        ),
        session(
            "epoch -2",
            |session| session.next(|request| request.session_epoch = -2),
            "INVALID_FETCH_SESSION_EPOCH",
        ),
        session(
            "closed and used again",
            |session| {
                session.next(|request| request.session_epoch = -1);
                session.next(|_| {})
            },
            "FETCH_SESSION_ID_NOT_FOUND",
        ),
        session(
            "id -1",
            |session| session.next(|request| request.session_id = -1),
            "FETCH_SESSION_ID_NOT_FOUND",
        ),
        session(
            "by name, gone on with by topic id",
            |session| session.next_in(FETCH_BY_ID, |_| {}),
            "FETCH_SESSION_TOPIC_ID_ERROR",
        ),
        session(
            "forgotten partitions of strangers, 10,000 times",
            |session| session.next(forget_strangers),
            "in the session, an empty answer",
        ),
        session("all partitions forgotten", forget_all, "no session, an empty answer"),
        session(
            "a partition that does not exist, told again and again",
            |session| {
                session.next(|request| request.topics[0].partitions = vec![partition(77)]);
                session.next(|_| {})
            },
            "in the session, UNKNOWN_TOPIC_OR_PARTITION",
        ),
        session(
            "19,999 partitions more, all of them forgotten",
            |session| {
                session.next(|request| ask_for(request, 20_000));
                session.next(|request| request.forgotten_topics_data = vec![forgotten(1..20_000)])
            },
            "in the session, an empty answer",
        ),
        session(
            "99,999 partitions more, none of which exists",
            |session| session.next(|request| ask_for(request, 100_000)),
            "in the session, UNKNOWN_TOPIC_OR_PARTITION x 99999",
        ),
        // The memory of all sessions together is bounded: this one is answered once and not kept.
        session(
            "as many of a second client",
            |session| {
                session.next(|request| ask_for(request, 100_000));
                session.next(|_| {})
            },
            "FETCH_SESSION_ID_NOT_FOUND",
        ),
        Case::steps(
            "B43",
            format!("Fetch: {SESSIONS} requests for a new session"),
            flood,
            "NONE with records",
        ),
    ]
}

/// A client with a session of one partition, read to its end.
struct Session {
    connection: Connection,
    id: i32,
    epoch: i32,
}

impl Session {
    fn begin(address: SocketAddr) -> Self {
        let mut connection = Connection::open(address);
        let request = end_offset_request(VICTIM);
        let listed: ListOffsetsResponse = connection.call(LIST_OFFSETS, request);
        let mut request = fetch_request(VICTIM, listed.topics[0].partitions[0].offset);
        request.session_epoch = 0;
        let response: FetchResponse = connection.call(FETCH, request);
        assert!(response.error_code == 0 && response.session_id > 0, "{response:?}");
        Self { connection, id: response.session_id, epoch: 1 }
    }

    fn next(&mut self, change: impl Fn(&mut FetchRequest)) -> String {
        self.next_in(FETCH, change)
    }

    /// The next request of the session, but for what `change` makes of it, answered in words.
    fn next_in(&mut self, version: i16, change: impl Fn(&mut FetchRequest)) -> String {
        let mut request = fetch_request(VICTIM, 0);
        request.topics[0].partitions.clear();
        (request.session_id, request.session_epoch) = (self.id, self.epoch);
        self.epoch += 1;
        change(&mut request);
        let response: FetchResponse = self.connection.call(version, request);
        if response.error_code != 0 {
            return codes([response.error_code]);
        }
        let session = if response.session_id == self.id { "in the session" } else { "no session" };
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        format!("{session}, {}", codes(partitions.map(|one| one.error_code)))
    }
}

fn partition(index: i32) -> FetchPartition {
    FetchPartition { partition: index, ..FetchPartition::default() }
}

fn forgotten(partitions: impl IntoIterator<Item = i32>) -> ForgottenTopic {
    let partitions = partitions.into_iter().collect();
    ForgottenTopic { topic: VICTIM.into(), partitions, ..ForgottenTopic::default() }
}

fn forget_strangers(request: &mut FetchRequest) {
    let stranger = |number| ForgottenTopic {
        topic: format!("stranger-{number}").as_str().into(),
        partitions: vec![0, -1, i32::MAX],
        ..ForgottenTopic::default()
    };
    request.forgotten_topics_data = (0..10_000).map(stranger).collect();
}

fn forget_all(session: &mut Session) -> String {
    session.next(|request| request.forgotten_topics_data = vec![forgotten([0])])
}

/// All but the first do not exist.
fn ask_for(request: &mut FetchRequest, partitions: i32) {
    request.topics[0].partitions = (1..partitions).map(partition).collect();
}

/// What the last of many answers says; all must be answered.
fn flood(address: SocketAddr) -> String {
    let mut connection = Connection::open(address);
    let mut request = fetch_request(VICTIM, 0);
    request.session_epoch = 0;
    request.max_bytes = 0;
    let request = frame(request, FETCH);
    let mut last = String::new();
    let words = |answer: BytesMut| {
        let response: FetchResponse = decode(FETCH, answer.clone());
        assert_eq!(response.error_code, 0);
        fetched(answer)
    };
    for _ in 0..SESSIONS / 50 {
        connection.send(&request.repeat(50));
        for _ in 0..50 {
            last = in_words(connection.receive(PATIENCE), words);
        }
    }
    last
}
