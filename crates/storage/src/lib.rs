//! Partition logs on disk: journal, tail, segments, indexes, recovery.

pub mod frame;
