//! The server on disks that run full, fail, were tampered with or belong to another.

mod full;
mod strangers;
