//! What happens when nothing happens: silent members, promised ids nobody came for, phases that take too long.

use thalweg_types::{MemberId, Moment};

use super::Group;
use super::state::State;
use crate::step::Step;

impl Group {
    /// Looks at every deadline of the group, and sets the alarm to those that are left.
    pub(crate) fn handle_deadline(&mut self, step: &mut Step<'_>) {
        self.alarm.clear();
        self.expire_promises(step);
        self.expire_sessions(step);
        self.expire_phase(step);
        self.set_alarm();
    }

    fn expire_promises(&mut self, step: &mut Step<'_>) {
        let before = self.promised.len();
        self.promised.retain(|_, deadline| *deadline > step.now.moment);
        if self.promised.len() < before {
            self.complete_if_all_joined(step);
        }
    }

    fn expire_sessions(&mut self, step: &mut Step<'_>) {
        let now = step.now.moment;
        let silent = self.members.iter().filter(|(_, member)| member.is_expired(now));
        let silent: Vec<MemberId> = silent.map(|(id, _)| id.clone()).collect();
        if silent.is_empty() {
            return;
        }
        silent.iter().for_each(|id| self.remove(step, id));
        self.rebalance_or_complete(step);
    }

    fn expire_phase(&mut self, step: &mut Step<'_>) {
        let now = step.now.moment;
        match &mut self.state {
            State::PreparingRebalance(joins) if joins.deadline <= now => self.end_joins(step),
            State::CompletingRebalance(syncs) | State::Stable(syncs)
                if syncs.deadline.is_some_and(|deadline| deadline <= now) =>
            {
                syncs.deadline = None;
                let missing = std::mem::take(&mut syncs.missing);
                if !missing.is_empty() {
                    missing.iter().for_each(|id| self.remove(step, id));
                    self.prepare(step);
                }
            }
            _ => {}
        }
    }

    fn set_alarm(&mut self) {
        let phase = match &self.state {
            State::PreparingRebalance(joins) => Some(joins.deadline),
            State::CompletingRebalance(syncs) | State::Stable(syncs) => syncs.deadline,
            State::Empty | State::Dead => None,
        };
        // Who waits for us does not expire, and gets a new session with its answer.
        let waits = |member: &&super::Member| {
            member.is_new || (member.joining.is_none() && member.syncing.is_none())
        };
        let sessions = self.members.values().filter(waits).map(|member| member.expires_at);
        let earliest: Option<Moment> =
            sessions.chain(self.promised.values().copied()).chain(phase).min();
        if let Some(earliest) = earliest {
            self.alarm.no_later_than(earliest);
        }
    }

    /// Everything stored is known: from now on members have to be heard of.
    pub(crate) fn start(&mut self, step: &mut Step<'_>) {
        let members: Vec<MemberId> = self.members.keys().cloned().collect();
        members.iter().for_each(|id| self.expire_later(step, id));
        if members.len() > step.config.group_members_max {
            self.prepare(step);
        }
    }

    /// Nobody waits for this answer any more. A member that never learned its id will not come back either: it expires at once.
    pub(crate) fn cancel(&mut self, token: crate::Token) {
        let waits = |member: &&mut super::Member| member.joining == Some(token) && member.is_new;
        if let Some(member) = self.members.values_mut().find(waits)
            && !member.knows_its_id
        {
            member.expires_at = Moment(0);
            self.alarm.no_later_than(Moment(0));
        }
    }
}
