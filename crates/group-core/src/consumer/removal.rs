//! Members that go: they leave, fall silent, or do not give up in time what they have to.
//!
//! Removing members raises the group epoch; what they owned is free at once, and shared out anew at the next heartbeat of anybody.

use std::collections::BTreeSet;

use thalweg_types::{ErrorCode, MemberEpoch, MemberId, Moment};

use super::group::Group;
use super::member::{AWAY, Member};
use super::partitions::PartitionSet;
use super::reconcile::{Current, MemberState};
use super::refusal::Refusal;
use crate::request::ConsumerHeartbeat;
use crate::response::ConsumerHeartbeatAnswer;
use crate::step::Step;

impl Group {
    // ---- Leaving ----

    /// A heartbeat with the epoch of a member that leaves, for ever or for a while.
    pub(super) fn leave(
        &mut self,
        request: &ConsumerHeartbeat,
        step: &mut Step<'_>,
    ) -> Result<ConsumerHeartbeatAnswer, Refusal> {
        let id = &request.member;
        match &request.instance {
            None if self.members.contains_key(id) => {}
            None => return Err(self.unknown_member(id)),
            Some(instance) => {
                let Some((owner, _)) = self.static_member(instance) else {
                    let message = format!("instance {instance} is not known to the group");
                    return Err(Refusal::new(ErrorCode::UnknownMemberId, message));
                };
                if owner != id {
                    let message = format!("instance {instance} is not member {id:?} any more");
                    return Err(Refusal::new(ErrorCode::FencedInstanceId, message));
                }
            }
        }
        if request.member_epoch == AWAY {
            self.leave_for_a_while(id, step);
        } else {
            self.remove_members(&BTreeSet::from([id.clone()]), step);
        }
        Ok(left(id, request.member_epoch))
    }

    /// A static member keeps what it owns until it returns or its session ends. What it had to give up it has given up: it reads no more.
    fn leave_for_a_while(&mut self, id: &MemberId, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.deadlines.revocation = None;
        let current =
            Current { epoch: AWAY, revoking: PartitionSet::EMPTY, ..member.current.clone() };
        let record = self.current_record(id, &current);
        self.emit(step, record);
    }

    // ---- Removing ----

    /// Removes members, all with one new epoch of the group.
    pub(super) fn remove_members(&mut self, ids: &BTreeSet<MemberId>, step: &mut Step<'_>) {
        let mut is_any = false;
        for id in ids.iter().filter(|id| self.members.contains_key(*id)).collect::<Vec<_>>() {
            is_any = true;
            for record in self.member_tombstones(id) {
                self.emit(step, record);
            }
        }
        if is_any {
            self.raise_epoch_if_changed(true, step);
        }
    }

    // ---- Falling silent ----

    /// The member has been heard of: its session begins anew.
    pub(super) fn heard_of(&mut self, id: &MemberId, step: &Step<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let deadline = step.now.moment.saturating_add_ms(session_timeout_ms(member, step));
        member.deadlines.session = Some(deadline);
        self.alarm.no_later_than(deadline);
    }

    /// Replay is over: everybody has a whole session, and whoever has to give something up all the time for it.
    pub(crate) fn start(&mut self, step: &Step<'_>) {
        let now = step.now.moment;
        self.is_metadata_stale = true;
        self.alarm.clear();
        for member in self.members.values_mut() {
            member.deadlines.session =
                Some(now.saturating_add_ms(session_timeout_ms(member, step)));
            let must_give_up = member.current.state == MemberState::UnrevokedPartitions
                && member.classic().is_none();
            let timeout_ms = member.rebalance_timeout_ms();
            member.deadlines.revocation = must_give_up.then(|| now.saturating_add_ms(timeout_ms));
        }
        self.set_alarm();
    }

    /// Removes the members whose time is over.
    pub(crate) fn handle_deadline(&mut self, step: &mut Step<'_>) {
        let now = step.now.moment;
        if self.alarm.at().is_none_or(|alarm| alarm > now) {
            return;
        }
        let is_over =
            |member: &Member| member.deadlines.next().is_some_and(|deadline| deadline <= now);
        let over = self.members.iter().filter(|(_, member)| is_over(member));
        let over: BTreeSet<MemberId> = over.map(|(id, _)| id.clone()).collect();
        self.remove_members(&over, step);
        self.set_alarm();
    }

    pub(super) fn set_alarm(&mut self) {
        self.alarm.clear();
        let next: Option<Moment> =
            self.members.values().filter_map(|member| member.deadlines.next()).min();
        if let Some(deadline) = next {
            self.alarm.no_later_than(deadline);
        }
    }
}

/// Members that speak the classic protocol state their session timeout; the others have the coordinator's.
fn session_timeout_ms(member: &Member, step: &Step<'_>) -> u64 {
    let stated = member.classic().map(|classic| classic.session_timeout_ms);
    stated
        .and_then(|timeout_ms| u64::try_from(timeout_ms).ok())
        .unwrap_or(step.config.consumer_session_timeout_ms)
}

fn left(id: &MemberId, epoch: MemberEpoch) -> ConsumerHeartbeatAnswer {
    ConsumerHeartbeatAnswer {
        error: ErrorCode::None,
        error_message: None,
        member: Some(id.clone()),
        member_epoch: epoch,
        heartbeat_interval_ms: 0,
        assignment: None,
    }
}
