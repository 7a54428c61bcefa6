//! A Kafka connection without a client library: what is sent is bytes, what comes back is bytes or the connection's end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use thalweg_kafka::messages::{RequestHeader, ResponseHeader};
use thalweg_kafka::{ApiKey, KafkaString, Message, Reader, Writer};

/// Long enough for a slow machine; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What every request of this suite carries.
pub(crate) const CORRELATION_ID: i32 = 7;

pub(crate) struct Connection {
    socket: TcpStream,
}

/// What came within the time.
pub(crate) enum Arrival {
    /// A frame, without its length.
    Frame(BytesMut),
    Closed,
    Nothing,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the server accepts connections");
        socket.set_nodelay(true).expect("settable");
        socket.set_write_timeout(Some(PATIENCE)).expect("settable");
        Self { socket }
    }

    /// The same from another address of this machine, 127.0.0.`host`; an error when the server or the system refuses it.
    pub(crate) fn open_from(host: u8, address: SocketAddr) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into())?;
        socket.connect(&address.into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The server may close before it has taken everything, which the next [`receive`](Self::receive) tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    pub(crate) fn receive(&mut self, wait: Duration) -> Arrival {
        self.socket.set_read_timeout(Some(wait)).expect("settable");
        let mut length = [0; 4];
        match self.socket.read(&mut length[..1]) {
            Ok(0) => return Arrival::Closed,
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Arrival::Nothing,
                ErrorKind::ConnectionReset => return Arrival::Closed,
                _ => panic!("{error}"),
            },
        }
        self.socket.set_read_timeout(Some(PATIENCE)).expect("settable");
        self.socket.read_exact(&mut length[1..]).expect("all of the length");
        let length = usize::try_from(i32::from_be_bytes(length)).expect("positive");
        let mut frame = BytesMut::zeroed(length);
        self.socket.read_exact(&mut frame).expect("all of the answer");
        Arrival::Frame(frame)
    }

    /// A call that must be answered.
    pub(crate) fn call<Q: Message, A: Message>(&mut self, version: i16, request: Q) -> A {
        self.send(&frame(request, version));
        match self.receive(PATIENCE) {
            Arrival::Frame(answer) => decode(version, answer),
            Arrival::Closed => panic!("{}: the connection was closed", Q::NAME),
            Arrival::Nothing => panic!("{}: no answer within {PATIENCE:?}", Q::NAME),
        }
    }
}

/// A well-formed request with its length.
pub(crate) fn frame<M: Message>(message: M, version: i16) -> Vec<u8> {
    frame_of(M::API_KEY.expect("a request") as i16, version, &body(message, version))
}

/// The fields of `message`, without length and header: to be cut and changed.
pub(crate) fn body<M: Message>(message: M, version: i16) -> Vec<u8> {
    let mut writer = Writer::new();
    message.encode(version, &mut writer).expect("can be said in its version");
    writer.finish().to_bytes().to_vec()
}

/// `body` behind the right header for that call and version, and the length of both.
pub(crate) fn frame_of(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let known = ApiKey::from_code(key);
    let flexible = known.is_some_and(|key| version >= key.request_flexible_from());
    let header = RequestHeader {
        request_api_key: key,
        request_api_version: version,
        correlation_id: CORRELATION_ID,
        client_id: Some(KafkaString::from("a test")),
    };
    let mut writer = Writer::new();
    header.encode(if flexible { 2 } else { 1 }, &mut writer).expect("encodes");
    with_length(&[&writer.finish().to_bytes()[..], body].concat())
}

/// `rest` behind the part of the header that never changes, and the length of both.
pub(crate) fn frame_raw(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let fixed = [&key.to_be_bytes()[..], &version.to_be_bytes(), &CORRELATION_ID.to_be_bytes()];
    with_length(&[&fixed.concat()[..], rest].concat())
}

pub(crate) fn with_length(frame: &[u8]) -> Vec<u8> {
    let length = i32::try_from(frame.len()).expect("small").to_be_bytes();
    [&length[..], frame].concat()
}

/// An answer to a request of [`CORRELATION_ID`].
pub(crate) fn decode<M: Message>(version: i16, answer: BytesMut) -> M {
    let mut reader = Reader::new(answer);
    let key = M::API_KEY.expect("an answer");
    // ApiVersions keeps the first header for ever (KIP-511).
    let flexible = key != ApiKey::ApiVersions && version >= key.response_flexible_from();
    let header = ResponseHeader::decode(i16::from(flexible), &mut reader).expect("a header");
    assert_eq!(header.correlation_id, CORRELATION_ID, "{}", M::NAME);
    let message = M::decode(version, &mut reader).expect("an answer");
    reader.finish().expect("nothing more");
    message
}
