//! The broker service: stores partitions, serves produce and fetch.
