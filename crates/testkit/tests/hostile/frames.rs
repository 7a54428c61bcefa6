//! B1-B8: lengths, fragments, floods, other protocols, calls and versions that do not exist, headers.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use thalweg_kafka::messages::{ApiVersionsRequest, MetadataRequest};

use crate::case::{CLOSED, Case, in_words};
use crate::wire::{Arrival, Connection, PATIENCE, body, frame, frame_raw};
use crate::words::{api_versions_0, described, described_4, metadata_request};

/// Largest frame that the server takes by default.
const FRAME_BYTES_MAX: i32 = 100 * 1024 * 1024;

/// Requests of the pipelining cases: enough to fill every buffer between the two processes many times.
const PIPELINED: usize = 50_000;

const METADATA_KEY: i16 = 3;
const API_VERSIONS_KEY: i16 = 18;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = lengths();
    cases.extend(fragments());
    cases.extend(other_protocols());
    cases.extend(calls_and_versions());
    cases.extend(headers());
    cases
}

/// Complete and answered at once.
fn small_request() -> Vec<u8> {
    frame(ApiVersionsRequest::default(), 0)
}

fn lengths() -> Vec<Case> {
    let length = |number: i32| number.to_be_bytes().to_vec();
    let closing = [-1, i32::MIN, 0, 1, 7, i32::MAX, FRAME_BYTES_MAX + 1];
    let mut cases: Vec<_> = closing
        .into_iter()
        .map(|number| Case::closes("B1", format!("frame length {number}"), length(number)))
        .collect();
    let most = format!("frame length {FRAME_BYTES_MAX}, the most there may be, then silence");
    cases.push(Case::waits("B1", most, length(FRAME_BYTES_MAX)));
    let half = small_request()[..8].to_vec();
    cases.push(Case::waits("B2", "half of a small request, then silence", half));
    let started = [&length(FRAME_BYTES_MAX)[..], &[0; 10]].concat();
    cases.push(Case::waits("B2", "10 bytes of a frame of 100 MiB, then silence", started));
    cases
}

fn fragments() -> Vec<Case> {
    let answered = "NONE with versions";
    vec![
        Case::steps("B3", "a request byte by byte, 10 ms apart", byte_by_byte, answered),
        Case::steps(
            "B4",
            format!("{PIPELINED} requests pipelined, answers read"),
            |address| format!("{} answers", pipelined(address)),
            "50000 answers",
        ),
        Case::steps(
            "B4",
            "requests pipelined, answers never read",
            never_read,
            "the socket takes no more",
        ),
        Case::steps(
            "B5",
            "a whole request, then half-closed",
            |address| half_closed(address, &small_request()),
            answered,
        ),
        Case::steps(
            "B5",
            "half a request, then half-closed",
            |address| half_closed(address, &small_request()[..9]),
            CLOSED,
        ),
        Case::steps("B5", "reset in the middle of 100 frames", reset, "100 connections reset"),
    ]
}

fn byte_by_byte(address: SocketAddr) -> String {
    let mut connection = Connection::open(address);
    for byte in small_request() {
        connection.send(&[byte]);
        std::thread::sleep(Duration::from_millis(10));
    }
    in_words(connection.receive(PATIENCE), api_versions_0)
}

/// How many answers came.
fn pipelined(address: SocketAddr) -> usize {
    let mut connection = Connection::open(address);
    let mut writer = connection.socket().try_clone().expect("a second handle");
    let sending = std::thread::spawn(move || writer.write_all(&small_request().repeat(PIPELINED)));
    let answers = (0..PIPELINED)
        .take_while(|_| matches!(connection.receive(PATIENCE), Arrival::Frame(_)))
        .count();
    sending.join().expect("no panic").expect("the server took all requests");
    answers
}

/// The server must stop reading when its answers are not taken.
fn never_read(address: SocketAddr) -> String {
    let connection = Connection::open(address);
    connection.socket().set_write_timeout(Some(Duration::from_millis(500))).expect("settable");
    let requests = small_request().repeat(1000);
    // Sixteen times what the buffers of both sides hold.
    let taken = (0..8000).take_while(|_| connection.socket().write_all(&requests).is_ok()).count();
    match taken {
        0..8000 => "the socket takes no more".into(),
        _ => format!("{} bytes taken", taken * requests.len()),
    }
}

fn half_closed(address: SocketAddr, bytes: &[u8]) -> String {
    let mut connection = Connection::open(address);
    connection.send(bytes);
    connection.socket().shutdown(Shutdown::Write).expect("connected");
    in_words(connection.receive(PATIENCE), api_versions_0)
}

fn reset(address: SocketAddr) -> String {
    let count = (0..100).filter(|_| {
        let mut connection = Connection::open(address);
        connection.send(&small_request()[..9]);
        let socket = socket2::SockRef::from(connection.socket());
        socket.set_linger(Some(Duration::ZERO)).is_ok()
    });
    format!("{} connections reset", count.count())
}

fn other_protocols() -> Vec<Case> {
    let noise: Vec<u8> = (0..4096_u32).map(|number| (number * 7919 % 251) as u8 | 0x80).collect();
    let inputs: [(&str, &[u8]); 8] = [
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("a PROXY header, version 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"),
        ("a PROXY header, version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
        ("an SSH greeting", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("4 KiB of noise", &noise),
        ("a frame of noise", &[0, 0, 0, 12, 0xd3, 1, 9, 200, 7, 7, 0x99, 4, 88, 3, 0xfe, 0x21]),
    ];
    inputs.into_iter().map(|(name, bytes)| Case::closes("B6", name, bytes.to_vec())).collect()
}

fn calls_and_versions() -> Vec<Case> {
    let request = |key, version| frame_raw(key, version, &[0xff, 0xff, 0, 0, 0, 0]);
    let mut cases = Vec::new();
    for key in [-1, 9999, i16::MAX] {
        cases.push(Case::closes("B7", format!("api key {key}"), request(key, 0)));
    }
    for version in [-1, 99, i16::MAX] {
        let input = format!("Metadata version {version}");
        cases.push(Case::closes("B7", input, request(METADATA_KEY, version)));
    }
    cases.push(Case::closes("B7", "Produce version 2, offered but refused", request(0, 2)));
    for version in [-1, 99, i16::MAX] {
        cases.push(Case::new(
            "B7",
            format!("ApiVersions version {version}"),
            request(API_VERSIONS_KEY, version),
            api_versions_0,
            "UNSUPPORTED_VERSION with versions",
        ));
    }
    cases
}

fn headers() -> Vec<Case> {
    let plain = body(metadata_request(&["victim"]), 4);
    let flexible = body(metadata_request(&["victim"]), 9);
    let all = body(MetadataRequest::default(), 9);
    let request = |version, client_id: &[u8], body: &[u8]| {
        frame_raw(METADATA_KEY, version, &[client_id, body].concat())
    };
    let id = |text: &[u8]| {
        let length = i16::try_from(text.len()).expect("short").to_be_bytes();
        [&length[..], text].concat()
    };
    let longest = id(&[b'x'; 0x7fff]);
    let answered = |input: &str, client_id: &[u8]| {
        Case::new("B8", input, request(4, client_id, &plain), described_4, "NONE")
    };
    vec![
        Case::closes("B8", "header 1 before a body that wants 2", request(9, &id(b"x"), &all)),
        Case::closes(
            "B8",
            "header 2 before a body that wants 1",
            request(4, &[&id(b"x")[..], &[0]].concat(), &plain),
        ),
        Case::closes("B8", "header 0: no client id at all", request(4, &[], &plain)),
        Case::new(
            "B8",
            "header 2 with an unknown tagged field",
            request(9, &[&id(b"x")[..], &[1, 9, 2, 0xaa, 0xbb]].concat(), &flexible),
            described,
            "NONE",
        ),
        answered("client id null", &[0xff, 0xff]),
        answered("client id empty", &[0, 0]),
        answered("client id with line breaks and escapes", &id(b"a\r\nb\x1b[31m\0")),
        answered("client id of 32,767 bytes", &longest),
        answered("client id that is not UTF-8", &id(b"\xc3\x28")),
        Case::closes("B8", "client id of length -2", request(4, &[0xff, 0xfe], &plain)),
        Case::closes("B8", "client id beyond the frame", request(4, &[0x7f, 0xff], &plain)),
    ]
}
