//! Frames through files that are torn, cut and damaged.

use std::path::Path;
use std::sync::Arc;

use thalweg_env::fs::{Fs, OpenMode, SimFs};

use super::*;

const BASE: u64 = 4096;

fn file_of(contents: &[u8]) -> Arc<dyn File> {
    let file = SimFs::new(1).open(Path::new("/f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(contents, 0).unwrap();
    file
}

fn scan_all(contents: &[u8], known_durable: u64) -> (Vec<(u8, Vec<u8>)>, ScanEnd) {
    let file = file_of(contents);
    let options = ScanOptions {
        generation: 7,
        base_position: BASE,
        start: BASE,
        end: u64::MAX,
        durable_position: known_durable,
    };
    let mut frames = Vec::new();
    let end = scan(&*file, options, &|frame| frame.attachment.iter().all(|byte| *byte == 9), |f| {
        frames.push((f.header.kind, f.payload.to_vec()));
    })
    .unwrap();
    (frames, end)
}

/// Frames whose payloads are given, each knowing that everything up to `durable` frames before it was flushed.
fn stream(payloads: &[&[u8]], flushed_before: impl Fn(usize) -> usize) -> (BytesMut, Vec<u64>) {
    let mut bytes = BytesMut::new();
    let mut starts = Vec::new();
    for (number, payload) in payloads.iter().enumerate() {
        let position = BASE + bytes.len() as u64;
        starts.push(position);
        let durable = starts[flushed_before(number)];
        encode(&mut bytes, number as u8, 7, position, durable, payload);
    }
    starts.push(BASE + bytes.len() as u64);
    (bytes, starts)
}

const PAYLOADS: [&[u8]; 4] = [b"first", b"", b"third frame", &[3; 100]];

#[test]
fn frames_come_back_in_order_and_a_stream_of_zeros_behind_them_is_clean() {
    let (mut bytes, starts) = stream(&PAYLOADS, |_| 0);
    bytes.put_bytes(0, 1000);
    let (frames, end) = scan_all(&bytes, 0);
    let expected: Vec<_> = (0..4).map(|n| (n as u8, PAYLOADS[n].to_vec())).collect();
    assert_eq!(frames, expected);
    assert_eq!(
        end,
        ScanEnd { position: starts[4], durable_position: BASE, verdict: Verdict::Clean }
    );
}

#[test]
fn a_stream_cut_at_any_byte_of_its_unflushed_end_is_cut_there_and_no_earlier() {
    let (bytes, starts) = stream(&PAYLOADS, |_| 0);
    for cut in 0..bytes.len() {
        let (frames, end) = scan_all(&bytes[..cut], 0);
        let mut zeroed = bytes.clone();
        zeroed[cut..].fill(0);
        let (zeroed_frames, zeroed_end) = scan_all(&zeroed, 0);
        // The last bytes of a frame may be padding or zeros anyway: then it is whole.
        let whole = starts.iter().filter(|start| **start <= BASE + cut as u64).count() - 1;
        for (frames, end) in [(frames, end), (zeroed_frames, zeroed_end)] {
            assert!(frames.len() == whole || frames.len() == whole + 1, "cut {cut}");
            assert_eq!(end.position, starts[frames.len()], "cut {cut}");
            assert_ne!(end.verdict, Verdict::Corrupt, "cut {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_flushed_frame_is_corruption_and_in_an_unflushed_one_a_torn_tail() {
    // The last frame knows that the first two were flushed; the third was not.
    let (bytes, starts) = stream(&PAYLOADS, |n| if n == 3 { 2 } else { 0 });
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let position = BASE + at as u64;
        let (frames, end) = scan_all(&damaged, 0);
        if frames.len() == 4 {
            continue; // the bit was padding
        }
        assert_eq!(end.position, starts[frames.len()]);
        let expected = if position < starts[2] { Verdict::Corrupt } else { Verdict::Torn };
        assert_eq!(end.verdict, expected, "byte {at}");
    }
}

#[test]
fn what_the_caller_knows_to_be_durable_counts() {
    let (bytes, starts) = stream(&PAYLOADS, |_| 0);
    let (_, end) = scan_all(&bytes[..bytes.len() - 5], starts[4]);
    assert_eq!((end.verdict, end.position), (Verdict::Corrupt, starts[3]));
    let (_, end) = scan_all(&bytes[..bytes.len() - 5], starts[3]);
    assert_eq!((end.verdict, end.position), (Verdict::Torn, starts[3]));
}

#[test]
fn frames_of_another_generation_or_place_are_not_taken() {
    let (mut bytes, starts) = stream(&PAYLOADS[..1], |_| 0);
    let mut stale = BytesMut::new();
    encode(&mut stale, 1, 6, starts[1], 0, b"stale");
    encode(&mut stale, 1, 7, BASE + 8, u64::MAX, b"misdirected");
    bytes.extend_from_slice(&stale);
    let (frames, end) = scan_all(&bytes, 0);
    assert_eq!(frames.len(), 1);
    assert_eq!((end.position, end.verdict), (starts[1], Verdict::Clean));
}

#[test]
fn an_attachment_that_fails_its_check_is_a_bad_frame() {
    for (attachment, count) in [([9_u8; 20], 1), ([8; 20], 0)] {
        let header = Header::new(5, 7, BASE, 0, b"meta", attachment.len());
        let mut bytes = BytesMut::new();
        bytes.put_slice(&header.to_bytes());
        bytes.put_slice(b"meta");
        bytes.put_slice(&attachment);
        bytes.put_slice(padding(4, attachment.len()));
        assert_eq!(bytes.len() as u64, frame_bytes(4, attachment.len()));
        assert_eq!(scan_all(&bytes, 0).0.len(), count);
    }
}

#[test]
fn frames_larger_than_a_read_are_read_whole() {
    let large = vec![1; CHUNK_BYTES + 5];
    let payloads: [&[u8]; 3] = [b"a", &large, b"b"];
    let (bytes, _) = stream(&payloads, |_| 0);
    assert_eq!(scan_all(&bytes, 0).0.len(), 3);
    let mut damaged = bytes.clone();
    damaged[100_000] ^= 1;
    let (frames, end) = scan_all(&damaged, 0);
    assert_eq!((frames.len(), end.verdict), (1, Verdict::Torn));
}
