//! Who may commit, fetch and delete the offsets of a group of the consumer protocol (G2).

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{ErrorCode, MemberEpoch};

use super::group::Group;
use super::member::Member;
use crate::request::{CommitOffsets, FetchOffsets};

impl Group {
    /// A commit is a member's, of its present epoch: whoever has been told to give a partition up and has done so is of a later epoch, and
    /// whoever has been removed is no member. While the group is empty, tools may commit.
    pub(crate) fn check_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        if request.generation_or_epoch < 0 && self.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&request.member).ok_or(ErrorCode::UnknownMemberId)?;
        if let Some(instance) = &request.instance
            && self.static_member(instance).is_some_and(|(owner, _)| *owner != request.member)
        {
            return Err(ErrorCode::FencedInstanceId);
        }
        if member.classic().is_none() && !request.knows_consumer_protocol {
            return Err(ErrorCode::UnsupportedVersion);
        }
        check_epoch(member, MemberEpoch(request.generation_or_epoch))
    }

    /// Whoever does not say who it is may read.
    pub(crate) fn check_fetch(&self, request: &FetchOffsets) -> Result<(), ErrorCode> {
        let Some(id) = &request.member else { return Ok(()) };
        if id.is_empty() && request.member_epoch.0 < 0 {
            return Ok(());
        }
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        check_epoch(member, request.member_epoch)
    }
}

fn check_epoch(member: &Member, received: MemberEpoch) -> Result<(), ErrorCode> {
    if received == member.current.epoch || mutant!(Mutant::M21) {
        Ok(())
    } else if member.classic().is_some() {
        Err(ErrorCode::IllegalGeneration)
    } else {
        Err(ErrorCode::StaleMemberEpoch)
    }
}
