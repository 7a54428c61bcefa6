//! The log's files, open to the fuzzer.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use openraft::vote::RaftVote as _;
use prost::Message as _;
use thalweg_env::fs::SimFs;
use thalweg_storage::frame;

use super::files::{Files, Recovered};
use super::record::{Found, Record, Summary};
use crate::codec::entry_to_proto;
use crate::types::{Entry, Facts, LeaderId, LogId, Payload, Vote};

pub(crate) fn file_name(base_position: u64) -> String {
    format!("{base_position:020}.log")
}

/// What a frame says is said again and understood the same.
pub(crate) fn record(kind: u8, payload: Bytes) {
    let Ok(found) = Found::decode(kind, payload) else { return };
    let said = match &found {
        Found::Header(summary) => Record::Header(*summary),
        Found::Entry(entry) => {
            Record::Entry { log_id: entry.log_id, encoded: entry_to_proto(entry).encode_to_vec() }
        }
        Found::Vote(vote) => Record::Vote(*vote),
        Found::Truncated(last) => Record::Truncated(*last),
        Found::Purged(last) => Record::Purged(*last),
        Found::Seal => Record::Seal,
    };
    let mut framed = BytesMut::new();
    said.encode(&mut framed, 5, 0, 0);
    let header = frame::Header::parse(&framed).expect("a frame that was just written");
    let end = frame::HEADER_BYTES + header.payload_bytes as usize;
    let again = Found::decode(header.kind, framed.freeze().slice(frame::HEADER_BYTES..end));
    let again = again.expect("what was written is read");
    assert_eq!(format!("{again:?}"), format!("{found:?}"));
}

/// Opens the log twice: the first start may cut a torn tail, the second one finds nothing to mend.
pub(crate) fn open_twice(fs: &SimFs, dir: &Path) {
    let Ok(Recovered { contents, .. }) = Files::open(Arc::new(fs.clone()), dir) else { return };
    let again = Files::open(Arc::new(fs.clone()), dir);
    let again = again.map(|recovered| recovered.contents).expect("it opened just now");
    assert_eq!(Summary::of(&again), Summary::of(&contents));
    assert_eq!(again.read(..), contents.read(..));
    let indexes: Vec<u64> = contents.read(..).iter().map(|entry| entry.log_id.index).collect();
    assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a hole in {indexes:?}");
}

/// A sound file with one record of each kind.
pub(crate) fn sample() -> Vec<u8> {
    let leader_id = LeaderId { term: 3, node_id: 1 };
    let at = |index| LogId { leader_id, index };
    let facts = Payload::Normal(Facts(vec![Bytes::from_static(b"a fact"), Bytes::new()]));
    let entry = |index, payload| Record::Entry {
        log_id: at(index),
        encoded: entry_to_proto(&Entry { log_id: at(index), payload }).encode_to_vec(),
    };
    let records = [
        Record::Header(Summary { vote: None, purged: None, last: None }),
        Record::Vote(Vote::from_leader_id(leader_id, true)),
        entry(0, Payload::Blank),
        entry(1, facts.clone()),
        entry(2, facts),
        Record::Truncated(Some(at(1))),
        entry(2, Payload::Blank),
        Record::Purged(at(0)),
        Record::Seal,
    ];
    let mut bytes = BytesMut::new();
    for record in records {
        let position = bytes.len() as u64;
        record.encode(&mut bytes, 0, position, 0);
    }
    bytes.to_vec()
}
