//! Journal frames, open to the fuzzer.

use super::entry::{self, Entry, FILE_HEADER, FileHeader};
use crate::frame::Frame;

/// What a frame says must be said again byte for byte.
pub(crate) fn entry(frame: &Frame) {
    if let Some(entry) = Entry::decode(frame) {
        assert_eq!(entry.kind_byte(), frame.header.kind);
        // A flag may come as any byte but 0 and is written as 1.
        let said = entry.encode_payload();
        assert_eq!(said.len(), frame.payload.len());
        let again = Frame { payload: bytes::Bytes::copy_from_slice(&said), ..frame.clone() };
        let read = Entry::decode(&again).expect("what was written is read");
        assert_eq!((read.id, read.kind), (entry.id, entry.kind));
    }
    // Looks into the attachment, whatever it is.
    let _ = entry::is_named_batch(frame);
    if frame.header.kind == FILE_HEADER
        && let Some(header) = FileHeader::decode(&frame.payload, 7)
    {
        assert_eq!(FileHeader::decode(&header.encode(), 7), Some(header));
    }
}
