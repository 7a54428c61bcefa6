//! Heartbeat: members say that they are there, and hear whether they are to join anew.

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{ErrorCode, MemberId};

use super::Group;
use super::state::State;
use crate::request::Heartbeat;
use crate::step::Step;

impl Group {
    pub(crate) fn heartbeat(&mut self, step: &Step<'_>, heartbeat: &Heartbeat) -> ErrorCode {
        if let Err(error) = self.check_member(&heartbeat.member, heartbeat.instance.as_ref()) {
            return error;
        }
        if heartbeat.generation != self.generation && !mutant!(Mutant::M21) {
            return ErrorCode::IllegalGeneration;
        }
        match self.state {
            State::Empty | State::Dead => ErrorCode::UnknownMemberId,
            State::PreparingRebalance(_) => {
                self.expire_later(step, &heartbeat.member);
                ErrorCode::RebalanceInProgress
            }
            State::CompletingRebalance(_) | State::Stable(_) => {
                self.expire_later(step, &heartbeat.member);
                ErrorCode::None
            }
        }
    }

    /// The member was heard of.
    pub(super) fn expire_later(&mut self, step: &Step<'_>, id: &MemberId) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.expires_at = step.now.moment.saturating_add_ms(member.session_timeout_ms);
        self.alarm.no_later_than(member.expires_at);
    }
}
