//! LeaveGroup: members go, or are sent away by their instance id.

use thalweg_types::{ErrorCode, MemberId};

use super::Group;
use super::state::State;
use crate::request::{Leave, LeavingMember};
use crate::response::{Left, LeftMember};
use crate::step::Step;

impl Group {
    pub(crate) fn leave(&mut self, step: &mut Step<'_>, leave: &Leave) -> Left {
        let mut members = Vec::with_capacity(leave.members.len());
        for leaving in &leave.members {
            let error = self.leave_one(step, leaving).err().unwrap_or(ErrorCode::None);
            members.push(LeftMember {
                member: leaving.member.clone(),
                instance: leaving.instance.clone(),
                error,
            });
        }
        if members.iter().any(|left| left.error == ErrorCode::None) && !self.is_empty() {
            self.rebalance_or_complete(step);
        }
        Left { error: ErrorCode::None, members }
    }

    fn leave_one(&mut self, step: &mut Step<'_>, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let id: MemberId = if leaving.member.is_empty() {
            let instance = leaving.instance.as_ref();
            let id = instance.and_then(|instance| self.static_members.get(instance));
            id.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else if self.promised.contains_key(&leaving.member) {
            leaving.member.clone()
        } else {
            self.check_member(&leaving.member, leaving.instance.as_ref())?;
            leaving.member.clone()
        };
        self.remove(step, &id);
        Ok(())
    }

    /// Gone for good, while nobody is in it.
    pub(crate) fn delete(&mut self) -> Result<(), ErrorCode> {
        match self.state {
            State::Empty => {
                self.state = State::Dead;
                Ok(())
            }
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }
}
