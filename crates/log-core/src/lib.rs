//! The rules of one partition log.
