//! The server against clients that other people wrote: what they produce comes back as it was, through the same client, through another one,
//! through the other protocol, and after a crash.

mod gateways;
mod groups;
mod grpc;
mod kafka;
mod kcat;
mod kill_loop;
mod recompression;
mod restart;

use thalweg_testkit::RecordLine;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Compares what was read with what was written at `first_offset` and on, and shows the first difference rather than everything.
fn assert_same_records(read: &[(i64, RecordLine)], first_offset: i64, written: &[RecordLine]) {
    assert_eq!(read.len(), written.len(), "number of records");
    for ((expected_offset, written), (offset, read)) in (first_offset..).zip(written).zip(read) {
        assert_eq!(*offset, expected_offset);
        assert_eq!(read, written, "record at offset {offset}");
    }
}
