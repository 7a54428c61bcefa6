//! One blocking connection to a Kafka listener: frames out, frames in, in order.

use std::io::{BufReader, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use thalweg_types::ErrorCode;

use super::wire::{self, Api, put_string};
use crate::error::Error;

/// A broker that is silent for longer is taken to be gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A partition that has no leader for longer is not merely new. Tries, and the pause between them.
const LEADER_TRIES_MAX: u32 = 200;
const LEADER_PAUSE: Duration = Duration::from_millis(50);

/// Largest answer accepted, well above anything that is asked for.
const FRAME_BYTES_MAX: usize = 1 << 30;

pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// Correlation ids count up from 0; answers must come in the same order.
    sent: i32,
    received: i32,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let stream = BufReader::with_capacity(64 * 1024, stream);
        Ok(Self { stream, sent: 0, received: 0, answer: Vec::new() })
    }

    /// The partition's end, once the broker leads it: a topic is known a moment before its partitions are served.
    pub(crate) fn end_of(&mut self, topic: &str, partition: i32) -> Result<i64, Error> {
        let request = wire::list_latest(topic, partition);
        let mut tries = 0;
        loop {
            tries += 1;
            match wire::read_offset(self.call(wire::LIST_OFFSETS, &request)?) {
                Err(Error::Broker(code)) if tries < LEADER_TRIES_MAX && may_pass(code) => {
                    std::thread::sleep(LEADER_PAUSE);
                }
                end => return end,
            }
        }
    }

    /// Sends a request whose body is `head` and then `records`, without joining them first.
    pub(crate) fn send(&mut self, api: Api, head: &[u8], records: &[u8]) -> Result<(), Error> {
        let mut front = BytesMut::new();
        front.put_i16(api.key);
        front.put_i16(api.version);
        front.put_i32(self.sent);
        put_string(&mut front, "thalweg-bench");
        front.put_slice(head);
        let length = u32::try_from(front.len() + records.len()).unwrap_or(u32::MAX).to_be_bytes();
        write_all(self.stream.get_mut(), [&length, &front, records])?;
        self.sent += 1;
        Ok(())
    }

    /// The next answer's body, after its correlation id.
    pub(crate) fn receive(&mut self) -> Result<&[u8], Error> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(Error::Malformed("an enormous frame"));
        }
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer)?;
        let (id, body) =
            self.answer.split_first_chunk().ok_or(Error::Malformed("an empty frame"))?;
        if i32::from_be_bytes(*id) != self.received {
            return Err(Error::Malformed("answers out of order"));
        }
        self.received += 1;
        Ok(body)
    }

    pub(crate) fn call(&mut self, api: Api, body: &[u8]) -> Result<&[u8], Error> {
        self.send(api, body, &[])?;
        self.receive()
    }
}

fn may_pass(code: i16) -> bool {
    ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
}

/// Writes all parts, as few system calls as the socket allows.
fn write_all(stream: &mut TcpStream, parts: [&[u8]; 3]) -> Result<(), Error> {
    let mut slices = parts.map(IoSlice::new);
    let mut rest = &mut slices[..];
    // Empty parts at the front would make a complete write look like none.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let written = stream.write_vectored(rest)?;
        if written == 0 {
            return Err(Error::Io(std::io::ErrorKind::WriteZero.into()));
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}
