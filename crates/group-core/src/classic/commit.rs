//! Who may commit offsets for a group of the classic protocol.

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::ErrorCode;

use super::Group;
use super::state::State;
use crate::request::CommitOffsets;
use crate::step::Step;

impl Group {
    /// Only members of the current generation, so that nobody commits what another one has read since; without members, anybody who does
    /// not claim to be one. A commit counts as a sign of life.
    pub(crate) fn check_commit(
        &mut self,
        step: &Step<'_>,
        commit: &CommitOffsets,
    ) -> Result<(), ErrorCode> {
        let claims_generation = commit.generation_or_epoch >= 0;
        if !claims_generation && self.is_empty() {
            return Ok(());
        }
        if !claims_generation && commit.member.is_empty() && commit.instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(&commit.member, commit.instance.as_ref())?;
        if commit.generation_or_epoch != self.generation.0 && !mutant!(Mutant::M21) {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            // It was told of this generation, and is to fetch its share before it goes on.
            State::CompletingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            State::Dead => Err(ErrorCode::CoordinatorNotAvailable),
            State::Empty | State::PreparingRebalance(_) | State::Stable(_) => {
                self.expire_later(step, &commit.member);
                Ok(())
            }
        }
    }

    /// Offsets may be deleted while nobody uses them; of groups that consume, topic by topic.
    pub(crate) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::Empty => Ok(()),
            _ if self.is_consuming() => Ok(()),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }
}
