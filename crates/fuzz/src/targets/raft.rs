//! The quorum's files and what its members answer.

use prost::Message as _;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_raft::fuzzing;

use super::numbered;
use crate::{Seeds, peak};

/// Messages in memory are larger than on the wire: an empty one of two bytes is a structure of a hundred.
const FACTOR: usize = 256;

pub(super) fn record(input: &[u8]) {
    peak::times(FACTOR, input, || {
        fuzzing::log_record(input);
        fuzzing::log_entry(input);
    });
}

pub(super) fn log_file(input: &[u8]) {
    // The disk itself is in memory too.
    peak::times(FACTOR, input, || fuzzing::log_file(input));
}

pub(super) fn snapshot_file(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::snapshot_file(input));
}

pub(super) fn answer(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::answer(input));
}

// ---- Seeds ----

pub(super) fn record_seeds() -> Seeds {
    let description = fuzzing::describe(&fuzzing::log_file_sample());
    let mut rest = &description[..];
    let mut records = Vec::new();
    while let [kind, length, behind @ ..] = rest {
        let (payload, behind) = behind.split_at(usize::from(*length));
        records.push([&[*kind], payload].concat());
        // Without its kind, an entry.
        records.push(payload.to_vec());
        rest = behind;
    }
    let entry = proto::Entry {
        log_id: Some(proto::LogId { term: 1, node_id: 2, index: 3 }),
        payload: Some(proto::entry::Payload::Membership(membership())),
    };
    records.push(entry.encode_to_vec());
    records.push([&[2], &entry.encode_to_vec()[..]].concat());
    numbered(records)
}

fn membership() -> proto::Membership {
    let peer = |node_id| proto::Peer {
        node_id,
        dir_id: vec![1; 16].into(),
        endpoint: "127.0.0.1:9093".to_owned(),
    };
    proto::Membership {
        voter_sets: vec![proto::VoterSet { node_ids: vec![1, 2] }],
        peers: vec![peer(1), peer(2)],
    }
}

pub(super) fn log_file_seeds() -> Seeds {
    let file = fuzzing::log_file_sample();
    let described = fuzzing::describe(&file);
    numbered([[&[0], &file[..]].concat(), [&[1], &described[..]].concat()])
}

pub(super) fn snapshot_file_seeds() -> Seeds {
    let file = fuzzing::snapshot_file_sample();
    let described = fuzzing::describe(&file);
    numbered([[&[0], &file[..]].concat(), [&[1], &described[..]].concat()])
}

pub(super) fn answer_seeds() -> Seeds {
    let vote = proto::Vote { term: 2, node_id: 1, committed: true };
    let log_id = proto::LogId { term: 2, node_id: 1, index: 9 };
    use proto::append_entries_response::{HigherVote, PartialSuccess, Result as Appended};
    use proto::transfer_leader_response::{LogNotFlushed, Result as Transferred, VoteChanged};
    let voted = proto::VoteResponse { vote: Some(vote), granted: true, last_log_id: Some(log_id) };
    let appended = |result| proto::AppendEntriesResponse { result: Some(result) }.encode_to_vec();
    let transferred =
        |result| proto::TransferLeaderResponse { result: Some(result) }.encode_to_vec();
    let installed = proto::InstallSnapshotResponse { vote: Some(vote) };
    let answers: [(u8, Vec<u8>); 6] = [
        (0, voted.encode_to_vec()),
        (1, appended(Appended::PartialSuccess(PartialSuccess { last: Some(log_id) }))),
        (1, appended(Appended::HigherVote(HigherVote { vote: Some(vote) }))),
        (
            2,
            transferred(Transferred::VoteChanged(VoteChanged {
                expected: Some(vote),
                actual: Some(vote),
            })),
        ),
        (
            2,
            transferred(Transferred::LogNotFlushed(LogNotFlushed {
                expected: Some(log_id),
                actual: None,
            })),
        ),
        (3, installed.encode_to_vec()),
    ];
    numbered(answers.map(|(call, answer)| [&[call], &answer[..]].concat()))
}
