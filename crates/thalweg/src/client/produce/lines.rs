//! The input, cut into lines.
//!
//! One thread reads, another cuts and packs, so that neither the disk nor the checksums wait for the other. When the input pauses,
//! what has been gathered is sent: a person typing sees each line go.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::client::Failure;
use crate::client::produce::packer::{Packer, Stopped};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Chunks read ahead of the packer.
const CHUNKS_AHEAD_MAX: usize = 4;

/// How long the input may pause before open batches are sent as they are.
const LINGER: Duration = Duration::from_millis(5);

/// Longest line; no server accepts a larger record, and a file without newlines must not fill the memory.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Standard input or a file.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    size_bytes: Option<u64>,
}

/// What one `read` gave.
type Chunk = io::Result<Vec<u8>>;

impl Input {
    pub(super) fn open(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else {
            return Ok(Self { reader: Box::new(io::stdin()), size_bytes: None });
        };
        let named = |source| Failure::File { path: path.display().to_string(), source };
        let file = File::open(path).map_err(named)?;
        let metadata = file.metadata().map_err(named)?;
        let size_bytes = metadata.is_file().then_some(metadata.len());
        Ok(Self { reader: Box::new(file), size_bytes })
    }

    /// `None` when it cannot be known in advance.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }
}

/// Packs every line of the input. Ends early, without an error of its own, when nobody takes the batches any more.
pub(super) fn read_all(input: Input, mut packer: Packer) -> Result<(), Failure> {
    let (chunks, incoming) = sync_channel(CHUNKS_AHEAD_MAX);
    let (used, spare) = sync_channel(CHUNKS_AHEAD_MAX + 2);
    thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || read_chunks(input.reader, &chunks, &spare))?;

    let mut splitter = Splitter::default();
    while let Some(chunk) = next_chunk(&incoming, &mut packer)? {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                // What was read before is still sent; the caller reports the error afterwards.
                let _ = packer.flush();
                return Err(error.into());
            }
        };
        match splitter.split(&chunk, |line| packer.push(line)) {
            Ok(()) => {}
            Err(Stopped::NobodyListens) => return Ok(()),
            Err(Stopped::Failed(failure)) => return Err(failure),
        }
        // No room means that enough spare buffers are around.
        let _ = used.try_send(chunk);
    }
    let ended = splitter.finish(|line| packer.push_unterminated(line));
    match ended.and_then(|()| packer.flush()) {
        Ok(()) | Err(Stopped::NobodyListens) => Ok(()),
        Err(Stopped::Failed(failure)) => Err(failure),
    }
}

/// The next chunk; flushes the packer when none comes for a while. `None` at the end of the input.
fn next_chunk(incoming: &Receiver<Chunk>, packer: &mut Packer) -> Result<Option<Chunk>, Failure> {
    match incoming.recv_timeout(LINGER) {
        Ok(chunk) => Ok(Some(chunk)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => match packer.flush() {
            Ok(()) => Ok(incoming.recv().ok()),
            Err(Stopped::NobodyListens) => Ok(None),
            Err(Stopped::Failed(failure)) => Err(failure),
        },
    }
}

/// Reads until the end, an error, or until nobody wants more. Buffers come back through `spare`, so that their pages stay mapped.
fn read_chunks(
    mut reader: Box<dyn Read + Send>,
    chunks: &SyncSender<Chunk>,
    spare: &Receiver<Vec<u8>>,
) {
    loop {
        let mut buffer = spare.try_recv().unwrap_or_default();
        buffer.resize(CHUNK_BYTES, 0);
        let outcome = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                buffer.truncate(read);
                Ok(buffer)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = outcome.is_err();
        if chunks.send(outcome).is_err() || failed {
            return;
        }
    }
}

/// Cuts a flow of chunks at newlines. A line that crosses chunks is gathered; all others are slices of their chunk.
#[derive(Debug, Default)]
struct Splitter {
    begun: Vec<u8>,
}

impl Splitter {
    fn split(
        &mut self,
        chunk: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(end);
            if self.begun.is_empty() {
                take(line)?;
            } else {
                self.gather(line)?;
                take(&self.begun)?;
                self.begun.clear();
            }
            rest = behind.get(1..).unwrap_or_default();
        }
        self.gather(rest)
    }

    /// A last line without newline is a line too.
    fn finish(self, take: impl FnOnce(&[u8]) -> Result<(), Stopped>) -> Result<(), Stopped> {
        if self.begun.is_empty() { Ok(()) } else { take(&self.begun) }
    }

    fn gather(&mut self, part: &[u8]) -> Result<(), Stopped> {
        if self.begun.len() + part.len() > LINE_BYTES_MAX {
            let limit = format!("a line is longer than {LINE_BYTES_MAX} bytes");
            return Err(Stopped::Failed(Failure::Records(limit)));
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter
                .split(chunk, |line| {
                    lines.push(line.to_vec());
                    Ok(())
                })
                .unwrap();
        }
        splitter
            .finish(|line| {
                lines.push(line.to_vec());
                Ok(())
            })
            .unwrap();
        lines
    }

    #[test]
    fn lines_are_the_same_wherever_the_chunks_end() {
        let text = b"one\n\ntwo\r\n\xff\x00\nlast";
        let expected: Vec<Vec<u8>> =
            text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        assert_eq!(lines(&[text]), expected);
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(lines(&[a, b]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines(&single), expected);
    }

    #[test]
    fn a_newline_at_the_end_begins_no_further_line() {
        assert_eq!(lines(&[b"a\n"]), [b"a".to_vec()]);
        assert_eq!(lines(&[b"\n"]), [b"".to_vec()]);
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused_before_it_fills_the_memory() {
        let chunk = vec![b'x'; CHUNK_BYTES];
        let mut splitter = Splitter::default();
        let refused = (0..=LINE_BYTES_MAX / CHUNK_BYTES)
            .find_map(|_| splitter.split(&chunk, |_| Ok(())).err());
        assert!(matches!(refused, Some(Stopped::Failed(_))));
    }
}
