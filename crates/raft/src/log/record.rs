//! One thing the log remembers, and its frame: entries, votes, and what was cut off at either end.
//!
//! A record becomes the payload of one [`storage::frame`](thalweg_storage::frame); the frame's kind says which message it is.

use bytes::{Bytes, BytesMut};
use prost::Message;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_storage::frame;

use super::contents::Contents;
use crate::codec::{
    self, CodecError, entry_from_proto, log_id_to_proto, optional_log_id_from_proto,
    optional_log_id_to_proto, required, vote_from_proto, vote_to_proto,
};
use crate::types::{Entry, LogId, Vote};

/// Version of the files' layout. A newer one is refused.
pub(crate) const FORMAT: u32 = 1;

const KIND_HEADER: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_VOTE: u8 = 3;
const KIND_TRUNCATED: u8 = 4;
const KIND_PURGED: u8 = 5;
const KIND_SEAL: u8 = 6;

/// What is to be written. An entry comes encoded, because its caller keeps the decoded one.
#[derive(Debug)]
pub(crate) enum Record {
    Header(Summary),
    Entry {
        log_id: LogId,
        encoded: Vec<u8>,
    },
    Vote(Vote),
    Truncated(Option<LogId>),
    Purged(LogId),
    /// Says nothing but that everything before it is durable.
    Seal,
}

/// What was read back.
#[derive(Debug)]
pub(crate) enum Found {
    Header(Summary),
    Entry(Entry),
    Vote(Vote),
    Truncated(Option<LogId>),
    Purged(LogId),
    Seal,
}

/// All that a file must tell about the files before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

impl Summary {
    pub(crate) fn of(contents: &Contents) -> Self {
        Self { vote: contents.vote(), purged: contents.purged(), last: contents.last() }
    }

    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let end = |summary: &Self| summary.last.map(|last| last.index);
        self.vote == other.vote && self.purged == other.purged && end(self) == end(other)
    }

    /// Follows a record that was written.
    pub(crate) fn follow(&mut self, record: &Record) {
        match record {
            Record::Header(_) | Record::Seal => {}
            Record::Entry { log_id, .. } => self.last = Some(*log_id),
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Truncated(last) => self.last = self.last.min(*last).max(self.purged),
            Record::Purged(last) => {
                self.purged = self.purged.max(Some(*last));
                if self.last.is_none_or(|end| end.index < last.index) {
                    self.last = Some(*last);
                }
            }
        }
    }
}

impl Record {
    /// Appends the record's frame. `position` is where the frame will stand, `durable_position` what is flushed by now.
    pub(crate) fn encode(
        &self,
        target: &mut BytesMut,
        generation: u64,
        position: u64,
        durable_position: u64,
    ) {
        let (kind, payload) = match self {
            Self::Header(summary) => (KIND_HEADER, header_to_proto(summary).encode_to_vec()),
            Self::Entry { encoded, .. } => {
                return frame::encode(
                    target,
                    KIND_ENTRY,
                    generation,
                    position,
                    durable_position,
                    encoded,
                );
            }
            Self::Vote(vote) => (KIND_VOTE, vote_to_proto(vote).encode_to_vec()),
            Self::Truncated(last) => {
                let truncated = proto::Truncated { last: optional_log_id_to_proto(last.as_ref()) };
                (KIND_TRUNCATED, truncated.encode_to_vec())
            }
            Self::Purged(last) => {
                (KIND_PURGED, proto::Purged { last: Some(log_id_to_proto(last)) }.encode_to_vec())
            }
            Self::Seal => (KIND_SEAL, Vec::new()),
        };
        frame::encode(target, kind, generation, position, durable_position, &payload);
    }

    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Entry { encoded, .. } => encoded.len(),
            _ => 0,
        }
    }
}

impl Found {
    pub(crate) fn decode(kind: u8, payload: Bytes) -> Result<Self, CodecError> {
        Ok(match kind {
            KIND_HEADER => {
                Self::Header(header_from_proto(&codec::decode("log file header", payload)?)?)
            }
            KIND_ENTRY => Self::Entry(entry_from_proto(codec::decode("log entry", payload)?)?),
            KIND_VOTE => Self::Vote(vote_from_proto(&codec::decode("vote", payload)?)),
            KIND_TRUNCATED => {
                let truncated: proto::Truncated = codec::decode("truncation", payload)?;
                Self::Truncated(optional_log_id_from_proto(truncated.last.as_ref()))
            }
            KIND_PURGED => {
                let purged: proto::Purged = codec::decode("purge marker", payload)?;
                let last = required("position of a purge marker", purged.last)?;
                Self::Purged(codec::log_id_from_proto(&last))
            }
            KIND_SEAL => Self::Seal,
            other => {
                let cause = format!("kind {other} is not known to this version");
                return Err(CodecError::Invalid { what: "log frame", cause });
            }
        })
    }
}

fn header_to_proto(summary: &Summary) -> proto::SegmentHeader {
    proto::SegmentHeader {
        format: FORMAT,
        vote: summary.vote.as_ref().map(vote_to_proto),
        purged: optional_log_id_to_proto(summary.purged.as_ref()),
        last: optional_log_id_to_proto(summary.last.as_ref()),
    }
}

fn header_from_proto(header: &proto::SegmentHeader) -> Result<Summary, CodecError> {
    if header.format != FORMAT {
        let cause = format!("format {}, this version reads {FORMAT}", header.format);
        return Err(CodecError::Invalid { what: "log file header", cause });
    }
    Ok(Summary {
        vote: header.vote.as_ref().map(vote_from_proto),
        purged: optional_log_id_from_proto(header.purged.as_ref()),
        last: optional_log_id_from_proto(header.last.as_ref()),
    })
}
