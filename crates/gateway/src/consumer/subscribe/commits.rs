//! What becomes of a commit, for the slots and for the client.

use std::collections::BTreeMap;

use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;

use super::slots::Slots;
use crate::groups::offsets::{Name, Position};

/// Takes the answers into the slots; what is left is what the client has to know: everything if it has asked, else what will not pass.
pub(super) fn settle(
    slots: &mut Slots,
    positions: &BTreeMap<Name, Position>,
    results: BTreeMap<Name, Result<(), Error>>,
    is_asked: bool,
) -> Vec<proto::CommittedPartition> {
    let mut told = Vec::new();
    for (name, result) in results {
        if let (Ok(()), Some(position)) = (&result, positions.get(&name)) {
            slots.committed(&name, position.offset);
        }
        let is_news = result.as_ref().is_err_and(|error| !passes(error));
        if is_asked || is_news {
            told.push(proto::CommittedPartition {
                topic: name.0,
                partition: name.1,
                error: result.err().map(|error| error.to_detail()),
            });
        }
    }
    told
}

/// The commit is tried again with the next one: the coordinator moves, or the member is about to learn that it has another epoch.
pub(super) fn passes(error: &Error) -> bool {
    error.retriable
        || matches!(
            error.code,
            ErrorCode::RequestTimedOut
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::FencedMemberEpoch
                | ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::RebalanceInProgress
        )
}
