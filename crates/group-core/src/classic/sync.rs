//! SyncGroup: the leader brings everybody's share, all others fetch theirs.

use std::collections::BTreeMap;

use bytes::Bytes;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{ErrorCode, MemberId};

use super::Group;
use super::state::{State, Syncs};
use crate::effects::Token;
use crate::request::Sync;
use crate::response::{Response, Synced};
use crate::step::Step;

impl Group {
    pub(crate) fn sync(&mut self, step: &mut Step<'_>, token: Token, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return step.answer(token, Response::Sync(Synced::refused(error)));
        }
        match &mut self.state {
            State::CompletingRebalance(syncs) => {
                syncs.missing.remove(&sync.member);
                self.wait_for_share(step, &sync.member, token);
                if self.is_leader(&sync.member) {
                    self.assign(step, sync.assignments);
                }
            }
            State::Stable(syncs) => {
                syncs.missing.remove(&sync.member);
                let share = self.synced(&sync.member);
                step.answer(token, Response::Sync(share));
                self.expire_later(step, &sync.member);
            }
            State::PreparingRebalance(_) => {
                let error = ErrorCode::RebalanceInProgress;
                step.answer(token, Response::Sync(Synced::refused(error)));
            }
            State::Empty | State::Dead => {
                let error = ErrorCode::UnknownMemberId;
                step.answer(token, Response::Sync(Synced::refused(error)));
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.check_member(&sync.member, sync.instance.as_ref())?;
        if sync.generation != self.generation && !mutant!(Mutant::M21) {
            return Err(ErrorCode::IllegalGeneration);
        }
        let other_type = sync.protocol_type.is_some() && sync.protocol_type != self.protocol_type;
        if other_type || sync.protocol.is_some() && sync.protocol != self.protocol {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn wait_for_share(&mut self, step: &mut Step<'_>, id: &MemberId, token: Token) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(before) = member.syncing.replace(token) {
            // Asked twice: the one that waits now is the later one.
            let error = ErrorCode::RebalanceInProgress;
            step.answer(before, Response::Sync(Synced::refused(error)));
        }
    }

    /// Stores everybody's share and hands it out. What the leader gives to strangers goes nowhere; whom it forgot gets nothing.
    fn assign(&mut self, step: &mut Step<'_>, assignments: Vec<(MemberId, Bytes)>) {
        let mut shares: BTreeMap<MemberId, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            // Its own copy: a share must not keep the leader's whole request in memory.
            let share = shares.remove(id).unwrap_or_default();
            member.assignment = Bytes::copy_from_slice(&share);
        }
        let record = self.record();
        if record.encoded_bytes() > step.config.records_bytes_max {
            // Cannot be stored, now or later; clients take this error for a reason to stop.
            self.fail_syncs(step, ErrorCode::UnknownServerError);
            return self.prepare(step);
        }
        self.is_stored = true;
        step.record(record);
        self.become_stable(step);
        let waiting: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in waiting {
            let share = self.synced(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(token) = member.syncing.take() {
                step.answer(token, Response::Sync(share));
                self.expire_later(step, &id);
            }
        }
    }

    fn become_stable(&mut self, step: &Step<'_>) {
        let syncs = match &mut self.state {
            State::CompletingRebalance(syncs) => std::mem::take(syncs),
            _ => Syncs::default(),
        };
        self.enter(step, State::Stable(syncs));
    }

    /// The member's share.
    fn synced(&self, id: &MemberId) -> Synced {
        let assignment = self.members.get(id).map(|member| member.assignment.clone());
        Synced {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: assignment.unwrap_or_default(),
        }
    }
}
