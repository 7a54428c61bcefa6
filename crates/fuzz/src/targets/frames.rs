//! A stream of checksummed frames, as a crash or damage may have left it.
//!
//! The first byte chooses: the rest is the file, or describes frames that are written with right checksums and then changed in places
//! that the description names.

use std::path::Path;

use bytes::BytesMut;
use thalweg_env::fs::{Fs as _, OpenMode};
use thalweg_storage::frame::{self, Frame, ScanOptions, Verdict};

use super::{Choices, files, numbered};
use crate::{Seeds, peak};

const GENERATION: u64 = 7;
const BASE_POSITION: u64 = 4096;

/// One piece of the file is in memory, and the frames that were found.
const FACTOR: usize = 32;

pub(super) fn scan(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let bytes = if mode & 1 == 1 { described(rest) } else { rest.to_vec() };
    let fs = files::disk_with("frames", &bytes);
    let file = fs.open(Path::new("/frames"), OpenMode::Read).expect("it was just written");
    let durable = u64::from(*mode) / 2 * 16;
    let options = ScanOptions {
        generation: GENERATION,
        base_position: BASE_POSITION,
        start: BASE_POSITION,
        end: u64::MAX,
        durable_position: if durable == 0 { 0 } else { BASE_POSITION + durable },
    };
    let mut found: Vec<Frame> = Vec::new();
    let end = peak::times(FACTOR, &bytes, || {
        frame::scan(&*file, options, &|_| true, |frame| found.push(frame)).expect("a sound disk")
    });
    let mut position = BASE_POSITION;
    for frame in &found {
        assert_eq!((frame.header.position, frame.header.generation), (position, GENERATION));
        let at = usize::try_from(position - BASE_POSITION).expect("the file is small");
        assert_eq!(frame.header.to_bytes(), bytes[at..at + frame::HEADER_BYTES]);
        assert_eq!(frame.header.payload_crc, crc_fast::crc32_iscsi(&frame.payload));
        position = frame.header.end_position();
    }
    assert_eq!(end.position, position, "the run of frames ends where the last one does");
    assert!(end.durable_position >= options.durable_position);
    assert_eq!(end.verdict == Verdict::Corrupt, end.durable_position > end.position);
}

/// Writes what is described: for each frame its kind, the length of its payload, how far was durable, then a byte that says whether
/// something is done to it.
fn described(description: &[u8]) -> Vec<u8> {
    let mut choices = Choices::new(description);
    let mut file = BytesMut::new();
    while !choices.is_empty() {
        let (kind, length) = (choices.byte(), usize::from(choices.byte()));
        let position = BASE_POSITION + file.len() as u64;
        // What is durable ends at the frame's own beginning at the latest, but who knows what a file says.
        let durable = position.saturating_sub(u64::from(choices.byte()) * 8);
        let at = file.len();
        let payload = choices.take(length);
        frame::encode(&mut file, kind, GENERATION, position, durable, payload);
        match choices.below(16) {
            1 => file[at + 4] ^= 1,
            2 => file.truncate(at + usize::from(choices.byte()) % (file.len() - at)),
            3 => {
                let place = at + usize::from(choices.byte()) % (file.len() - at);
                file[place] ^= choices.byte();
            }
            4 => file[at..].fill(0),
            _ => {}
        }
    }
    file.to_vec()
}

pub(super) fn seeds() -> Seeds {
    let sound =
        [&[1, 3, 5, 2], &b"hello"[..], &[0, 3, 0, 1, 0, 4, 8, 0], b"12345678", &[0]].concat();
    let damaged =
        [&[1, 3, 5, 2], &b"hello"[..], &[1, 3, 0, 0, 0, 4, 8, 0], b"12345678", &[0]].concat();
    let torn = [&[1, 3, 5, 2], &b"hello"[..], &[0, 3, 4, 1], b"abcd", &[2, 9]].concat();
    let file = [&[0], &described(&sound[1..])[..]].concat();
    let durable = [&[40], &described(&sound[1..])[..]].concat();
    numbered([sound, damaged, torn, file, durable])
}
