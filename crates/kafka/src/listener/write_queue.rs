//! Answers on their way out: the pieces of several of them leave in one system call.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use crate::codec::Segments;

/// Pieces per system call. Linux takes 1024; beyond a few dozen nothing is gained.
const PIECES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl WriteQueue {
    pub(super) fn push(&mut self, segments: Segments) {
        self.bytes += segments.bytes;
        self.pieces.extend(segments.parts);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes as much as the socket takes now; ready with the number of bytes when the queue has become empty or the socket full.
    pub(super) fn poll_write(
        &mut self,
        socket: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while !self.is_empty() {
            if written > 0 {
                // Whoever waits for the socket must be told what has left already.
                if socket.poll_write_ready(context).is_pending() {
                    return Poll::Ready(Ok(written));
                }
            } else {
                ready!(socket.poll_write_ready(context))?;
            }
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let count = self.slices(&mut slices);
            match socket.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    written += bytes;
                    self.advance(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(written))
    }

    /// Fills `slices` from the front of the queue and says how many.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        self.pieces.len().min(slices.len())
    }

    fn advance(&mut self, mut bytes: usize) {
        self.bytes -= bytes;
        while bytes > 0 {
            let Some(first) = self.pieces.front_mut() else {
                return;
            };
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
    }
}
