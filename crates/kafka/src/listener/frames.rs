//! Cuts a connection's bytes into frames: four bytes of length, then that many bytes.
//!
//! A frame is read straight into its own buffer of exactly its size, together with the first bytes of the next frame in one system
//! call, so a large produce request costs one copy out of the kernel and nothing else. A long frame is not believed beforehand: its
//! buffer grows with the bytes that really arrive.

use std::io;

use bytes::BytesMut;
use socket2::{MaybeUninitSlice, SockRef};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes read beyond the current frame: the length of the next one and, mostly, all of a small request.
const READ_AHEAD_BYTES: usize = 512;

/// Frames up to here get their buffer at once. It costs address space only, until bytes arrive.
const EXACT_BYTES_MAX: usize = 1024 * 1024;

/// First buffer of a longer frame; it doubles as it fills.
const GROWTH_BYTES_MIN: usize = 64 * 1024;

const LENGTH_BYTES: usize = 4;

/// Api key, version and correlation id: no request is shorter.
const FRAME_BYTES_MIN: usize = 8;

#[derive(Debug)]
pub(super) struct Frames {
    /// What was read beyond the current frame. Empty while a frame is being read.
    ahead: Vec<u8>,
    /// The frame being read.
    body: BytesMut,
    /// Its whole length; `None` between frames.
    body_bytes: Option<usize>,
    frame_bytes_max: usize,
}

/// The length in front of a frame is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {declared} bytes{}", self.hint())]
pub(super) struct ForbiddenLength {
    pub(super) declared: i32,
}

impl ForbiddenLength {
    /// What other protocols look like when they are read as a length.
    fn hint(self) -> &'static str {
        match self.declared.to_be_bytes() {
            [0x16, 0x03, ..] => " (the client speaks TLS)",
            [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'E', b'A', b'D'] => {
                " (the client speaks HTTP)"
            }
            [b'P', b'R', b'I', b' '] => " (the client speaks HTTP/2)",
            [b'P', b'R', b'O', b'X'] => " (the client sends a PROXY header)",
            _ => "",
        }
    }
}

impl Frames {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self {
            ahead: Vec::with_capacity(READ_AHEAD_BYTES),
            body: BytesMut::new(),
            body_bytes: None,
            frame_bytes_max,
        }
    }

    /// The next frame, without its length, if all of it has arrived.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, ForbiddenLength> {
        let bytes = match self.body_bytes {
            Some(bytes) => bytes,
            None => {
                let Some(length) = self.ahead.first_chunk::<LENGTH_BYTES>() else {
                    return Ok(None);
                };
                let declared = i32::from_be_bytes(*length);
                self.begin(declared)?
            }
        };
        if self.body.len() < bytes {
            return Ok(None);
        }
        self.body_bytes = None;
        Ok(Some(std::mem::take(&mut self.body)))
    }

    /// Moves what was read ahead into the buffer of the frame it belongs to.
    fn begin(&mut self, declared: i32) -> Result<usize, ForbiddenLength> {
        let bytes = usize::try_from(declared)
            .ok()
            .filter(|bytes| (FRAME_BYTES_MIN..=self.frame_bytes_max).contains(bytes))
            .ok_or(ForbiddenLength { declared })?;
        let capacity = if bytes <= EXACT_BYTES_MAX { bytes } else { GROWTH_BYTES_MIN };
        self.body = BytesMut::with_capacity(capacity);
        let available = self.ahead.len().min(LENGTH_BYTES + bytes);
        self.body.extend_from_slice(self.ahead.get(LENGTH_BYTES..available).unwrap_or_default());
        self.ahead.drain(..available);
        self.body_bytes = Some(bytes);
        Ok(bytes)
    }

    /// The frame being read: its whole length, and how much of it is here.
    pub(super) fn unfinished(&self) -> Option<(usize, usize)> {
        self.body_bytes.map(|bytes| (bytes, self.body.len()))
    }

    /// Bytes of an unfinished frame that are here.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.ahead.len() + self.body.len()
    }

    /// Reads once, what there is, but at most `room` bytes of the frame being read. 0 means that the client will send nothing more.
    pub(super) fn fill(&mut self, socket: &TcpStream, room: usize) -> io::Result<usize> {
        let rest = self.body_bytes.map_or(0, |bytes| bytes - self.body.len());
        if rest > 0 && self.body.len() == self.body.capacity() {
            self.body.reserve(rest.min(self.body.len().max(GROWTH_BYTES_MIN)));
        }
        let body = self.body.spare_capacity_mut();
        let body_room = rest.min(body.len()).min(room);
        // Reading ahead makes sense only when this read can complete the frame.
        let ahead_room = if body_room == rest { self.ahead.spare_capacity_mut() } else { &mut [] };
        let mut buffers = [
            MaybeUninitSlice::new(body.get_mut(..body_room).unwrap_or_default()),
            MaybeUninitSlice::new(ahead_room),
        ];
        let room = buffers.iter().map(|buffer| buffer.len()).sum::<usize>();
        let mut read = 0;
        let tried = socket.try_io(Interest::READABLE, || {
            (read, _) = SockRef::from(socket).recv_vectored(&mut buffers)?;
            // That was all there is: the next read would only be told so. More makes the socket readable anew.
            if 0 < read && read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match tried {
            Err(error) if read == 0 => return Err(error),
            _ => {}
        }
        let into_body = read.min(body_room);
        self.advance(into_body, read - into_body);
        Ok(read)
    }

    #[expect(unsafe_code, reason = "a system call has filled the spare room of two buffers")]
    fn advance(&mut self, into_body: usize, into_ahead: usize) {
        // SAFETY: `fill` gave exactly this spare room, in this order, to one read, which reports how many bytes of it it has written; the
        // kernel fills the first buffer before the second and never more than their lengths.
        unsafe {
            self.body.set_len(self.body.len() + into_body);
            self.ahead.set_len(self.ahead.len() + into_ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_declared_length_takes_no_memory_before_bytes_arrive() {
        let mut frames = Frames::new(100 << 20);
        frames.ahead.extend_from_slice(&(100_i32 << 20).to_be_bytes());
        assert_eq!(frames.next(), Ok(None));
        assert!(frames.body.capacity() <= GROWTH_BYTES_MIN);
    }

    #[test]
    fn a_frame_of_usual_size_gets_a_buffer_of_exactly_its_size() {
        let mut frames = Frames::new(100 << 20);
        frames.ahead.extend_from_slice(&1_000_000_i32.to_be_bytes());
        assert_eq!(frames.next(), Ok(None));
        assert_eq!(frames.body.capacity(), 1_000_000);
    }

    #[test]
    fn forbidden_lengths_say_what_the_client_seems_to_speak() {
        let text = |bytes| ForbiddenLength { declared: i32::from_be_bytes(bytes) }.to_string();
        assert_eq!(text(*b"GET "), "a frame of 1195725856 bytes (the client speaks HTTP)");
        assert!(text([0x16, 3, 1, 2]).contains("TLS"));
        assert_eq!(text([0xff; 4]), "a frame of -1 bytes");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_buffer_of_a_long_frame_stays_within_twice_what_has_arrived() {
        const FRAME_BYTES: usize = 5_000_000;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let sending = std::thread::spawn(move || {
            let mut client = std::net::TcpStream::connect(address).expect("connects");
            client.write_all(&i32::try_from(FRAME_BYTES).expect("small").to_be_bytes())?;
            client.write_all(&vec![9; FRAME_BYTES])
        });
        let (socket, _) = listener.accept().await.expect("accepts");
        let mut frames = Frames::new(100 << 20);
        let frame = loop {
            if let Some(frame) = frames.next().expect("a good length") {
                break frame;
            }
            let arrived = frames.body.len().max(GROWTH_BYTES_MIN);
            assert!(frames.body.capacity() <= 2 * arrived, "{}", frames.body.capacity());
            socket.readable().await.expect("readable");
            match frames.fill(&socket, usize::MAX) {
                Ok(read) => assert!(read > 0, "the client closed early"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert_eq!(frame.len(), FRAME_BYTES);
        assert!(frame.iter().all(|byte| *byte == 9));
        sending.join().expect("sent").expect("written");
    }
}
