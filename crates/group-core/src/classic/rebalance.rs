//! The way from one generation to the next.

use thalweg_types::{ErrorCode, GenerationId, MemberId};

use super::Group;
use super::state::{InitialDelay, Joins, State, Syncs};
use crate::response::{Response, Synced};
use crate::step::Step;

impl Group {
    pub(super) fn enter(&mut self, step: &Step<'_>, state: State) {
        debug_assert!(
            state.may_follow(&self.state),
            "{} after {}",
            state.name(),
            self.state.name()
        );
        self.state = state;
        self.state_since = step.now.wall;
    }

    /// Somebody came, went or changed: calls everybody back or, if that is done already, sees whether all are here.
    pub(super) fn rebalance_or_complete(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance(_) | State::Stable(_) => self.prepare(step),
            State::PreparingRebalance(_) => self.complete_if_all_joined(step),
            State::Dead => {}
        }
    }

    /// Begins to collect members. They learn of it by their heartbeats.
    pub(super) fn prepare(&mut self, step: &mut Step<'_>) {
        if let State::CompletingRebalance(_) = self.state {
            self.fail_syncs(step, ErrorCode::RebalanceInProgress);
        }
        let timeout_ms = self.rebalance_timeout_ms();
        let joins = if self.is_empty() {
            let delay_ms = step.config.initial_rebalance_delay_ms;
            let remaining_ms = timeout_ms.saturating_sub(delay_ms);
            Joins {
                deadline: step.now.moment.saturating_add_ms(delay_ms),
                initial: Some(InitialDelay { newcomers: false, delay_ms, remaining_ms }),
            }
        } else {
            Joins { deadline: step.now.moment.saturating_add_ms(timeout_ms), initial: None }
        };
        self.alarm.no_later_than(joins.deadline);
        self.enter(step, State::PreparingRebalance(joins));
        self.complete_if_all_joined(step);
    }

    /// Answers whoever waits for a share that will not come.
    pub(super) fn fail_syncs(&mut self, step: &mut Step<'_>, error: ErrorCode) {
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment.clear();
            if let Some(token) = member.syncing.take() {
                step.answer(token, Response::Sync(Synced::refused(error)));
                waiting.push(id.clone());
            }
        }
        waiting.iter().for_each(|id| self.expire_later(step, id));
    }

    /// Ends the collection when nobody is missing any more; not a first one, which waits for members that nobody knows of yet.
    pub(super) fn complete_if_all_joined(&mut self, step: &mut Step<'_>) {
        let State::PreparingRebalance(Joins { initial: None, .. }) = self.state else { return };
        if self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some())
        {
            self.complete_joins(step);
        }
    }

    /// The collection's time is up.
    pub(super) fn end_joins(&mut self, step: &mut Step<'_>) {
        let State::PreparingRebalance(joins) = &mut self.state else { return };
        if let Some(initial) = &mut joins.initial
            && initial.newcomers
            && initial.remaining_ms != 0
        {
            let delay_ms = step.config.initial_rebalance_delay_ms.min(initial.remaining_ms);
            let remaining_ms = initial.remaining_ms.saturating_sub(initial.delay_ms);
            *initial = InitialDelay { newcomers: false, delay_ms, remaining_ms };
            joins.deadline = step.now.moment.saturating_add_ms(delay_ms);
            return self.alarm.no_later_than(joins.deadline);
        }
        self.complete_joins(step);
    }

    /// Begins the next generation with who is here. Static members keep their place for as long as their session lasts.
    fn complete_joins(&mut self, step: &mut Step<'_>) {
        let is_late = |id: &MemberId| {
            self.members
                .get(id)
                .is_some_and(|member| member.joining.is_none() && !member.is_static())
        };
        let late: Vec<MemberId> = self.members.keys().filter(|id| is_late(id)).cloned().collect();
        late.iter().for_each(|id| self.remove(step, id));
        if self.elect_leader() || self.members.is_empty() {
            self.begin_generation(step);
            return;
        }
        // Only static members, none of which is back: wait on, until one is or their sessions end.
        let deadline = step.now.moment.saturating_add_ms(self.rebalance_timeout_ms());
        if let State::PreparingRebalance(joins) = &mut self.state {
            *joins = Joins { deadline, initial: None };
        }
        self.alarm.no_later_than(deadline);
    }

    /// Sees to it that a member leads that has joined; false when there is none.
    fn elect_leader(&mut self) -> bool {
        let has_joined =
            |id: &MemberId| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let elected = self.members.keys().find(|id| has_joined(id)).cloned();
        let is_elected = elected.is_some();
        if is_elected {
            self.leader = elected;
        }
        is_elected
    }

    fn begin_generation(&mut self, step: &mut Step<'_>) {
        self.generation = next(self.generation);
        self.protocol = self.select_protocol();
        self.subscribed = self.read_subscriptions();
        if self.members.is_empty() {
            self.leader = None;
            self.enter(step, State::Empty);
            return self.store(step);
        }
        let deadline = step.now.moment.saturating_add_ms(self.rebalance_timeout_ms());
        let syncs =
            Syncs { missing: self.members.keys().cloned().collect(), deadline: Some(deadline) };
        self.alarm.no_later_than(deadline);
        self.enter(step, State::CompletingRebalance(syncs));
        step.generations += 1;
        let members: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in members {
            let leads = self.is_leader(&id);
            let told = self.joined(&id, leads);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            if let Some(token) = member.joining.take() {
                step.answer(token, Response::Join(told));
                self.expire_later(step, &id);
            }
        }
    }
}

/// After the last number comes 1 again: 0 is the generation of a group that never had one.
fn next(generation: GenerationId) -> GenerationId {
    generation.next().unwrap_or(GenerationId(1))
}
