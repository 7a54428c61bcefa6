//! What other members answer, open to the fuzzer.

use bytes::Bytes;
use thalweg_proto::internal::raft::v1 as proto;

use super::convert;
use crate::codec;

/// Understands, or refuses, the answer to the call of this number.
pub(crate) fn answer(call: u8, message: Bytes) {
    match call % 4 {
        0 => {
            if let Ok(answer) = codec::decode::<proto::VoteResponse>("answer", message) {
                let _ = convert::vote_response(&answer);
            }
        }
        1 => {
            if let Ok(answer) = codec::decode::<proto::AppendEntriesResponse>("answer", message) {
                let _ = convert::append_entries_response(answer);
            }
        }
        2 => {
            if let Ok(answer) = codec::decode::<proto::TransferLeaderResponse>("answer", message) {
                let _ = convert::transfer_leader_response(answer);
            }
        }
        _ => {
            if let Ok(answer) = codec::decode::<proto::InstallSnapshotResponse>("answer", message) {
                let _ = convert::snapshot_response(&answer);
            }
        }
    }
}
