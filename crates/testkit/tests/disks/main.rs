//! The server on disks that run full, fail or were tampered with.

mod full;
