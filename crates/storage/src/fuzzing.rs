//! The readers of this crate's small files and frames, open to the fuzzer, which otherwise reaches them through the start of a whole
//! log dir only. Each takes any bytes; what is understood must be said again and then be understood the same.

use bytes::{Bytes, BytesMut};

use crate::checkpoint;
use crate::frame;
use crate::journal::fuzzing as journal;
use crate::layout::{self, StorageMeta};

/// `storage.meta`. A wrong checksum is put right when the first byte says so.
pub fn storage_meta(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let text = if mode & 1 == 1 { layout::with_checksum(text.to_owned()) } else { text.to_owned() };
    if let Some(meta) = StorageMeta::from_text(&text) {
        assert_eq!(StorageMeta::from_text(&meta.to_text()), Some(meta));
    }
}

/// `partition.metadata`.
pub fn partition_metadata(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some((id, position)) = layout::parse_partition_metadata(text) {
        let again = layout::partition_metadata(id, position);
        assert_eq!(layout::parse_partition_metadata(&again), Some((id, position)));
    }
}

/// `leader-epoch-checkpoint`.
pub fn epoch_checkpoint(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(epochs) = layout::parse_epoch_checkpoint(text) {
        let again = layout::epoch_checkpoint(epochs.entries());
        assert_eq!(layout::parse_epoch_checkpoint(&again), Some(epochs));
    }
}

/// Names of files and folders.
pub fn names(input: &[u8]) {
    let Ok(name) = std::str::from_utf8(input) else { return };
    if let Some(folder) = layout::parse_folder(name) {
        assert_eq!(folder.to_string(), name);
    }
    if let Some(offset) = layout::parse_file_name(name, "log") {
        assert_eq!(layout::file_name(offset, "log"), name);
    }
}

/// The checkpoint of a log dir, or a log's `truncation`: as it is, or, when the first byte says so, as the payload of a sound frame.
pub fn checkpoint(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let framed = if mode & 1 == 1 { in_frame(1 + (mode >> 1) % 3, rest) } else { rest.to_vec() };
    if let Some(logs) = checkpoint::decode(&framed) {
        assert_eq!(checkpoint::decode(&checkpoint::encode(&logs)), Some(logs));
    }
    if let Some((log, is_settled)) = checkpoint::decode_cut(&framed) {
        let again = checkpoint::encode_cut(&log, is_settled);
        assert_eq!(checkpoint::decode_cut(&again), Some((log, is_settled)));
    }
}

/// A checkpoint in the form that [`checkpoint()`] takes.
pub fn checkpoint_input(file: &[u8]) -> Vec<u8> {
    let payload = frame::Header::parse(file)
        .and_then(|header| file.get(frame::HEADER_BYTES..)?.get(..header.payload_bytes as usize));
    [&[1], payload.unwrap_or_default()].concat()
}

/// One journal frame: its kind is the first byte, the second one says where its payload ends and its attachment begins.
pub fn journal_entry(input: &[u8]) {
    let [kind, payload_bytes, rest @ ..] = input else { return };
    let (payload, attachment) = rest.split_at(usize::from(*payload_bytes).min(rest.len()));
    let header = frame::Header::new(*kind, 1, 0, 0, payload, attachment.len());
    assert_eq!(frame::Header::parse(&header.to_bytes()), Some(header));
    journal::entry(&frame::Frame {
        header,
        payload: Bytes::copy_from_slice(payload),
        attachment: Bytes::copy_from_slice(attachment),
    });
}

fn in_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut framed = BytesMut::new();
    frame::encode(&mut framed, kind, 0, 0, 0, payload);
    framed.to_vec()
}
