//! What other members answer and ask, open to the fuzzer.

use bytes::Bytes;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_proto::internal::raft::v1::install_snapshot_request::Start;

use super::convert;
use crate::codec;

/// Understands, or refuses, the answer to the call of this number, or behind those the call itself.
pub(crate) fn answer(call: u8, message: Bytes) {
    match call % 8 {
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
        4 => {
            if let Ok(request) = codec::decode::<proto::VoteRequest>("request", message) {
                let _ = convert::read_vote_request(&request);
            }
        }
        5 => {
            if let Ok(request) = codec::decode::<proto::AppendEntriesRequest>("request", message) {
                let _ = convert::read_append_entries(request);
            }
        }
        6 => {
            if let Ok(request) = codec::decode::<proto::TransferLeaderRequest>("request", message) {
                let _ = convert::read_transfer_leader(&request, 1);
            }
        }
        7 => {
            if let Ok(start) = codec::decode::<Start>("request", message) {
                let _ = convert::read_snapshot_start(&start);
            }
        }
        _ => {
            if let Ok(answer) = codec::decode::<proto::InstallSnapshotResponse>("answer", message) {
                let _ = convert::snapshot_response(&answer);
            }
        }
    }
}
