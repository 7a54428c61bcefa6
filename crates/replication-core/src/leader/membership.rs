//! R5 and R6: whom the leader proposes to add to and to remove from the in-sync replicas; R8: what it makes of the answer.
//!
//! One proposal at a time, one kind of change each: a removal never fails because of somebody who wants to join.

use std::collections::VecDeque;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{BrokerEpoch, Durability, Moment, NodeId};

use super::Leader;
use super::progress::{Follower, Heard};
use crate::action::Action;
use crate::message::{AlterOutcome, Fitness, Proposal};

impl Leader {
    /// Proposes what should change now, if anything, and asks again what was not answered.
    pub(super) fn propose_changes(&mut self, now: Moment, actions: &mut VecDeque<Action>) {
        if self.isr.is_retry_due(now) {
            // What was proposed may have become wrong; the committed set never is, and committing it again ends all uncertainty.
            let isr = self.isr.committed().to_vec();
            self.propose(isr, actions);
        } else if self.isr.may_propose(now)
            && let Some(isr) = self.wanted_isr(now)
        {
            self.propose(isr, actions);
        }
    }

    /// The in-sync replicas as they should be, if they should be others or something else is to be said of them.
    fn wanted_isr(&self, now: Moment) -> Option<Vec<NodeId>> {
        let committed = self.isr.committed();
        let leaves = |f: &&Follower| committed.contains(&f.node) && self.must_leave(f, now);
        let joins = |f: &&Follower| !committed.contains(&f.node) && self.may_join(f, now);
        if self.followers.iter().any(|follower| leaves(&follower)) {
            let leaving = |id: &NodeId| self.followers.iter().any(|f| f.node == *id && leaves(&f));
            return Some(committed.iter().copied().filter(|id| !leaving(id)).collect());
        }
        if self.followers.iter().any(|follower| joins(&follower)) {
            let joining = self.followers.iter().filter(joins).map(|follower| follower.node);
            return Some(committed.iter().copied().chain(joining).collect());
        }
        let has_news = self.has_recovered() || self.newly_proven().next().is_some();
        has_news.then(|| committed.to_vec())
    }

    fn propose(&mut self, isr: Vec<NodeId>, actions: &mut VecDeque<Action>) {
        let proposal = Proposal {
            attempt: self.isr.next_attempt(),
            leader: self.me.node,
            broker_epoch: self.me.broker_epoch,
            leader_epoch: self.epoch,
            partition_epoch: self.isr.partition_epoch(),
            isr: isr.into_iter().map(|node| (node, self.session_of(node))).collect(),
            recovering: self.partition.recovering && !self.has_recovered(),
            unfit: self.unfit().collect(),
            proven: self.newly_proven().collect(),
        };
        self.isr.propose(proposal.clone());
        actions.push_back(Action::Propose(proposal));
    }

    fn unfit(&self) -> impl Iterator<Item = NodeId> {
        let is_unfit = |f: &&Follower| f.heard().is_some_and(|heard| heard.fitness != Fitness::Fit);
        self.followers.iter().filter(is_unfit).map(|follower| follower.node)
    }

    /// The session in which the replica was heard of; of one that was not, the one it is registered with (KIP-903).
    fn session_of(&self, node: NodeId) -> BrokerEpoch {
        if node == self.me.node {
            return self.me.broker_epoch;
        }
        let Some(follower) = self.followers.iter().find(|follower| follower.node == node) else {
            return BrokerEpoch::NONE;
        };
        let registered = follower.peer.map_or(BrokerEpoch::NONE, |peer| peer.broker_epoch);
        follower.heard().map_or(registered, |heard| heard.broker_epoch)
    }

    // ---- R5 ----

    /// Everything that R5 asks for, besides that nothing is in flight.
    fn may_join(&self, follower: &Follower, now: Moment) -> bool {
        let Some(durable_end) = self.durable_end_of(follower) else { return false };
        self.is_eligible_to_join(follower)
            && durable_end >= self.ends.high_watermark
            && (durable_end >= self.epoch_start_offset || mutant!(Mutant::M1))
            && !self.is_lagging(follower, now)
    }

    /// What R5 asks for besides progress. A leader that has not recovered stays alone (R14).
    pub(super) fn is_eligible_to_join(&self, follower: &Follower) -> bool {
        let (Some(heard), Some(peer)) = (follower.heard(), follower.peer) else { return false };
        let Heard { broker_epoch, dir_id, fitness, .. } = heard;
        !self.partition.recovering
            && (*broker_epoch == peer.broker_epoch || mutant!(Mutant::M4))
            && *dir_id == peer.dir_id
            && peer.live
            && *fitness == Fitness::Fit
    }

    // ---- R6 ----

    fn must_leave(&self, follower: &Follower, now: Moment) -> bool {
        let is_unfit = follower.heard().is_some_and(|heard| heard.fitness != Fitness::Fit);
        is_unfit || self.is_lagging(follower, now)
    }

    /// Whether it has not had everything, durably, for longer than a replica may.
    pub(super) fn is_lagging(&self, follower: &Follower, now: Moment) -> bool {
        !self.has_everything(follower)
            && now.ms_since(follower.behind_since()) > self.timing.lag_ms_max
    }

    fn has_everything(&self, follower: &Follower) -> bool {
        self.durable_end_of(follower).is_some_and(|end| end >= self.ends.log_end)
    }

    /// When the next replica that is behind has been so for too long.
    pub(super) fn lag_deadline(&self, now: Moment) -> Option<Moment> {
        let behind = self.followers.iter().filter(|follower| !self.has_everything(follower));
        behind
            .map(|follower| follower.behind_since().saturating_add_ms(self.timing.lag_ms_max + 1))
            .filter(|deadline| *deadline > now)
            .min()
    }

    // ---- R14, R19 ----

    /// Whether the leader of an unclean election has its own log durably, with the start of its epoch, and has not said so yet.
    fn has_recovered(&self) -> bool {
        self.partition.recovering && self.own_durable_end() >= self.epoch_start_offset
    }

    /// Replicas that have flushed everything committed, of whom the registration does not know it yet.
    fn newly_proven(&self) -> impl Iterator<Item = NodeId> {
        let unproven = match self.durable.durability() {
            Durability::Fsync => &self.partition.unproven[..],
            Durability::Replicated => &[],
        };
        unproven.iter().copied().filter(|node| self.is_proven(*node))
    }

    fn is_proven(&self, node: NodeId) -> bool {
        if self.ends.high_watermark < self.epoch_start_offset {
            return false;
        }
        let flushed_end = if node == self.me.node {
            Some(self.ends.flushed_end)
        } else {
            let follower = self.followers.iter().find(|follower| follower.node == node);
            follower.and_then(Follower::heard).map(|heard| heard.flushed_end)
        };
        flushed_end.is_some_and(|end| end >= self.ends.high_watermark)
    }

    // ---- R8 ----

    pub(crate) fn handle_alter_outcome(
        &mut self,
        attempt: u32,
        outcome: &AlterOutcome,
        now: Moment,
        actions: &mut VecDeque<Action>,
    ) {
        let retry_at = now.saturating_add_ms(self.timing.retry_ms);
        match outcome {
            AlterOutcome::Committed(partition) => self.take_over(partition, None, now, actions),
            AlterOutcome::Refused(code) => self.isr.refused(attempt, *code, retry_at),
            AlterOutcome::Lost => self.isr.lost(attempt, retry_at),
        }
        self.advance(now, actions);
        self.propose_changes(now, actions);
    }
}
